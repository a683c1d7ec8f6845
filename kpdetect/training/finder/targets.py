"""Targets and loss of the face finder on a grid of 8-pixel cells."""

from typing import Any

import numpy as np
from keras import ops

from kpdetect.core.geometry import Floats
from kpdetect.detection.finder import CELL, SIZE_UNIT

MIN_SIDE, MAX_SIDE = 12.0, 96.0
"""Longer side of the faces to find, in pixels; detection scans a photograph at several sizes, each half the last."""
POSITIVE_RADIUS = 0.16  # cells within this share of the face's side from its centre are positive
IGNORE_RADIUS = 0.4  # cells within this share are neither positive nor negative
FOCAL_GAMMA = 2.0  # gamma of the focal loss (Lin et al., arXiv:1708.02002)
BOX_WEIGHT = 0.5


def targets(boxes_xyxy: Floats, side: int) -> Floats:
    """The target of each cell.

    Args:
        boxes_xyxy: (N, 4), the faces of a canvas, in pixels.
        side: Side of the canvas in pixels, a multiple of 16.

    Returns:
        (side / 8, side / 8, 5): class (1 for a face, 0 for background, -1 to ignore); x and y of the face's centre from
        the cell's centre, in cells; logarithms of width and height in units of 32 pixels.

    Example:
        >>> targets(np.float32([[20, 20, 44, 44]]), 64)[..., 0].max()
        np.float32(1.0)
    """
    count = side // CELL
    target = np.zeros((count, count, 5), np.float32)
    middle = (np.arange(count) + 0.5) * CELL - 0.5
    x, y = np.meshgrid(middle, middle)
    order = np.argsort([-max(box[2] - box[0], box[3] - box[1]) for box in boxes_xyxy], kind="stable")
    for box in np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)[order]:  # the smaller of two overlapping faces wins
        size, center = box[2:] - box[:2], (box[:2] + box[2:]) / 2
        longer = float(size.max())
        offset_x, offset_y = center[0] - x, center[1] - y
        distance = np.hypot(offset_x, offset_y)
        target[(distance < max(IGNORE_RADIUS * longer, CELL)) & (target[..., 0] == 0), 0] = -1
        if not MIN_SIDE <= longer <= MAX_SIDE:
            target[(distance < IGNORE_RADIUS * longer) | (distance == distance.min()), 0] = -1
            continue
        near = (distance <= POSITIVE_RADIUS * longer) | (distance == distance.min())
        near &= (np.abs(offset_x) <= max(CELL, longer / 2)) & (np.abs(offset_y) <= max(CELL, longer / 2))
        target[near, 0] = 1
        target[near, 1], target[near, 2] = offset_x[near] / CELL, offset_y[near] / CELL
        target[near, 3:] = np.log(size / SIZE_UNIT)
    return target


def finder_loss(truth: Any, predicted: Any) -> Any:
    """Focal loss of the classes plus smooth L1 loss of the boxes, divided by the number of positive cells.

    Args:
        truth: (B, n, n, 5) from `targets`.
        predicted: (B, n / 2, n / 2, 20) from the network of `kpdetect.models.finder`.

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
    smooth = ops.sum(ops.where(difference < 0.1, 5 * ops.square(difference), difference - 0.05), axis=-1)
    faces = ops.maximum(ops.sum(ops.cast(face, "float32")), 1.0)
    return (ops.sum(weight * focal) + BOX_WEIGHT * ops.sum(ops.where(face, smooth, 0.0))) / faces


def to_cells(predicted: Any) -> Any:
    """Reshapes (B, h, w, 20), four cells each, to (B, 2h, 2w, 5)."""
    batch, height, width, values = ops.shape(predicted)
    quarters = ops.reshape(predicted, (batch, height, width, 2, 2, values // 4))
    return ops.reshape(ops.transpose(quarters, (0, 1, 3, 2, 4, 5)), (batch, 2 * height, 2 * width, values // 4))
