"""The face detection network: fully convolutional, for pictures of any size, with one prediction per 8 x 8 pixels."""

from collections.abc import Sequence

import keras

from kpdetect.models.layers import INPUT_NAME
from kpdetect.models.residual import convolution, halving_block, pad, residual_block

FACES_NAME = "faces"
VALUES = 7
"""Values of a prediction: the logit of a face, x and y of its centre, the logarithms of its width and height, and the
sine and cosine of its in-plane rotation."""


def finder(widths: Sequence[int] = (8, 16, 32, 80), blocks: int = 3) -> keras.Model:
    """A residual network down to stride 16, where each cell makes a prediction for each of its four quarters.

    Faces are detected by their centres (Zhou et al., *Objects as Points*, arXiv:1904.07850). Four predictions at stride
    16 cost a quarter of one prediction at stride 8. No layer depends on the size of the picture, so an exported file
    can be resized to any picture and is fast on small ones. Most of the time is spent at strides 2 and 4, so the
    channels are few there and many at stride 16.

    Example::

        finder()(pictures)  # (B, 480, 640, 1) -> (B, 30, 40, 28)

    Args:
        widths: Channels at strides 2, 4, 8 and 16.
        blocks: Residual blocks at stride 16, after the one that halves the size.

    Returns:
        A model from raw grey pixels (B, H, W, 1) in [0, 255], height and width multiples of 16, to ``faces``
        (B, H / 16, W / 16, 28) float32: `VALUES` for the upper left, upper right, lower left and lower right quarter.
    """
    image = keras.Input((None, None, 1), name=INPUT_NAME, dtype="float32")
    x = pad(keras.layers.Rescaling(1 / 127.5, -1.0, name="scale")(image))
    x = convolution(x, widths[0], 4, "stem", strides=2)
    for level, width in enumerate(widths[1:]):
        x = halving_block(x, width, f"stride{4 << level}")
    for block in range(blocks):
        x = residual_block(x, widths[-1], f"deep_{block + 1}")
    # Faces are rare: without a negative initial logit, background cells dominate the loss of the first steps.
    bias = keras.initializers.Constant([-4.0, *[0.0] * (VALUES - 1)] * 4)
    faces = keras.layers.Conv2D(4 * VALUES, 1, bias_initializer=bias, dtype="float32", name=FACES_NAME)(x)
    return keras.Model(image, faces, name="finder")
