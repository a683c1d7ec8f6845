"""Owns by how much the labels of known sets stand off: their shift to one side, and where they place a point.

Mirrored pictures show the shift: a model trained with flips cannot learn it, so half the difference of its mean
residuals on plain and on mirrored pictures is the labels'. What is left of the mean residual of a point, turned upright
and made symmetric, is a convention: YouTube Faces has the bridge of the nose lower than 300-W by 7 % of the eye
distance, and the corners of the jaw nearer to its middle. The figures are in ``label_alignment.json``; how they were
measured, in ``tools/label_alignment.py``.
"""

import dataclasses
import functools
import importlib.resources
import json
from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import Floats
from kpdetect.core.schema import IBUG68
from kpdetect.data.annotations import Annotations

CONVENTIONS_FILE = "label_alignment.json"


def align(annotations: Annotations) -> Annotations:
    """The faces with labels as 300-W would have them where one sees them; boxes stay as they are.

    Args:
        annotations: One set, as its reader gives it. Sets of which nothing is known come back as they are.
    """
    known = conventions()["sets"].get(annotations.kind)
    if known is None or annotations.schema.point_names != IBUG68.point_names:
        return annotations
    moved = aligned_keypoints(annotations.keypoints, known["shift_x"], known.get("points"))
    return dataclasses.replace(annotations, keypoints=moved)


@functools.cache
def conventions() -> dict[str, Any]:
    """What ``label_alignment.json`` holds."""
    file = importlib.resources.files("kpdetect.data") / CONVENTIONS_FILE
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return document


def aligned_keypoints(keypoints_px: Floats, shift_x: float, points: npt.ArrayLike | None = None) -> Floats:
    """Takes a shift out of labels, and adds each point's offset.

    Args:
        keypoints_px: (N, K, 2) of a scheme with an eye distance, in pixels.
        shift_x: How far the labels stand to the right of what one sees, in eye distances.
        points: (K, 2), what each point is moved by in an upright face, in eye distances; None moves none.

    Returns:
        (N, K, 2) float32.
    """
    eyes, distance = _eyes(keypoints_px)
    offset = np.zeros((*keypoints_px.shape[:1], 1, 2)) if points is None else _turned(np.asarray(points), eyes)
    return np.asarray(keypoints_px + distance * (offset - (shift_x, 0.0)), np.float32)


def upright(offsets: npt.NDArray[np.float64], keypoints_px: Floats) -> npt.NDArray[np.float64]:
    """Offsets (N, K, 2) in pictures as those of upright faces: turned by what turns the line of the eyes level."""
    eyes, _ = _eyes(keypoints_px)
    return _turned(offsets, eyes * (1, -1))


def _eyes(keypoints_px: Floats) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The direction from the right eye's outer corner to the left's, (N, 1, 2), and its length (N, 1, 1).

    Faces without points, which readers give as zeros, have no direction: then both are 0, and nothing is moved.
    """
    first, second = IBUG68.normalizer_points or (0, 1)
    across = (keypoints_px[:, second] - keypoints_px[:, first]).astype(np.float64)[:, None]
    distance = np.linalg.norm(across, axis=-1, keepdims=True)
    return across / np.maximum(distance, 1e-9), distance


def _turned(offsets: npt.NDArray[np.float64], direction: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Offsets (…, K, 2) turned as a direction (N, 1, 2) is turned from the x axis."""
    cos, sin = direction[..., 0], direction[..., 1]
    x, y = offsets[..., 0], offsets[..., 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)
