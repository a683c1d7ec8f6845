"""Owns the recipes that kpdetect has of its own."""

import dataclasses

from kpdetect.core.geometry import CropRule
from kpdetect.recipes.recipe import Augmentation, Optimization, Recipe, Start


def compact() -> Recipe:
    """The recipe of the model that ships: a residual net that reads points off 28x28 heat maps, and how sure it is.

    Crops are 1.35 times the face box, so that chin and brows have some room for a detector's error; Wing loss
    (arXiv:1711.06753) in per cent of the crop; much augmentation, since a tenth of the faces of the usual sets is
    blurred, turned or dark. 1,008,384 parameters and 91,470,848 multiply-accumulates for 68 points.

    What ships was trained by it in stages, the last with tighter crops of 160 pixels: see ``tools/train_compact.py``.
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


def efficientnet() -> Recipe:
    """Accuracy before speed: most of an EfficientNet-Lite0 on 160x160 RGB, which begins with ImageNet weights.

    They come with kpdetect (1.4 MB); ``--weights none`` begins at random. Loss and heatmaps are those of `compact`,
    crops tighter, pictures varied less. ``--set channels=1`` takes grey crops and begins with the same weights. 816,432
    parameters and 184,054,400 multiply-accumulates for 68 points, but slower than `compact` of the same cost, since its
    depthwise convolutions gain little from integers.

    Two cores process some 50 faces per second: an hour for 100 epochs of 300-W. It was a teacher of the model that
    ships; ``docs/development/compact.md`` has its errors.
    """
    return Recipe(
        name="efficientnet",
        architecture="efficientnet",
        crop=CropRule((160, 160), 1.2),
        channels=3,
        augmentation=dataclasses.replace(
            compact().augmentation, rotation_deg=11.0, scale=0.18, shift=0.08, blur=0.15, noise=6.0, cut_out=0.2
        ),
        loss="wing",
        loss_unit=100.0,
        optimization=Optimization("adamw", 1e-3, "cosine", 0.05, 1e-2),
        start=Start("imagenet"),
        batch_size=32,
        epochs=100,
    )


def mobilenet() -> Recipe:
    """Transfer learning: a MobileNetV3-Small that begins with ImageNet weights, 993,060 parameters for 68 points.

    Keras downloads the weights when the training starts (4 MB, kept in ``~/.keras/models``); without a connection,
    ``--weights none`` begins at random. For two epochs the head learns alone. Crops, augmentation and loss are those
    of `compact`, in RGB, which the ImageNet weights expect.

    Two cores process about 270 faces per second: 11 minutes for 60 epochs of 3,000 faces. Its error on photographs was
    not measured.
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
