"""Reads small numeric arrays from MATLAB files of version 5 to 7.2 (not 7.3, which is HDF5).

It is not `scipy.io.loadmat` because that ends the process with a segmentation fault for some damaged files. Here, every
length is checked against the data, and compressed variables are expanded only as far as a small array needs.
Format: "MAT-File Format", https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf.
"""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

MAX_VARIABLE_BYTES = 1 << 16  # of an expanded variable; 68 points have less than 2 KB
_MATRIX, _COMPRESSED = 14, 15
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMERIC_CLASSES = range(6, 16)  # double, single and the integers
_COMPLEX = 0x08


class DamagedMatlabFile(ValueError):
    """The data is not a MATLAB file of version 5 to 7.2, or it is damaged."""


def read_matlab(data: bytes) -> dict[str, npt.NDArray[np.float64]]:
    """Returns the small numeric arrays of a MATLAB file by their names; other variables are left out.

    Args:
        data: The content of the file.

    Raises:
        DamagedMatlabFile: The data is not such a file, or it is damaged.
    """
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or not data.startswith(b"MATLAB"):
        raise DamagedMatlabFile("it does not begin like a MATLAB file of version 5 to 7.2")
    arrays: dict[str, npt.NDArray[np.float64]] = {}
    for kind, content in _elements(data[128:], order):
        if kind == _COMPRESSED:
            try:
                expanded = zlib.decompressobj().decompress(content, MAX_VARIABLE_BYTES)
            except zlib.error as error:
                raise DamagedMatlabFile("a compressed variable is damaged") from error
            found = _variable(expanded[8:], order) if expanded[:4] == struct.pack(f"{order}I", _MATRIX) else None
        else:
            found = _variable(content, order) if kind == _MATRIX else None
        if found is not None:
            arrays[found[0]] = found[1]
    return arrays


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yields the type and the content of each data element."""
    at = 0
    while at + 8 <= len(data):
        kind, length = struct.unpack_from(f"{order}II", data, at)
        if kind >> 16:  # a small element has its length in the upper half, and up to four bytes of content
            kind, length = kind & 0xFFFF, kind >> 16
            if length > 4:
                raise DamagedMatlabFile("a small data element is too long")
            yield kind, data[at + 4 : at + 4 + length]
            at += 8
            continue
        if at + 8 + length > len(data):
            raise DamagedMatlabFile("a data element ends beyond the file")
        yield kind, data[at + 8 : at + 8 + length]
        at += 8 + length + (0 if kind == _COMPRESSED else -length % 8)


def _variable(data: bytes, order: str) -> tuple[str, npt.NDArray[np.float64]] | None:
    """Returns the name and the values of a variable; None if it is not a small array of real numbers."""
    parts: list[tuple[int, bytes]] = []
    try:
        for part in _elements(data, order):
            parts.append(part)
            if len(parts) == 4:
                break
    except DamagedMatlabFile:
        if len(data) < MAX_VARIABLE_BYTES - 8:
            raise
        return None  # it was expanded in part only
    if len(parts) < 4 or len(parts[0][1]) < 8 or len(parts[1][1]) % 4:
        return None
    (flags,) = struct.unpack_from(f"{order}I", parts[0][1])
    shape = np.frombuffer(parts[1][1], f"{order}i4")
    kind, content = parts[3]
    if flags & 0xFF not in _NUMERIC_CLASSES or flags >> 8 & _COMPLEX or kind not in _TYPES:
        return None
    values = np.frombuffer(content[: len(content) // int(_TYPES[kind][1]) * int(_TYPES[kind][1])], order + _TYPES[kind])
    if (shape < 0).any() or len(shape) > 8 or int(np.prod(shape, dtype=object)) != len(values):
        raise DamagedMatlabFile("the size of a variable contradicts its data")
    name = parts[2][1].decode("latin-1")
    return name, np.asarray(values.reshape(shape, order="F"), np.float64)
