"""Owns what a recipe is: everything that makes a training what it is, but for the data. Data alone: no TensorFlow."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kpdetect.core.geometry import CropRule


@dataclass(frozen=True)
class Augmentation:
    """How training crops vary; every range is symmetric about what the photograph shows.

    Attributes:
        rotation_deg: Standard deviation of the turn.
        scale: Greatest relative change of size.
        stretch: Greatest relative change of length along any direction, the inverse across it.
        shift: Greatest shift, as a share of the crop's side.
        flip: Mirror half of the crops, where the scheme knows its left-right swap.
        brightness: Greatest change, in grey levels of 255.
        contrast: Greatest relative change.
        gamma: Greatest relative change of the exponent.
        saturation: Greatest relative change of how colourful RGB crops are; 1 reaches black and white.
        tint: Greatest relative change of each colour of RGB crops.
        blur: Share of crops that are blurred.
        noise: Greatest standard deviation, in grey levels.
        cut_out: Share of crops with a rectangle blotted out.
        morphed: Faces between two others, made before the first epoch, for each face (`kpdetect.data.morphed_faces`).
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
    """How the weights are moved.

    Attributes:
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        learning_rate: The greatest one.
        schedule: ``constant``, or ``cosine``: down to zero after a linear warm-up (arXiv:1608.03983).
        warmup_fraction: The share of all steps that the warm-up takes.
        weight_decay: Decoupled decay of kernels (arXiv:1711.05101); biases and normalisation are left out.
        momentum: Of SGD.
        epsilon: Added to the root in Adam's denominator; Keras' default. PyTorch's is 1e-8.
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
class Distillation:
    """How trained models teach another one.

    Attributes:
        models: The teachers, bundles or run folders, whose marks' mean counts; empty teaches nothing.
        share: The teachers' share of each label, in [0, 1]; the rest is the label's own.
        data: The names of the sets whose labels are mixed so, or their kinds, such as ``youtube-faces``; empty: of all.
    """

    models: tuple[str, ...] = ()
    share: float = 0.5
    data: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready description; of the teachers the names alone, since their folders mean nothing elsewhere."""
        return {**dataclasses.asdict(self), "models": tuple(Path(model).name for model in self.models)}


@dataclass(frozen=True)
class Recipe:
    """Everything that makes a training what it is, but for the data.

    Attributes:
        name: What ``--recipe`` calls it.
        architecture: A name in `kpdetect.models.ARCHITECTURES`.
        crop: How a face box becomes the model's crop, in validation and prediction.
        channels: 1 for grey, 3 for RGB.
        points: Train on these of the data's points alone; empty takes all.
        architecture_options: Of the architecture.
        image_side: None trains on face crops. A number trains as the seeds do: on random crops of the whole
            picture, its shorter side scaled to this many pixels.
        augmentation: How training crops vary.
        loss: A name in `kpdetect.models.losses.LOSSES`.
        loss_unit: Points relative to the crop are multiplied by this before the loss: 100 is per cent of the crop.
        optimization: How the weights are moved.
        start: Where the first weights come from.
        batch_size: Faces a step.
        epochs: How many times the data is seen.
        patience: Epochs without a better validation NME until it stops early; 0: never.
        val_fraction: The share of the subjects that is held out.
        test_fraction: The share of further subjects that a training does not look at, for a test of what is done.
        val_subjects: The subjects that are held out instead, where the data has them.
        align_labels: Train on labels whose set's known shift and convention are taken out.
        distillation: Whose marks are mixed into the labels.
        demo_data: What to train on when no data is named.
        demo_epochs: How long, then.
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
