"""Oriented face boxes: centre, size in the face's own upright frame, and in-plane rotation."""

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import Floats, Matrix
from kpdetect.core.schema import IBUG68

_HALF_OUTLINE = (
    *((0.26, -0.5), (0.34, -0.48), (0.4, -0.43), (0.5, -0.32), (0.5, -0.19), (0.48, -0.05), (0.45, 0.08)),
    *((0.4, 0.21), (0.32, 0.32), (0.23, 0.41), (0.12, 0.48), (0.0, 0.5)),
)
OUTLINE = np.array([*_HALF_OUTLINE, *((-x, y) for x, y in _HALF_OUTLINE[-2::-1])])
"""(23, 2) the outline of the mean face of 300-W from the left brow over the chin to the right brow, in widths and
heights of its upright box from the box's centre."""

_RIGHT_EYE, _LEFT_EYE, _NASION, _CHIN = 36, 45, 27, 8  # of the 68 points


def oriented_boxes(keypoints: npt.ArrayLike) -> Floats:
    """Returns the oriented boxes of faces with iBUG's 68 points.

    The rotation is that of two directions together: from eye to eye, and at right angles to it from the bridge of the
    nose to the chin, which stays reliable in profile. The box is the tight box of the points after they are turned back
    by this rotation.

    Args:
        keypoints: (N, 68, 2) in pixels; NaN for points that are not labelled. Chin and bridge of the nose are needed.

    Returns:
        (N, 5) float32: x and y of the centre, width and height in pixels, and the rotation in degrees, positive if the
        head leans clockwise in the picture, as in `kpdetect.measures.HeadPose`.

    Example:
        ``oriented_boxes(annotations.keypoints)[:, 4]`` are the rotations.
    """
    points = np.asarray(keypoints, np.float64).reshape(-1, IBUG68.num_keypoints, 2)
    eyes = np.nan_to_num(points[:, _LEFT_EYE] - points[:, _RIGHT_EYE])  # half-labelled faces have one eye
    down = points[:, _CHIN] - points[:, _NASION]
    roll = np.arctan2(eyes[:, 1] - down[:, 0], eyes[:, 0] + down[:, 1])
    upright = points @ _turns(-roll).transpose(0, 2, 1)
    low, high = np.nanmin(upright, axis=1), np.nanmax(upright, axis=1)
    center = np.einsum("nij,nj->ni", _turns(roll), (low + high) / 2)
    return np.asarray(np.concatenate([center, high - low, np.rad2deg(roll)[:, None]], axis=1), np.float32)


def tight_boxes(oriented: npt.ArrayLike) -> Floats:
    """Returns the axis-aligned boxes of oriented ones: the tight boxes of a mean face's outline in their place.

    The mean intersection over union with the tight boxes of the points of 300-W, turned at random, is 0.92; without a
    rotation it is 1.

    Args:
        oriented: (N, 5), see `oriented_boxes`.

    Returns:
        (N, 4) float32, (x0, y0, x1, y1).

    Example:
        >>> tight_boxes([[50, 50, 20, 40, 0], [50, 50, 20, 40, 90]]).round().astype(int).tolist()
        [[40, 30, 60, 70], [30, 40, 70, 60]]
    """
    boxes = np.asarray(oriented, np.float64).reshape(-1, 5)
    outline = OUTLINE * boxes[:, None, 2:4] @ _turns(np.deg2rad(boxes[:, 4])).transpose(0, 2, 1) + boxes[:, None, :2]
    return np.asarray(np.concatenate([outline.min(axis=1), outline.max(axis=1)], axis=1), np.float32)


def upright_boxes(oriented: npt.ArrayLike) -> Floats:
    """Returns the boxes (N, 4) that oriented ones (N, 5) have after each is turned upright about its centre.

    Example:
        >>> upright_boxes([[50, 50, 20, 40, 90]]).tolist()
        [[40.0, 30.0, 60.0, 70.0]]
    """
    boxes = np.asarray(oriented, np.float32).reshape(-1, 5)
    return np.concatenate([boxes[:, :2] - boxes[:, 2:4] / 2, boxes[:, :2] + boxes[:, 2:4] / 2], axis=1)


def transform_oriented(oriented: npt.ArrayLike, matrix: Matrix) -> Floats:
    """Applies a similarity, which may mirror, to oriented boxes.

    Args:
        oriented: (N, 5), see `oriented_boxes`.
        matrix: (3, 3).

    Returns:
        (N, 5) float32; the rotation is in (-180, 180].

    Example:
        >>> transform_oriented([[50, 50, 20, 40, 30]], np.diag([-2, 2, 1])).tolist()
        [[-100.0, 100.0, 40.0, 80.0, -30.0]]
    """
    boxes = np.asarray(oriented, np.float64).reshape(-1, 5)
    linear = np.asarray(matrix, np.float64)[:2, :2]
    determinant = np.linalg.det(linear)
    center = boxes[:, :2] @ linear.T + np.asarray(matrix)[:2, 2]
    roll = np.deg2rad(boxes[:, 4])
    # The image of the direction from eye to eye; in a mirror the eyes change places.
    across = np.sign(determinant) * np.stack([np.cos(roll), np.sin(roll)], axis=1) @ linear.T
    turned = np.rad2deg(np.arctan2(across[:, 1], across[:, 0]))[:, None]
    return np.asarray(np.concatenate([center, boxes[:, 2:4] * abs(determinant) ** 0.5, turned], axis=1), np.float32)


def _turns(angles: npt.NDArray[np.float64]) -> Matrix:
    """(N, 2, 2) rotations by angles in radians, clockwise in the picture."""
    cos, sin = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([cos, -sin], axis=-1), np.stack([sin, cos], axis=-1)], axis=-2)
