"""Owns pixels outside TensorFlow: decoding a photograph by its content, and cutting antialiased crops out of it."""

import io
import math
import os
import struct
from pathlib import Path
from typing import Any

import imagesize
import numpy as np
import numpy.typing as npt

from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Matrix, apply_matrix, invert

try:
    import cv2
except ImportError as error:  # the common one is "libGL.so.1: cannot open shared object file", on servers and in Docker
    raise KpdetectError(
        f"import cv2 failed ({error}); on a machine without a display: "
        "pip uninstall opencv-python && pip install opencv-python-headless"
    ) from error

__all__ = [
    "GREY_OF_RGB",
    "MAX_PIXELS",
    "MIN_BLUR_PX",
    "Pixels",
    "as_rgb",
    "cv2",
    "decode_image",
    "read_image",
    "to_channels",
    "warp_crop",
    "write_image",
]

Pixels = npt.NDArray[np.uint8]
GREY_OF_RGB = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in a grey picture (ITU-R BT.601), as OpenCV has them."""

MAX_PIXELS = 250_000_000
"""More than any camera's photograph has; 750 MB as RGB. A file of a few kilobytes can promise any number."""

MIN_BLUR_PX = 0.1  # a lesser standard deviation leaves the next pixel no weight


def read_image(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Pixels:
    """Reads a photograph as it is meant to be seen.

    The content decides the format and not the suffix; EXIF's orientation is applied; grey and CMYK become RGB, 16 bits
    become 8, of an animation the first frame counts, and an alpha channel is dropped: the colours under it stay as they
    are (the published frames with an alpha channel are opaque, and there is no background that would be right for every
    cut-out).

    Args:
        path: A file of any format OpenCV decodes: JPEG, PNG, WebP, TIFF, BMP, GIF, …
        max_pixels: A file whose header promises more pixels is refused before any of it is decoded.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        KpdetectError: The file cannot be read, it is no image or not a whole one, or its picture is too large.
    """
    return decode_image(_read_bytes(path), path, max_pixels)


def decode_image(data: bytes, name: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decodes the bytes of a photograph's file, as `read_image` does.

    Args:
        data: The whole file.
        name: What errors call it.
        max_pixels: As for `read_image`.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        KpdetectError: It is no image or not a whole one, or its picture is too large.
    """
    _check_size(name, data, max_pixels)
    try:
        # IMREAD_COLOR, since IMREAD_UNCHANGED would leave EXIF's orientation unapplied.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as error:  # such as a header that promises more pixels than OpenCV allows
        raise KpdetectError(f"{name}: cannot be decoded: {error.err or error}") from error
    if image is None:
        found = f"{len(data)} bytes that begin with {data[:8]!r}" if data else "an empty file"
        raise KpdetectError(f"{name}: expected a whole image (JPEG, PNG, WebP, TIFF, BMP), received {found}")
    return _uint8(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def write_image(path: str | os.PathLike[str], image_rgb: npt.ArrayLike) -> None:
    """Writes an image in the format of the path's suffix, whole or not at all.

    Args:
        path: Where to; ``.png``, ``.jpg``, ``.webp``, …
        image_rgb: (H, W, 3) RGB or (H, W) grey, uint8.

    Raises:
        KpdetectError: The suffix names no known format, or the folder cannot be written to.
    """
    pixels = cv2.cvtColor(as_rgb(image_rgb), cv2.COLOR_RGB2BGR)
    try:
        _, encoded = cv2.imencode(Path(path).suffix or ".", pixels)
    except cv2.error as error:
        suffix = Path(path).suffix
        raise KpdetectError(f"{path}: expected a suffix such as .png or .jpg, received '{suffix}'") from error
    with atomic_file(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def as_rgb(image: npt.ArrayLike, bgr: bool = False) -> Pixels:
    """Any usual picture array as RGB of 8 bits.

    Args:
        image: (H, W) or (H, W, 1) grey, (H, W, 3) colour, or (H, W, 4) colour and alpha, which is dropped. Of uint8;
            of uint16, 0-65535; of bool; or of floats, which reach from 0 to 1, or to 255 where any is above 1.
        bgr: Colour comes as blue, green, red, as OpenCV reads it.

    Returns:
        (H, W, 3) uint8; a view of the input itself where it is RGB of 8 bits already.

    >>> as_rgb(np.array([[7]], np.uint8))
    array([[[7, 7, 7]]], dtype=uint8)
    >>> as_rgb([[0.2]])
    array([[[51, 51, 51]]], dtype=uint8)

    Raises:
        KpdetectError: Another shape or type, or values out of range.
    """
    pixels = np.asarray(image)
    shaped = pixels[..., None] if pixels.ndim == 2 else pixels
    if shaped.ndim != 3 or shaped.shape[2] not in (1, 3, 4) or 0 in shaped.shape:
        raise _no_picture(f"{pixels.dtype} of shape {pixels.shape}")
    eight_bits = _as_eight_bits(shaped)
    if eight_bits.shape[2] == 1:
        return np.repeat(eight_bits, 3, axis=2)
    return eight_bits[..., 2::-1] if bgr else eight_bits[..., :3]


def _as_eight_bits(pixels: npt.NDArray[Any]) -> Pixels:
    """Grey levels of any type that a picture comes in as 0-255."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return np.asarray(np.rint(pixels / 257.0), np.uint8)  # 65535 is 255 * 257
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise _no_picture(f"{pixels.dtype} of shape {pixels.shape}")
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 255):  # NaN is neither
        raise _no_picture(f"{pixels.dtype} from {low:g} to {high:g}")
    return np.asarray(np.rint(pixels if high > 1 else pixels * 255.0), np.uint8)


def _no_picture(received: str) -> KpdetectError:
    return KpdetectError(
        "image: expected shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16, bool, or floats from 0 to 1 "
        f"or to 255, received {received}"
    )


def to_channels(image_rgb: Pixels, channels: int) -> Pixels:
    """RGB as a model of one or of three channels takes it.

    Args:
        image_rgb: (H, W, 3) uint8.
        channels: 1 for grey (by `GREY_OF_RGB`), 3 for RGB.

    Returns:
        (H, W, channels) uint8.

    Raises:
        KpdetectError: Another number of channels.
    """
    if channels == 3:
        return image_rgb
    if channels == 1:
        return _uint8(cv2.cvtColor(np.ascontiguousarray(image_rgb), cv2.COLOR_RGB2GRAY))[..., None]
    raise KpdetectError(f"channels: expected 1 (grey) or 3 (RGB), received {channels}")


def warp_crop(
    image: Pixels, matrix_photo_to_crop: npt.ArrayLike, size_hw: tuple[int, int], channels: int | None = None
) -> Pixels:
    """Cuts a crop out of a photograph: what prediction, evaluation and the training cache all feed.

    Bilinear, pixel centres on integers, black outside the photograph. Where it shrinks, it first takes the mean of
    whole blocks of pixels and then blurs for the rest, so that fine texture does not alias; neither step moves
    anything.

    Args:
        image: (H, W, C) or (H, W) uint8.
        matrix_photo_to_crop: (3, 3) affine, as `CropRule.matrix` gives it.
        size_hw: The crop's (height, width).
        channels: Of the crop, from an RGB photograph: 1 for grey, which is the same as a crop of the grey photograph,
            and a third of the work of one in RGB; 3 for RGB. None leaves the image's own.

    Returns:
        (height, width, C) uint8.

    Raises:
        KpdetectError: The matrix cannot be inverted, or an RGB photograph cannot have so many channels.
    """
    matrix = np.asarray(matrix_photo_to_crop, np.float64)
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise KpdetectError(f"crop: expected an invertible 3x3 matrix, received {matrix.tolist()}")
    shaped = image[..., None] if image.ndim == 2 else image
    shrink_xy = np.maximum(np.linalg.norm(invert(matrix)[:2, :2], axis=1), 1.0)
    # Blocks take half of the shrink: their mean alone lets waves through, the blur after it does not.
    blocks_xy = np.maximum(np.floor(shrink_xy / 2 + 1e-6), 1).astype(int)
    region, corner_xy = _region(shaped, matrix, size_hw, blocks_xy)
    if region.size == 0:
        return np.zeros((*size_hw, channels or shaped.shape[2]), np.uint8)
    if channels is not None:
        region = to_channels(region, channels)
    blurred = _blur(_block_means(region, blocks_xy), shrink_xy / blocks_xy)
    # A pixel of the shrunken region stands at the middle of its block of the photograph.
    to_photo = np.diag([blocks_xy[0], blocks_xy[1], 1.0])
    to_photo[:2, 2] = corner_xy + (blocks_xy - 1) / 2
    crop = cv2.warpAffine(blurred, (matrix @ to_photo)[:2], size_hw[::-1], flags=cv2.INTER_LINEAR)
    whole = crop if crop.dtype == np.uint8 else np.rint(crop)  # NumPy would round bytes by way of float16, slowly
    return _uint8(whole).reshape(*size_hw, channels or shaped.shape[2])


def _region(
    image: Pixels, matrix: Matrix, size_hw: tuple[int, int], blocks_xy: npt.NDArray[np.int_]
) -> tuple[Pixels, npt.NDArray[np.int_]]:
    """The part of the photograph that a crop sees, in whole blocks, black beyond the border; and its first pixel."""
    height, width = size_hw
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]])
    seen = apply_matrix(invert(matrix), corners)
    reach = 8 * blocks_xy  # the blur and the interpolation look this far
    extent_xy = np.array(image.shape[1::-1])
    low = np.maximum(np.floor(seen.min(axis=0)) - reach, -reach).astype(int)
    low = low // blocks_xy * blocks_xy  # blocks count from the photograph's corner, whatever the crop
    high = np.minimum(np.ceil(seen.max(axis=0)) + 1 + reach, extent_xy + reach).astype(int)
    if (high <= 0).any() or (low >= extent_xy).any():
        return image[:0, :0], low
    high = low + -(-(high - low) // blocks_xy) * blocks_xy
    inside_low, inside_high = np.maximum(low, 0), np.minimum(high, extent_xy)
    inside = image[inside_low[1] : inside_high[1], inside_low[0] : inside_high[0]]
    before, after = inside_low - low, high - inside_high
    top, bottom, left, right = (int(edge) for edge in (before[1], after[1], before[0], after[0]))
    return _uint8(cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))), low


def _block_means(region: Pixels, blocks_xy: npt.NDArray[np.int_]) -> Pixels:
    """The mean of each block; the region holds whole blocks, so that the area resize is exactly that."""
    if (blocks_xy == 1).all():
        return region
    height, width = region.shape[:2]
    size_xy = (width // int(blocks_xy[0]), height // int(blocks_xy[1]))
    return _uint8(cv2.resize(region, size_xy, interpolation=cv2.INTER_AREA))


def _blur(image: Pixels, shrink_xy: npt.NDArray[np.float64]) -> Pixels | npt.NDArray[np.float32]:
    """Blurs for the shrink that is still to come.

    A photograph is taken to have a blur of half a pixel (Lowe 2004, "Distinctive image features", 3.3); this adds
    what makes it half a pixel of the crop.
    """
    sigma_x, sigma_y = (0.5 * math.sqrt(max(shrink**2 - 1, 0)) for shrink in shrink_xy.tolist())
    if max(sigma_x, sigma_y) < MIN_BLUR_PX:
        return image
    # Bytes between two steps would be rounded twice, which biases slow gradients by a quarter of a grey level.
    # A sigma of 0 would mean "choose one" to OpenCV.
    blurred = cv2.GaussianBlur(image.astype(np.float32), (0, 0), max(sigma_x, 1e-3), sigmaY=max(sigma_y, 1e-3))
    return np.asarray(blurred, np.float32)


def _check_size(name: str | os.PathLike[str], data: bytes, max_pixels: int) -> None:
    """Refuses what its header says is too large; headers that tell no size are left to the decoder, and its limits."""
    try:
        width, height = imagesize.get(io.BytesIO(data))
    except (ValueError, IndexError, struct.error):  # a damaged header, of which the decoder tells
        return
    if width * height > max_pixels:
        raise KpdetectError(
            f"{name}: expected a picture of at most {max_pixels / 1e6:g} megapixels, received {width} x {height}; "
            "--max-megapixels, or max_pixels of kpdetect.core.images.read_image, sets another limit"
        )


def _read_bytes(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise KpdetectError(f"{path}: cannot read the image: {error.strerror or error}") from error


def _uint8(array: npt.ArrayLike) -> Pixels:
    """What OpenCV returns, as the type it is."""
    return np.asarray(array, np.uint8)
