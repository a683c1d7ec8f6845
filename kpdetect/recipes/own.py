"""Recipes of kpdetect's own architectures."""

import dataclasses

from kpdetect.core.geometry import CropRule
from kpdetect.recipes.recipe import Augmentation, Optimization, Recipe, Start


def compact_112() -> Recipe:
    """The quick recipe, and the default: the network of `compact` on 112x112 grey crops of 1.35 times the face box.

    A residual network that decodes points from 28x28 heatmaps by soft-argmax and predicts the error of each point. Wing
    loss (arXiv:1711.06753) in per cent of the crop, strong augmentation, AdamW with a cosine schedule. 1,008,384
    parameters and 91,470,848 multiply-accumulates for 68 points, half of those of `compact`.

    Example:
        >>> compact_112().crop.size_hw
        (112, 112)
    """
    return Recipe(
        name="compact-112",
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


def compact() -> Recipe:
    """The recipe of the shipped model: 160x160 grey crops of 1.2 times the face box.

    Network, loss and schedule of `compact_112` with 186,675,200 multiply-accumulates. Augmentation and weight decay are
    those of the last training of the shipped model: moderate shift and scale, because prediction refines the box, and
    one morphed face per face. The shipped weights come from several trainings with teachers, listed in
    ``tools/train_compact.py``; one training with this recipe from random weights does not reach them. To continue from
    them, add ``--init-from compact``.

    Example:
        >>> recipe = compact()
        >>> recipe.crop.size_hw, recipe.crop.margin
        ((160, 160), 1.2)
    """
    quick = compact_112()
    return dataclasses.replace(
        quick,
        name="compact",
        crop=CropRule((160, 160), 1.2),
        augmentation=dataclasses.replace(
            quick.augmentation,
            rotation_deg=12.0,
            scale=0.1,
            stretch=0.12,
            shift=0.05,
            blur=0.2,
            noise=6.0,
            cut_out=0.25,
            morphed=1.0,
        ),
        optimization=dataclasses.replace(quick.optimization, weight_decay=0.04),
    )


def efficientnet() -> Recipe:
    """A larger network with ImageNet weights: most of an EfficientNet-Lite0 on 160x160 RGB crops.

    Learns in fewer epochs than `compact`, takes longer per image, and is not more accurate than the shipped `compact`;
    it is a teacher of that model. The ImageNet weights are part of kpdetect (1.4 MB); ``--weights none`` starts from
    random weights. Loss and heatmaps are those of `compact`, with a tighter crop and milder augmentation than
    `compact_112`. ``--set channels=1`` trains on grey crops from the same weights. 816,432 parameters and 184,054,400
    multiply-accumulates for 68 points. Measured errors and times are in
    ``docs/development/compact.md``.

    Example:
        >>> efficientnet().start.weights
        'imagenet'
    """
    return Recipe(
        name="efficientnet",
        architecture="efficientnet",
        crop=CropRule((160, 160), 1.2),
        channels=3,
        augmentation=dataclasses.replace(
            compact_112().augmentation, rotation_deg=11.0, scale=0.18, shift=0.08, blur=0.15, noise=6.0, cut_out=0.2
        ),
        loss="wing",
        loss_unit=100.0,
        optimization=Optimization("adamw", 1e-3, "cosine", 0.05, 1e-2),
        start=Start("imagenet"),
        batch_size=32,
        epochs=100,
    )


def mobilenet() -> Recipe:
    """Transfer learning: a MobileNetV3-Small with ImageNet weights on 112x112 RGB crops.

    Keras downloads the weights when training starts (4 MB, stored in ``~/.keras/models``); without a connection,
    ``--weights none`` starts from random weights. The head is trained alone for two epochs. Augmentation and loss are
    those of `compact_112`. 993,060 parameters for 68 points.

    Example:
        >>> mobilenet().start.freeze_epochs
        2
    """
    return Recipe(
        name="mobilenet",
        architecture="mobilenet",
        crop=CropRule((112, 112), 1.35),
        channels=3,
        augmentation=compact_112().augmentation,
        loss="wing",
        loss_unit=100.0,
        optimization=Optimization("adamw", 1e-3, "cosine", 0.05, 1e-4),
        start=Start("imagenet", freeze_epochs=2),
        batch_size=64,
        epochs=60,
    )
