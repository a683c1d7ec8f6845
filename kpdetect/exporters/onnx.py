"""Export to ONNX, with float32 or float16 weights."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kpdetect.core.errors import KpdetectError
from kpdetect.exporters.source import Source
from kpdetect.modelfile import bundle
from kpdetect.modelfile.spec import INPUT_NAME

if TYPE_CHECKING:
    import keras

ONNX_OPSET = 18  # the newest that tf2onnx writes; supported by ONNX Runtime since 1.14
LARGE_KERNEL = 1 << 20  # values; tf2onnx optimises smaller kernels itself
WORTH_HALVING = 1 << 10  # values; smaller arrays save nothing, and the constants of the decoding stay exact


def write_onnx(source: Source, path: Path, half: bool = False) -> None:
    """Writes an ONNX file with float32 weights, or with `half` float16 weights; both compute in float32.

    Computing in float16 was tried: on a CPU, ONNX Runtime inserts a cast around almost every op, and its converter
    (1.31) wrote two nodes of one name when the decoding was kept in float32. onnxslim removes one addition of zero and
    saves no time.

    Args:
        source: The model and its spec.
        path: The file to write.
        half: Store weights as float16.

    Raises:
        KpdetectError: The ONNX checker rejects the file.
    """
    import onnx

    proto = _converted(source)
    if half:
        _halve_weights(proto)
    for tensor in (*proto.graph.input, *proto.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(proto, {bundle.ONNX_KEY: source.spec.to_json()})
    onnx.save(proto, path)
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except onnx.checker.ValidationError as error:
        raise KpdetectError(f"{path.name}: rejected by the ONNX checker: {str(error).splitlines()[0]}") from error


def _converted(source: Source) -> Any:
    import onnx
    import tensorflow as tf
    import tf2onnx

    # tf2onnx copies every constant dozens of times (6 GB and 40 s for 80 MB of weights). So large dense kernels are
    # converted as inputs, which are replaced by initializers in the finished graph.
    large = {f"large_kernel_{i}": kernel for i, kernel in enumerate(_large_kernels(source.model))}
    signature = [tf.TensorSpec((None, *source.spec.input_shape), tf.float32, name=INPUT_NAME)]
    signature += [tf.TensorSpec(kernel.shape, tf.float32, name=name) for name, kernel in large.items()]
    serve = tf.function(_with_given_kernels(source.model, list(large.values())), input_signature=signature)
    proto, _ = tf2onnx.convert.from_function(serve, input_signature=signature, opset=ONNX_OPSET)
    for tensor in [tensor for tensor in proto.graph.input if tensor.name in large]:
        proto.graph.input.remove(tensor)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(large[tensor.name].numpy(), tensor.name))
    return proto


def _large_kernels(model: "keras.Model") -> list[Any]:
    return [v for v in model.variables if len(v.shape) == 2 and v.shape[0] * v.shape[1] >= LARGE_KERNEL]


def _with_given_kernels(model: "keras.Model", kernels: list[Any]) -> Callable[..., dict[str, Any]]:
    """Returns the model as a function of its image and of the values of some kernels."""
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


def _halve_weights(proto: Any) -> None:
    """Stores each large constant as float16 with a cast to float32, which ONNX Runtime folds when it loads the file."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < WORTH_HALVING:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], name=f"{name}_cast", to=TensorProto.FLOAT))
    nodes = [*casts, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
