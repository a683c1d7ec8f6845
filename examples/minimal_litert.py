"""From a photograph and a face box to the points, with LiteRT, NumPy and Pillow alone: all that an app has to do.

    pip install ai-edge-litert numpy pillow
    python examples/minimal_litert.py exported_models/compact/compact.tflite photo.jpg 120 80 260 230

The box (x0, y0, x1, y1) is the tight box of the points, for 68 points from brow to chin and from ear to ear, in pixels
of the photograph as it is seen. A detector's box is usually another one: turn it into this first.
Its points agree with those of kpdetect's Predictor within a fraction of a pixel of the crop: the two resample in
different ways.
"""

import json
import math
import sys
import zipfile
from collections.abc import Sequence

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps


def mark(model_file: str, photograph_file: str, box_xyxy: Sequence[float]) -> tuple[np.ndarray, np.ndarray | None]:
    """Gives the points (K, 2) and how far off each is expected to be (K,) or None, in pixels of the photograph."""
    spec = json.loads(zipfile.ZipFile(model_file).read("spec.json"))  # a .tflite of kpdetect is a zip archive too
    # Cameras often store the picture lying on its side; without this, so is the face.
    photograph = ImageOps.exif_transpose(Image.open(photograph_file))
    # Grey is 0.299 R + 0.587 G + 0.114 B, as Pillow has it. In OpenCV mind that colours come as B, G, R.
    photograph = photograph.convert("L" if spec["input"]["color"] == "grey" else "RGB")
    left, top, scale = crop_of(box_xyxy, spec["crop"])
    crop = cut(photograph, left, top, scale, spec["crop"]["size_hw"])
    model = Interpreter(model_file).get_signature_runner()
    # Raw pixels, 0 to 255: the model's first layer scales them, and nobody should do so twice.
    image = np.asarray(crop).reshape(1, *spec["input"]["shape"][1:])
    outputs = model(image=image.astype(model.get_input_details()["image"]["dtype"]))  # float32; uint8 in int8 files
    side_hw = scale * np.array(spec["crop"]["size_hw"])  # of the crop, in pixels of the photograph
    points = (left, top) + outputs["keypoints"][0] * side_hw[::-1]  # by name: the order of the outputs is not fixed
    return points, outputs["uncertainty"][0] * side_hw.max() if "uncertainty" in outputs else None


def crop_of(box_xyxy: Sequence[float], crop: dict) -> tuple[float, float, float]:
    """The crop's left and top edge and how many photograph pixels one of its pixels covers; it may reach outside."""
    (height, width), (x0, y0, x1, y1) = crop["size_hw"], box_xyxy
    scale = crop["margin"] * max((x1 - x0) / width, (y1 - y0) / height)
    return (x0 + x1) / 2 - scale * width / 2, (y0 + y1) / 2 - scale * height / 2, scale


def cut(photograph: Image.Image, left: float, top: float, scale: float, size_hw: Sequence[int]) -> Image.Image:
    """The crop, upright and black outside the photograph; Pillow's resize antialiases where it shrinks."""
    # In kpdetect a pixel's centre is at the integer, in Pillow at a half: its edges are 0.5 further on.
    edges = np.array([left, top, left + scale * size_hw[1], top + scale * size_hw[0]]) + 0.5
    reach = math.ceil(2 * scale) + 1  # the filter looks at some pixels beyond
    x, y = (math.floor(edge) - reach for edge in edges[:2])
    around = photograph.crop((x, y, *(math.ceil(edge) + reach for edge in edges[2:])))
    return around.resize(size_hw[::-1], Image.Resampling.BILINEAR, box=tuple(edges - (x, y, x, y)))


if __name__ == "__main__":
    keypoints, _ = mark(*sys.argv[1:3], [float(side) for side in sys.argv[3:7]])
    print("\n".join(f"{x:.1f} {y:.1f}" for x, y in keypoints))
