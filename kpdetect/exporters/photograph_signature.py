"""The SavedModel signature ``photograph``: an encoded photograph and face boxes to points, as one TensorFlow graph.

Inputs: ``photograph``, a scalar string with the bytes of a JPEG, PNG, GIF (first frame) or BMP, and ``boxes``, (N, 4)
float32 as (x0, y0, x1, y1) in its pixels. Outputs: ``keypoints``, (N, K, 2) float32 in pixels, and for models with
uncertainty ``uncertainty``, (N, K) in pixels. TensorFlow ignores the EXIF orientation, so boxes and points are in the
pixels of the photograph as it is stored.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kpdetect.core.geometry import CropRule
from kpdetect.core.images import GREY_OF_RGB, MIN_BLUR_PX
from kpdetect.modelfile.spec import OUTPUT_NAME, UNCERTAINTY_NAME, Spec

if TYPE_CHECKING:
    import keras

PHOTOGRAPH_NAME, BOXES_NAME = "photograph", "boxes"

REACH = 9  # blocks; the support of blur and interpolation

Tensor = Any  # TensorFlow has no type stubs


def photograph_function(model: "keras.Model", spec: Spec) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
    """Returns the function of the signature.

    Args:
        model: Crops to a dict of ``keypoints`` and possibly ``uncertainty``.
        spec: The model's description, with its crop rule.
    """

    def serve(photograph: Tensor, boxes: Tensor) -> dict[str, Tensor]:
        pixels = _decoded(photograph, spec.channels)
        cropped = _boxes(pixels, boxes, spec.crop)
        outputs = _outputs(model, _crops(pixels, cropped, spec))
        return _in_photograph(outputs, cropped, spec.crop)

    return serve


def _decoded(photograph: Tensor, channels: int) -> Tensor:
    """Decodes to (H, W, C) float32 of whole numbers 0-255; grey is computed as OpenCV does."""
    import tensorflow as tf

    # libjpeg's slow DCT, which other programs use; the fast one differs by a grey level in places.
    rgb = tf.cond(
        tf.io.is_jpeg(photograph),
        lambda: tf.io.decode_jpeg(photograph, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(photograph, channels=3, expand_animations=False),
    )
    pixels = tf.cast(tf.ensure_shape(rgb, (None, None, 3)), tf.float32)
    if channels == 3:
        return pixels
    return tf.round(tf.tensordot(pixels, tf.constant(GREY_OF_RGB)[:, tf.newaxis], 1))


def _boxes(pixels: Tensor, boxes: Tensor, crop: CropRule) -> Tensor:
    """Returns the boxes to crop by: those given, or the whole picture for each in models of whole pictures."""
    import tensorflow as tf

    size_wh = tf.cast(tf.shape(pixels)[1::-1], tf.float32)
    if crop.around == "image":
        whole = tf.concat([[-0.5, -0.5], size_wh - 0.5], 0)
        return tf.repeat(whole[None], tf.shape(boxes)[0], axis=0)
    whole_boxes = tf.reduce_all(tf.math.is_finite(boxes)) & tf.reduce_all(boxes[:, 2:] > boxes[:, :2])
    with tf.control_dependencies([tf.debugging.Assert(whole_boxes, ["boxes: expected x0 < x1 and y0 < y1", boxes])]):
        return tf.identity(boxes)


def _pixels_per_cell(boxes: Tensor, crop: CropRule) -> Tensor:
    """Returns (N,) float64, the number of photograph pixels per crop pixel."""
    import tensorflow as tf

    height, width = crop.size_hw
    exact = tf.cast(boxes, tf.float64)
    return crop.margin * tf.reduce_max((exact[:, 2:] - exact[:, :2]) / (width, height), axis=1)


def _centers(boxes: Tensor) -> Tensor:
    """Returns the boxes' centres, (N, 2) float64."""
    import tensorflow as tf

    exact = tf.cast(boxes, tf.float64)
    return (exact[:, :2] + exact[:, 2:]) / 2


def _crops(pixels: Tensor, boxes: Tensor, spec: Spec) -> Tensor:
    """Cuts the crops (N, H, W, C) as `kpdetect.core.images.warp_crop` does, as float32 of whole numbers.

    Three steps: means of blocks of pixels, a Gaussian blur, and linear interpolation. A crop is upright, so the last
    two are weighted sums along rows and columns, computed as two matrix products.
    """
    import tensorflow as tf

    height, width = spec.crop.size_hw

    def cut(face: tuple[Tensor, Tensor]) -> Tensor:
        center, scale = face
        shrink = tf.maximum(scale, tf.constant(1, tf.float64))
        block = tf.maximum(tf.cast(tf.floor(shrink / 2 + 1e-6), tf.int32), 1)
        rows = _Axis.through(center[1], scale, height, (tf.shape(pixels)[0], block))
        columns = _Axis.through(center[0], scale, width, (tf.shape(pixels)[1], block))
        means = _block_means(pixels, rows, columns, block)
        blur = _gaussian(tf.cast(shrink / tf.cast(block, tf.float64), tf.float32))
        return tf.einsum("vy,yxc,ux->vuc", rows.weights(blur), means, columns.weights(blur))

    faces = (_centers(boxes), _pixels_per_cell(boxes, spec.crop))
    crops = tf.map_fn(cut, faces, fn_output_signature=tf.TensorSpec((height, width, spec.channels), tf.float32))
    return tf.clip_by_value(tf.round(crops), 0.0, 255.0)


@dataclass(frozen=True)
class _Axis:
    """Positions of a crop's pixels along one axis of the photograph, in blocks of pixels.

    Attributes:
        first: Index of the first block that contributes.
        count: Number of blocks that contribute.
        places: (size,) float32, position of each crop pixel in blocks; a block's centre is on the integer.
    """

    first: Tensor
    count: Tensor
    places: Tensor

    @classmethod
    def through(cls, center: Tensor, scale: Tensor, size: int, extent_and_block: tuple[Tensor, Tensor]) -> "_Axis":
        """Returns the axis of a crop of `size` pixels around `center`, each `scale` photograph pixels wide."""
        import tensorflow as tf

        extent, block = extent_and_block
        per_block = tf.cast(block, tf.float64)
        step = scale / per_block
        start = (center - (size / 2 - 0.5) * scale - (per_block - 1) / 2) / per_block
        # Rounded to 1/32 through 1/1024, as in OpenCV: unrounded, one pixel in forty would differ by a grey level.
        fine = tf.round(start * 1024) + tf.round(tf.range(size, dtype=tf.float64) * step * 1024)
        places = tf.cast(tf.floor((fine + 16) / 32) / 32, tf.float32)
        last = (extent - 1) // block + 1
        first = tf.clip_by_value(tf.cast(tf.floor(places[0]), tf.int32) - REACH, 0, last)
        end = tf.clip_by_value(tf.cast(tf.floor(places[-1]), tf.int32) + REACH + 2, first, last)
        return cls(first, end - first, places)

    def weights(self, blur: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns (size, count), the weight of each block in each crop pixel."""
        import tensorflow as tf

        before = tf.floor(self.places)
        fraction = (self.places - before)[:, None]
        blocks = tf.cast(self.first + tf.range(self.count), tf.float32)
        away = blocks[None] - before[:, None]
        return (1 - fraction) * blur(away) + fraction * blur(away - 1)


def _block_means(pixels: Tensor, rows: _Axis, columns: _Axis, block: Tensor) -> Tensor:
    """Returns the means of blocks, (rows.count, columns.count, C), rounded; black outside the picture."""
    import tensorflow as tf

    first_row, first_column = rows.first * block, columns.first * block
    height, width, channels = rows.count * block, columns.count * block, pixels.shape[-1]
    region = pixels[first_row : first_row + height, first_column : first_column + width]
    missing = height - tf.shape(region)[0], width - tf.shape(region)[1]
    whole = tf.pad(region, [[0, missing[0]], [0, missing[1]], [0, 0]])
    blocks = tf.reshape(whole, (rows.count, block, columns.count, block, channels))
    means = tf.reduce_sum(blocks, axis=(1, 3)) * (1 / tf.cast(block * block, tf.float32))
    # OpenCV rounds halves up for blocks of 2x2, and to even numbers otherwise.
    return tf.where(block == 2, tf.floor(means + 0.5), tf.round(means))


def _gaussian(shrink: Tensor) -> Callable[[Tensor], Tensor]:
    """Returns the Gaussian weights for the remaining shrink factor, as a function of whole distances, as in OpenCV."""
    import tensorflow as tf

    sigma = 0.5 * tf.sqrt(tf.maximum(shrink**2 - 1, 0.0))
    sigma = tf.where(sigma < MIN_BLUR_PX, 1e-3, sigma)
    radius = tf.round(sigma * 8 + 1) // 2  # 4 sigma, as OpenCV does for floating-point pictures
    total = tf.reduce_sum(_bell(tf.range(-radius, radius + 1), sigma))

    def weight(distance: Tensor) -> Tensor:
        return tf.where(tf.abs(distance) <= radius, _bell(distance, sigma) / total, 0.0)

    return weight


def _bell(distance: Tensor, sigma: Tensor) -> Tensor:
    import tensorflow as tf

    return tf.exp(-0.5 * (distance / sigma) ** 2)


def _outputs(model: "keras.Model", crops: Tensor) -> dict[str, Tensor]:
    """Runs the model. An empty batch is padded with a black crop, because its kernels fail on empty batches."""
    import tensorflow as tf

    count = tf.shape(crops)[0]
    some = tf.pad(crops, [[0, tf.maximum(1 - count, 0)], [0, 0], [0, 0], [0, 0]])
    return {name: tensor[:count] for name, tensor in model(some, training=False).items()}


def _in_photograph(outputs: dict[str, Tensor], boxes: Tensor, crop: CropRule) -> dict[str, Tensor]:
    """Converts points and uncertainties relative to the crops to pixels of the photograph."""
    import tensorflow as tf

    height, width = crop.size_hw
    scale = tf.cast(_pixels_per_cell(boxes, crop), tf.float32)[:, None]
    size_px = scale * tf.constant([[width, height]], tf.float32)
    points = tf.cast(_centers(boxes), tf.float32)[:, None] + (outputs[OUTPUT_NAME] - 0.5) * size_px[:, None]
    if UNCERTAINTY_NAME not in outputs:
        return {OUTPUT_NAME: points}
    return {OUTPUT_NAME: points, UNCERTAINTY_NAME: outputs[UNCERTAINTY_NAME] * scale * max(crop.size_hw)}
