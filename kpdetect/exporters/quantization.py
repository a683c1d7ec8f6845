"""Export to TFLite with 8-bit integers: ``int8`` and ``dynamic``.

In both, the trunk's kernels are int8 with one scale per channel, and the decoding stays in float32 from the last
kernels on (see `kpdetect.exporters.source`). In ``int8`` the trunk's activations are int8 too, with ranges measured on
a calibration set, and the input is uint8. In ``dynamic`` each op measures the range of its input at run time.

Variants compared with an earlier version of `compact` (112 pixels), on 206 validation and 800 training faces of YouTube
Faces and 300-W: change of the error in percentage points, mean distance from the float file in pixels of the crop, and
time relative to the float file on one thread (x86 with VNNI).

| file | error | distance | time |
|---|---|---|---|
| **int8, decoding in float, ai-edge-quantizer** | +0.004 to +0.012 | 0.08 | 0.40 |
| the same with TensorFlow's `QuantizationDebugger` | +0.004 to +0.012 | 0.09 | 0.40 |
| int8 heatmaps too, with either | +0.006 to +0.017 | 0.13 to 0.15 | 0.39 |
| int8 heatmaps with 16-bit activations | +0.003 to +0.012 | 0.10 | 1.8 (without XNNPACK) |
| int8 throughout, default of TensorFlow's converter | +0.49 to +0.83 | 1.21 | 0.43 |
| **dynamic, decoding in float, ai-edge-quantizer** | -0.001 to +0.009 | 0.04 | 0.38 |
| dynamic, all kernels, TensorFlow's converter | +0.011 to +0.030 | 0.12 | 0.37 |

ai-edge-quantizer is used because its files are nearest to the float file and its interface is not experimental. The
batch is free. XNNPACK runs all ops of ``dynamic``, and of ``int8`` all but the means of 2x2 pixels and the cast of the
input, which LiteRT's own kernels run.
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
CALIBRATION_BATCH = 20  # minima and maxima are averaged over batches, so that one outlier does not widen a range


def write_int8(source: Source, path: Path) -> None:
    """Writes a file with int8 kernels and activations that takes uint8 pixels.

    Rounding shifts the points of all faces by about 0.05 pixels of the crop. The mean shift of each point on the
    calibration set is subtracted (as Nagel et al. do per layer, *Data-Free Quantization Through Weight Equalization and
    Bias Correction*, arXiv:1906.04721).

    A file of a fixed batch has the ranges of the file of a free one, which are measured on batches.

    Raises:
        KpdetectError: There is no calibration set, or an op has no built-in kernel.
    """
    faces = source.calibration_set
    if faces is None:
        raise KpdetectError("int8: needs faces to measure its ranges on; name a data set with --representative")
    ranges = _write_int8(dataclasses.replace(source, batch=None), faces, path)
    moved = runtime.load(path).predict(faces.crops).keypoints - _points(source.model, faces.crops)
    corrected = dataclasses.replace(source, model=_with_points_moved(source.model, -moved.mean(axis=0)))
    _write_int8(corrected, faces, path, ranges)


def _points(model: "keras.Model", crops: Pixels) -> Floats:
    """Returns Keras' points, (N, K, 2)."""
    from kpdetect import models

    batches = [crops[i : i + CALIBRATION_BATCH].astype(np.float32) for i in range(0, len(crops), CALIBRATION_BATCH)]
    outputs = [models.split_joined(model(batch, training=False))[OUTPUT_NAME] for batch in batches]
    return np.concatenate([np.asarray(points, np.float32) for points in outputs])


def _with_points_moved(model: "keras.Model", by: Floats) -> "keras.Model":
    """Returns the same network with its points shifted by (K, 2), relative to the crop."""
    import keras

    from kpdetect import models

    outputs = models.named_outputs(model)
    return keras.Model(model.input, {**outputs, OUTPUT_NAME: outputs[OUTPUT_NAME] + by}, name=model.name)


def _write_int8(
    source: Source, faces: CalibrationSet, path: Path, ranges: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Writes the file with the given ranges, or with ranges measured on the faces; returns the ranges."""
    from ai_edge_quantizer import qtyping, quantizer

    work = quantizer.Quantizer(converted(source, path.parent, dtype="uint8"))
    work.add_static_config(TRUNK, qtyping.TFLOperationName.ALL_SUPPORTED, BITS, BITS)
    if ranges is None:
        ranges = work.calibrate({"serving_default": _batches(faces.crops)}, num_threads=1)
        _span_all_pixels(ranges)
    quantized = work.quantize(ranges, enable_progress_report=False).quantized_model
    extra = {**source.spec.extra, RANGES_FROM: {"data": faces.data, "faces": len(faces.crops)}}
    finish(bytearray(quantized), dataclasses.replace(source.spec, input_dtype="uint8", extra=extra), path)
    return ranges


def write_dynamic(source: Source, path: Path) -> None:
    """Writes a file with int8 kernels whose ops measure the range of their inputs at run time.

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
    """Sets the input's range to 0-255, so that each pixel value is represented exactly."""
    for name, found in ranges.items():
        if re.search(r"(^|/)Cast(_\d+)?$", name) and TRUNK not in name:
            found["min"], found["max"] = np.zeros_like(found["min"]), np.full_like(found["max"], 255)
