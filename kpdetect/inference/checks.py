"""Checks and converts what `Predictor` receives: photographs and face boxes."""

from __future__ import annotations

import os
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats
from kpdetect.core.images import Pixels, as_rgb, decode_image, read_image

PathLike = str | os.PathLike[str]
Image = PathLike | bytes | BinaryIO | npt.ArrayLike
"""A photograph: the path of its file, the content of its file as bytes or as an open binary file, a PIL image, or its
pixels (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), see `kpdetect.core.images.as_rgb`."""
Boxes = npt.ArrayLike
"""Face boxes (N, 4) as (x0, y0, x1, y1) in pixels of the photograph."""

MAX_OVERHANG = 4
"""A box is cut where it reaches further than this beyond the photograph, in its longer sides, so that the time and the
memory of a crop depend on the photograph alone."""


def check_images(images: Any) -> None:
    """Checks that `Predictor.batch` received several photographs.

    Raises:
        KpdetectError: It received one, or None.
    """
    single = images is None or isinstance(images, str | os.PathLike) or not hasattr(images, "__len__")
    if single or (isinstance(images, np.ndarray) and images.ndim < 4):
        raise KpdetectError(
            f"images: expected a list of files or arrays, received {describe(images)}; for one photograph call "
            "predictor(image)"
        )


def read_photograph(image: Any, bgr: bool = False) -> Pixels:
    """Reads a file, or converts an image (see `Image`), to (H, W, 3) uint8 RGB.

    Raises:
        KpdetectError: It is not a picture; the message describes what was received.
    """
    if image is None:
        raise KpdetectError(
            "image: expected a file's path or an array, received None, which cv2.imread returns for a file that it "
            "cannot read"
        )
    if isinstance(image, str) and "://" in image and not os.path.exists(image):
        raise KpdetectError(
            f"image: expected a file's path or an array, received the address {image}; download it first, for example "
            "with urllib.request.urlretrieve(address, 'photo.jpg')"
        )
    several = isinstance(image, list | tuple) and any(
        isinstance(one, str | os.PathLike) or (isinstance(one, np.ndarray) and one.ndim > 1) for one in image
    )
    if several or (isinstance(image, np.ndarray) and image.ndim == 4):
        raise KpdetectError(
            f"image: expected one photograph, received {describe(image)}; for several call predictor.batch(images)"
        )
    if isinstance(image, str | os.PathLike):
        if "\0" in os.fsdecode(image):
            raise KpdetectError(f"image: expected a file's path, received {image!r} with a null character")
        return read_image(image)
    if isinstance(image, bytes | bytearray | memoryview):
        return decode_image(bytes(image), "image")
    if hasattr(image, "read") and not hasattr(image, "getexif"):  # PIL images have both
        content = image.read()
        if not isinstance(content, bytes):
            raise KpdetectError("image: expected a file opened in binary mode ('rb'), received a text file")
        return decode_image(content, str(getattr(image, "name", "image")))
    try:
        return as_rgb(image, bgr)
    except KpdetectError:
        raise
    except (TypeError, ValueError, OverflowError) as error:  # such as rows of different lengths
        raise KpdetectError(f"image: expected an array of numbers, received {describe(image)}: {error}") from error


def size_hw(pixels: Pixels) -> tuple[int, int]:
    """The (height, width) of a picture."""
    return pixels.shape[0], pixels.shape[1]


def describe(value: Any) -> str:
    """Says what a wrong argument is, briefly: ``a list of 2``, ``an array of shape (9, 9)``."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{value!r}" if value is None or isinstance(value, str | os.PathLike) else f"a {type(value).__name__}"


def as_boxes(boxes: Boxes) -> Floats:
    """Boxes as (N, 4) float32; the crop rule checks that they have an area.

    Raises:
        KpdetectError: They are not finite numbers, or have another shape.
    """
    try:
        with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, and are reported below
            array = np.asarray(boxes, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise KpdetectError(f"face boxes: expected numbers, (N, 4), received {boxes!r}") from error
    if array.size == 0:
        return np.zeros((0, 4), np.float32)
    if array.ndim != 2 or array.shape[1] != 4:
        raise KpdetectError(f"face boxes: expected shape (N, 4) as (x0, y0, x1, y1), received {array.shape}")
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        first = int(finite.argmin())
        raise KpdetectError(f"face boxes: expected finite numbers; box {first + 1} is {array[first].tolist()}")
    return array


def boxes_within(boxes: Boxes, pixels: Pixels) -> Floats:
    """The caller's boxes as (N, 4) float32.

    Raises:
        KpdetectError: A box lies outside the photograph, as one of another photograph, or with x and y exchanged, does.
    """
    array = as_boxes(boxes)
    height, width = size_hw(pixels)
    outside = (array[:, :2] >= (width, height)).any(axis=1) | (array[:, 2:] <= 0).any(axis=1)
    outside &= (array[:, 2:] > array[:, :2]).all(axis=1)  # the crop rule reports boxes without an area
    if outside.any():
        first = int(outside.argmax())
        raise KpdetectError(
            f"face boxes: expected boxes within the photograph of {width} x {height} pixels; box {first + 1} lies "
            f"outside: {array[first].tolist()}"
        )
    return cut_boxes(array, pixels)


def cut_boxes(boxes: Floats, pixels: Pixels) -> Floats:
    """Cuts boxes (N, 4) that reach further than `MAX_OVERHANG` beyond a photograph; leaves out those entirely outside.

    Boxes without an area are left to the crop rule, which reports them.

    Example:
        >>> cut_boxes(np.float32([[-1e9, 10, 50, 60]]), np.zeros((100, 200, 3), np.uint8)).tolist()
        [[-800.0, 10.0, 50.0, 60.0]]
    """
    height, width = size_hw(pixels)
    overhang = MAX_OVERHANG * max(height, width)
    low = np.array([-overhang, -overhang], np.float32)
    high = np.array([width + overhang, height + overhang], np.float32)
    with_area = np.asarray((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
    outside = ((boxes[:, :2] > high) | (boxes[:, 2:] < low)).any(axis=1)
    cut = np.where(with_area[:, None], np.clip(boxes, np.tile(low, 2), np.tile(high, 2)), boxes)
    return np.asarray(cut[np.flatnonzero(~with_area | ~outside)], np.float32)
