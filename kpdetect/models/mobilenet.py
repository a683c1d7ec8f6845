"""Owns `mobilenet`: a MobileNetV3-Small whose ImageNet weights Keras offers, under a small head for keypoints."""

import contextlib
import sys

import keras

from kpdetect.core.errors import KpdetectError
from kpdetect.models.layers import INPUT_NAME, OUTPUT_NAME, SoftArgmax, Tensor

SMALLEST_SIDE = 32  # pixels; below, Keras' backbone has no cell left
STRIDE = 8  # pixels of the crop for a cell of the heat maps
IMAGENET_SIDE = 224  # pixels, of the pictures that the weights were learned on; no weight depends on it
IMAGENET_ALPHAS = (0.75, 1.0)


def mobilenet(
    num_keypoints: int, input_shape: tuple[int, int, int], alpha: float = 1.0, pyramid_width: int = 64
) -> keras.Model:
    """MobileNetV3-Small (Howard et al., arXiv:1905.02244), a pyramid back up to stride 8, and soft-argmax.

    Heat maps, as `compact` has them, and no dense layers over the deepest cells: after eight epochs from random
    weights on 1,500 drawn faces the NME was 17.8 % with dense layers, a mean face, and 10.9 % with these. They have a
    third fewer weights at 112 pixels, and those fit crops of any size. Both export to TFLite and ONNX exactly; int8
    suits dense layers better.

    The backbone's convolutions of stride 2 pad on one side, so that cell i of stride 8 looks at pixel 8 i + 7, and
    not at the middle of its own pixels, 8 i + 3.5. The picture is therefore moved by 4 pixels on its way in (the last
    4 rows and columns, of the margin about a face, are lost), and the points by half a pixel on their way out. Coarser
    levels stay off by a fraction of their cells; they say what is where roughly.

    The backbone brings its own preprocessing, [0, 255] to [-1, 1], as its weights expect it. Its batch normalisation
    averages over ten batches and not over Keras' thousand: a training on few faces ends before a thousand are seen.

    Args:
        num_keypoints: K; a heat map each.
        input_shape: (height, width, 3), multiples of 8 from 32; 112 and 224 are usual.
        alpha: Width of the backbone relative to the paper's; ImageNet weights exist for 0.75 and 1.
        pyramid_width: Channels of the way back up.

    Returns:
        Raw pixels (B, H, W, 3) -> relative keypoints (B, K, 2) in (0, 1), float32.

    Raises:
        KpdetectError: The input is grey, too small, or no multiple of 8.
    """
    _check(input_shape)
    image = keras.Input(input_shape, name=INPUT_NAME)
    moved = keras.layers.ZeroPadding2D(((STRIDE // 2, 0), (STRIDE // 2, 0)), name="move_in")(image)
    moved = keras.layers.Cropping2D(((0, STRIDE // 2), (0, STRIDE // 2)), name="move_out")(moved)
    backbone = keras.applications.MobileNetV3Small(alpha=alpha, include_top=False, weights=None, input_tensor=moved)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9
    heatmaps = keras.layers.Conv2D(num_keypoints, 1, dtype="float32", name="heatmaps")
    cells = SoftArgmax(name="cells")(heatmaps(_pyramid(backbone, pyramid_width)))
    half_pixel = [0.5 / side for side in (input_shape[1], input_shape[0])]
    keypoints = keras.layers.Rescaling(1.0, half_pixel, dtype="float32", name=OUTPUT_NAME)(cells)
    return keras.Model(image, keypoints, name="mobilenet")


def _pyramid(backbone: keras.Model, width: int) -> Tensor:
    """The backbone's last features of strides 8, 16 and 32, each made `width` channels, enlarged and added up."""
    # What goes into a convolution of stride 2 is the last and widest of the stride before.
    finer = [backbone.get_layer(f"expanded_conv_{block}_depthwise_pad").input for block in (3, 8)]
    laterals = [
        keras.layers.Conv2D(width, 1, name=f"lateral{STRIDE << level}")(features)
        for level, features in enumerate((*finer, backbone.output))
    ]
    x = laterals.pop()
    for lateral in reversed(laterals):
        # 112 pixels are 7 and then 4 cells, so not always twice the size. In float32 as in `compact`.
        x = keras.layers.Resizing(*lateral.shape[1:3], dtype="float32")(x)
        x = keras.layers.Add()([x, lateral])
    return x


def imagenet_backbone(alpha: float = 1.0) -> keras.Model:
    """The backbone of `mobilenet` with weights learned on ImageNet, its layers named as there.

    Keras keeps the file in ``~/.keras/models``, and downloads it where it is not there (4 MB).

    Raises:
        KpdetectError: Keras could not download it, or has none of this width.
    """
    if alpha not in IMAGENET_ALPHAS:
        raise KpdetectError(
            f"mobilenet: ImageNet weights exist for alpha {' and '.join(map(str, IMAGENET_ALPHAS))}, received {alpha}; "
            "start without: --weights none"
        )
    shape = (IMAGENET_SIDE, IMAGENET_SIDE, 3)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras' progress is no result
            return keras.applications.MobileNetV3Small(
                input_shape=shape, alpha=alpha, include_top=False, weights="imagenet"
            )
    except Exception as error:  # keras raises a plain Exception where a download fails
        reason = " ".join(str(error).split())
        raise KpdetectError(
            f"Keras could not download the ImageNet weights ({reason}); go online, or start without: --weights none"
        ) from error


def _check(input_shape: tuple[int, int, int]) -> None:
    height, width, channels = input_shape
    if channels != 3:
        raise KpdetectError(f"mobilenet: expected RGB, 3 channels, received {channels}")
    if min(height, width) < SMALLEST_SIDE or height % STRIDE or width % STRIDE:
        raise KpdetectError(
            f"mobilenet: expected a height and width from {SMALLEST_SIDE} that divide by {STRIDE}, "
            f"received {height}x{width}"
        )
