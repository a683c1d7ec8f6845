"""Owns the named recipes, and the options by which the command overrides them. Data alone: no TensorFlow."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kpdetect import cli, overrides
from kpdetect.errors import KpdetectError, unknown_name
from kpdetect.geometry import CropRule


@dataclass(frozen=True)
class TrainOptions:
    """Trains a model with a named recipe.

    Without arguments: the recipe `compact` on faces that kpdetect draws itself; no download, minutes on two cores.
    Options left out are the recipe's.
    """

    recipe: str = cli.option("compact", "the recipe: architecture, crop, augmentation, loss, schedule")
    data: str | None = cli.option(
        None, "labelled faces: youtube-faces:DIR, csv:FILE, synthetic:N, or several by comma", metavar="SPEC[,SPEC]"
    )
    val_data: str | None = cli.option(
        None, "faces to validate on; left out, a tenth of the subjects of --data is held out", metavar="SPEC"
    )
    out: str | None = cli.option(None, "run folder (default: runs/RECIPE)", metavar="DIR")
    epochs: int | None = cli.option(None, "how many times to see the data", metavar="N")
    batch_size: int | None = cli.option(None, "faces a step, over all GPUs together", metavar="N")
    learning_rate: float | None = cli.option(None, "the schedule's greatest rate", metavar="X")
    optimizer: str | None = cli.option(None, "how the weights are moved", choices=("adam", "adamw", "sgd"))
    loss: str | None = cli.option(None, "what is minimised: mse, l1, smooth_l1 or wing")
    patience: int | None = cli.option(None, "stop after N epochs without a better NME; 0: never", metavar="N")
    set: tuple[str, ...] = cli.option(
        (),
        "other fields of the recipe: augmentation.scale=0.3 architecture_options.blocks=1:1:2",
        metavar="NAME=VALUE",
        words=True,
    )
    seed: int = cli.option(0, "seeds weights, order, augmentation and the split by subject", metavar="N")
    val_fraction: float = cli.option(0.1, "share of the subjects that is held out", metavar="X")
    cache: str | None = cli.option(None, "keep decoded crops in this file; left out, in memory", metavar="FILE")
    init_from: str | None = cli.option(
        None, "start with the weights of this bundle or run folder; layers of other shapes start anew", metavar="BUNDLE"
    )
    weights: str | None = cli.option(
        None, "start of a pretrained backbone, such as mobilenet's", choices=("imagenet", "none")
    )
    freeze_epochs: int | None = cli.option(
        None, "leave the layers that were taken as they are for the first N epochs", metavar="N"
    )
    mixed_precision: bool = cli.option(False, "compute in 16 bits: float16 on GPUs, bfloat16 on processors")
    jit_compile: bool = cli.option(False, "compile the step with XLA: faster on GPUs, slower to start")
    tensorboard: bool = cli.option(False, "write TensorBoard logs to DIR/tensorboard")
    resume: bool = cli.option(False, "go on from the run folder's last epoch")
    overwrite: bool = cli.option(False, "remove the run that the folder holds, and start anew")
    skip_bad_rows: bool = cli.option(False, "go on without rows and images that are wrong, and say how many")


@dataclass(frozen=True)
class Augmentation:
    """How training crops vary; every range is symmetric about what the photograph shows.

    Attributes:
        rotation_deg: Standard deviation of the turn.
        scale: Greatest relative change of size.
        shift: Greatest shift, as a share of the crop's side.
        flip: Mirror half of the crops, where the scheme knows its left-right swap.
        brightness: Greatest change, in grey levels of 255.
        contrast: Greatest relative change.
        gamma: Greatest relative change of the exponent.
        blur: Share of crops that are blurred.
        noise: Greatest standard deviation, in grey levels.
        cut_out: Share of crops with a rectangle blotted out.
    """

    rotation_deg: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    flip: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    cut_out: float = 0.0


@dataclass(frozen=True)
class Optimization:
    """How the weights are moved.

    Attributes:
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        learning_rate: The greatest one.
        schedule: ``constant``, or ``cosine``: down to zero after a linear warm-up (arXiv:1608.03983).
        warmup_fraction: The share of all steps that the warm-up takes.
        weight_decay: Decoupled decay of kernels (arXiv:1711.05101); biases and normalisation are left out.
        momentum: Of SGD.
    """

    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup_fraction: float = 0.0
    weight_decay: float = 0.0
    momentum: float = 0.0


@dataclass(frozen=True)
class Start:
    """Where the first weights come from.

    Attributes:
        weights: ``imagenet`` or ``none`` for an architecture with a pretrained backbone; None where there is none.
        init_from: A bundle whose layers are taken where they fit; None takes no bundle.
        freeze_epochs: For so many epochs the layers that were taken stay as they are, batch normalisation in
            inference mode; a new head then learns first, and its first errors spoil nothing below it.
    """

    weights: str | None = None
    init_from: str | None = None
    freeze_epochs: int = 0

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready description; of a bundle the name alone, since its folder means nothing elsewhere."""
        return {**dataclasses.asdict(self), "init_from": self.init_from and Path(self.init_from).name}


@dataclass(frozen=True)
class Recipe:
    """Everything that makes a training what it is, but for the data.

    Attributes:
        name: What ``--recipe`` calls it.
        architecture: A name in `kpdetect.models.ARCHITECTURES`.
        crop: How a face box becomes the model's crop, in validation and prediction.
        channels: 1 for grey, 3 for RGB.
        architecture_options: Of the architecture.
        image_side: None trains on face crops. A number trains as the seeds do: on random crops of the whole
            picture, its shorter side scaled to this many pixels.
        augmentation: How training crops vary.
        loss: A name in `kpdetect.losses.LOSSES`.
        loss_unit: Points relative to the crop are multiplied by this before the loss: 100 is per cent of the crop.
        optimization: How the weights are moved.
        start: Where the first weights come from.
        batch_size: Faces a step.
        epochs: How many times the data is seen.
        patience: Epochs without a better validation NME until it stops early; 0: never.
        demo_data: What to train on when no data is named.
        demo_epochs: How long, then.
    """

    name: str
    architecture: str
    crop: CropRule
    channels: int = 1
    architecture_options: Mapping[str, Any] = field(default_factory=dict)
    image_side: int | None = None
    augmentation: Augmentation = Augmentation()
    loss: str = "mse"
    loss_unit: float = 1.0
    optimization: Optimization = Optimization()
    start: Start = Start()
    batch_size: int = 32
    epochs: int = 30
    patience: int = 0
    demo_data: str = "synthetic:3000"
    demo_epochs: int = 8

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready description."""
        return {**dataclasses.asdict(self), "crop": self.crop.to_dict(), "start": self.start.to_dict()}


def compact() -> Recipe:
    """The recipe of the model that ships: a residual net that reads points off 28x28 heat maps.

    Crops are 1.35 times the face box, so that chin and brows have some room for a detector's error; Wing loss
    (arXiv:1711.06753) in per cent of the crop; every augmentation there is, since a tenth of the faces of the usual
    sets is much blurred, turned or dark.
    """
    return Recipe(
        name="compact",
        architecture="compact",
        crop=CropRule((112, 112), 1.35),
        augmentation=Augmentation(
            rotation_deg=13.0,
            scale=0.22,
            shift=0.09,
            flip=True,
            brightness=30.0,
            contrast=0.3,
            gamma=0.3,
            blur=0.25,
            noise=8.0,
            cut_out=0.3,
        ),
        loss="wing",
        loss_unit=100.0,
        optimization=Optimization("adamw", 2e-3, "cosine", 0.05, 1e-4),
        batch_size=64,
        epochs=90,
    )


def naimish() -> Recipe:
    """NaimishNet (arXiv:1710.00977) as a student notebook trains it on YouTube Faces, 19,989,896 parameters.

    The whole frame, its shorter side scaled to 250, a random 224x224 crop of it, mirrored half of the time; MSE of
    (pixels - 100) / 50; Adam 0.001, batch 16, 10 epochs. The source names no rule for prediction: faces of the set
    take about 1/2.3 of such a crop, which is the margin that validation and prediction use here.
    """
    return Recipe(
        name="naimish",
        architecture="naimish",
        crop=CropRule((224, 224), 2.3),
        image_side=250,
        augmentation=Augmentation(flip=True),
        loss="mse",
        loss_unit=224 / 50,
        optimization=Optimization("adam", 1e-3),
        batch_size=16,
        epochs=10,
    )


def mobilenet() -> Recipe:
    """Transfer learning: a MobileNetV3-Small that begins with ImageNet weights, 993,060 parameters for 68 points.

    Keras downloads the weights when the training starts (4 MB, kept in ``~/.keras/models``); without a connection,
    ``--weights none`` begins at random. For two epochs the head learns alone. Crops, augmentation and loss are those
    of `compact`, in RGB, which the ImageNet weights expect.

    Two cores take about 270 faces a second: 11 minutes for 60 epochs of 3,000 faces. Measured from random weights
    alone, 8 epochs of 1,353 drawn faces: NME 10.9 % on 147 others (the mean face: 17.6 %). With ImageNet weights, or
    on photographs, it is not measured.
    """
    return Recipe(
        name="mobilenet",
        architecture="mobilenet",
        crop=CropRule((112, 112), 1.35),
        channels=3,
        augmentation=compact().augmentation,
        loss="wing",
        loss_unit=100.0,
        optimization=Optimization("adamw", 1e-3, "cosine", 0.05, 1e-4),
        start=Start("imagenet", freeze_epochs=2),
        batch_size=64,
        epochs=60,
    )


RECIPES = {"compact": compact, "naimish": naimish, "mobilenet": mobilenet}


def choose_recipe(options: TrainOptions) -> Recipe:
    """The recipe that the options name, with what they override.

    Raises:
        KpdetectError: There is no such recipe; the nearest is named. Or a number is out of range.
    """
    if options.recipe not in RECIPES:
        raise unknown_name("recipe", options.recipe, RECIPES)
    _check_numbers(options)
    recipe = _with_fields(RECIPES[options.recipe](), options.set)
    epochs = recipe.demo_epochs if options.data is None else recipe.epochs
    return dataclasses.replace(
        recipe,
        loss=options.loss or recipe.loss,
        optimization=_optimization(recipe.optimization, options),
        start=_start(recipe, options),
        batch_size=_given(options.batch_size, recipe.batch_size),
        epochs=_given(options.epochs, epochs),
        patience=_given(options.patience, recipe.patience),
    )


def _with_fields(recipe: Recipe, words: Sequence[str]) -> Recipe:
    """The recipe with fields changed by ``NAME=VALUE``; one that has an option of its own is changed by that alone."""
    own = {field.name for field in dataclasses.fields(TrainOptions)}
    for word in words:
        name, value = overrides.split_word(word)
        if name in own:
            raise KpdetectError(f"--set {word}: expected a field without an option; write --{name.replace('_', '-')}")
        recipe = overrides.changed(recipe, name, value)
    return recipe


def _check_numbers(options: TrainOptions) -> None:
    for name, least in (
        ("epochs", 1),
        ("batch_size", 1),
        ("patience", 0),
        ("freeze_epochs", 0),
        ("learning_rate", None),
    ):
        value = getattr(options, name)
        wrong = value is not None and (value <= 0 if least is None else value < least)
        if wrong:
            expected = "a positive number" if least is None else f"{least} or more"
            raise KpdetectError(f"--{name.replace('_', '-')}: expected {expected}, received {value}")


def _optimization(settings: Optimization, options: TrainOptions) -> Optimization:
    return dataclasses.replace(
        settings,
        optimizer=options.optimizer or settings.optimizer,
        learning_rate=settings.learning_rate if options.learning_rate is None else options.learning_rate,
    )


def _start(recipe: Recipe, options: TrainOptions) -> Start:
    """Where the weights come from; a bundle takes the place of ImageNet weights."""
    start = recipe.start
    init_from = options.init_from or start.init_from
    if options.weights == "imagenet" and start.weights is None:
        raise KpdetectError(f"--weights imagenet: recipe '{recipe.name}' has no pretrained backbone; mobilenet has")
    if options.weights == "imagenet" and init_from is not None:
        raise KpdetectError("--weights imagenet and --init-from both say where the weights come from: choose one")
    weights = None if start.weights is None else "none" if init_from else options.weights or start.weights
    if init_from is not None or weights == "imagenet":
        return Start(weights, init_from, _given(options.freeze_epochs, start.freeze_epochs))
    if options.freeze_epochs:
        raise KpdetectError("--freeze-epochs leaves layers as they were taken: name the bundle, --init-from BUNDLE")
    return Start(weights)


def _given(override: int | None, default: int) -> int:
    return default if override is None else override
