"""Description of a model file's graph by its runtime: inputs, outputs, ops, and which ops XNNPACK runs."""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kpdetect.core.errors import KpdetectError, MissingExtra
from kpdetect.core.litert import open_interpreter
from kpdetect.modelfile.spec import INPUT_NAME, Spec


@dataclass(frozen=True)
class Tensor:
    """An input or output.

    Attributes:
        name: Its name in the contract.
        dtype: Such as ``float32``.
        shape: Sizes; None for a free one.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name} {self.dtype} ({sizes})"


@dataclass(frozen=True)
class Signature:
    """One way to call a file.

    Attributes:
        name: Empty if the file has only one.
        inputs: Input tensors.
        outputs: Output tensors.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Graph:
    """The graph of a file.

    Attributes:
        signatures: The ways to call it.
        ops: Number of each op; empty if the file does not list its ops.
        not_xnnpack: Number of each op of a TFLite file that XNNPACK does not run on this machine; None if unknown.
    """

    signatures: tuple[Signature, ...]
    ops: Mapping[str, int] = field(default_factory=dict)
    not_xnnpack: Mapping[str, int] | None = None


def read_graph(path: Path, kind: str, spec: Spec) -> Graph:
    """Opens a file in its own runtime and describes its graph.

    Args:
        path: The file; for a SavedModel its folder.
        kind: A result of `kpdetect.modelfile.bundle.model_kind`. For ``bundle`` and ``keras`` the spec is used alone.
        spec: The file's description.

    Raises:
        KpdetectError: The file is damaged.
        MissingExtra: The file needs a package that is not installed.
    """
    try:
        return _READERS[kind](path, spec)
    except KpdetectError:
        raise
    except Exception as error:  # the runtimes' exceptions have no other common base class
        raise KpdetectError(f"{path}: cannot be opened: {(str(error).splitlines() or [repr(error)])[0]}") from error


def _tflite(path: Path, spec: Spec) -> Graph:
    runner = open_interpreter(path, 1).get_signature_runner()
    inputs, outputs = (
        tuple(_tflite_tensor(name, detail) for name, detail in details.items())
        for details in (runner.get_input_details(), runner.get_output_details())
    )
    ops = op_counts(path.read_bytes())
    return Graph((Signature("", inputs, outputs),), dict(ops), _outside_xnnpack(open_interpreter(path, 1)))


def _tflite_tensor(name: str, detail: Mapping[str, Any]) -> Tensor:
    shape = tuple(None if size < 0 else int(size) for size in detail["shape_signature"])
    return Tensor(name, np.dtype(detail["dtype"]).name, shape)


def _outside_xnnpack(interpreter: Any) -> dict[str, int] | None:
    """Returns the ops that run in the interpreter's own kernels.

    After the allocation of tensors, the plan lists each part that XNNPACK runs as an op ``DELEGATE``. The ops between
    such a part's inputs and outputs are its own. LiteRT offers the plan only through a private method.
    """
    ops_details = getattr(interpreter, "_get_ops_details", None)
    if ops_details is None:
        return None
    interpreter.allocate_tensors()
    ops = ops_details()
    made_by = {int(tensor): op for op in ops if op["op_name"] != "DELEGATE" for tensor in op["outputs"]}
    delegated: set[int] = set()
    for part in (op for op in ops if op["op_name"] == "DELEGATE"):
        given, todo = {int(tensor) for tensor in part["inputs"]}, [int(tensor) for tensor in part["outputs"]]
        while todo:
            op = made_by.get(todo.pop())
            if op is not None and op["index"] not in delegated:
                delegated.add(op["index"])
                todo += [int(tensor) for tensor in op["inputs"] if int(tensor) not in given]
    return dict(Counter(op["op_name"] for op in made_by.values() if op["index"] not in delegated))


def _onnx(path: Path, spec: Spec) -> Graph:
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise MissingExtra("onnx", "train", f"{path}: listing the ops of an ONNX file") from error

    proto = onnx.load(path, load_external_data=False)
    inputs, outputs = (
        tuple(_onnx_tensor(tensor) for tensor in part) for part in (proto.graph.input, proto.graph.output)
    )
    return Graph((Signature("", inputs, outputs),), dict(Counter(node.op_type for node in proto.graph.node)))


def _onnx_tensor(info: Any) -> Tensor:
    from onnx import helper

    kind = info.type.tensor_type
    shape = tuple(size.dim_value if size.HasField("dim_value") else None for size in kind.shape.dim)
    return Tensor(info.name, np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type)).name, shape)


def _saved_model(path: Path, spec: Spec) -> Graph:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides notes about the machine
    try:
        import tensorflow as tf
    except ModuleNotFoundError as error:
        raise MissingExtra("tensorflow", "train", f"{path}: reading a SavedModel") from error
    signatures = []
    for name, function in sorted(tf.saved_model.load(str(path)).signatures.items(), reverse=True):
        inputs, outputs = (
            tuple(Tensor(key, tensor.dtype.name, tuple(tensor.shape.as_list())) for key, tensor in sorted(part.items()))
            for part in (function.structured_input_signature[1], function.structured_outputs)
        )
        signatures.append(Signature(name, inputs, outputs))
    return Graph(tuple(signatures))


def _from_spec(path: Path, spec: Spec) -> Graph:
    outputs = tuple(Tensor(name, "float32", (None, *shape)) for name, shape in spec.outputs.items())
    image = Tensor(INPUT_NAME, spec.input_dtype, (None, *spec.input_shape))
    return Graph((Signature("", (image,), outputs),))


_READERS: dict[str, Callable[[Path, Spec], Graph]] = {
    "tflite": _tflite,
    "onnx": _onnx,
    "saved_model": _saved_model,
    "keras": _from_spec,
    "bundle": _from_spec,
}


def op_counts(flatbuffer: bytes | bytearray) -> Counter[str]:
    """Returns the number of each op of a TFLite model, by names such as ``CONV_2D``; custom ops by their own names."""
    from ai_edge_litert import schema_py_generated as schema

    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    model = schema.Model.GetRootAs(flatbuffer, 0)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    # Old files store the op in the deprecated one-byte field; the greater value is the op's number.
    code_names = [
        code.CustomCode().decode()
        if code.CustomCode()
        else names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        for code in codes
    ]
    graphs = [model.Subgraphs(i) for i in range(model.SubgraphsLength())]
    return Counter(
        code_names[graph.Operators(i).OpcodeIndex()] for graph in graphs for i in range(graph.OperatorsLength())
    )


def tflite_ops(flatbuffer: bytes | bytearray) -> list[str]:
    """Returns the sorted names of the ops of a TFLite model, such as ``CONV_2D``.

    Raises:
        KpdetectError: One is a Flex op or another custom op, which a plain TFLite runtime does not have.
    """
    from ai_edge_litert import schema_py_generated as schema

    ops = sorted(op_counts(flatbuffer))
    custom = [name for name in ops if not hasattr(schema.BuiltinOperator, name)]
    if custom:
        raise KpdetectError(f"TFLite: expected built-in ops only, received {', '.join(custom)}")
    return ops
