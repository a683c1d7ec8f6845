"""Gives a TFLite file of free size a fixed one, as LiteRT's C API and LiteRT.js need it."""

from collections.abc import Sequence
from typing import Any

from kpdetect.core.errors import KpdetectError
from kpdetect.core.tflite_check import check_tflite

_SHAPE, _SHAPE_SIGNATURE = 4, 18  # vtable offsets of these fields of a Tensor in TensorFlow Lite's schema.fbs


def with_fixed_shape(content: bytes, shape: Sequence[int], where: str = "TFLite file") -> bytes:
    """Returns a copy of a file whose input, and with it every tensor, has a fixed shape.

    Example:
        ``with_fixed_shape(Path("finder.tflite").read_bytes(), (1, 256, 256, 1))``

    Args:
        content: A TFLite file with one input. Layers that compute shapes, such as a reshape to a free batch, are not
            simplified.
        shape: The input's shape.
        where: The file's name, for errors.

    Raises:
        KpdetectError: The file is damaged, or does not take this shape.
    """
    check_tflite(content, where)
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # Delegates hide tensors between the layers that they fuse.
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=plain)
    try:
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], list(shape))
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise KpdetectError(f"{where}: cannot have the input shape {tuple(shape)}: {error}") from error
    shapes = {int(detail["index"]): detail["shape"].tolist() for detail in interpreter.get_tensor_details()}
    fixed = bytearray(content)
    graph = schema.Model.GetRootAs(fixed, 0).Subgraphs(0)
    for index in range(graph.TensorsLength()):
        table = graph.Tensors(index)._tab
        for field in (_SHAPE, _SHAPE_SIGNATURE):
            _write_integers(fixed, table, field, shapes.get(index, []))
    return bytes(fixed)


def _write_integers(content: bytearray, table: Any, field: int, values: Sequence[int]) -> None:
    """Overwrites a vector of 32-bit integers that has as many."""
    offset = table.Offset(field)
    if not offset or table.VectorLen(offset) != len(values):
        return
    start = table.Vector(offset)
    for place, value in enumerate(values):
        content[start + 4 * place : start + 4 * place + 4] = int(value).to_bytes(4, "little", signed=True)
