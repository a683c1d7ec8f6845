"""Measures the errors that common mistakes of an app cause: wrong colours, scales, crops and boxes.

    python benchmarks/mistakes.py [DATA_FOLDER]

The faces are the test faces of HELEN and LFPW, which the shipped model was not trained on, in their labelled boxes. The
data folder, an argument or KPDETECT_DATA, contains ibug_300w/. Prints the inter-ocular NME of each mistake.
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kpdetect.core.geometry import Floats, Matrix, apply_matrix, invert, jitter_boxes, tight_box, to_pixels
from kpdetect.core.images import Pixels, cv2, to_channels, warp_crop
from kpdetect.core.schema import IBUG68
from kpdetect.data import Annotations, load, split_by_rule
from kpdetect.evaluation.metrics import nme_per_face
from kpdetect.modelfile import bundle, runtime

CROP = bundle.read_spec(bundle.shipped_model()).crop


def cut_without_antialiasing(photograph: Pixels, matrix: Matrix, size_hw: tuple[int, int]) -> Pixels:
    """A crop by bilinear interpolation, without antialiasing where it shrinks."""
    crop = cv2.warpAffine(photograph, matrix[:2], size_hw[::-1], flags=cv2.INTER_LINEAR)
    return np.asarray(crop, np.uint8)[..., None]


def green(photograph: Pixels) -> Pixels:
    """The green channel in all three."""
    return np.repeat(photograph[..., 1:2], 3, axis=2)


@dataclass(frozen=True)
class App:
    """The steps of an app; the defaults are correct."""

    colour: Callable[[Pixels], Pixels] = lambda photograph: photograph
    cut: Callable[..., Pixels] = warp_crop
    feed: Callable[[Pixels], np.ndarray] = lambda crop: crop
    read: Callable[[Floats], Floats] = lambda relative: relative
    box_scale: float = 1.0
    box_shift_y: float = 0.0
    second_look: bool = False


APPS = {
    "as it should be": App(),
    "blue for red": App(colour=lambda photograph: photograph[..., ::-1]),
    "green for grey": App(colour=green),
    "not antialiased": App(cut=cut_without_antialiasing),
    "pixels scaled to 0-1": App(feed=lambda crop: np.asarray(crop / 255, np.float32)),
    "pixels scaled to -1 to 1": App(feed=lambda crop: np.asarray(crop / 127.5 - 1, np.float32)),
    "half a pixel of the crop forgotten": App(read=lambda relative: relative + np.float32(0.5 / CROP.size_hw[0])),
    "x and y exchanged": App(read=lambda relative: relative[..., ::-1]),
    "no margin": App(box_scale=1 / CROP.margin),
    "margin twice": App(box_scale=CROP.margin),
    "box 1.4 times as large": App(box_scale=1.4),
    "box 1.4 times as large, second look": App(box_scale=1.4, second_look=True),
    "box 1.5 times as large and 10 % up": App(box_scale=1.5, box_shift_y=-0.1),
    "box 1.5 times as large and 10 % up, second look": App(box_scale=1.5, box_shift_y=-0.1, second_look=True),
}


def predict(app: App, model: runtime.Runtime, photograph: Pixels, box_xyxy: Floats) -> Floats:
    """The keypoints (68, 2) that the app shows, in pixels of the photograph."""
    grey = to_channels(np.ascontiguousarray(app.colour(photograph)), 1)
    for _ in range(1 + app.second_look):
        crop = model.spec.crop
        matrix = crop.matrix(box_xyxy)
        relative = app.read(model(app.feed(app.cut(grey, matrix, crop.size_hw)[None])))
        points = apply_matrix(invert(matrix), to_pixels(relative, crop.size_hw))[0]
        box_xyxy = tight_box(points)
    return np.asarray(points, np.float32)


def error(app: App, model: runtime.Runtime, faces: Annotations, photographs: list[Any]) -> float:
    """Mean NME in per cent."""
    boxes = jitter_boxes(faces.boxes, (0, app.box_shift_y), np.full(len(faces), app.box_scale))
    points = np.stack([predict(app, model, *pair) for pair in zip(photographs, boxes, strict=True)])
    return float(100 * np.nanmean(nme_per_face(faces.keypoints, points, faces.visible, IBUG68, 1.0)))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default=os.environ.get("KPDETECT_DATA"), help="the data folder")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("give the data folder, or set KPDETECT_DATA")
    model, folder = runtime.load(bundle.shipped_model()), Path(arguments.data) / "ibug_300w"
    faces = split_by_rule(load(f"ibug:{folder / 'helen'},ibug:{folder / 'lfpw'}"), model.spec.extra["split"])[2]
    photographs = [faces.read(path) for path in faces.paths.tolist()]
    print(f"{len(faces)} faces of 300-W (HELEN, LFPW), test, boxes: truth; inter-ocular NME")
    for name, app in APPS.items():
        print(f"{name:48} {error(app, model, faces, photographs):6.2f} %", flush=True)


if __name__ == "__main__":
    main()
