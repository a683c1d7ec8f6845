"""Corrects the systematic label offsets of known data sets: a horizontal shift, and per-point placement.

A model trained with flips cannot learn a horizontal shift. So half of the difference between its mean residuals on
plain and on mirrored images is the shift of the labels. The rest of a point's mean residual, rotated upright and made
symmetric, is a difference in placement: YouTube Faces labels the nose bridge 7 % of the eye distance lower than 300-W,
and the ends of the jaw line nearer to its middle. ``label_alignment.json`` contains the figures;
``tools/label_alignment.py`` measures them.
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

OFFSETS_FILE = "label_alignment.json"


def align(annotations: Annotations) -> Annotations:
    """Returns the faces with their labels corrected to 300-W's placement, without the shift. Boxes are unchanged.

    Example:
        ``align(read_youtube_faces("youtube_faces"))``

    Args:
        annotations: One data set, as its reader returns it. A set without known offsets is returned unchanged.
    """
    offsets = label_offsets()["sets"].get(annotations.dataset)
    if offsets is None or annotations.schema.point_names != IBUG68.point_names:
        return annotations
    aligned = align_keypoints(annotations.keypoints, offsets["shift_x"], offsets.get("points"))
    return dataclasses.replace(annotations, keypoints=aligned)


@functools.cache
def label_offsets() -> dict[str, Any]:
    """Returns the content of ``label_alignment.json``.

    >>> sorted(label_offsets()["sets"])
    ['ibug', 'youtube-faces']
    """
    file = importlib.resources.files("kpdetect.data") / OFFSETS_FILE
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return document


def align_keypoints(keypoints_px: Floats, shift_x: float, points: npt.ArrayLike | None = None) -> Floats:
    """Subtracts a horizontal shift from labels and adds an offset to each point.

    Args:
        keypoints_px: (N, K, 2) in pixels, of a schema with an eye distance.
        shift_x: Distance of the labels to the right of the visible features, in eye distances, along the image's x
            axis.
        points: (K, 2), offset of each point in an upright face, in eye distances; None adds no offsets.

    Returns:
        (N, K, 2) float32, in pixels.
    """
    direction, distance = _eye_line(keypoints_px)
    offset = np.zeros((len(keypoints_px), 1, 2)) if points is None else _rotate(np.asarray(points), direction)
    return np.asarray(keypoints_px + distance * (offset - (shift_x, 0.0)), np.float32)


def rotate_upright(offsets: npt.NDArray[np.float64], keypoints_px: Floats) -> npt.NDArray[np.float64]:
    """Rotates offsets by the angle that makes each face's eye line horizontal.

    Args:
        offsets: (N, K, 2) in the image's directions.
        keypoints_px: (N, K, 2), the faces' points.

    Returns:
        (N, K, 2) in the directions of an upright face.
    """
    direction, _ = _eye_line(keypoints_px)
    return _rotate(offsets, direction * (1, -1))


def _eye_line(keypoints_px: Floats) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns the unit vectors from the right to the left outer eye corner, (N, 1, 2), and their lengths, (N, 1, 1).

    Faces without labelled points, whose coordinates are zeros, have zero vectors and lengths and are not changed.
    """
    right, left = IBUG68.normalizer_points or (0, 1)
    across = (keypoints_px[:, left] - keypoints_px[:, right]).astype(np.float64)[:, None]
    distance = np.linalg.norm(across, axis=-1, keepdims=True)
    return across / np.maximum(distance, 1e-9), distance


def _rotate(offsets: npt.NDArray[np.float64], direction: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rotates offsets (…, K, 2) by the angle between the x axis and `direction` (N, 1, 2)."""
    cos, sin = direction[..., 0], direction[..., 1]
    x, y = offsets[..., 0], offsets[..., 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)
