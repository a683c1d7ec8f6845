"""Reads images of any format as RGB arrays, writes images, and cuts antialiased crops. Uses OpenCV, not TensorFlow."""

import importlib.util
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.errors import KpdetectError, MissingExtra
from kpdetect.core.image_header import DamagedHeader, ImageHeader, is_heic, read_header

try:
    import cv2
except ImportError as error:  # usually "libGL.so.1: cannot open shared object file", on servers and in Docker
    raise KpdetectError(
        f"import cv2 failed ({error}); on a machine without a display: "
        "pip uninstall opencv-python && pip install opencv-python-headless"
    ) from error

__all__ = [
    "GREY_OF_RGB",
    "HEIF_SUFFIXES",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "MIN_BLUR_PX",
    "EncodedImage",
    "Pixels",
    "as_rgb",
    "cv2",
    "decode_image",
    "image_size",
    "read_bytes",
    "read_image",
    "shrink_factor",
    "to_channels",
    "warp_crop",
    "write_image",
]

Pixels = npt.NDArray[np.uint8]
GREY_OF_RGB = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey level (ITU-R BT.601), as in OpenCV."""

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".jp2", ".j2k", ".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".pfm", ".hdr", ".sr", ".ras"),
)
"""Suffixes of the formats that `read_image` decodes, for searching folders."""

HEIF_SUFFIXES = (".heic", ".heif", ".hif")
"""Suffixes of the formats that `read_image` decodes if the package pillow-heif is installed."""

MAX_PIXELS = 128_000_000
"""Default limit of an image's size. Decoding needs 6 bytes per pixel for most formats, so less than 800 MB in all.

Phones take up to 108 megapixels, rarely 200; a file of a few bytes can declare any number. Formats that need more
memory per pixel (see `kpdetect.core.image_header`) have a proportionally lower limit.
"""

_HEADER_BYTES = 1 << 16  # usually contain the header, also behind the thumbnail of a photograph's EXIF
_BYTES_PER_PIXEL = ImageHeader("", 1, 1).bytes_per_pixel

_REDUCED_FLAGS = {
    2: (cv2.IMREAD_REDUCED_GRAYSCALE_2, cv2.IMREAD_REDUCED_COLOR_2),
    4: (cv2.IMREAD_REDUCED_GRAYSCALE_4, cv2.IMREAD_REDUCED_COLOR_4),
    8: (cv2.IMREAD_REDUCED_GRAYSCALE_8, cv2.IMREAD_REDUCED_COLOR_8),
}
"""Flags for grey and for BGR by reduction. libjpeg then computes a smaller inverse transform of each block."""

MIN_BLUR_PX = 0.1  # a Gaussian of a smaller standard deviation gives the next pixel no weight


def read_image(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Pixels:
    """Reads an image file as an RGB array.

    The format is detected from the content, not from the suffix. The EXIF orientation is applied. Grey and CMYK become
    RGB, 16 bits become 8, and the first frame of an animation is used. An alpha channel is dropped and the colours
    under it are kept, since no background is right for every cut-out. The size is read from the header first, and
    nothing is decoded whose size is unknown or above the limit.

    Example:
        ``read_image("photo.jpg").shape`` is ``(480, 640, 3)`` for a photograph of 640 x 480 pixels.

    Args:
        path: A JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF, JPEG 2000, PNM, PAM, PFM, Radiance HDR or Sun raster file, or
            a HEIC file where the package pillow-heif is installed.
        max_pixels: A file whose header declares more pixels is refused before it is decoded.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        KpdetectError: The file cannot be read, is not a complete image, or is too large.
        MissingExtra: It is a HEIC file and pillow-heif is not installed.
    """
    return decode_image(read_bytes(path), path, max_pixels)


def decode_image(data: bytes, name: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decodes the bytes of an image file, as `read_image` does.

    Example:
        ``decode_image(response.content, "upload")``

    Args:
        data: The content of the file.
        name: Name of the image in error messages.
        max_pixels: As for `read_image`.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        KpdetectError: The data is not a complete image, or the image is too large.
    """
    return EncodedImage(data, name, max_pixels).decode()[0]


class EncodedImage:
    """The bytes of an image file: its size is known before it is decoded, and it can be decoded for small crops.

    Args:
        data: The content of the file.
        name: Name of the image in error messages.
        max_pixels: As for `read_image`.

    Raises:
        KpdetectError: The data is not an image, or the image is too large.
        MissingExtra: It is a HEIC file and pillow-heif is not installed.

    Example:
        ``EncodedImage(file.read_bytes(), file).decode(channels=1, shrink=4.5)``
    """

    def __init__(self, data: bytes, name: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> None:
        if is_heic(data) and importlib.util.find_spec("pillow_heif") is None:
            raise MissingExtra("pillow-heif", "heif", f"{name}: reading HEIC")
        self._data, self._name, self._header = data, name, _checked_header(data, name, max_pixels)

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width) that the header declares, after the EXIF rotation. That of a HEIC file may be larger."""
        return self._header.size_hw

    def decode(self, channels: int = 3, shrink: float = 1.0) -> tuple[Pixels, int]:
        """Decodes the image, and saves work that its crops do not need.

        Of a JPEG, grey is its luma, which is decoded alone: it differs from the grey of the RGB image by 0.02 levels on
        average, and by more than two levels only where colours are clipped. A JPEG is reduced by leaving out the high
        frequencies of its blocks, down to twice the resolution of the crop; `warp_crop` does the rest.

        Args:
            channels: 1 if the crops are grey, 3 if they are RGB.
            shrink: Pixels of the image per pixel of the crop, as `shrink_factor` returns it; 1 keeps all.

        Returns:
            (h, w) grey or (h, w, 3) RGB uint8; and the reduction r, 1, 2, 4 or 8. Pixel (x, y) of a reduced image is
            the place ((x + 0.5) r - 0.5, (y + 0.5) r - 0.5) of the image, as `kpdetect.core.geometry.scaling` of r maps
            it.

        Raises:
            KpdetectError: The data is damaged.
        """
        header, name = self._header, self._name
        if header.format == "HEIC":
            return _decode_heic(self._data, name), 1
        is_jpeg = header.format == "JPEG"
        is_grey = channels == 1 and is_jpeg
        # A rotated image of odd size would start at another fraction of a reduced pixel.
        reductions = [r for r in _REDUCED_FLAGS if shrink >= 2 * r and is_jpeg and header.orientation == 1]
        reduction = max(reductions, default=1)
        # IMREAD_UNCHANGED would not apply the EXIF orientation. OpenCV does not know the rotation of AVIF.
        flags = cv2.IMREAD_GRAYSCALE if is_grey else cv2.IMREAD_COLOR
        if reduction > 1:
            flags = _REDUCED_FLAGS[reduction][0 if is_grey else 1]
        elif header.format == "AVIF":
            flags |= cv2.IMREAD_IGNORE_ORIENTATION
        try:
            image = cv2.imdecode(np.frombuffer(self._data, np.uint8), flags)
        except cv2.error as error:  # such as a header that declares more pixels than OpenCV allows
            raise KpdetectError(f"{name}: cannot be decoded: {error.err or error}") from error
        if image is None:
            raise KpdetectError(f"{name}: expected a complete image, received a damaged {header.format} file")
        pixels = _uint8(image if is_grey else cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        return (_apply_orientation(pixels, header.orientation) if header.format == "AVIF" else pixels), reduction


def shrink_factor(matrix_photo_to_crop: npt.ArrayLike) -> float:
    """Pixels of the image per pixel of the crop, along the axis where there are fewer; at least 1.

    >>> shrink_factor([[0.25, 0, 0], [0, 0.5, 0], [0, 0, 1]])
    2.0

    Args:
        matrix_photo_to_crop: (3, 3) affine matrix.
    """
    (scale_xx, scale_xy, _), (scale_yx, scale_yy, _), _ = np.asarray(matrix_photo_to_crop, np.float64).tolist()
    area = abs(scale_xx * scale_yy - scale_xy * scale_yx)
    shrinks = (math.hypot(scale_yy, scale_xy), math.hypot(scale_yx, scale_xx))  # of the inverse, times the area
    return max(min(shrinks) / area, 1.0) if area > 0 else 1.0


def image_size(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Returns the (height, width) of an image as `read_image` returns it, from its header where that declares it.

    >>> write_image("/tmp/kpdetect_doctest.png", np.zeros((3, 4), np.uint8))
    >>> image_size("/tmp/kpdetect_doctest.png")
    (3, 4)

    Returns:
        The size after the EXIF rotation, or None if the file is not an image.

    Raises:
        KpdetectError: The file cannot be read.
        MissingExtra: It is a HEIC file, which must be decoded, and pillow-heif is not installed.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.read(_HEADER_BYTES)
    except OSError as error:
        raise KpdetectError(f"{path}: cannot read the image: {error.strerror or error}") from error
    if is_heic(data):  # its header declares the size of the coded blocks
        height, width = read_image(path).shape[:2]
        return height, width
    for complete in (len(data) < _HEADER_BYTES, True):
        try:
            header = read_header(data)
        except DamagedHeader:
            if complete:
                return None
            data = read_bytes(path)
        else:
            break
    return None if header is None else header.size_hw


def _checked_header(data: bytes, name: str | os.PathLike[str], max_pixels: int) -> ImageHeader:
    """Refuses data that is no image, or whose header declares too many pixels."""
    try:
        header = read_header(data)
    except DamagedHeader as error:
        raise KpdetectError(f"{name}: expected a complete image, received a damaged file: {error}") from error
    if header is None:
        found = f"{len(data)} bytes that begin with {data[:8]!r}" if data else "an empty file"
        raise KpdetectError(f"{name}: expected an image (JPEG, PNG, WebP, AVIF, TIFF, …), received {found}")
    weight = max(header.bytes_per_pixel / _BYTES_PER_PIXEL, 1)
    if header.width * header.height * weight > max_pixels:
        raise KpdetectError(
            f"{name}: expected a {header.format} image of at most {max_pixels / weight / 1e6:g} megapixels, received "
            f"{header.width} x {header.height}; raise the limit with --max-megapixels, or with max_pixels of "
            "kpdetect.core.images.read_image"
        )
    return header


def _decode_heic(data: bytes, name: str | os.PathLike[str]) -> Pixels:
    import pillow_heif

    try:
        image = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
        return as_rgb(np.asarray(image))
    except (ValueError, RuntimeError, OSError, EOFError, SyntaxError, IndexError) as error:
        raise KpdetectError(f"{name}: expected a complete image, received a damaged HEIC file: {error}") from error


def _apply_orientation(image: Pixels, orientation: int) -> Pixels:
    """Turns stored pixels as the EXIF orientation says."""
    if orientation in (2, 3, 7, 8):  # TIFF 6.0, tag 274: where row 0 and column 0 are displayed
        image = image[:, ::-1]
    if orientation in (3, 4, 6, 7):
        image = image[::-1]
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    return np.ascontiguousarray(image)


def write_image(path: str | os.PathLike[str], image_rgb: npt.ArrayLike) -> None:
    """Writes an image atomically, in the format of the path's suffix.

    Example:
        ``write_image("grey.png", np.zeros((480, 640), np.uint8))``

    Args:
        path: The file to write: ``.png``, ``.jpg``, ``.webp``, …
        image_rgb: (H, W, 3) RGB or (H, W) grey, uint8.

    Raises:
        KpdetectError: The suffix is not a known format, or the folder is not writable.
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
    """Converts an image array of any usual shape and type, or a PIL image, to 8-bit RGB.

    Args:
        image: An array, (H, W) or (H, W, 1) grey, (H, W, 3) colour, or (H, W, 4) colour and alpha, which is dropped; of
            type uint8, uint16 (0-65535), bool or float (0-1, or 0-255 if a value exceeds 1). Or a PIL image, whose
            EXIF orientation is applied, as for a file.
        bgr: The channels are blue, green, red, as in images that OpenCV reads.

    Returns:
        (H, W, 3) uint8; a view of the input if it is 8-bit RGB already.

    >>> as_rgb(np.array([[7]], np.uint8))
    array([[[7, 7, 7]]], dtype=uint8)
    >>> as_rgb([[0.2]])
    array([[[51, 51, 51]]], dtype=uint8)

    Raises:
        KpdetectError: The shape or type is another one, or values are out of range.
    """
    pixels = _pil_pixels(image) if hasattr(image, "getexif") else np.asarray(image)
    shaped = pixels[..., None] if pixels.ndim == 2 else pixels
    if shaped.ndim != 3 or shaped.shape[2] not in (1, 3, 4) or 0 in shaped.shape:
        raise _not_an_image(f"{pixels.dtype} of shape {pixels.shape}")
    eight_bits = _as_eight_bits(shaped)
    if eight_bits.shape[2] == 1:
        return np.repeat(eight_bits, 3, axis=2)
    return eight_bits[..., 2::-1] if bgr else eight_bits[..., :3]


def _pil_pixels(image: Any) -> npt.NDArray[Any]:
    """Returns the pixels of a PIL image as `read_image` decodes the same file: turned, without palette or CMYK."""
    from PIL import ImageOps  # the caller has it, since the image is its

    turned = ImageOps.exif_transpose(image)
    if turned.mode.startswith("I;16"):
        return np.asarray(turned, np.uint16)
    return np.asarray(turned if turned.mode in ("RGB", "L", "F") else turned.convert("RGB"))


def _as_eight_bits(pixels: npt.NDArray[Any]) -> Pixels:
    """Converts levels of any supported type to 0-255."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return np.asarray(np.rint(pixels / 257.0), np.uint8)  # 65535 is 255 * 257
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise _not_an_image(f"{pixels.dtype} of shape {pixels.shape}")
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 255):  # true for NaN, too
        raise _not_an_image(f"{pixels.dtype} from {low:g} to {high:g}")
    return np.asarray(np.rint(pixels if high > 1 else pixels * 255.0), np.uint8)


def _not_an_image(received: str) -> KpdetectError:
    return KpdetectError(
        "image: expected shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16, bool, or floats from 0 to 1 "
        f"or to 255, received {received}"
    )


def to_channels(image_rgb: Pixels, channels: int) -> Pixels:
    """Converts RGB to the number of channels that a model takes.

    >>> to_channels(np.full((1, 1, 3), 7, np.uint8), 1).tolist()
    [[[7]]]

    Args:
        image_rgb: (H, W, 3) uint8.
        channels: 1 for grey (by `GREY_OF_RGB`), 3 for RGB.

    Returns:
        (H, W, channels) uint8.

    Raises:
        KpdetectError: `channels` is neither 1 nor 3.
    """
    if channels == 3:
        return image_rgb
    if channels == 1:
        return _uint8(cv2.cvtColor(np.ascontiguousarray(image_rgb), cv2.COLOR_RGB2GRAY))[..., None]
    raise KpdetectError(f"channels: expected 1 (grey) or 3 (RGB), received {channels}")


def warp_crop(
    image: Pixels, matrix_photo_to_crop: npt.ArrayLike, size_hw: tuple[int, int], channels: int | None = None
) -> Pixels:
    """Cuts a crop out of an image; used by prediction, evaluation and the training cache.

    Bilinear, with pixel centres on integers and black outside the image. When it shrinks, it averages whole blocks of
    pixels and then blurs for the remaining factor, so that fine texture does not alias. Neither step shifts the image.

    Example:
        ``warp_crop(image, rule.matrix(face.box), rule.size_hw)`` with a `kpdetect.core.geometry.CropRule`.

    Args:
        image: (H, W, C) or (H, W) uint8.
        matrix_photo_to_crop: (3, 3) affine matrix from image to crop pixels, as returned by `CropRule.matrix`.
        size_hw: (height, width) of the crop in pixels.
        channels: Channels of the crop from an RGB image: 1 for grey (equal to a crop of the grey image, with a third
            of the work), 3 for RGB. None keeps the image's channels.

    Returns:
        (height, width, C) uint8.

    Raises:
        KpdetectError: The matrix is not invertible, or `channels` is neither 1 nor 3.
    """
    matrix = np.asarray(matrix_photo_to_crop, np.float64)
    # Plain numbers: on arrays this small NumPy takes longer than OpenCV takes for the pixels, and holds the GIL.
    rows = matrix.tolist()
    if matrix.shape != (3, 3) or not _is_invertible(rows):
        raise KpdetectError(f"crop: expected an invertible 3x3 matrix, received {rows}")
    shaped = image[..., None] if image.ndim == 2 else image
    (scale_xx, scale_xy, shift_x), (scale_yx, scale_yy, shift_y), _ = rows
    area = scale_xx * scale_yy - scale_xy * scale_yx
    inverse = (
        (scale_yy / area, -scale_xy / area, (scale_xy * shift_y - scale_yy * shift_x) / area),
        (-scale_yx / area, scale_xx / area, (scale_yx * shift_x - scale_xx * shift_y) / area),
    )
    shrink_xy = tuple(max(math.hypot(along_x, along_y), 1.0) for along_x, along_y, _ in inverse)
    # Blocks do at most half of the shrinking: a block mean alone aliases, the blur after it does not.
    blocks_x, blocks_y = (max(math.floor(shrink / 2 + 1e-6), 1) for shrink in shrink_xy)
    region, (left, top) = _region(shaped, inverse, size_hw, (blocks_x, blocks_y))
    if region.size == 0:
        return np.zeros((*size_hw, channels or shaped.shape[2]), np.uint8)
    if channels is not None and not (channels == 1 and region.shape[2] == 1):
        region = to_channels(region, channels)
    blurred = _blur(_block_means(region, blocks_x, blocks_y), shrink_xy[0] / blocks_x, shrink_xy[1] / blocks_y)
    # The centre of a pixel of the reduced region is the centre of its block in the image.
    left_center, top_center = left + (blocks_x - 1) / 2, top + (blocks_y - 1) / 2
    to_crop = np.array(
        [
            [scale_xx * blocks_x, scale_xy * blocks_y, scale_xx * left_center + scale_xy * top_center + shift_x],
            [scale_yx * blocks_x, scale_yy * blocks_y, scale_yx * left_center + scale_yy * top_center + shift_y],
        ]
    )
    crop = cv2.warpAffine(blurred, to_crop, size_hw[::-1], flags=cv2.INTER_LINEAR)
    rounded = crop if crop.dtype == np.uint8 else np.rint(crop)  # np.rint converts bytes to float16, which is slow
    return _uint8(rounded).reshape(*size_hw, channels or shaped.shape[2])


def _is_invertible(rows: list[list[float]]) -> bool:
    """Whether a 3x3 matrix has finite values and an inverse."""
    if not all(math.isfinite(value) for row in rows for value in row):
        return False
    (a, b, c), (d, e, f), (g, h, i) = rows
    return abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)) >= 1e-12


def _region(
    image: Pixels, inverse: Sequence[Sequence[float]], size_hw: tuple[int, int], blocks_xy: tuple[int, int]
) -> tuple[Pixels, tuple[int, int]]:
    """Returns the part of the image that a crop needs, in whole blocks, padded with black, and its first pixel.

    Args:
        image: (H, W, C).
        inverse: (2, 3), crop to image.
        size_hw: (height, width) of the crop.
        blocks_xy: Width and height of a block.
    """
    right, bottom = size_hw[1] - 1, size_hw[0] - 1
    lows, insides, before, after = [], [], [], []
    for (along_x, along_y, shift), block, extent in zip(inverse, blocks_xy, image.shape[1::-1], strict=True):
        corners = (shift, along_x * right + shift, along_y * bottom + shift, along_x * right + along_y * bottom + shift)
        reach = 8 * block  # support of the blur and of the interpolation
        low = max(math.floor(min(corners)) - reach, -reach)
        low = low // block * block  # blocks are aligned to the image's corner for every crop
        high = min(math.ceil(max(corners)) + 1 + reach, extent + reach)
        if high <= 0 or low >= extent:
            return image[:0, :0], (0, 0)
        high = low + -(-(high - low) // block) * block
        lows.append(low)
        insides.append(slice(max(low, 0), min(high, extent)))
        before.append(max(-low, 0))
        after.append(max(high - extent, 0))
    inside = image[insides[1], insides[0]]
    if any(before) or any(after):
        padded = cv2.copyMakeBorder(
            inside, before[1], after[1], before[0], after[0], cv2.BORDER_CONSTANT, value=(0, 0, 0, 0)
        )
        inside = _uint8(padded).reshape(*padded.shape[:2], image.shape[2])
    return inside, (lows[0], lows[1])


def _block_means(region: Pixels, width: int, height: int) -> Pixels:
    """Returns the mean of each block. The region consists of whole blocks, so that an area resize is exact."""
    if width == height == 1:
        return region
    rows, columns = region.shape[:2]
    return _uint8(cv2.resize(region, (columns // width, rows // height), interpolation=cv2.INTER_AREA))


def _blur(image: Pixels, shrink_x: float, shrink_y: float) -> Pixels | npt.NDArray[np.float32]:
    """Blurs for the remaining shrink factor.

    An image is assumed to have a blur of half a pixel (Lowe 2004, "Distinctive image features", 3.3). The blur added
    here makes it half a pixel of the crop.
    """
    sigma_x, sigma_y = (0.5 * math.sqrt(max(shrink**2 - 1, 0)) for shrink in (shrink_x, shrink_y))
    if max(sigma_x, sigma_y) < MIN_BLUR_PX:
        return image
    # 8-bit values between the two steps would be rounded twice, which biases slow gradients by a quarter of a level.
    # OpenCV replaces a sigma of 0 by one of its own choice.
    blurred = cv2.GaussianBlur(image.astype(np.float32), (0, 0), max(sigma_x, 1e-3), sigmaY=max(sigma_y, 1e-3))
    return np.asarray(blurred, np.float32)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Returns the content of a file.

    Raises:
        KpdetectError: The file cannot be read.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except OSError as error:
        raise KpdetectError(f"{path}: cannot read the image: {error.strerror or error}") from error


def _uint8(array: npt.ArrayLike) -> Pixels:
    """Returns the array with its static type, which OpenCV does not declare."""
    return np.asarray(array, np.uint8)
