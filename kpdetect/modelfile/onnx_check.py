"""Reads the parts of an ONNX file that are needed before it is loaded, without the packages onnx and onnxruntime.

An ONNX file is a protobuf message (``onnx.proto``); field numbers below are those of its messages. ONNX Runtime reads
weights that are stored in other files from paths in the file, so that such files are refused.
"""

from collections.abc import Iterator
from pathlib import Path

from kpdetect.core.errors import KpdetectError

MAX_DEPTH = 16  # of graphs in the attributes of nodes
MAX_FIELDS = 2_000_000  # of a file, so that time is bounded
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class _Damaged(ValueError):
    pass


class _Walk:
    """Iterates over the fields of nested messages, and counts them."""

    def __init__(self) -> None:
        self.left = MAX_FIELDS

    def fields(self, message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        """Yields the number and the value of each field: an int, or the bytes of a text or message."""
        place, end = 0, len(message)
        while place < end:
            self.left -= 1
            if self.left < 0:
                raise _Damaged(f"more than {MAX_FIELDS} fields")
            key, place = _varint(message, place)
            number, kind = key >> 3, key & 7
            if kind == _VARINT:
                value, place = _varint(message, place)
                yield number, value
                continue
            if kind == _BYTES:
                size, place = _varint(message, place)
            elif kind in (_FIXED64, _FIXED32):
                size = 8 if kind == _FIXED64 else 4
            else:
                raise _Damaged(f"a field of type {kind}")
            if place + size > end:
                raise _Damaged("a field ends after its message")
            yield number, message[place : place + size]
            place += size


def onnx_metadata(path: Path) -> dict[str, bytes]:
    """Returns the metadata of an ONNX file after a check of its structure.

    Args:
        path: The file.

    Raises:
        KpdetectError: The file is damaged, has no graph, or has weights in other files.
    """
    try:
        return _metadata(_Walk(), memoryview(path.read_bytes()))
    except _Damaged as error:
        raise KpdetectError(f"{path}: not a valid ONNX model: {error}") from error


def _metadata(walk: _Walk, model: memoryview) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    graphs = 0
    for number, value in walk.fields(model):
        if number == 7:  # ModelProto.graph
            _check_graph(walk, _message(value), 0)
            graphs += 1
        elif number == 14:  # ModelProto.metadata_props
            entry = {field: _message(content) for field, content in walk.fields(_message(value)) if field in (1, 2)}
            found[bytes(entry.get(1, b"")).decode("utf-8", "replace")] = bytes(entry.get(2, b""))
        elif number == 25:  # ModelProto.functions
            for field, content in walk.fields(_message(value)):
                if field == 7:  # FunctionProto.node
                    _check_node(walk, _message(content), 0)
    if not graphs:
        raise _Damaged("it has no graph")
    return found


def _check_graph(walk: _Walk, graph: memoryview, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _Damaged(f"graphs nested more than {MAX_DEPTH} deep")
    for number, value in walk.fields(graph):
        if number == 1:  # GraphProto.node
            _check_node(walk, _message(value), depth)
        elif number == 5:  # GraphProto.initializer
            _check_tensor(walk, _message(value))
        elif number == 15:  # GraphProto.sparse_initializer: values and indices
            for field, content in walk.fields(_message(value)):
                if field in (1, 2):
                    _check_tensor(walk, _message(content))


def _check_node(walk: _Walk, node: memoryview, depth: int) -> None:
    for number, value in walk.fields(node):
        if number == 5:  # NodeProto.attribute
            for field, content in walk.fields(_message(value)):
                if field in (5, 10):  # AttributeProto.t and tensors
                    _check_tensor(walk, _message(content))
                elif field in (6, 11):  # AttributeProto.g and graphs
                    _check_graph(walk, _message(content), depth + 1)


def _check_tensor(walk: _Walk, tensor: memoryview) -> None:
    for number, value in walk.fields(tensor):
        if number == 13 or (number == 14 and value == 1):  # TensorProto.external_data and data_location
            raise _Damaged("weights in another file")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _Damaged("a number in place of a message")
    return value


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if place >= len(message) or shift > 63:
            raise _Damaged("a number that does not end")
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7
