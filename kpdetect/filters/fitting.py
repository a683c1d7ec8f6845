"""Warps that place a filter on a face: least-squares fits of its anchors to the keypoints."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import Floats, Matrix, fit_similarity, scaling, translation

Fit = Callable[[Matrix, Matrix, Matrix], Matrix | None]
"""Takes anchors (n, 2), points of a face (n, 2) and weights (n,); returns a 3x3 matrix, None for degenerate points."""

GREATEST_FORESHORTENING = 1.8
"""Largest ratio of the depths of a picture's corners under a perspective warp. A larger one is caused by inexact
points; the affine warp, which has fewer parameters, is used instead."""

_SMALLEST_AREA = 1e-8  # pixels of the photograph per pixel of the picture


def fit_rotated(source: Matrix, target: Matrix, weights: Matrix) -> Matrix | None:
    """Rotation, scale and translation by weighted least squares."""
    matrix = fit_similarity(source, target, weights)
    return None if matrix is None else _if_visible(matrix)


def fit_affine(source: Matrix, target: Matrix, weights: Matrix) -> Matrix | None:
    """Affine transform by weighted least squares: also foreshortens, as a flat object that turns away."""
    root = np.sqrt(weights)[:, None]
    columns = np.column_stack([source, np.ones(len(source))])
    solved, _, rank, _ = np.linalg.lstsq(columns * root, target * root, rcond=1e-9)
    return _if_visible(np.vstack([solved.T, [0, 0, 1]])) if rank == 3 else None


def fit_perspective(source: Matrix, target: Matrix, weights: Matrix) -> Matrix | None:
    """Perspective transform, whose near side is larger than the far one: direct linear transform, normalised points.

    Source: Hartley and Zisserman, Multiple View Geometry, 2nd edition, algorithm 4.2.
    """
    if fit_affine(source, target, weights) is None:
        return None
    to_unit, from_unit = _unit(source), _unit(target)
    x, y = _moved(to_unit, source).T
    u, v = _moved(from_unit, target).T
    one, nought = np.ones_like(x), np.zeros_like(x)
    rows_u = np.column_stack([x, y, one, nought, nought, nought, -u * x, -u * y, -u])
    rows_v = np.column_stack([nought, nought, nought, x, y, one, -v * x, -v * y, -v])
    root = np.sqrt(np.concatenate([weights, weights]))[:, None]
    unit_matrix = np.linalg.svd(np.vstack([rows_u, rows_v]) * root)[2][-1].reshape(3, 3)
    matrix = np.linalg.inv(from_unit) @ unit_matrix @ to_unit
    return _if_visible(matrix / matrix[2, 2]) if matrix[2, 2] else None


WARPS: Mapping[str, tuple[Fit, int]] = MappingProxyType(
    {"similarity": (fit_rotated, 2), "affine": (fit_affine, 3), "perspective": (fit_perspective, 4)}
)
"""Fits by name, with the number of points that each needs."""


def too_slanted(matrix: Matrix, size_hw: tuple[int, int]) -> bool:
    """Whether the depths of a picture's corners differ by more than `GREATEST_FORESHORTENING`."""
    height, width = size_hw
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]])
    depths = corners @ matrix[2]
    return bool(depths.min() <= 0 or depths.max() > GREATEST_FORESHORTENING * depths.min())


def project(matrix: Matrix, points: npt.ArrayLike) -> Floats:
    """Transforms points (n, 2) by a 3x3 matrix, which may be a perspective one."""
    return np.asarray(_moved(matrix, np.asarray(points, np.float64)), np.float32)


def _moved(matrix: Matrix, points: Matrix) -> Matrix:
    moved = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    return np.asarray(moved[:, :2] / moved[:, 2:])


def _unit(points: Matrix) -> Matrix:
    """Centres points at 0 with a mean distance of about 1, where the equations are well conditioned."""
    middle = points.mean(axis=0)
    shrink = np.diag([1.0, 1.0, max(np.abs(points - middle).mean(), 1e-9)])
    return np.asarray(shrink @ translation(-middle[0], -middle[1]))


def _if_visible(matrix: Matrix) -> Matrix | None:
    determinant = np.linalg.det(matrix[:2, :2])
    return matrix if np.isfinite(matrix).all() and abs(determinant) > _SMALLEST_AREA else None


def of_level(matrix: Matrix, level: int) -> Matrix:
    """The matrix for a picture that was halved `level` times."""
    return np.asarray(matrix @ scaling(float(2**level)))
