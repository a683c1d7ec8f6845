"""Exports the network of the face finder to TFLite in 8-bit integers, and compares the outputs with Keras."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import Pixels
from kpdetect.detection.finder import FINDER_FILE, OUTPUT_UNIT
from kpdetect.models.finder import FACES_NAME, VALUES
from kpdetect.models.layers import INPUT_NAME

FIXED_SIDES = (256, 480, 768)  # pixels of the square inputs of the files for phones and browsers
OUTPUT_LIMIT = 16.0
"""The 8 bits of the output cover this range on both sides of 0. Cells far from faces exceed it, and are cut there."""
TOLERANCE = 0.5
"""Mean difference of the outputs from Keras, in the file's units: logits, and eighths of cells, of logarithms and of
the sine and cosine. The step of the 8-bit output is 0.125."""


def export_finder(network: keras.Model, folder: Path, pictures: Pixels) -> None:
    """Writes ``finder.tflite``, for pictures of any size, and a file for each of `FIXED_SIDES`.

    Weights and activations have 8 bits. The input is uint8, the output float32. All outputs but the logits are
    multiplied by `kpdetect.detection.finder.OUTPUT_UNIT`, so that they share one scale of 8 bits with the logits.

    Args:
        network: A network of `kpdetect.models.finder.finder`, in float32. Its last layer is changed.
        folder: The folder to write to.
        pictures: (N, H, W) uint8 grey pictures like those to expect, which calibrate the ranges of the activations.

    Raises:
        KpdetectError: The outputs of a file differ from those of the network by more than `TOLERANCE`.

    Example:
        >>> export_finder(network, Path("exported_models/finder"), canvases)  # doctest: +SKIP
    """
    last = network.get_layer(FACES_NAME)
    units = np.array([1.0, *[OUTPUT_UNIT] * (VALUES - 1)] * 4, np.float32)
    last.set_weights([weights * units for weights in last.get_weights()])
    folder.mkdir(parents=True, exist_ok=True)
    for side in (None, *FIXED_SIDES):
        flatbuffer = _convert(network, side, pictures)
        _check(network, flatbuffer, pictures, side)
        with atomic_file(folder / (FINDER_FILE if side is None else f"finder_{side}.tflite")) as temporary:
            temporary.write_bytes(flatbuffer)


def _convert(network: keras.Model, side: int | None, pictures: Pixels) -> bytes:
    def calibration() -> Iterator[dict[str, npt.NDArray[np.float32]]]:
        for picture in _tiled(pictures, side):
            yield {INPUT_NAME: picture[None, ..., None].astype(np.float32)}

    with tempfile.TemporaryDirectory() as saved:
        archive = keras.export.ExportArchive()
        archive.track(network)
        picture = tf.TensorSpec((1, side, side, 1), tf.float32, name=INPUT_NAME)

        def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
            faces = network(image, training=False)
            return {FACES_NAME: tf.quantization.fake_quant_with_min_max_args(faces, -OUTPUT_LIMIT, OUTPUT_LIMIT)}

        archive.add_endpoint("serve", serve, [picture])
        archive.write_out(saved, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(saved, signature_keys=["serve"])
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = calibration
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        return bytes(converter.convert())


def _tiled(pictures: Pixels, side: int | None) -> Pixels:
    """Pictures (N, H, W) side by side until they fill squares of `side` pixels: all files see the same pixels."""
    if side is None:
        return pictures
    across = -(-side // pictures.shape[1])
    count = len(pictures) // across**2 * across**2
    squares = pictures[:count].reshape(-1, across, across, *pictures.shape[1:])
    return squares.swapaxes(2, 3).reshape(len(squares), *[across * pictures.shape[1]] * 2)[:, :side, :side]


def _check(network: keras.Model, flatbuffer: bytes, pictures: Pixels, side: int | None) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=flatbuffer)
    (input_tensor,), (output_tensor,) = interpreter.get_input_details(), interpreter.get_output_details()
    differences: list[Any] = []
    for picture in _tiled(pictures, side)[:4]:
        square = picture[None, ..., None]
        if side is None:
            interpreter.resize_tensor_input(input_tensor["index"], square.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(input_tensor["index"], square)
        interpreter.invoke()
        expected = np.clip(network(square.astype(np.float32)), -OUTPUT_LIMIT, OUTPUT_LIMIT)
        differences.append(np.abs(interpreter.get_tensor(output_tensor["index"]) - expected).mean())
    difference = float(np.mean(differences))
    if not difference <= TOLERANCE:
        raise KpdetectError(
            f"finder: expected TFLite within {TOLERANCE} of Keras on average, received a difference of "
            f"{difference:.3g} at {side or 'any'} pixels"
        )
