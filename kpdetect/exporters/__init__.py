"""Conversion of a Keras model to SavedModel, TFLite, ONNX, ``.keras`` and a web page; every file contains its spec.

In every file the input is ``image``, (B, H, W, C) of raw pixels 0-255: float32, or uint8 in ``int8`` files. The output
is ``keypoints``, (B, K, 2) float32 relative to the crop; models with uncertainty have a second output
``uncertainty``, (B, K). B is free, but 1 in the web page's file.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

from kpdetect.exporters import web_page
from kpdetect.exporters.onnx import write_onnx
from kpdetect.exporters.quantization import write_dynamic, write_int8
from kpdetect.exporters.saved_model import PHOTOGRAPH_SIGNATURE, SAVED_MODEL, write_saved_model
from kpdetect.exporters.source import CalibrationSet, Source, Writer
from kpdetect.exporters.tflite import write_tflite
from kpdetect.exporters.web import write_web
from kpdetect.modelfile import bundle

__all__ = [
    "FORMATS",
    "HALF_PRECISION_PX",
    "PHOTOGRAPH_SIGNATURE",
    "QUANTIZATIONS",
    "SAVED_MODEL",
    "CalibrationSet",
    "Kind",
    "Source",
    "Writer",
]


def write_keras(source: Source, path: Path) -> None:
    """Writes a ``.keras`` file."""
    source.model.save(path)
    bundle.embed_in_zip(source.spec, path)


HALF_PRECISION_PX = 0.2  # on waves and noise, where uncertainty is large; on faces the difference is hundredths of this


@dataclass(frozen=True)
class Kind:
    """One numeric format of a file.

    Attributes:
        write: Writes the file.
        mean_px: Greatest mean difference from Keras that is accepted, in pixels of the crop. For rounded weights the
            mean says more than the greatest difference, which is that of the most uncertain point. None: the greatest
            difference is compared with the user's ``--tolerance-px``.
        on_faces: The file is compared on the calibration set instead of on waves and noise.

    Example:
        ``FORMATS["tflite"]["int8"].on_faces`` is true.
    """

    write: Writer
    mean_px: float | None = None
    on_faces: bool = False


FORMATS: dict[str, dict[str, Kind]] = {
    SAVED_MODEL: {"none": Kind(write_saved_model)},
    "tflite": {
        "none": Kind(write_tflite),
        "fp16": Kind(functools.partial(write_tflite, half=True), mean_px=HALF_PRECISION_PX),
        "int8": Kind(write_int8, mean_px=0.3, on_faces=True),
        "dynamic": Kind(write_dynamic, mean_px=1.5),
    },
    "onnx": {
        "none": Kind(write_onnx),
        "fp16": Kind(functools.partial(write_onnx, half=True), mean_px=HALF_PRECISION_PX),
    },
    "keras": {"none": Kind(write_keras)},
    web_page.WEB: {"none": Kind(write_web, mean_px=HALF_PRECISION_PX)},
}
"""The writers of each format by quantization. Files other than ``none`` are called ``NAME_fp16.tflite`` and so on."""

QUANTIZATIONS = tuple(dict.fromkeys(name for kinds in FORMATS.values() for name in kinds))
