"""Golden numbers: what code in another language must reproduce, for the tests of apps and of the JavaScript package.

The picture of the numbers is given by a formula, so that a test needs no image decoder.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from kpdetect.core.geometry import CropRule, Matrix, apply_matrix, rotation
from kpdetect.core.images import Pixels, to_channels, warp_crop, write_image
from kpdetect.core.schema import IBUG68
from kpdetect.data import synthetic
from kpdetect.detection import Detections, Face, finder
from kpdetect.detection.boxes import non_maximum_suppression, weighted_non_maximum_suppression, without_contained
from kpdetect.exporters.web_page import finder_settings
from kpdetect.inference.face_crops import Candidates, oriented_crop_boxes
from kpdetect.inference.predictor import NESTED
from kpdetect.measures import measure
from kpdetect.modelfile.runtime import Runtime
from kpdetect.modelfile.spec import face_scores
from kpdetect.tracking.smoothing import OneEuroFilter, OneEuroOptions

GOLDEN_FILE = "golden.json"
PICTURE_WH = (90, 70)
CROP_SIDE, MARGIN = 24, 1.2
BOXES = ((20, 10, 64, 50), (30, 20, 42, 36), (-20, -10, 30, 40), (5, 3, 85, 66))
PYRAMIDS = ((90, 70, 0.2), (640, 480, 0.1), (300, 400, 0.03), (1200, 700, 0.03))  # width, height, min_face
FACES = ((7, 11), (7, 12), (7, 23))  # seeds and indices of the drawn photographs
PHOTOGRAPH_SIDE = 256


def golden_numbers() -> dict[str, Any]:
    """Returns inputs and outputs of crops, pyramid, decoding, suppression, rotations, smoothing and measures.

    Example:
        ``golden_numbers()["crops"][0]["grey"]`` are the pixels of a crop.
    """
    picture = formula_picture(*PICTURE_WH)
    return {
        "about": "Made by kpdetect.exporters.golden. Pixel centres are integers; crops agree within two grey levels.",
        "picture": {
            "width": PICTURE_WH[0],
            "height": PICTURE_WH[1],
            "red": "(7 * x + 2 * y) mod 256",
            "green": "(x * y) div 16 mod 256",
            "blue": "(3 * x + 5 * y + 101) mod 256",
        },
        "detector": finder_settings(),
        "schema": {
            "name": IBUG68.name,
            "point_names": list(IBUG68.point_names),
            "groups": {name: list(points) for name, points in IBUG68.groups.items()},
            "normalizer_points": list(IBUG68.normalizer_points or ()),
        },
        "crops": _crops(picture),
        "pyramids": [_pyramid(*each) for each in PYRAMIDS],
        "cells": [_cells(5), _cells(7)],
        "suppression": _suppression(),
        "leaning": _leaning(),
        "turned": _turned(),
        "one_euro": _one_euro(),
        "face_score": _face_score(),
        "measures": _measures(),
    }


def write_golden(model: Runtime, folder: Path) -> None:
    """Writes `golden_numbers`, drawn photographs, and the model's points for their faces.

    Example:
        ``write_golden(load("compact"), Path("golden"))``

    Args:
        model: A model of faces or of whole pictures.
        folder: An empty folder, or one to create.
    """
    folder.mkdir(parents=True, exist_ok=True)
    photographs = []
    for number, (seed, index) in enumerate(FACES, start=1):
        picture, labelled = synthetic.render(seed, index, PHOTOGRAPH_SIDE)
        name = f"face_{number}.png"
        write_image(folder / name, picture)
        box = np.concatenate([labelled.min(axis=0), labelled.max(axis=0)])
        matrix = model.spec.crop.matrix(box)
        crop = warp_crop(picture, matrix, model.spec.crop.size_hw, model.spec.channels)
        keypoints, uncertainty = model.predict(crop[None])[:2]
        photographs.append(
            {
                "image": name,
                "box": _rounded(box),
                "matrix": _rounded(matrix[:2].ravel(), 6),
                "keypoints_relative": _rounded(keypoints[0], 5),
                "uncertainty_relative": None if uncertainty is None else _rounded(uncertainty[0], 5),
            }
        )
    document = {**golden_numbers(), "model": model.path.name, "photographs": photographs}
    (folder / GOLDEN_FILE).write_text(json.dumps(document) + "\n", encoding="utf-8")


def formula_picture(width: int, height: int) -> Pixels:
    """Returns the picture of the numbers, (height, width, 3) uint8 RGB.

    Example:
        >>> formula_picture(2, 1).tolist()
        [[[0, 0, 101], [7, 0, 104]]]
    """
    y, x = np.mgrid[0:height, 0:width]
    channels = (7 * x + 2 * y, x * y // 16, 3 * x + 5 * y + 101)
    return np.asarray(np.stack([channel % 256 for channel in channels], axis=-1), np.uint8)


def _crops(picture: Pixels) -> list[dict[str, Any]]:
    rule = CropRule((CROP_SIDE, CROP_SIDE), MARGIN)
    points = np.asarray([[20, 30], [60, 18], [48, 55], [30, 60]], np.float32)
    across = points[1] - points[0]
    cases: list[tuple[dict[str, Any], Matrix]] = [({"box": list(box)}, rule.matrix(box)) for box in BOXES]
    upright = rule.upright_matrix(points[None], across[None])[0]
    cases.append(({"points": points.tolist(), "across": across.tolist()}, upright))
    return [
        {
            **given,
            "side": CROP_SIDE,
            "margin": MARGIN,
            "matrix": _rounded(matrix[:2].ravel(), 8),
            "grey": warp_crop(picture, matrix, rule.size_hw, 1).ravel().tolist(),
        }
        for given, matrix in cases
    ]


def _pyramid(width: int, height: int, min_face: float) -> dict[str, Any]:
    grey = to_channels(formula_picture(width, height), 1)[..., 0]
    pyramid = finder.Pyramid.of(grey, min_face)
    flat = pyramid.picture.ravel()
    step = len(flat) // 200 + 1
    return {
        "width": width,
        "height": height,
        "min_face": min_face,
        "picture_wh": list(pyramid.picture.shape[::-1]),
        "places": pyramid.places.tolist(),
        "every": step,
        "pixels": flat[::step].tolist(),
    }


def _cells(values: int) -> dict[str, Any]:
    random = np.random.default_rng(values)
    output = random.normal(0, 0.5, (2, 3, 4 * values)).astype(np.float32)
    output *= getattr(finder, "OUTPUT_UNIT", 1.0) if values == 7 else 1.0
    output[..., ::values] = np.where(random.random((2, 3, 4)) < 0.3, 2, -3) + output[..., ::values]
    case = {"rows": 2, "columns": 3, "values": values, "output": _rounded(output.ravel(), 4), "min_score": 0.5}
    if values == _decoded_values():
        found: Any = finder.decode_cells(np.asarray(case["output"], np.float32).reshape(output.shape), 0.5)
        if isinstance(found, tuple):
            case |= {"boxes": _rounded(found[0]), "scores": _rounded(found[1], 5)}
        else:
            case |= {
                "boxes": _rounded(found.boxes),
                "oriented": _rounded(found.oriented),
                "scores": _rounded(found.scores, 5),
            }
    return case


def _decoded_values() -> int:
    """Returns the number of values per prediction that `kpdetect.detection.finder.decode_cells` takes."""
    try:
        finder.decode_cells(np.zeros((1, 1, 20), np.float32), 0.5)
    except (ValueError, IndexError):
        return 7
    return 5


def _suppression() -> dict[str, Any]:
    random = np.random.default_rng(3)
    centers, sides = random.uniform(0, 100, (14, 2)), random.uniform(20, 50, (14, 1))
    boxes = np.asarray(_rounded(np.concatenate([centers - sides / 2, centers + sides / 2], axis=1)), np.float32)
    scores = np.asarray(_rounded(random.uniform(0.2, 1, 14)), np.float32)
    fused, sums = weighted_non_maximum_suppression(boxes, scores)
    return {
        "boxes": _rounded(boxes),
        "scores": _rounded(scores),
        "kept": non_maximum_suppression(boxes, scores).tolist(),
        "apart": without_contained(boxes, scores, NESTED).tolist(),
        "fused": _rounded(fused),
        "sums": _rounded(sums, 5),
    }


def _leaning() -> list[dict[str, Any]]:
    upright = np.asarray(_rounded(synthetic.render(*FACES[0], 200)[1], 2), np.float32)
    cases = []
    for angle_deg in (10, 60, -100, 180):
        points = np.asarray(_rounded(apply_matrix(rotation(angle_deg, (100, 100)), upright), 2), np.float32)
        cases.append(
            {"keypoints": _rounded(points, 2), "oriented": _rounded(oriented_crop_boxes(points[None], IBUG68)[0], 3)}
        )
    return cases


def _turned() -> list[dict[str, Any]]:
    """The detections that are tried in other rotations, with a certain face, an uncertain one, and none."""
    points = np.asarray(_rounded(synthetic.render(*FACES[0], 100)[1], 2), np.float32)
    x, y = points.mean(axis=0)
    rows = [(x, y, 60, 70, 10), (x + 4, y - 3, 50, 60, 170), (x + 300, y, 40, 40, -95), (x + 300, y + 90, 40, 45, 0)]
    oriented, scores = np.asarray(_rounded(rows), np.float32), np.asarray([0.5, 0.2, 0.6, 0.1], np.float32)
    found = Detections(oriented, scores)
    candidates = Candidates(np.zeros((1, 1, 1), np.uint8), found.boxes, True, found)
    cases: list[dict[str, Any]] = []
    for score in (0.99, 0.7, None):
        faces = [] if score is None else [Face(points, IBUG68, score)]
        turned = candidates.turned_by_quarters(faces).detections
        given = {"oriented": _rounded(oriented), "scores": _rounded(scores)}
        known = {"keypoints": _rounded(points, 2), "score": score}
        cases.append(
            {
                **given,
                "face": None if score is None else known,
                "turned": [] if turned is None else _rounded(turned.oriented),
            }
        )
    return cases


def _one_euro() -> dict[str, Any]:
    random = np.random.default_rng(5)
    smooth = OneEuroFilter(OneEuroOptions())
    frames = []
    for frame in range(12):
        time_s = round(frame / 30 + 0.002 * (frame % 3), 4)
        points = _rounded(np.array([[10 + 3 * frame, 20], [50, 60 - frame]]) + random.normal(0, 0.5, (2, 2)))
        frames.append(
            {"time_s": time_s, "points": points, "side": 80.0, "smoothed": _rounded(smooth(points, time_s, 80.0))}
        )
    return {"min_cutoff_hz": 1.0, "beta": 30.0, "speed_cutoff_hz": 1.0, "frames": frames}


def _face_score() -> dict[str, Any]:
    rule = {"middle": -3.0, "slope": 5.0}
    uncertainty = np.asarray([[0.01, 0.02, 0.03], [0.05, 0.05, 0.05], [0.2, 0.3, 0.1]], np.float32)
    return {
        "rule": rule,
        "uncertainty": _rounded(uncertainty),
        "scores": _rounded(face_scores(uncertainty, rule), 5),
    }


def _measures() -> list[dict[str, Any]]:
    found = []
    for seed, index in FACES:
        points = np.asarray(_rounded(synthetic.render(seed, index, 200)[1], 2), np.float32)
        found.append({"keypoints": _rounded(points, 2), "measures": measure(Face(points, IBUG68))})
    return found


def _rounded(values: Any, decimals: int = 4) -> Any:
    return np.round(np.asarray(values, np.float64), decimals).tolist()
