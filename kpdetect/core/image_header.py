"""Reads an image's format and size from the first bytes of its file, before anything is decoded.

It covers every format that `kpdetect.core.images` decodes. Where a header declares a size more than once, the largest
is returned: the result is an upper limit of what a decoder may allocate, also for a damaged or hostile file.
"""

import re
import struct
from dataclasses import dataclass

AVIF_BRANDS = frozenset({b"avif", b"avis"})
HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
MAX_TAGS = 4096  # of a TIFF directory; real ones have some tens


@dataclass(frozen=True)
class ImageHeader:
    """What the header of an image file declares.

    Attributes:
        format: Name of the format, such as ``JPEG``.
        width: Largest declared width in pixels, before any rotation.
        height: Largest declared height in pixels.
        orientation: EXIF orientation, 1 to 8, by which the stored pixels must be turned; 1 if there is none. In AVIF,
            where it is declared by ``irot`` and ``imir``, the equivalent one.
        bytes_per_pixel: Memory that decoding needs per pixel, as measured with OpenCV 4.14 for each format.
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    bytes_per_pixel: float = 6.2

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width) of the image as it is displayed, after the rotation."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


class DamagedHeader(ValueError):
    """The data begins like an image of a known format, but its size cannot be read."""


def read_header(data: bytes) -> ImageHeader | None:
    """Returns the header of an image file.

    >>> read_header(b"GIF89a" + struct.pack("<HH", 40000, 9000)).size_hw
    (9000, 40000)

    Args:
        data: The content of the file.

    Returns:
        The header, or None if the data is of no known format.

    Raises:
        DamagedHeader: The format is known, but the header is incomplete or contradicts the length of the file.
    """
    for signature, reader in _READERS:
        if re.match(signature, data, re.DOTALL):
            try:
                header = reader(data)
            except (struct.error, IndexError, ValueError, OverflowError) as error:
                reason = error if isinstance(error, DamagedHeader) else "its header is incomplete"
                raise DamagedHeader(str(reason)) from error
            if min(header.width, header.height) < 1:
                raise DamagedHeader(f"its header declares {header.width} x {header.height} pixels")
            return header
    return None


def _png(data: bytes) -> ImageHeader:
    at, orientation, animated = 8, 1, False
    if data[12:16] != b"IHDR":
        raise DamagedHeader("its first chunk is not IHDR")
    width, height = struct.unpack_from(">II", data, 16)
    # libpng allocates the length that a chunk declares, up to 4 GB, before it finds the end of the file.
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            raise DamagedHeader(f"its chunk {kind.decode('latin-1')} ends beyond the file")
        if kind == b"eXIf":
            orientation = _exif_orientation(data[at + 8 : at + 8 + length])
        elif kind == b"fcTL":
            frame_width, frame_height = struct.unpack_from(">II", data, at + 12)
            width, height, animated = max(width, frame_width), max(height, frame_height), True
        elif kind == b"IEND":
            break
        at += 12 + length
    return ImageHeader("PNG", width, height, orientation, 12.5 if animated else 6.2)


def _jpeg(data: bytes) -> ImageHeader:
    at, orientation = 2, 1
    while True:
        at = data.index(b"\xff", at)  # decoders skip bytes between segments
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if 0xD0 <= marker <= 0xD9 or marker in (0x00, 0x01):
            continue
        (length,) = struct.unpack_from(">H", data, at)
        if marker == 0xE1 and data[at + 2 : at + 8] == b"Exif\0\0" and orientation == 1:
            orientation = _exif_orientation(data[at + 8 : at + length])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 3)
            return ImageHeader("JPEG", width, height, orientation)
        at += max(length, 2)


def _gif(data: bytes) -> ImageHeader:
    width, height = struct.unpack_from("<HH", data, 6)
    return ImageHeader("GIF", width, height, bytes_per_pixel=8.2)


def _webp(data: bytes) -> ImageHeader:
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
        return ImageHeader("WebP", width, height)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return ImageHeader("WebP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind != b"VP8X":
        raise DamagedHeader(f"its first chunk is {kind!r}")
    flags = data[20]
    width = int.from_bytes(data[24:27], "little") + 1
    height = int.from_bytes(data[27:30], "little") + 1
    orientation, at = 1, 12
    while flags & 0x08 and at + 8 <= len(data):
        chunk, length = struct.unpack_from("<4sI", data, at)
        if chunk == b"EXIF":
            orientation = _exif_orientation(data[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0"))
            break
        at += 8 + length + length % 2
    return ImageHeader("WebP", width, height, orientation, 11.5 if flags & 0x02 else 6.2)


def _bmp(data: bytes) -> ImageHeader:
    (header_size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header_size == 12 else "<ii", data, 18)
    return ImageHeader("BMP", abs(width), abs(height))


_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 6: "B", 8: "H", 9: "I", 13: "I", 16: "Q", 17: "Q", 18: "Q"}


def _tiff(data: bytes) -> ImageHeader:
    tags = _tiff_tags(data)

    def largest(tag: int, default: int = 0) -> int:
        return max(tags.get(tag, [default]), default=default)

    width, height = largest(256), largest(257)
    channels = max(largest(277, 1), len(tags.get(258, [])), 1)
    bytes_per_pixel = 4.5 + 6.2 * max(largest(258, 8) * channels / 24, 1)
    tile_pixels = largest(322) * largest(323)  # a tile may be larger than the image
    if width * height and tile_pixels > width * height:
        bytes_per_pixel *= tile_pixels / (width * height)
    return ImageHeader("TIFF", width, height, (tags.get(274) or [1])[0], bytes_per_pixel)


def _tiff_tags(data: bytes) -> dict[int, list[int]]:
    """Returns the integer values of the first directory's tags. Values of a repeated tag are collected."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    at += 8 if big else 2
    entry, inline = (20, 8) if big else (12, 4)
    tags: dict[int, list[int]] = {}
    for start in range(at, at + entry * min(count, MAX_TAGS), entry):
        tag, kind = struct.unpack_from(order + "HH", data, start)
        (length,) = struct.unpack_from(order + ("Q" if big else "I"), data, start + 4)
        if kind not in _TIFF_TYPES or tag not in (256, 257, 258, 274, 277, 322, 323):
            continue
        code, length = _TIFF_TYPES[kind], min(length, 64)
        place = start + entry - inline
        if struct.calcsize(order + code) * length > inline:
            (place,) = struct.unpack_from(order + ("Q" if big else "I"), data, place)
        tags.setdefault(tag, []).extend(struct.unpack_from(f"{order}{length}{code}", data, place))
    return tags


def _exif_orientation(exif: bytes) -> int:
    """Returns the orientation in an EXIF block, which is a small TIFF file; 1 if it is damaged."""
    try:
        orientation = (_tiff_tags(exif).get(274) or [1])[0]
    except (struct.error, OverflowError):
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def _jpeg2000(data: bytes) -> ImageHeader:
    sides, channels = [(0, 0)], 1
    for found in re.finditer(rb"\xff\x4f\xff\x51", data):
        values = struct.unpack_from(">8IH", data, found.end() + 4)
        right, bottom, left, top, tile_width, tile_height, _, _, components = values
        # OpenJPEG allocates whole components; a tile may not be larger than the image.
        sides.append((max(right - min(left, right), 1), max(bottom - min(top, bottom), 1)))
        channels = max(channels, components)
        if min(tile_width, tile_height) == 0:
            raise DamagedHeader("its tiles have no size")
    for found in re.finditer(b"ihdr", data[:4096]):
        height, width, components = struct.unpack_from(">IIH", data, found.end())
        sides.append((width, height))
        channels = max(channels, components)
    width, height = max(sides, key=lambda side: side[0] * side[1])
    return ImageHeader("JPEG 2000", width, height, bytes_per_pixel=4.5 + 4 * max(channels, 3))


def _radiance(data: bytes) -> ImageHeader:
    found = re.search(rb"\n[-+]([XY]) +(\d{1,9}) +[-+]([XY]) +(\d{1,9})\s*?\n", data[:65536])
    if found is None:
        raise DamagedHeader("its header has no line '-Y HEIGHT +X WIDTH'")
    first, second = int(found[2]), int(found[4])
    width, height = (second, first) if found[1] == b"Y" else (first, second)
    return ImageHeader("Radiance HDR", width, height, bytes_per_pixel=15.5)


def _netpbm(data: bytes) -> ImageHeader:
    """PBM, PGM, PPM (P1 to P6) and PFM: width and height are the first two numbers after the magic."""
    numbers = re.sub(rb"#[^\n\r]*", b" ", data[2:8192]).split(maxsplit=2)[:2]
    if any(len(number) > 9 for number in numbers):
        raise DamagedHeader("its size has more than 9 digits")
    width, height = (int(number) for number in numbers)
    is_float = data[1:2] in b"Ff"
    return ImageHeader("PFM" if is_float else "PNM", width, height, bytes_per_pixel=15.5 if is_float else 6.2)


def _pam(data: bytes) -> ImageHeader:
    header = data[:8192].partition(b"ENDHDR")[0]

    def largest(key: bytes) -> int:
        return max(int(value) for value in re.findall(rb"%s\s+(\d{1,9})(?!\d)" % key, header))

    depth = largest(b"DEPTH")
    return ImageHeader("PAM", largest(b"WIDTH"), largest(b"HEIGHT"), bytes_per_pixel=6.2 + 2.0 * max(depth - 3, 0))


def _sun_raster(data: bytes) -> ImageHeader:
    width, height = struct.unpack_from(">II", data, 4)
    return ImageHeader("Sun raster", width, height)


def is_heic(data: bytes) -> bool:
    """Returns whether a file declares itself to be HEIC or HEIF, and not AVIF.

    >>> is_heic(bytes(4) + b"ftypheic")
    True
    """
    brands = _brands(data) if data[4:8] == b"ftyp" else set()
    return brands.isdisjoint(AVIF_BRANDS) and not brands.isdisjoint(HEIC_BRANDS)


def _brands(data: bytes) -> set[bytes]:
    length = int.from_bytes(data[:4], "big")
    return {data[8:12], *(data[at : at + 4] for at in range(16, min(length, 256, len(data)), 4))}


def _isobmff(data: bytes) -> ImageHeader:
    """AVIF and HEIC: an ISO base media file whose property boxes declare the sizes and rotations of its items."""
    brands = _brands(data)
    if brands.isdisjoint(AVIF_BRANDS | HEIC_BRANDS):
        raise DamagedHeader("it is a media file, but no image")
    is_avif = not brands.isdisjoint(AVIF_BRANDS)
    sizes = [struct.unpack_from(">II", data, found.end() + 4) for found in re.finditer(b"ispe", data[:65536])]
    if not sizes:
        raise DamagedHeader("it has no size property (ispe)")
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    orientation = _avif_orientation(data) if is_avif else 1  # HEIC decoders apply the rotation themselves
    return ImageHeader("AVIF" if is_avif else "HEIC", width, height, orientation, 17.5)


_EXIF_OF_AVIF = {
    # The mirror axis (None without imir) to the orientation for 0 to 3 quarter turns anticlockwise. irot is applied
    # first; then imir exchanges top and bottom (0) or left and right (1).
    None: (1, 8, 3, 6),
    0: (4, 5, 2, 7),
    1: (2, 7, 4, 5),
}


def _avif_orientation(data: bytes) -> int:
    """Returns the EXIF orientation that the primary item's properties ``irot`` and ``imir`` are equivalent to."""
    boxes = dict(_boxes(data, 0, len(data)))
    meta = _span(boxes, b"meta")
    inside = dict(_boxes(data, meta[0] + 4, meta[1]))
    start, _ = _span(inside, b"pitm")
    primary = int.from_bytes(data[start + 4 : start + (6 if data[start] == 0 else 8)], "big")
    properties = dict(_boxes(data, *_span(inside, b"iprp")))
    kinds = list(_boxes(data, *_span(properties, b"ipco")))
    turns, axis = 0, None
    for index in _associated(data, *_span(properties, b"ipma"), primary):
        if 0 < index <= len(kinds):
            kind, (at, _) = kinds[index - 1]
            if kind == b"irot":
                turns = data[at] & 3
            elif kind == b"imir":
                axis = data[at] & 1
    return _EXIF_OF_AVIF[axis][turns]


def _boxes(data: bytes, start: int, end: int) -> list[tuple[bytes, tuple[int, int]]]:
    """Returns the kind and the (start, end) of the content of each box between two offsets."""
    found = []
    while start + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, start)
        header = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, start + 8)
            header = 16
        stop = end if length == 0 else start + length
        if (length and length < header) or stop > end:
            raise DamagedHeader(f"its box {kind.decode('latin-1')} ends beyond the file")
        found.append((kind, (start + header, stop)))
        start = stop
    return found


def _span(boxes: dict[bytes, tuple[int, int]], kind: bytes) -> tuple[int, int]:
    if kind not in boxes:
        raise DamagedHeader(f"it has no box {kind.decode()}")
    return boxes[kind]


def _associated(data: bytes, start: int, end: int, item: int) -> list[int]:
    """Returns the 1-based indices of an item's properties, from the content of an ``ipma`` box."""
    version, wide = data[start], data[start + 3] & 1
    (count,) = struct.unpack_from(">I", data, start + 4)
    at = start + 8
    for _ in range(min(count, 65536)):
        id_size = 2 if version == 0 else 4
        identifier = int.from_bytes(data[at : at + id_size], "big")
        number = data[at + id_size]
        at += id_size + 1
        step = 2 if wide else 1
        raw = [int.from_bytes(data[place : place + step], "big") for place in range(at, at + step * number, step)]
        if identifier == item:
            return [value & (0x7FFF if wide else 0x7F) for value in raw]
        at += step * number
        if at >= end:
            break
    return []


_READERS = (
    (rb"\x89PNG\r\n\x1a\n", _png),
    (rb"\xff\xd8\xff", _jpeg),
    (rb"GIF8[79]a", _gif),
    (rb"RIFF....WEBP", _webp),
    (rb"BM", _bmp),
    (rb"II[\x2a\x2b]\x00|MM\x00[\x2a\x2b]", _tiff),
    (rb"\x00\x00\x00\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", _jpeg2000),
    (rb"#\?RADIANCE|#\?RGBE", _radiance),
    (rb"P[1-6]\s|P[Ff]\s", _netpbm),
    (rb"P7\s", _pam),
    (rb"\x59\xa6\x6a\x95", _sun_raster),
    (rb"....ftyp", _isobmff),
)
"""The signature of each format and the function that reads its header."""
