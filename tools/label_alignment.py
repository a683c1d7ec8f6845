"""Measures the bias of labels of known data sets, for ``kpdetect/data/label_alignment.json``.

    python tools/label_alignment.py MODEL [DATA_FOLDER] [--write]

A model that was trained with flips cannot learn a shift to one side. The shift of a set is half the difference of its
mean residuals on plain and on mirrored pictures. The offset of each point is the mean residual of the set in upright
faces, made symmetric, minus that of 300-W, which removes the bias of the model.

The shift is measured on the validation faces of the model, and the offsets on its training faces, of which there are
many; test faces are not used. The numbers of the file were measured with a `compact` trained on YouTube Faces without
alignment. As a check, the remaining bias of aligned labels is printed unless --write is given; it should be near zero
for a model trained on aligned labels.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from kpdetect.core.geometry import to_pixels
from kpdetect.core.schema import IBUG68
from kpdetect.data import Annotations, align, load, split_by_rule
from kpdetect.data.crops import evaluation_crops
from kpdetect.data.label_alignment import OFFSETS_FILE, rotate_upright
from kpdetect.evaluation.evaluator import mirrored_predictions, predict_batches
from kpdetect.modelfile import runtime

REFERENCE = "ibug"
FOLDERS = {"ibug": "ibug_300w", "youtube-faces": "youtube_faces"}
SWAP = list(IBUG68.flip_permutation or ())


def residuals(model: runtime.Runtime, faces: Annotations) -> tuple[np.ndarray, np.ndarray]:
    """Labels minus predictions (mean of plain and mirrored), in eye distances (N, K, 2), and the labels in pixels."""
    crops, relative, _ = evaluation_crops(faces, model.spec.crop, model.spec.channels)
    truth = to_pixels(relative, model.spec.crop.size_hw)
    plain = to_pixels(predict_batches(model, crops), model.spec.crop.size_hw)
    mirrored = mirrored_predictions(model, crops, model.spec)
    predicted = plain if mirrored is None else (plain + mirrored) / 2
    return (truth - predicted) / IBUG68.normalizers(truth, 1.0)[:, None, None], truth


def shift_of(model: runtime.Runtime, faces: Annotations) -> float:
    """The mean shift of the labels to the right, in eye distances."""
    return float(residuals(model, faces)[0][..., 0].mean())


def offsets_of(model: runtime.Runtime, faces: Annotations, shift_x: float) -> np.ndarray:
    """The mean residual (K, 2) of each point in upright faces without the shift, made symmetric."""
    residual, truth = residuals(model, faces)
    mean = rotate_upright(residual - (shift_x, 0.0), truth).mean(axis=0)
    return np.asarray((mean + mean[SWAP] * (-1, 1)) / 2)


def measure(model: runtime.Runtime, folder: Path, relabel: Any = None) -> dict[str, tuple[float, np.ndarray]]:
    """The shift and the offsets of each set."""
    found = {}
    for name, place in FOLDERS.items():
        faces = load(f"{name}:{folder / place}", relabel=relabel)
        train, val, _ = split_by_rule(faces, model.spec.extra["split"])
        shift_x = shift_of(model, val)
        found[name] = shift_x, offsets_of(model, train, shift_x if relabel is None else 0.0)
    return found


def document(found: dict[str, tuple[float, np.ndarray]]) -> str:
    """The text of ``label_alignment.json``."""
    sets = []
    for name, (shift_x, offsets) in found.items():
        if name == REFERENCE:
            sets.append(f'    "{name}": {{"shift_x": {shift_x:.4f}}}')
            continue
        points = np.round(found[REFERENCE][1] - offsets, 4) + 0.0
        lines = ",\n".join(f"        [{x:.4f}, {y:.4f}]" for x, y in points)
        sets.append(f'    "{name}": {{\n      "shift_x": {shift_x:.4f},\n      "points": [\n{lines}\n      ]\n    }}')
    head = f'  "reference": "{REFERENCE}",\n  "unit": "distance of the outer eye corners",\n'
    text = "{\n" + head + '  "sets": {\n' + ",\n".join(sets) + "\n  }\n}\n"
    json.loads(text)
    return text


def main() -> None:
    """Measures, then writes or checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model that was trained with flips")
    parser.add_argument("data", nargs="?", default=os.environ.get("KPDETECT_DATA"), help="the data folder")
    parser.add_argument("--write", action="store_true", help="replace kpdetect/data/label_alignment.json")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("give the data folder, or set KPDETECT_DATA")
    model = runtime.load(arguments.model, threads=2)
    found = measure(model, Path(arguments.data))
    for name, (shift_x, offsets) in found.items():
        apart = np.linalg.norm(found[REFERENCE][1] - offsets, axis=1)
        print(f"{name}: labels are shifted by {100 * shift_x:+.2f} % to the right; distance from 300-W:", end=" ")
        print(f"{100 * apart.mean():.2f} % mean, {100 * apart.max():.2f} % largest")
    if arguments.write:
        file = Path(__file__).resolve().parents[1] / "kpdetect" / "data" / OFFSETS_FILE
        file.write_text(document(found), encoding="utf-8")
        return
    for name, (shift_x, offsets) in measure(model, Path(arguments.data), align).items():
        print(f"{name}, aligned labels: shift {100 * shift_x:+.2f} %,", end=" ")
        print(f"points {100 * np.linalg.norm(offsets, axis=1).mean():.2f} % mean residual")


if __name__ == "__main__":
    main()
