"""Targets and loss of the face finder on a grid of 8-pixel cells."""

from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from kpdetect.core.geometry import Floats
from kpdetect.detection.finder import CELL, SIZE_UNIT
from kpdetect.models.finder import VALUES

MIN_SIDE, MAX_SIDE = 9.0, 112.0
"""Longer side of the faces to find, in pixels; detection scans a photograph at several sizes."""
POSITIVE_RADIUS = 0.16  # cells within this share of the face's side from its centre are positive
IGNORE_RADIUS = 0.4  # cells within this share are neither positive nor negative
FOCAL_GAMMA = 2.0  # gamma of the focal loss (Lin et al., arXiv:1708.02002)
BOX_WEIGHT = 0.5
ROTATION_WEIGHT = 3.0  # of sine and cosine relative to the other values of a box: the rotation is learned last


def targets(faces: npt.ArrayLike, side: int, ignored_xyxy: npt.ArrayLike = ()) -> Floats:
    """The target of each cell.

    Args:
        faces: (N, 5), the oriented boxes of the faces of a canvas, see `kpdetect.detection.oriented.oriented_boxes`.
        side: Side of the canvas in pixels, a multiple of 16.
        ignored_xyxy: (M, 4), boxes that may be faces: their cells are neither faces nor background.

    Returns:
        (side / 8, side / 8, 7): class (1 for a face, 0 for background, -1 to ignore); x and y of the face's centre from
        the cell's centre, in cells; logarithms of width and height in units of 32 pixels; sine and cosine of the
        rotation.

    Example:
        >>> targets([[32, 32, 24, 24, 0]], 64)[..., 0].max()
        np.float32(1.0)
    """
    count = side // CELL
    target = np.zeros((count, count, VALUES), np.float32)
    middle = (np.arange(count) + 0.5) * CELL - 0.5
    x, y = np.meshgrid(middle, middle)
    for x0, y0, x1, y1 in np.reshape(ignored_xyxy, (-1, 4)):
        target[(x >= x0 - CELL / 2) & (x <= x1 + CELL / 2) & (y >= y0 - CELL / 2) & (y <= y1 + CELL / 2), 0] = -1
    boxes = np.asarray(faces, np.float64).reshape(-1, 5)
    for center_x, center_y, width, height, roll_deg in boxes[np.argsort(-boxes[:, 2:4].max(axis=1), kind="stable")]:
        longer = max(width, height)  # the smaller of two overlapping faces is the last, and wins
        offset_x, offset_y = center_x - x, center_y - y
        distance = np.hypot(offset_x, offset_y)
        target[(distance < max(IGNORE_RADIUS * longer, CELL)) & (target[..., 0] == 0), 0] = -1
        if not MIN_SIDE <= longer <= MAX_SIDE:
            target[(distance < IGNORE_RADIUS * longer) | (distance == distance.min()), 0] = -1
            continue
        near = (distance <= POSITIVE_RADIUS * longer) | (distance == distance.min())
        near &= (np.abs(offset_x) <= max(CELL, longer / 2)) & (np.abs(offset_y) <= max(CELL, longer / 2))
        roll = np.deg2rad(roll_deg)
        target[near, 0] = 1
        target[near, 1], target[near, 2] = offset_x[near] / CELL, offset_y[near] / CELL
        target[near, 3:] = [*np.log(np.array([width, height]) / SIZE_UNIT), np.sin(roll), np.cos(roll)]
    return target


def mirrored_targets(target: Floats) -> Floats:
    """The targets (..., n, n, 7) of mirrored pictures.

    Example:
        ``mirrored_targets(targets(faces, 256))`` are those of ``picture[:, ::-1]``.
    """
    return np.asarray(target[..., ::-1, :] * np.array([1, -1, 1, 1, 1, -1, 1], np.float32), target.dtype)


def turned_targets(target: Floats) -> Floats:
    """The targets (n, n, 7) of a picture that `numpy.rot90` turned by a quarter, counterclockwise.

    Example:
        ``turned_targets(targets(faces, 256))`` are those of ``np.rot90(picture)``.
    """
    turned = np.rot90(target)
    return np.asarray(turned[..., [0, 2, 1, 3, 4, 6, 5]] * np.array([1, 1, -1, 1, 1, -1, 1]), target.dtype)


def finder_loss(truth: Any, predicted: Any) -> Any:
    """Focal loss of the classes plus smooth L1 loss of the boxes, divided by the number of positive cells.

    Args:
        truth: (B, n, n, 7) from `targets`.
        predicted: (B, n / 2, n / 2, 28) from the network of `kpdetect.models.finder`.

    Returns:
        A scalar.

    Example:
        >>> model.compile("adam", loss=finder_loss)  # doctest: +SKIP
    """
    output = to_cells(ops.cast(predicted, "float32"))
    face, ignored = truth[..., 0] > 0.5, truth[..., 0] < -0.5
    logit = ops.where(face, output[..., 0], -output[..., 0])  # of the correct class
    focal = ops.power(ops.sigmoid(-logit), FOCAL_GAMMA) * ops.softplus(-logit)
    weight = ops.where(face, 1.0, ops.where(ignored, 0.0, 0.5))
    difference = ops.abs(output[..., 1:] - truth[..., 1:])
    weights = ops.convert_to_tensor([1.0, 1.0, 1.0, 1.0, ROTATION_WEIGHT, ROTATION_WEIGHT])
    smooth = ops.where(difference < 0.1, 5 * ops.square(difference), difference - 0.05)
    smooth = ops.sum(weights * smooth, axis=-1)
    faces = ops.maximum(ops.sum(ops.cast(face, "float32")), 1.0)
    return (ops.sum(weight * focal) + BOX_WEIGHT * ops.sum(ops.where(face, smooth, 0.0))) / faces


def to_cells(predicted: Any) -> Any:
    """Reshapes (B, h, w, 28), four cells each, to (B, 2h, 2w, 7)."""
    batch, height, width, values = ops.shape(predicted)
    quarters = ops.reshape(predicted, (batch, height, width, 2, 2, values // 4))
    return ops.reshape(ops.transpose(quarters, (0, 1, 3, 2, 4, 5)), (batch, 2 * height, 2 * width, values // 4))
