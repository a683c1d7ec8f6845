"""Owns the recipes of five student PyTorch projects: same data, network, transforms and training, as Keras runs them.

What a project leaves open is chosen here, and each docstring says what. Where it trains on random crops of whole
frames, prediction needs a rule for where the crop lies: centred on the face box, and `FRAME_MARGIN` times as large.
Those on the IMM Face Database take whole pictures, in prediction too.
"""

from kpdetect.core.geometry import CropRule
from kpdetect.recipes.recipe import Augmentation, Optimization, Recipe

FRAME_SIDE, FRAME_CROP = 250, (224, 224)
FRAME_MARGIN = 2.3  # a frame of YouTube Faces, rescaled to 250, shows the face at 224 / 2.3 pixels
PIXELS_BY_50 = 224 / 50  # a loss in this unit is the projects' own loss of (pixels - 100) / 50
IMM_VAL_PERSONS = tuple(f"{person:02d}" for person in range(33, 41))


def fourconv() -> Recipe:
    """Four convolutions and dropout on YouTube Faces, 37,239,984 parameters.

    The source: frames rescaled to 250, a random 224x224 crop, grey; MSE of (pixels - 100) / 50, Adam, batch 10.
    Left open there, chosen here: Adam's rate 0.001, 10 epochs, a tenth of the people held out (the source measures on
    the published list, whose people are in the training list), FRAME_MARGIN.

    Measured, 5 of 10 epochs: NME 39.5 % on people held out (worse than the mean face: 19.6 %), 40.5 % on the published
    list; 3 minutes an epoch on two busy cores. Dropout of 0.4 after every layer makes it slow to learn.
    """
    return _frames("fourconv", Optimization("adam", 1e-3), batch_size=10, epochs=10)


def batchnorm() -> Recipe:
    """Batch normalisation throughout on YouTube Faces, 151,995,936 parameters, most of them in one dense layer.

    The source: the data and target of `fourconv`; MSE, Adam. Left open there, chosen here: Adam's rate 0.001,
    batch 16, 5 epochs, people held out as in `fourconv`, FRAME_MARGIN.

    Measured, 1 of 5 epochs: NME 36.5 % on people held out (worse than the mean face: 19.6 %), 34.6 % on the published
    list; 5 minutes an epoch on two busy cores.
    """
    return _frames("batchnorm", Optimization("adam", 1e-3), batch_size=16, epochs=5)


def twoconv() -> Recipe:
    """Two convolutions and a linear layer on YouTube Faces, 7,645,896 parameters.

    The source: Rescale(250), RandomCrop(224); L1 loss of (pixels - 100) / 50, SGD 0.01, batch 15, 60 epochs. Left open
    there, chosen here: the widths (see the architecture), people held out as in `fourconv`, FRAME_MARGIN.

    Measured, 10 of the 60 epochs: NME 25.7 % on people held out (worse than the mean face: 19.6 %), 25.8 % on the
    published list; 17 to 35 seconds an epoch on two busy cores.
    """
    return _frames("twoconv", Optimization("sgd", 1e-2), batch_size=15, epochs=60, loss="l1")


def naimish() -> Recipe:
    """NaimishNet (arXiv:1710.00977) on YouTube Faces, 19,989,896 parameters.

    The source: the shorter side scaled to 250, a random 224x224 crop on the fly, mirrored half of the time, He's
    initial weights; MSE of (pixels - 100) / 50, Adam 0.001, batch 16, 10 epochs. Chosen here: people held out as in
    `fourconv`, FRAME_MARGIN.

    Measured, all 10 epochs: NME 15.9 % on people held out (the mean face: 19.6 %), 16.0 % on the published list; 2 to 4
    minutes an epoch on two busy cores. It has not learned enough for the leak to show.
    """
    return _frames("naimish", Optimization("adam", 1e-3), batch_size=16, epochs=10, flip=True)


def imm_nose() -> Recipe:
    """The nose tip alone on the IMM Face Database: point 53 of 58 (from 1), 100,740 parameters.

    The source: the whole picture at 60x80, pixels in [-0.5, 0.5], MSE, 50 epochs, persons 1-32 for training and 33-40
    for validation. Left open there, chosen here: Adam 0.001, batch 1, shifts by up to a tenth. The error is in
    widths of the picture, since one point tells no distance of eyes.

    Measured on the 29 and 8 frontal pictures that we have of the 192 and 48: the nose tips of the persons held out are
    found within 1.8 % of the picture's width on average (always the mean place: 3.5 %); 16 seconds on two busy cores.
    """
    return Recipe(
        name="imm-nose",
        architecture="imm-nose",
        crop=CropRule((60, 80), 1.0, "image"),
        points=("nose_tip",),
        augmentation=Augmentation(shift=0.1),
        optimization=Optimization("adam", 1e-3),
        batch_size=1,
        epochs=50,
        val_subjects=IMM_VAL_PERSONS,
    )


def imm_full() -> Recipe:
    """All 58 points on the IMM Face Database, 3,264,620 parameters.

    The source: the whole picture at 180x240, pixels in [-0.5, 0.5], random rotation and shift, MSE, 20 epochs, persons
    1-32 and 33-40. Left open there, chosen here: Adam 0.0003, batch 2, rotations of 10 degrees (standard deviation) and
    shifts of up to a tenth.

    Measured on the 29 and 8 frontal pictures that we have of the 192 and 48: NME 14.1 % (the mean face: 17.9 %);
    36 seconds on two busy cores. With so few pictures, 40 epochs and more go on paying (11.5 %).
    """
    return Recipe(
        name="imm-full",
        architecture="imm-full",
        crop=CropRule((180, 240), 1.0, "image"),
        augmentation=Augmentation(rotation_deg=10.0, shift=0.1),
        optimization=Optimization("adam", 3e-4),
        batch_size=2,
        epochs=20,
        val_subjects=IMM_VAL_PERSONS,
        demo_data="synthetic:400",
    )


def ibug_large() -> Recipe:
    """68 points on crops of iBUG 300-W, 3,870,304 parameters, for the competition's CSV.

    The source: crops to the box at 224x224, the network of `imm_full` with 136 outputs, MSE, 10 epochs, a random 80/20
    split, the best epoch kept; then the boxes of the unlabelled XML are predicted (``kpdetect predict
    --competition-csv``). Left open there, chosen here: Adam 0.0001, batch 32; a split by photograph and not by face,
    since photographs hold several; and a margin of 1.2, for the boxes of the unlabelled part are a detector's.

    Measured on 2,009 faces: NME 10.5 % on photographs held out (the mean face: 17.5 %); 4 minutes on two busy cores.
    """
    return Recipe(
        name="ibug-large",
        architecture="ibug-large",
        crop=CropRule((224, 224), 1.2),
        optimization=Optimization("adam", 1e-4),
        batch_size=32,
        epochs=10,
        val_fraction=0.2,
    )


def _frames(
    name: str, optimization: Optimization, batch_size: int, epochs: int, loss: str = "mse", flip: bool = False
) -> Recipe:
    """Random crops of whole frames, and the target that three of the projects share."""
    return Recipe(
        name=name,
        architecture=name,
        crop=CropRule(FRAME_CROP, FRAME_MARGIN),
        image_side=FRAME_SIDE,
        augmentation=Augmentation(flip=flip),
        loss=loss,
        loss_unit=PIXELS_BY_50,
        optimization=optimization,
        batch_size=batch_size,
        epochs=epochs,
        demo_data="synthetic:600",
        demo_epochs=5,
    )
