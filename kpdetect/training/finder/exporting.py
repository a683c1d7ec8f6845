"""Exports the network of the face finder to TFLite and compares the outputs of both."""

import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.errors import KpdetectError
from kpdetect.models.finder import FACES_NAME
from kpdetect.models.layers import INPUT_NAME

TOLERANCE = 0.05  # of the outputs: logits, offsets in cells, logarithms; float16 weights differ by a tenth of it
SIZES_HW = ((96, 128), (240, 320))  # picture sizes that are compared


def export_finder(network: keras.Model, path: Path) -> None:
    """Writes a TFLite file with float16 weights that accepts pictures of any size.

    Args:
        network: A network of `kpdetect.models.finder.finder`, in float32.
        path: The file to write.

    Raises:
        KpdetectError: The outputs of the file differ from those of the network by more than `TOLERANCE`.

    Example:
        >>> export_finder(network, Path("finder.tflite"))  # doctest: +SKIP
    """
    with tempfile.TemporaryDirectory() as saved:
        archive = keras.export.ExportArchive()
        archive.track(network)
        picture = tf.TensorSpec((1, None, None, 1), tf.float32, name=INPUT_NAME)
        archive.add_endpoint("serve", lambda image: {FACES_NAME: network(image, training=False)}, [picture])
        archive.write_out(saved, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(saved, signature_keys=["serve"])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
        flatbuffer = converter.convert()
    _check(network, flatbuffer)
    with atomic_file(path) as temporary:
        temporary.write_bytes(flatbuffer)


def _check(network: keras.Model, flatbuffer: bytes) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=flatbuffer)
    (input_tensor,), (output_tensor,) = interpreter.get_input_details(), interpreter.get_output_details()
    for height, width in SIZES_HW:
        picture = np.random.default_rng(0).uniform(0, 255, (1, height, width, 1)).astype(np.float32)
        interpreter.resize_tensor_input(input_tensor["index"], picture.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(input_tensor["index"], picture)
        interpreter.invoke()
        difference = float(np.abs(interpreter.get_tensor(output_tensor["index"]) - np.asarray(network(picture))).max())
        if not difference <= TOLERANCE:
            raise KpdetectError(
                f"finder: expected TFLite within {TOLERANCE} of Keras, received a difference of {difference:.3g} on "
                f"{height}x{width} pixels"
            )
