"""Owns how a Keras model becomes a SavedModel, TFLite, ONNX or ``.keras`` file with its spec inside.

Each writer takes the model, its spec and the path to write. In every file the input is ``image``, (B, H, W, C)
float32 of raw pixels 0-255, and the output ``keypoints``, (B, K, 2) float32 relative to the crop; B is free. Models
that tell it have a second output, ``uncertainty``, (B, K).
"""

import functools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpdetect import bundle
from kpdetect.errors import KpdetectError
from kpdetect.spec import INPUT_NAME, Spec

if TYPE_CHECKING:
    import keras

Writer = Callable[["keras.Model", Spec, Path], None]
"""Takes the model, its spec and the path to write."""

SAVED_MODEL = "saved_model"
ONNX_OPSET = 17  # old enough for onnxruntime-web and mobile builds in use, new enough for every op we emit
LARGE_KERNEL = 1 << 20  # weights; smaller ones are worth tf2onnx's tidying up


def _named(model: "keras.Model") -> "keras.Model":
    """The model with a dict of outputs, which gives the signature's outputs their names."""
    import keras

    from kpdetect import models

    return keras.Model(model.input, models.named_outputs(model), name=model.name)


def _write_saved_model(model: "keras.Model", spec: Spec, path: Path) -> None:
    _named(model).export(path, format="tf_saved_model", verbose=False)
    bundle.embed_in_saved_model(spec, path)


def _write_tflite(model: "keras.Model", spec: Spec, path: Path, half: bool = False) -> None:
    """Writes weights as float32, or in `half` the bytes as float16; either computes in float32 on a processor."""
    import tensorflow as tf

    # Through a SavedModel, for its signature carries the names.
    with _saved_model_of(model, path.parent) as saved:
        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=["serving_default"])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]  # no Flex
        if half:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        try:
            flatbuffer = bytearray(converter.convert())
        except Exception as error:  # the converter's own exceptions have no common base but this
            reason = str(error).splitlines()[0]
            raise KpdetectError(f"TFLite: the model has an op without a built-in TFLite kernel: {reason}") from error
    tflite_ops(flatbuffer)
    _rename_tensors(flatbuffer)
    path.write_bytes(flatbuffer)
    bundle.embed_in_zip(spec, path)


@contextmanager
def _saved_model_of(model: "keras.Model", folder: Path) -> Iterator[Path]:
    """The SavedModel that lies in `folder` already, for it takes seconds to write, or else a passing one."""
    if (folder / SAVED_MODEL).is_dir():
        yield folder / SAVED_MODEL
        return
    with tempfile.TemporaryDirectory() as passing:
        _named(model).export(passing, format="tf_saved_model", verbose=False)
        yield Path(passing)


def _write_onnx(model: "keras.Model", spec: Spec, path: Path) -> None:
    import onnx
    import tensorflow as tf
    import tf2onnx

    # tf2onnx copies every constant dozens of times (6 GB and 40 s for 80 MB of weights), so it does not get to see
    # the large dense kernels: they pass as inputs, and their values take those inputs' places in the finished graph.
    large = {f"large_kernel_{i}": kernel for i, kernel in enumerate(_large_kernels(model))}
    signature = [tf.TensorSpec((None, *spec.input_shape), tf.float32, name=INPUT_NAME)]
    signature += [tf.TensorSpec(kernel.shape, tf.float32, name=name) for name, kernel in large.items()]
    serve = tf.function(_with_given_kernels(model, list(large.values())), input_signature=signature)
    proto, _ = tf2onnx.convert.from_function(serve, input_signature=signature, opset=ONNX_OPSET)
    for tensor in [tensor for tensor in proto.graph.input if tensor.name in large]:
        proto.graph.input.remove(tensor)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(large[tensor.name].numpy(), tensor.name))
    for tensor in (*proto.graph.input, *proto.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(proto, {bundle.ONNX_KEY: spec.to_json()})
    onnx.save(proto, path)


def _large_kernels(model: "keras.Model") -> list[Any]:
    return [v for v in model.variables if len(v.shape) == 2 and v.shape[0] * v.shape[1] >= LARGE_KERNEL]


def _with_given_kernels(model: "keras.Model", kernels: list[Any]) -> Callable[..., dict[str, Any]]:
    """The model as a function of its image and of the values of some of its kernels."""
    from kpdetect import models

    def serve(image: Any, *values: Any) -> dict[str, Any]:
        given = {id(kernel): value for kernel, value in zip(kernels, values, strict=True)}
        trainable, fixed = (
            [given.get(id(variable), variable.value) for variable in part]
            for part in (model.trainable_variables, model.non_trainable_variables)
        )
        outputs, _ = model.stateless_call(trainable, fixed, image, training=False)
        return models.split_joined(outputs)

    return serve


def _write_keras(model: "keras.Model", spec: Spec, path: Path) -> None:
    model.save(path)
    bundle.embed_in_zip(spec, path)


def tflite_ops(flatbuffer: bytes | bytearray) -> list[str]:
    """The names of the ops that a TFLite model needs, such as ``CONV_2D``.

    Raises:
        KpdetectError: One of them is a Flex or another custom op, which a plain TFLite runtime does not have.
    """
    from ai_edge_litert import schema_py_generated as schema

    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    model = schema.Model.GetRootAs(flatbuffer, 0)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    custom = [code.CustomCode().decode() for code in codes if code.CustomCode()]
    if custom:
        raise KpdetectError(f"TFLite: expected built-in ops alone, received {', '.join(custom)}")
    # Old files hold the op in one byte, the deprecated field; the greater one is the op's number.
    return sorted({names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes})


def _rename_tensors(flatbuffer: bytearray) -> None:
    """Gives the input and output tensors the contract's names too, for runtimes that look there; in place.

    The converter names them ``serving_default_image:0`` and ``StatefulPartitionedCall:0``. A shorter name fits where
    the old one stands, and nothing else moves: weights keep the alignment that the converter gave them.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(flatbuffer, 0)
    graph, signature = model.Subgraphs(0), model.SignatureDefs(0)
    outputs = [signature.Outputs(i) for i in range(signature.OutputsLength())]
    named = [(graph.Inputs(0), INPUT_NAME), *((output.TensorIndex(), output.Name().decode()) for output in outputs)]
    for index, name in named:
        table = graph.Tensors(index)._tab
        start = table.Indirect(table.Pos + table.Offset(10))  # 10: where the schema keeps Tensor.name
        length = int.from_bytes(flatbuffer[start : start + 4], "little")
        if len(name) <= length:  # a string is its length in 4 bytes, its text, and zeros
            text = len(name).to_bytes(4, "little") + name.encode()
            flatbuffer[start : start + 4 + length] = text.ljust(4 + length, b"\0")


WRITERS: dict[str, Writer] = {
    SAVED_MODEL: _write_saved_model,
    "tflite": _write_tflite,
    "onnx": _write_onnx,
    "keras": _write_keras,
}

QUANTIZED_TFLITE: dict[str, Writer] = {
    "fp16": functools.partial(_write_tflite, half=True),
}
"""TFLite files whose weights are kept in fewer bits; each bears its name: ``NAME_fp16.tflite``."""
