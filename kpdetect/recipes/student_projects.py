"""The recipes of five student PyTorch projects: their data, networks, transforms and training, run by Keras.

Each docstring states what the source fixes, what the project's public code does where the text is silent, and what was
chosen here. A project that trains on random crops of whole frames needs a rule for the crop in prediction: centred on
the face box, with `FRAME_MARGIN` times its longer side. The recipes for the IMM Face Database take whole pictures in
training and in prediction.
"""

from kpdetect.core.geometry import CropRule
from kpdetect.recipes.recipe import Augmentation, Optimization, Recipe

FRAME_SIDE, FRAME_CROP = 250, (224, 224)
FRAME_MARGIN = 2.05  # the median, over frames of YouTube Faces scaled to 250, of the crop's side over the face box's
PIXELS_BY_50 = 224 / 50  # a loss in this unit is the projects' own loss of (pixels - 100) / 50
TORCH_EPSILON = 1e-8  # Adam's in PyTorch
IMM_VAL_PERSONS = tuple(f"{person:02d}" for person in range(33, 41))


def fourconv() -> Recipe:
    """Four convolutions on YouTube Faces, 37,239,984 parameters.

    Source: frames rescaled to 250, a random 224x224 crop, grey; MSE of (pixels - 100) / 50, Adam, batch 10, one dropout
    of 0.4 whose place is not given.
    Public code: dropout after every pooling too, Adam 0.01. Its log shows a loss of .20 to .22 for ten epochs, where
    .19 is the loss of the constant mean shape.
    Chosen: dropout on the hidden dense layer alone (``--set architecture_options.dropout_everywhere=true`` is the other
    reading, which outputs one constant shape), Adam 0.001, 10 epochs, a tenth of the people held out (the source
    measures on the published list, whose people are in the training list), `FRAME_MARGIN`.
    """
    return _frames("fourconv", _adam(1e-3), batch_size=10, epochs=10)


def batchnorm() -> Recipe:
    """Batch normalisation throughout on YouTube Faces, 151,995,936 parameters, most of them in one dense layer.

    Source: the data and target of `fourconv`; MSE, Adam.
    Public code: smooth L1 loss, Adam 0.001, batch 10.
    Chosen: the settings of the public code, 5 epochs, people held out as in `fourconv`, `FRAME_MARGIN`. The loss of the
    text is ``--loss mse``.
    """
    return _frames("batchnorm", _adam(1e-3), batch_size=10, epochs=5, loss="smooth_l1")


def twoconv() -> Recipe:
    """Two convolutions and a linear layer on YouTube Faces, 7,645,896 parameters.

    Source: Rescale(250), RandomCrop(224); L1 loss of (pixels - 100) / 50, SGD 0.01, batch 15, 60 epochs.
    Chosen: the widths (see the architecture) and a momentum of 0.9, neither of which the source names; without momentum
    the loss stays at the constant mean shape's for six epochs. People held out as in `fourconv`, `FRAME_MARGIN`.
    """
    return _frames("twoconv", Optimization("sgd", 1e-2, momentum=0.9), batch_size=15, epochs=60, loss="l1")


def naimish() -> Recipe:
    """NaimishNet (arXiv:1710.00977) on YouTube Faces, 19,989,896 parameters.

    Source: the shorter side scaled to 250, a random 224x224 crop on the fly, mirrored half of the time, He normal
    initial weights; MSE of (pixels - 100) / 50, Adam 0.001, batch 16, 10 epochs.
    Public code: the last layer keeps PyTorch's default initial weights; so does this one.
    Chosen: people held out as in `fourconv`, `FRAME_MARGIN`. The flip swaps left and right points.
    """
    return _frames("naimish", _adam(1e-3), batch_size=16, epochs=10, flip=True)


def imm_nose() -> Recipe:
    """The nose tip alone on the IMM Face Database: point 53 of 58 (from 1), 100,740 parameters.

    Source: the whole picture at 60x80, pixels in [-0.5, 0.5], MSE, 50 epochs, persons 1-32 for training and 33-40 for
    validation.
    Chosen: Adam 0.001, batch 1, shifts by up to a tenth. The error is in widths of the picture, because one point gives
    no inter-ocular distance.
    """
    return Recipe(
        name="imm-nose",
        architecture="imm-nose",
        crop=CropRule((60, 80), 1.0, "image"),
        points=("nose_tip",),
        augmentation=Augmentation(shift=0.1),
        optimization=_adam(1e-3),
        batch_size=1,
        epochs=50,
        val_subjects=IMM_VAL_PERSONS,
    )


def imm_full() -> Recipe:
    """All 58 points on the IMM Face Database, 3,264,620 parameters.

    Source: the whole picture at 180x240, pixels in [-0.5, 0.5], random rotation and shift, MSE, 20 epochs, persons 1-32
    and 33-40.
    Chosen: Adam 0.0003, batch 2, rotations of 10 degrees (standard deviation), shifts of up to a tenth, and 100 epochs:
    validation chose them over 60. With a sixth of the source's pictures, 20 epochs are a sixth of its steps.
    """
    return Recipe(
        name="imm-full",
        architecture="imm-full",
        crop=CropRule((180, 240), 1.0, "image"),
        augmentation=Augmentation(rotation_deg=10.0, shift=0.1),
        optimization=_adam(3e-4),
        batch_size=2,
        epochs=100,
        val_subjects=IMM_VAL_PERSONS,
        demo_data="synthetic:400",
    )


def ibug_large() -> Recipe:
    """68 points on crops of iBUG 300-W, 3,870,304 parameters, for the competition's CSV.

    Source: crops to the box at 224x224, the network of `imm_full` with 136 outputs, MSE, 10 epochs, a random 80/20
    split, the best epoch kept; then the boxes of the unlabelled XML are predicted (``kpdetect predict
    --competition-csv``).
    Chosen: Adam 0.0003, batch 32; a split by photograph and not by face, since photographs show several; a margin of
    1.2, because the boxes of the unlabelled part are a detector's.
    """
    return Recipe(
        name="ibug-large",
        architecture="ibug-large",
        crop=CropRule((224, 224), 1.2),
        optimization=_adam(3e-4),
        batch_size=32,
        epochs=10,
        val_fraction=0.2,
    )


def _adam(learning_rate: float) -> Optimization:
    return Optimization("adam", learning_rate, epsilon=TORCH_EPSILON)


def _frames(
    name: str, optimization: Optimization, batch_size: int, epochs: int, loss: str = "mse", flip: bool = False
) -> Recipe:
    """Random crops of whole frames, and the target scaling that four recipes share."""
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
