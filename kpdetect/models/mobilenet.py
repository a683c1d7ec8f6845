"""`mobilenet`: a MobileNetV3-Small with the ImageNet weights of Keras, and a small heatmap head."""

import contextlib
import sys

import keras

from kpdetect.core.errors import KpdetectError
from kpdetect.models.layers import INPUT_NAME, OUTPUT_NAME, SoftArgmax, Tensor

SMALLEST_SIDE = 32  # pixels; smaller inputs leave the backbone without a cell
STRIDE = 8  # pixels of the crop per cell of the heatmaps
IMAGENET_SIDE = 224  # pixels, the input size of the ImageNet training; no weight depends on it
IMAGENET_ALPHAS = (0.75, 1.0)


def mobilenet(
    num_keypoints: int, input_shape: tuple[int, int, int], alpha: float = 1.0, pyramid_width: int = 64
) -> keras.Model:
    """MobileNetV3-Small (Howard et al., arXiv:1905.02244), a feature pyramid up to stride 8, and soft-argmax.

    Heatmaps learn faster than dense layers over the deepest cells. They also have fewer weights, and these fit crops of
    any size.

    The convolutions of stride 2 in the backbone pad on one side, so cell i at stride 8 is centred on pixel 8 i + 7
    instead of 8 i + 3.5. The picture is therefore shifted by 4 pixels at the input, which loses the last 4 rows and
    columns of the margin, and the keypoints by half a pixel at the output. Coarser levels remain off by a fraction of
    their cells, which only affects context.

    The backbone contains its own preprocessing, [0, 255] to [-1, 1]. Its batch normalisation averages over about 10
    batches instead of Keras' 1000, because a training on few faces is shorter than that.

    Example::

        model = mobilenet(68, (112, 112, 3))
        model(crops)  # (B, 68, 2)

    Args:
        num_keypoints: K, the number of heatmaps.
        input_shape: (height, width, 3); height and width are multiples of 8 and at least 32.
        alpha: Width of the backbone relative to the paper's; ImageNet weights exist for 0.75 and 1.
        pyramid_width: Channels of the upsampling path.

    Returns:
        A model from raw pixels (B, H, W, 3) to relative keypoints (B, K, 2) in (0, 1), float32.

    Raises:
        KpdetectError: The input is grey, too small, or not a multiple of 8.
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
    """Adds the last features of the backbone at strides 8, 16 and 32, projected to `width` channels and upsampled."""
    # The input of a convolution of stride 2 is the last and widest feature of the stride before it.
    finer = [backbone.get_layer(f"expanded_conv_{block}_depthwise_pad").input for block in (3, 8)]
    laterals = [
        keras.layers.Conv2D(width, 1, name=f"lateral{STRIDE << level}")(features)
        for level, features in enumerate((*finer, backbone.output))
    ]
    x = laterals.pop()
    for lateral in reversed(laterals):
        # The sizes do not always double: 112 pixels are 7 cells at stride 16 and 4 at stride 32. Float32 as in
        # `heatmaps`.
        x = keras.layers.Resizing(*lateral.shape[1:3], dtype="float32")(x)
        x = keras.layers.Add()([x, lateral])
    return x


def imagenet_backbone(alpha: float = 1.0) -> keras.Model:
    """The backbone of `mobilenet` with ImageNet weights and the same layer names.

    Keras downloads the file (4 MB) once, to ``~/.keras/models``.

    Raises:
        KpdetectError: The download failed, or no weights exist for this width.
    """
    if alpha not in IMAGENET_ALPHAS:
        raise KpdetectError(
            f"mobilenet: ImageNet weights exist for alpha {' and '.join(map(str, IMAGENET_ALPHAS))}, received {alpha}; "
            "start without: --weights none"
        )
    shape = (IMAGENET_SIDE, IMAGENET_SIDE, 3)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # progress is not a result
            return keras.applications.MobileNetV3Small(
                input_shape=shape, alpha=alpha, include_top=False, weights="imagenet"
            )
    except Exception as error:  # Keras raises a plain Exception if a download fails
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
            f"mobilenet: expected a height and width of at least {SMALLEST_SIDE} that are multiples of {STRIDE}, "
            f"received {height}x{width}"
        )
