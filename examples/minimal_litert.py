"""Predicts the keypoints of a face with LiteRT, NumPy and Pillow only: all steps that an app has to implement.

    pip install ai-edge-litert numpy pillow
    python examples/minimal_litert.py exported_models/compact/compact.tflite photo.jpg 120 80 260 230

The box (x0, y0, x1, y1) is the tight box of the keypoints, from the brows to the chin and from ear to ear for 68 of
them, in pixels of the photograph after its EXIF rotation. Convert the box of a detector to this one first.
The results differ from those of `kpdetect.Predictor` by a fraction of a pixel, because Pillow resamples differently.
"""

import json
import math
import sys
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps


def mark(model_file: str, photograph_file: str, box_xyxy: Sequence[float]) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns keypoints (K, 2) and their expected errors (K,), None if there are none, in pixels of the photograph."""
    spec = json.loads(zipfile.ZipFile(model_file).read("spec.json"))  # a .tflite file of kpdetect is also a zip archive
    # Cameras often store a rotated picture and note the rotation in EXIF.
    photograph = ImageOps.exif_transpose(Image.open(photograph_file))
    # Grey is 0.299 R + 0.587 G + 0.114 B, as in Pillow. OpenCV reads colours in the order B, G, R.
    photograph = photograph.convert("L" if spec["input"]["color"] == "grey" else "RGB")
    left, top, scale = crop_of(box_xyxy, spec["crop"])
    crop = cut(photograph, left, top, scale, spec["crop"]["size_hw"])
    model = Interpreter(model_file).get_signature_runner()
    # Raw pixels, 0 to 255; the first layer of the model scales them.
    image = np.asarray(crop).reshape(1, *spec["input"]["shape"][1:])
    outputs = model(image=image.astype(model.get_input_details()["image"]["dtype"]))  # float32, or uint8 in int8 files
    side_hw = scale * np.array(spec["crop"]["size_hw"])  # of the crop, in pixels of the photograph
    points = (left, top) + outputs["keypoints"][0] * side_hw[::-1]  # by name; the order is not fixed
    return points, outputs["uncertainty"][0] * side_hw.max() if "uncertainty" in outputs else None


def crop_of(box_xyxy: Sequence[float], crop: dict[str, Any]) -> tuple[float, float, float]:
    """Left and top edge of the crop, and its pixel size in pixels of the photograph; the crop may reach outside."""
    (height, width), (x0, y0, x1, y1) = crop["size_hw"], box_xyxy
    scale = crop["margin"] * max((x1 - x0) / width, (y1 - y0) / height)
    return (x0 + x1) / 2 - scale * width / 2, (y0 + y1) / 2 - scale * height / 2, scale


def cut(photograph: Image.Image, left: float, top: float, scale: float, size_hw: Sequence[int]) -> Image.Image:
    """Cuts out the crop; it is black outside of the photograph. Pillow's resize is antialiased."""
    # Pixel centres are integers in kpdetect and half integers in Pillow: edges differ by 0.5.
    edges = np.array([left, top, left + scale * size_hw[1], top + scale * size_hw[0]]) + 0.5
    reach = math.ceil(2 * scale) + 1  # the resampling filter needs pixels around the crop
    x, y = (math.floor(edge) - reach for edge in edges[:2])
    around = photograph.crop((x, y, *(math.ceil(edge) + reach for edge in edges[2:])))
    return around.resize((size_hw[1], size_hw[0]), Image.Resampling.BILINEAR, box=tuple(edges - (x, y, x, y)))


if __name__ == "__main__":
    keypoints, _ = mark(sys.argv[1], sys.argv[2], [float(side) for side in sys.argv[3:7]])
    print("\n".join(f"{x:.1f} {y:.1f}" for x, y in keypoints))
