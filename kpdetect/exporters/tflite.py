"""Export to TFLite with float32 or float16 weights, and the steps that all TFLite files share."""

from pathlib import Path

from kpdetect.core.errors import KpdetectError
from kpdetect.exporters.saved_model import saved_model_of
from kpdetect.exporters.source import Source
from kpdetect.modelfile import bundle
from kpdetect.modelfile.graphs import tflite_ops
from kpdetect.modelfile.spec import INPUT_NAME, Spec


def write_tflite(source: Source, path: Path, half: bool = False) -> None:
    """Writes a TFLite file with float32 weights, or with `half` float16 weights; both compute in float32 on a CPU."""
    finish(converted(source, path.parent, half=half), source.spec, path)


def converted(source: Source, folder: Path, dtype: str = "float32", half: bool = False) -> bytearray:
    """Converts a model with TensorFlow's converter and returns the flatbuffer.

    Args:
        source: The model and its spec.
        folder: The folder of the export; a SavedModel in it is used.
        dtype: Type of the input's pixels.
        half: Store weights as float16.

    Raises:
        KpdetectError: An op has no built-in kernel.
    """
    import tensorflow as tf

    # From a SavedModel, because its signature keeps the names of inputs and outputs.
    with saved_model_of(source, folder, dtype) as saved:
        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=["serving_default"])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]  # no Flex
        if half:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        try:
            return bytearray(converter.convert())
        except Exception as error:  # the converter's exceptions have no other common base class
            reason = str(error).splitlines()[0]
            raise KpdetectError(
                f"TFLite: the model contains an op without a built-in TFLite kernel: {reason}"
            ) from error


def finish(flatbuffer: bytearray, spec: Spec, path: Path) -> None:
    """Writes a flatbuffer with the contract's tensor names and the spec inside, after a check of its ops.

    Raises:
        KpdetectError: It contains a Flex op or another custom op.
    """
    tflite_ops(flatbuffer)
    rename_tensors(flatbuffer)
    path.write_bytes(flatbuffer)
    bundle.embed_in_zip(spec, path)


def rename_tensors(flatbuffer: bytearray) -> None:
    """Renames the input and output tensors to the contract's names, in place, for runtimes that read tensor names.

    The converter names them ``serving_default_image:0`` and ``StatefulPartitionedCall:0``. A shorter name is written
    over the longer one, so nothing else moves and weights keep their alignment.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(flatbuffer, 0)
    graph, signature = model.Subgraphs(0), model.SignatureDefs(0)
    outputs = [signature.Outputs(i) for i in range(signature.OutputsLength())]
    named = [(graph.Inputs(0), INPUT_NAME), *((output.TensorIndex(), output.Name().decode()) for output in outputs)]
    for index, name in named:
        table = graph.Tensors(index)._tab
        start = table.Indirect(table.Pos + table.Offset(10))  # 10: the vtable offset of Tensor.name
        length = int.from_bytes(flatbuffer[start : start + 4], "little")
        if len(name) <= length:  # a string is its length in 4 bytes, its text, and zeros
            text = len(name).to_bytes(4, "little") + name.encode()
            flatbuffer[start : start + 4 + length] = text.ljust(4 + length, b"\0")
