"""Owns the network that finds faces: small, for pictures of any size, a guess for each square of 8 pixels."""

from collections.abc import Sequence

import keras

from kpdetect.models.layers import INPUT_NAME
from kpdetect.models.residual import convolution, halving_block, pad, residual_block

FACES_NAME = "faces"
VALUES = 5  # of a guess: the logit of a face, its centre's x and y, the logarithms of its width and height


def finder(widths: Sequence[int] = (12, 16, 32, 64), blocks: int = 2) -> keras.Model:
    """A residual net down to stride 16, where each cell tells of its four quarters.

    Faces are told by their centres (Zhou et al., *Objects as Points*, arXiv:1904.07850). Telling four quarters at
    stride 16 takes a fourth of what stride 8 would, and no layer has to know the picture's size: that a file can be
    resized to any picture is what makes it quick on small ones.

    Args:
        widths: Channels at strides 2, 4, 8 and 16.
        blocks: Residual blocks at stride 16 behind the one that halves the size.

    Returns:
        Raw grey pixels (B, H, W, 1) of 0-255, height and width multiples of 16 -> ``faces`` (B, H / 16, W / 16, 20)
        float32: `VALUES` for each quarter of a cell, the upper ones first, the left one of each before the right.
    """
    image = keras.Input((None, None, 1), name=INPUT_NAME, dtype="float32")
    x = pad(keras.layers.Rescaling(1 / 127.5, -1.0, name="scale")(image))
    x = convolution(x, widths[0], 4, "stem", strides=2)
    for level, width in enumerate(widths[1:]):
        x = halving_block(x, width, f"stride{4 << level}")
    for block in range(blocks):
        x = residual_block(x, widths[-1], f"deep_{block + 1}")
    rare = keras.initializers.Constant([-4.0, 0.0, 0.0, 0.0, 0.0] * 4)  # faces are rare: else they rule the first steps
    faces = keras.layers.Conv2D(4 * VALUES, 1, bias_initializer=rare, dtype="float32", name=FACES_NAME)(x)
    return keras.Model(image, faces, name="finder")
