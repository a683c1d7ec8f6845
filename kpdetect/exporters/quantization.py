"""Owns TFLite files that compute with 8-bit integers: ``int8`` and ``dynamic``.

In both, the trunk's kernels are int8, a scale for each channel, and the decoding stays in float32, from the last
kernels on (see `kpdetect.exporters.source`). In ``int8`` the trunk's activations are int8 too, by ranges taken from a
representative set, and the input is uint8; in ``dynamic`` each op takes its input's range while it runs.

What was tried with the weights of an earlier `compact`, on 206 validation and 800 training faces of YouTube Faces and
300-W: the change of the error in percentage points, the mean distance from the float file in pixels of the 112 crop,
and the share of that file's time on one thread (x86 with VNNI).

| file | error | distance | time |
|---|---|---|---|
| **int8, decoding in float, by ai-edge-quantizer** | +0.004 to +0.012 | 0.08 | 0.40 |
| the same by TensorFlow's `QuantizationDebugger` | +0.004 to +0.012 | 0.09 | 0.40 |
| int8 heatmaps too, by either | +0.006 to +0.017 | 0.13 to 0.15 | 0.39 |
| int8 heatmaps of 16-bit activations | +0.003 to +0.012 | 0.10 | 1.8: without XNNPACK |
| int8 throughout, as TensorFlow's converter does it by default | +0.49 to +0.83 | 1.21 | 0.43 |
| **dynamic, decoding in float, by ai-edge-quantizer** | -0.001 to +0.009 | 0.04 | 0.38 |
| dynamic, all kernels, by TensorFlow's converter | +0.011 to +0.030 | 0.12 | 0.37 |

So ai-edge-quantizer it is: nearer to the float file in both, and no experimental interface. The batch stays free, and
is 1 for whoever does not ask. XNNPACK takes all of ``dynamic``, and of ``int8`` all but the means of 2x2 pixels and
the cast of the input, which LiteRT's own kernels run.
"""

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats
from kpdetect.core.images import Pixels
from kpdetect.exporters.source import TRUNK, CalibrationSet, Source
from kpdetect.exporters.tflite import converted, finish
from kpdetect.modelfile import runtime
from kpdetect.modelfile.spec import INPUT_NAME, OUTPUT_NAME, RANGES_FROM

if TYPE_CHECKING:
    import keras

BITS = 8
CALIBRATION_BATCH = 20  # least and greatest numbers are averaged over batches: one odd crop cannot widen all ranges


def write_int8(source: Source, path: Path) -> None:
    """Writes a file of int8 kernels and activations, which takes uint8 pixels.

    Rounding moves all faces' points alike, by some 0.05 pixels of the crop. What it moves each by in the mean of the
    representative faces is taken out (as Nagel et al. do at each layer, *Data-Free Quantization Through Weight
    Equalization and Bias Correction*, arXiv:1906.04721).

    Raises:
        KpdetectError: There is no representative set, or an op without a built-in kernel.
    """
    faces = source.representative
    if faces is None:
        raise KpdetectError("int8: the ranges of its numbers are taken from faces; name some with --representative")
    ranges = _write_int8(source, faces, path)
    moved = runtime.load(path).predict(faces.crops).keypoints - _points(source.model, faces.crops)
    corrected = dataclasses.replace(source, model=_with_points_moved(source.model, -moved.mean(axis=0)))
    _write_int8(corrected, faces, path, ranges)


def _points(model: "keras.Model", crops: Pixels) -> Floats:
    """(N, K, 2), as Keras marks them."""
    from kpdetect import models

    batches = [crops[i : i + CALIBRATION_BATCH].astype(np.float32) for i in range(0, len(crops), CALIBRATION_BATCH)]
    said = [models.split_joined(model(batch, training=False))[OUTPUT_NAME] for batch in batches]
    return np.concatenate([np.asarray(points, np.float32) for points in said])


def _with_points_moved(model: "keras.Model", by: Floats) -> "keras.Model":
    """The same network, its points (K, 2) moved; relative to the crop."""
    import keras

    from kpdetect import models

    outputs = models.named_outputs(model)
    return keras.Model(model.input, {**outputs, OUTPUT_NAME: outputs[OUTPUT_NAME] + by}, name=model.name)


def _write_int8(
    source: Source, faces: CalibrationSet, path: Path, ranges: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Writes the file by the ranges that are given, or by those of the faces; returns them."""
    from ai_edge_quantizer import qtyping, quantizer

    work = quantizer.Quantizer(converted(source, path.parent, dtype="uint8"))
    work.add_static_config(TRUNK, qtyping.TFLOperationName.ALL_SUPPORTED, BITS, BITS)
    if ranges is None:
        ranges = work.calibrate({"serving_default": _batches(faces.crops)}, num_threads=1)
        _span_all_pixels(ranges)
    quantized = work.quantize(ranges, enable_progress_report=False).quantized_model
    told = {**source.spec.extra, RANGES_FROM: {"data": faces.data, "faces": len(faces.crops)}}
    finish(bytearray(quantized), dataclasses.replace(source.spec, input_dtype="uint8", extra=told), path)
    return ranges


def write_dynamic(source: Source, path: Path) -> None:
    """Writes a file of int8 kernels, whose ops take their inputs' ranges while they run; no set is needed.

    Raises:
        KpdetectError: An op has no built-in kernel.
    """
    from ai_edge_quantizer import qtyping, quantizer

    work = quantizer.Quantizer(converted(source, path.parent))
    work.add_dynamic_config(TRUNK, qtyping.TFLOperationName.ALL_SUPPORTED, BITS)
    finish(bytearray(work.quantize(enable_progress_report=False).quantized_model), source.spec, path)


def _batches(crops: Pixels) -> list[dict[str, Pixels]]:
    return [{INPUT_NAME: crops[i : i + CALIBRATION_BATCH]} for i in range(0, len(crops), CALIBRATION_BATCH)]


def _span_all_pixels(ranges: dict[str, Any]) -> None:
    """Pixels are 0-255 whatever the set holds: each then keeps its number, in steps of 1."""
    for name, found in ranges.items():
        if re.search(r"(^|/)Cast(_\d+)?$", name) and TRUNK not in name:
            found["min"], found["max"] = np.zeros_like(found["min"]), np.full_like(found["max"], 255)
