"""Owns the named recipes, and the options by which the command overrides them. Data alone: no TensorFlow."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kpdetect.core.errors import KpdetectError, unknown_name
from kpdetect.core.options import option
from kpdetect.recipes import overrides
from kpdetect.recipes.own import compact, efficientnet, mobilenet
from kpdetect.recipes.recipe import Optimization, Recipe, Start
from kpdetect.recipes.student_projects import batchnorm, fourconv, ibug_large, imm_full, imm_nose, naimish, twoconv


@dataclass(frozen=True)
class TrainOptions:
    """Trains a model with a named recipe.

    Without arguments: the recipe `compact` on faces that kpdetect draws itself; no download, minutes on two cores.
    Options left out are the recipe's.
    """

    recipe: str = option(
        "compact", "the recipe: architecture, crop, augmentation, loss, schedule; a wrong name lists them"
    )
    data: str | None = option(
        None,
        "labelled faces: youtube-faces:DIR, ibug:DIR, imm:DIR, csv:FILE, synthetic:N, or several by comma",
        metavar="SPEC[,SPEC]",
    )
    val_data: str | None = option(
        None, "faces to validate on; left out, a share of the subjects of --data is held out", metavar="SPEC"
    )
    out: str | None = option(None, "run folder (default: runs/RECIPE)", metavar="DIR")
    epochs: int | None = option(None, "how many times to see the data", metavar="N")
    batch_size: int | None = option(None, "faces a step, over all GPUs and machines together", metavar="N")
    learning_rate: float | None = option(None, "the schedule's greatest rate", metavar="X")
    optimizer: str | None = option(None, "how the weights are moved", choices=("adam", "adamw", "sgd"))
    loss: str | None = option(None, "what is minimised: mse, l1, smooth_l1 or wing")
    patience: int | None = option(None, "stop after N epochs without a better NME; 0: never", metavar="N")
    set: tuple[str, ...] = option(
        (),
        "other fields of the recipe: augmentation.scale=0.3 architecture_options.blocks=1:1:2",
        metavar="NAME=VALUE",
        words=True,
    )
    seed: int = option(0, "seeds weights, order, augmentation and the split by subject", metavar="N")
    val_fraction: float | None = option(None, "share of the subjects that is held out", metavar="X")
    test_fraction: float | None = option(
        None, "share of further subjects that training leaves alone, for evaluate --split test", metavar="X"
    )
    align_labels: bool = option(
        False, "train on labels as 300-W would have them: what known sets are off by is taken out"
    )
    teacher: str | None = option(
        None,
        "mix this model's marks into the labels, or the mean of several's, half and half; of one set alone: "
        "--set distillation.data=SET",
        metavar="BUNDLE[,BUNDLE]",
    )
    cache: str | None = option(
        None,
        "keep decoded crops in this file, for later trainings on the same faces too; left out, in memory",
        metavar="FILE",
    )
    init_from: str | None = option(
        None, "start with the weights of this bundle or run folder; layers of other shapes start anew", metavar="BUNDLE"
    )
    weights: str | None = option(
        None, "start of a pretrained backbone, which efficientnet and mobilenet have", choices=("imagenet", "none")
    )
    freeze_epochs: int | None = option(
        None, "leave the layers that were taken as they are for the first N epochs", metavar="N"
    )
    backend: str | None = option(
        None,
        "what Keras computes with (default: as Keras has it, the variable KERAS_BACKEND, else tensorflow)",
        choices=("tensorflow", "jax"),
    )
    coordinator: str | None = option(
        None, "train in several processes, on JAX: where process 0 listens", metavar="HOST:PORT"
    )
    num_processes: int | None = option(None, "how many processes there are, of all machines together", metavar="N")
    process_id: int | None = option(None, "which of them this is, from 0, which alone writes --out", metavar="I")
    mixed_precision: bool | None = option(
        None,
        "compute in 16 bits: float16 on GPUs, bfloat16 on others; left out, for the recipe compact with "
        "TensorFlow on processors that have instructions for it (AVX512-BF16, AMX)",
    )
    jit_compile: bool = option(False, "compile the step with XLA: faster on GPUs, slower to start")
    tensorboard: bool = option(False, "write TensorBoard logs to DIR/tensorboard")
    deterministic: bool = option(False, "same seed, same machine, same losses to the last digit; 2 % more work a step")
    checkpoint_every: int | None = option(
        None,
        "steps between two states that --resume can go on from; 0: at each epoch's end alone; left out, 100, or more "
        "where writing them would take over 5 % of the time",
        metavar="N",
    )
    resume: bool = option(False, "go on from the run folder's last state, after an end at any instant")
    overwrite: bool = option(False, "remove the run that the folder holds, and start anew")
    skip_bad_rows: bool = option(False, "go on without rows and images that are wrong, and say how many")


RECIPES: dict[str, Callable[[], Recipe]] = {
    "compact": compact,
    "efficientnet": efficientnet,
    "mobilenet": mobilenet,
    "fourconv": fourconv,
    "batchnorm": batchnorm,
    "twoconv": twoconv,
    "naimish": naimish,
    "imm-nose": imm_nose,
    "imm-full": imm_full,
    "ibug-large": ibug_large,
}


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
        val_fraction=recipe.val_fraction if options.val_fraction is None else options.val_fraction,
        val_subjects=recipe.val_subjects if options.val_fraction is None else (),
        distillation=dataclasses.replace(
            recipe.distillation, models=_teachers(options.teacher) or recipe.distillation.models
        ),
        align_labels=options.align_labels or recipe.align_labels,
        test_fraction=recipe.test_fraction if options.test_fraction is None else options.test_fraction,
    )


def _teachers(names: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (names or "").split(",") if name.strip())


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
        ("checkpoint_every", 0),
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
        raise KpdetectError(
            f"--weights imagenet: recipe '{recipe.name}' has no pretrained backbone; efficientnet and mobilenet have"
        )
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
