"""Verification of a TFLite flatbuffer before it is loaded: LiteRT's interpreter crashes on some damaged files.

The layout is that of TensorFlow Lite's ``schema.fbs``; field numbers below are positions in its tables. The check
covers every offset, vector and index of the file, the sizes of constants, the order of the operators, and the total
memory of the tensors. It does not cover what a kernel computes with valid indices; see `kpdetect.modelfile.trial`.
"""

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError

MAX_SUBGRAPHS = 16
MAX_TENSORS = 50_000
MAX_OPERATORS = 50_000
MAX_TENSOR_BYTES = 400 << 20
"""Of all tensors without constants, for a batch of one, besides four times the file: float16 weights become float32.
LiteRT may need twice as much; the packaged model has 6 MB of tensors."""
MAX_SCALE_RATIO = 2.0**16  # of an operator's input and output; kernels abort the process above 2**19
MAX_RANK = 8
OPTIONAL = -1  # index of an input that is left out

# Bits per value, by number in the enum TensorType; types with their own memory (strings, resources) are left out.
_BITS = {0: 32, 1: 16, 2: 32, 3: 8, 4: 64, 6: 8, 7: 16, 9: 8, 10: 64, 12: 64, 15: 32, 16: 16, 17: 4, 18: 16}
# Vectors of the tables in the union BuiltinOptions: (field, bytes per value), by number in the union.
_OPTION_VECTORS = {3: ((1, 4), (2, 4)), 8: ((5, 1),), 17: ((0, 4),), 30: ((0, 4),), 115: ((0, 4),)}
_WITH_STRINGS = {111}  # VarHandleOptions
_LAST_OPTIONS = 126
# Operators by their number in the enum BuiltinOperator, and their number of inputs: delegates read inputs of these
# operators without counting them.
_ONE = (
    1, 5, 6, 8, 11, 12, 13, 14, 17, 19, 20, 21, 25, 26, 28, 43, 47, 50, 53, 59, 66, 73, 75, 76, 77, 87, 88, 92, 93, 98,
    101, 104, 108, 109, 110, 111, 114, 116, 117, 150, 152, 158,
)  # fmt: skip
_TWO = (
    0, 7, 18, 23, 34, 36, 39, 40, 41, 42, 48, 49, 54, 55, 56, 57, 58, 61, 62, 63, 69, 70, 71, 72, 74, 78, 79, 81, 82,
    84, 86, 89, 90, 91, 94, 95, 97, 99, 100, 105, 107, 112, 126, 128, 130, 140, 145, 156,
)  # fmt: skip
_THREE = (37, 38, 60, 64, 65, 96, 102, 122, 123, 151)
_INPUTS = {
    **dict.fromkeys(_ONE, (1, 1)),
    **dict.fromkeys(_TWO, (2, 2)),
    **dict.fromkeys(_THREE, (3, 3)),
    **dict.fromkeys((45, 85), (4, 4)),  # STRIDED_SLICE, ONE_HOT
    **dict.fromkeys((3, 4, 9, 132), (2, 3)),  # convolutions and FULLY_CONNECTED, with or without a bias
    67: (3, 4),  # TRANSPOSE_CONV
    22: (1, 2),  # RESHAPE
    **dict.fromkeys((2, 83, 106), (1, MAX_TENSORS)),  # CONCATENATION, PACK, ADD_N
}
_SEVERAL_OUTPUTS = (48, 49, 88, 102)  # TOPK_V2, SPLIT, UNPACK, SPLIT_V
_CUSTOM = 32  # the operator's number for custom operators, in the enum BuiltinOperator


class Damaged(ValueError):
    """The flatbuffer is damaged; the text says where."""


def check_tflite(content: bytes | bytearray | memoryview, where: str) -> None:
    """Verifies a TFLite file.

    Args:
        content: The bytes of the file. An appended zip is ignored.
        where: The file's path, for errors.

    Raises:
        KpdetectError: The file is damaged, or contains what no kpdetect export contains.

    >>> check_tflite(b"TFL3" * 8, "a.tflite")
    Traceback (most recent call last):
    kpdetect.core.errors.KpdetectError: a.tflite: damaged TFLite file: model: no table at byte 860636756
    """
    try:
        _check_model(_Buffer(memoryview(content)))
    except Damaged as error:
        raise KpdetectError(f"{where}: damaged TFLite file: {error}") from error


@dataclass(frozen=True)
class _Table:
    """A table of a flatbuffer whose vtable is within the file.

    Attributes:
        buffer: The file.
        start: Position of the table.
        fields: Position of each field in the file; 0 for an absent one.
        name: What it is, for errors.
    """

    buffer: "_Buffer"
    start: int
    end: int
    fields: tuple[int, ...]
    name: str

    def _place(self, field: int, size: int) -> int:
        offset = self.fields[field] if field < len(self.fields) else 0
        if not offset:
            return 0
        if offset < 4 or self.start + offset + size > self.end:
            raise Damaged(f"{self.name}: field {field} is outside its table")
        return self.start + offset

    def scalar(self, field: int, code: str, default: int = 0) -> int:
        """Returns a number by its `struct` code."""
        place = self._place(field, struct.calcsize(code))
        return int(struct.unpack_from("<" + code, self.buffer.content, place)[0]) if place else default

    def vector(self, field: int, size: int) -> tuple[int, int]:
        """Returns the position and the length of a vector of values of `size` bytes; (0, 0) for an absent one."""
        place = self._place(field, 4)
        if not place:
            return 0, 0
        start = place + self.buffer.uint(place, self.name)
        length = self.buffer.uint(start, f"{self.name}: vector {field}")
        if start + 4 + length * size > len(self.buffer.content):
            raise Damaged(f"{self.name}: vector {field} of {length} values ends after the file")
        if (start + 4) % min(size, 8) or start % 4:
            raise Damaged(f"{self.name}: vector {field} is not aligned")
        return start + 4, length

    def numbers(self, field: int, most: int, dtype: Any = np.int32) -> npt.NDArray[Any]:
        """Returns a vector of numbers with at most `most` values."""
        start, length = self.vector(field, np.dtype(dtype).itemsize)
        if length > most:
            raise Damaged(f"{self.name}: vector {field} has {length} values, expected at most {most}")
        return np.frombuffer(self.buffer.content, dtype, length, start) if length else np.zeros(0, dtype)

    def string(self, field: int) -> bytes:
        """Returns a text; empty for an absent one."""
        start, length = self.vector(field, 1)
        if length and (start + length >= len(self.buffer.content) or self.buffer.content[start + length] != 0):
            raise Damaged(f"{self.name}: text {field} has no end")
        return bytes(self.buffer.content[start : start + length])

    def table(self, field: int, name: str) -> "_Table | None":
        """Returns a table that the field points to."""
        place = self._place(field, 4)
        return self.buffer.table(place + self.buffer.uint(place, name), name) if place else None

    def tables(self, field: int, most: int, name: str) -> list["_Table"]:
        """Returns a vector of tables."""
        start, length = self.vector(field, 4)
        if length > most:
            raise Damaged(f"{self.name}: {length} of {name}, expected at most {most}")
        places = range(start, start + 4 * length, 4)
        return [
            self.buffer.table(place + self.buffer.uint(place, name), f"{name} {i}") for i, place in enumerate(places)
        ]


@dataclass(frozen=True)
class _Buffer:
    """The bytes of a file."""

    content: memoryview

    def uint(self, place: int, name: str) -> int:
        """Returns an unsigned number of 4 bytes."""
        if place < 0 or place + 4 > len(self.content):
            raise Damaged(f"{name}: byte {place} is outside the file")
        return int.from_bytes(self.content[place : place + 4], "little")

    def table(self, start: int, name: str) -> _Table:
        """Returns the table at a position."""
        if start < 4 or start + 4 > len(self.content):
            raise Damaged(f"{name}: no table at byte {start}")
        if start % 4:
            raise Damaged(f"{name}: table is not aligned")
        (back,) = struct.unpack_from("<i", self.content, start)
        vtable = start - back
        if vtable < 0 or vtable + 4 > len(self.content) or vtable % 2:
            raise Damaged(f"{name}: no vtable at byte {vtable}")
        vtable_size, table_size = struct.unpack_from("<HH", self.content, vtable)
        if vtable_size < 4 or vtable_size % 2 or vtable + vtable_size > len(self.content):
            raise Damaged(f"{name}: vtable of {vtable_size} bytes")
        if table_size < 4 or start + table_size > len(self.content):
            raise Damaged(f"{name}: table of {table_size} bytes ends after the file")
        count = (vtable_size - 4) // 2
        fields = struct.unpack_from(f"<{count}H", self.content, vtable + 4)
        return _Table(self, start, start + table_size, fields, name)


def _check_model(buffer: _Buffer) -> None:
    model = buffer.table(buffer.uint(0, "model"), "model")
    if bytes(buffer.content[4:8]) != b"TFL3":
        raise Damaged("it does not begin as a TFLite file")
    codes = model.tables(1, MAX_OPERATORS, "operator code")
    graphs = model.tables(2, MAX_SUBGRAPHS, "subgraph")
    buffers = model.tables(4, MAX_TENSORS, "buffer")
    if not codes or not graphs or not buffers:
        raise Damaged(f"{len(codes)} operator codes, {len(graphs)} subgraphs, {len(buffers)} buffers")
    model.string(3)
    if model.vector(8, 4)[1] or model.vector(9, 4)[1]:
        raise Damaged("constants in other files")
    builtins = [_builtin_operator(code) for code in codes]
    sizes = [_constant_size(each) for each in buffers]
    _check_index(model.numbers(5, MAX_TENSORS), len(buffers), "metadata buffer")
    for entry in model.tables(6, MAX_TENSORS, "metadata"):
        entry.string(0)
        _check_one(entry.scalar(1, "I"), len(buffers), entry.name)
    total = 0
    for graph in graphs:
        total += _check_subgraph(graph, sizes, builtins)
    most = MAX_TENSOR_BYTES + 4 * len(buffer.content)
    if total > most:
        raise Damaged(f"tensors of {total} bytes, expected at most {most}")
    ends = [[set(graph.numbers(field, MAX_TENSORS).tolist()) for field in (1, 2)] for graph in graphs]
    for signature in model.tables(7, MAX_SUBGRAPHS, "signature"):
        signature.string(2)
        index = signature.scalar(4, "I")
        _check_one(index, len(graphs), signature.name)
        for field in (0, 1):
            for entry in signature.tables(field, MAX_TENSORS, f"{signature.name} tensor"):
                entry.string(0)
                if entry.scalar(1, "I") not in ends[index][field]:
                    raise Damaged(f"{entry.name}: tensor {entry.scalar(1, 'I')} is no input or output of the graph")


def _builtin_operator(code: _Table) -> int:
    """Returns an operator's number in the enum BuiltinOperator."""
    builtin = max(code.scalar(0, "b"), code.scalar(3, "i"))
    if code.string(1) or builtin == _CUSTOM:
        raise Damaged(f"{code.name}: a custom operator")
    if not 0 <= builtin <= 255:
        raise Damaged(f"{code.name}: number {builtin}")
    return builtin


def _constant_size(buffer: _Table) -> int:
    """Returns the bytes of a constant; 0 for a tensor that is computed."""
    _, length = buffer.vector(0, 1)
    offset, size = buffer.scalar(1, "Q"), buffer.scalar(2, "Q")
    if offset <= 1:  # not used, as in files of less than 2 GB by TensorFlow's converter
        return length
    if length or offset + size > len(buffer.buffer.content):
        raise Damaged(f"{buffer.name}: {size} bytes at byte {offset} are not in the file")
    return size


def _check_subgraph(graph: _Table, constants: list[int], builtins: list[int]) -> int:
    """Returns the bytes of the tensors that are not constant."""
    graph.string(4)
    tensors = graph.tables(0, MAX_TENSORS, f"{graph.name}: tensor")
    operators = graph.tables(3, MAX_OPERATORS, f"{graph.name}: operator")
    sizes = [_check_tensor(tensor, constants) for tensor in tensors]
    inputs, outputs = graph.numbers(1, MAX_TENSORS), graph.numbers(2, MAX_TENSORS)
    for name, indices in (("inputs", inputs), ("outputs", outputs)):
        _check_index(indices, len(tensors), f"{graph.name}: {name}")
    # A tensor that is read before it is computed would be read uninitialised.
    known = np.array([size is None or bool(tensor.scalar(5, "B")) for size, tensor in zip(sizes, tensors, strict=True)])
    known[inputs] = True
    scales = np.array([_scale(tensor) for tensor in tensors] or [math.nan])
    for operator in operators:
        _check_operator(operator, known, scales, builtins)
    if not known[outputs].all():
        raise Damaged(f"{graph.name}: an output is not computed")
    return sum(size for size in sizes if size is not None)


def _check_tensor(tensor: _Table, constants: list[int]) -> int | None:
    """Returns the bytes that a computed tensor needs for a batch of one; None for a constant."""
    shape: list[int] = tensor.numbers(0, MAX_RANK).tolist()
    signature: list[int] = tensor.numbers(7, MAX_RANK).tolist()
    if min(shape, default=0) < 0 or min(signature, default=0) < -1:
        raise Damaged(f"{tensor.name}: shape {tuple(shape)}")
    if len(signature) not in (0, len(shape)):
        raise Damaged(f"{tensor.name}: shape signature of another rank")
    kind = tensor.scalar(1, "b")
    if kind not in _BITS:
        raise Damaged(f"{tensor.name}: type {kind}")
    index = tensor.scalar(2, "I")
    _check_one(index, len(constants), tensor.name)
    tensor.string(3)
    _check_quantization(tensor, shape)
    if tensor.table(6, f"{tensor.name}: sparsity") is not None:
        raise Damaged(f"{tensor.name}: a sparse tensor")
    if tensor.vector(9, 4)[1] or tensor.scalar(10, "I"):
        raise Damaged(f"{tensor.name}: a variant tensor, or one in another file")
    bits = math.prod(shape) * _BITS[kind]
    size = -(-bits // 8)
    if not constants[index]:
        return size
    if size != constants[index]:
        raise Damaged(f"{tensor.name}: expected {size} bytes for shape {tuple(shape)}, received {constants[index]}")
    return None


def _check_quantization(tensor: _Table, shape: list[int]) -> None:
    name = f"{tensor.name}: quantization"
    table = tensor.table(4, name)
    if table is None:
        return
    for field in (0, 1):
        table.vector(field, 4)
    scales, zeros = table.numbers(2, MAX_TENSORS, np.float32), table.numbers(3, MAX_TENSORS, np.int64)
    if table.scalar(4, "B"):
        raise Damaged(f"{name}: custom quantization")
    if len(scales) and not (np.isfinite(scales).all() and (scales >= 0).all()):
        raise Damaged(f"{name}: a scale that is negative or not finite")
    axis = table.scalar(6, "i")
    if len(scales) > 1 and not (0 <= axis < len(shape) and shape[axis] == len(scales)):
        raise Damaged(f"{name}: {len(scales)} scales for shape {tuple(shape)} and dimension {axis}")
    if len(zeros) not in (0, 1, len(scales)):
        raise Damaged(f"{name}: {len(scales)} scales and {len(zeros)} zero points")


def _scale(tensor: _Table) -> float:
    """Returns the scale of a quantized tensor, the greatest of several; NaN for others."""
    table = tensor.table(4, f"{tensor.name}: quantization")
    scales = np.zeros(0) if table is None else table.numbers(2, MAX_TENSORS, np.float32)
    greatest = float(scales.max()) if len(scales) else 0.0
    return greatest if greatest > 0 else math.nan


def _check_operator(
    operator: _Table, known: npt.NDArray[np.bool_], scales: npt.NDArray[np.float64], builtins: list[int]
) -> None:
    """Checks an operator, and adds its outputs to the tensors that are known."""
    code = operator.scalar(0, "I")
    _check_one(code, len(builtins), f"{operator.name}: operator code")
    inputs, outputs = operator.numbers(1, MAX_TENSORS), operator.numbers(2, MAX_TENSORS)
    if builtins[code] in _INPUTS:
        least, most = _INPUTS[builtins[code]]
        if not least <= len(inputs) <= most or OPTIONAL in inputs[:least]:
            raise Damaged(f"{operator.name}: operator {builtins[code]} with inputs {inputs.tolist()}")
        if len(outputs) != 1 and not (len(outputs) and builtins[code] in _SEVERAL_OUTPUTS):
            raise Damaged(f"{operator.name}: operator {builtins[code]} with outputs {outputs.tolist()}")
    given, num_tensors = inputs[inputs != OPTIONAL], len(scales)
    _check_index(given, num_tensors, f"{operator.name}: inputs")
    _check_index(outputs, num_tensors, f"{operator.name}: outputs")
    if not known[given].all():
        raise Damaged(f"{operator.name}: an input is not computed before it")
    ratios = (scales[given[:2], None] / scales[None, outputs]).ravel()
    if (ratios > MAX_SCALE_RATIO).any():
        raise Damaged(f"{operator.name}: the scales of its input and output differ by {np.nanmax(ratios):.3g}")
    if operator.vector(5, 1)[1] or operator.scalar(9, "Q") or operator.scalar(10, "Q"):
        raise Damaged(f"{operator.name}: custom options")
    operator.vector(7, 1)
    if operator.vector(8, 4)[1]:
        raise Damaged(f"{operator.name}: intermediate tensors")
    if operator.scalar(11, "B"):
        raise Damaged(f"{operator.name}: StableHLO options")
    kind, options = operator.scalar(3, "B"), operator.table(4, f"{operator.name}: options")
    if kind > _LAST_OPTIONS or kind in _WITH_STRINGS:
        raise Damaged(f"{operator.name}: options of kind {kind}")
    if options is None:
        if kind:
            raise Damaged(f"{operator.name}: options of kind {kind} are absent")
    else:
        for field, size in _OPTION_VECTORS.get(kind, ()):
            options.vector(field, size)
        for field in range(len(options.fields)):
            options.scalar(field, "B")  # each field begins within its table
    known[outputs] = True


def _check_one(index: int, count: int, name: str) -> None:
    if not 0 <= index < count:
        raise Damaged(f"{name}: expected an index below {count}, received {index}")


def _check_index(indices: npt.NDArray[Any], count: int, name: str) -> None:
    if len(indices) and not (indices.min() >= 0 and indices.max() < count):
        raise Damaged(f"{name}: expected indices below {count}, received {int(indices.min())} to {int(indices.max())}")
