"""The recipe: all settings of a training except its data. Imports no TensorFlow."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kpdetect.core.geometry import CropRule


@dataclass(frozen=True)
class Augmentation:
    """Random augmentation of training crops; all ranges are symmetric about the original.

    Attributes:
        rotation_deg: Standard deviation of the rotation, in degrees.
        scale: Maximal relative change of size.
        stretch: Maximal relative change of length along a random direction; the inverse across it.
        shift: Maximal shift, as a share of the crop's side.
        flip: Mirror half of the crops, if the schema has a flip permutation.
        brightness: Maximal change, in grey levels of 255.
        contrast: Maximal relative change.
        gamma: Maximal relative change of the exponent.
        saturation: Maximal relative change of the saturation of RGB crops; 1 reaches black and white.
        tint: Maximal relative change of each channel of RGB crops.
        blur: Share of crops that are blurred.
        noise: Maximal standard deviation of the noise, in grey levels.
        cut_out: Share of crops with a rectangle of random grey.
        morphed: Number of synthetic faces per face, morphed from pairs of similar faces before the first epoch
            (`kpdetect.data.morphed_faces`).

    Example:
        >>> Augmentation(rotation_deg=10.0, flip=True).blur
        0.0
    """

    rotation_deg: float = 0.0
    scale: float = 0.0
    stretch: float = 0.0
    shift: float = 0.0
    flip: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    saturation: float = 0.0
    tint: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    cut_out: float = 0.0
    morphed: float = 0.0


@dataclass(frozen=True)
class Optimization:
    """Optimizer and learning-rate schedule.

    Attributes:
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        learning_rate: Peak learning rate.
        schedule: ``constant``, or ``cosine``: linear warm-up, then cosine decay to zero (arXiv:1608.03983).
        warmup_fraction: Share of all steps for the warm-up.
        weight_decay: Decoupled weight decay of kernels with ``adamw`` (arXiv:1711.05101); biases and normalization
            parameters are excluded.
        momentum: Momentum of ``sgd``.
        epsilon: Term added to the root in the denominator of Adam; the default is that of Keras, PyTorch uses 1e-8.

    Example:
        >>> Optimization("adamw", 1e-3, "cosine", warmup_fraction=0.05, weight_decay=1e-4).momentum
        0.0
    """

    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup_fraction: float = 0.0
    weight_decay: float = 0.0
    momentum: float = 0.0
    epsilon: float = 1e-7


@dataclass(frozen=True)
class Start:
    """Initial weights.

    Attributes:
        weights: ``imagenet`` or ``none`` for an architecture with a pretrained backbone; None for the others.
        init_from: A model whose matching layers are copied; None for no source.
        freeze_epochs: Number of epochs for which copied layers stay frozen, with batch normalization in inference mode.
            A new head is trained first, so that its initial gradients do not change the copied layers.

    Example:
        >>> Start("imagenet", freeze_epochs=2).init_from is None
        True
    """

    weights: str | None = None
    init_from: str | None = None
    freeze_epochs: int = 0

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready description, with the name of the source model instead of its path."""
        return {**dataclasses.asdict(self), "init_from": self.init_from and Path(self.init_from).name}


@dataclass(frozen=True)
class Distillation:
    """Distillation: averages labels with the predictions of teacher models.

    Attributes:
        models: Teacher models, bundles or run folders, whose mean prediction is used; empty for none.
        share: Weight of the teachers' prediction in each label, in [0, 1]; the rest is the original label.
        data: Names or kinds of the data sets whose labels are changed, such as ``youtube-faces``; empty for all.

    Example:
        >>> Distillation(("runs/teacher",), share=0.5).to_dict()
        {'models': ('teacher',), 'share': 0.5, 'data': ()}
    """

    models: tuple[str, ...] = ()
    share: float = 0.5
    data: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready description, with the names of the teachers instead of their paths."""
        return {**dataclasses.asdict(self), "models": tuple(Path(model).name for model in self.models)}


@dataclass(frozen=True)
class Recipe:
    """All settings of a training except its data.

    Attributes:
        name: Name for ``--recipe``.
        architecture: A name in `kpdetect.models.ARCHITECTURES`.
        crop: The crop rule of validation and prediction: size, margin, and whether it is around the face.
        channels: 1 for grey, 3 for RGB.
        points: Names of the points to train on; empty for all points of the data.
        architecture_options: Options of the architecture.
        image_side: None trains on face crops. A number trains as the student projects do: on random crops of the whole
            picture, with its shorter side scaled to this many pixels.
        augmentation: Random augmentation of training crops.
        loss: A name in `kpdetect.models.losses.LOSSES`.
        loss_unit: Factor of points relative to the crop before the loss: 100 is per cent of the crop.
        optimization: Optimizer and learning-rate schedule.
        start: Initial weights.
        batch_size: Faces per step.
        epochs: Number of passes over the data.
        patience: Epochs without a better validation NME before training stops early; 0: never.
        val_fraction: Share of the subjects held out for validation.
        test_fraction: Share of the subjects held out for a test after training.
        val_subjects: Subjects to hold out for validation instead of `val_fraction`, if the data has them.
        align_labels: Correct the known label shifts of data sets.
        distillation: Teacher models whose predictions are averaged with the labels.
        demo_data: Data to train on without ``--data``.
        demo_epochs: Number of epochs without ``--data``.

    Example:
        >>> from kpdetect.recipes import RECIPES
        >>> RECIPES["compact"]().crop.margin
        1.2
    """

    name: str
    architecture: str
    crop: CropRule
    channels: int = 1
    points: tuple[str, ...] = ()
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
    val_fraction: float = 0.1
    test_fraction: float = 0.0
    val_subjects: tuple[str, ...] = ()
    align_labels: bool = False
    distillation: Distillation = Distillation()
    demo_data: str = "synthetic:3000"
    demo_epochs: int = 8

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready description."""
        parts = {
            "crop": self.crop.to_dict(),
            "start": self.start.to_dict(),
            "distillation": self.distillation.to_dict(),
        }
        return {**dataclasses.asdict(self), **parts}
