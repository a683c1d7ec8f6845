"""Owns TFLite files of float32 and float16 weights, and what all TFLite files have in common."""

from pathlib import Path

from kpdetect.core.errors import KpdetectError
from kpdetect.exporters.saved_model import saved_model_of
from kpdetect.exporters.source import Source
from kpdetect.modelfile import bundle
from kpdetect.modelfile.graphs import tflite_ops
from kpdetect.modelfile.spec import INPUT_NAME, Spec


def write_tflite(source: Source, path: Path, half: bool = False) -> None:
    """Writes weights as float32, or in `half` the bytes as float16; either computes in float32 on a processor."""
    finish(converted(source, path.parent, half=half), source.spec, path)


def converted(source: Source, folder: Path, dtype: str = "float32", half: bool = False) -> bytearray:
    """The flatbuffer of a model, as TensorFlow's converter gives it.

    Args:
        source: What it is made of.
        folder: Where the files of an export are written; a SavedModel there is used.
        dtype: The type of the pixels that it takes.
        half: Keep weights as float16.

    Raises:
        KpdetectError: An op has no built-in kernel.
    """
    import tensorflow as tf

    # Through a SavedModel, for its signature carries the names.
    with saved_model_of(source, folder, dtype) as saved:
        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=["serving_default"])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]  # no Flex
        if half:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        try:
            return bytearray(converter.convert())
        except Exception as error:  # the converter's own exceptions have no common base but this
            reason = str(error).splitlines()[0]
            raise KpdetectError(f"TFLite: the model has an op without a built-in TFLite kernel: {reason}") from error


def finish(flatbuffer: bytearray, spec: Spec, path: Path) -> None:
    """Writes a flatbuffer once its ops are known to be built in, with the contract's names and the spec inside.

    Raises:
        KpdetectError: It has a Flex or another custom op.
    """
    tflite_ops(flatbuffer)
    rename_tensors(flatbuffer)
    path.write_bytes(flatbuffer)
    bundle.embed_in_zip(spec, path)


def rename_tensors(flatbuffer: bytearray) -> None:
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
