"""Owns what a face finder should say of a canvas, square by square, and by how much it is wrong."""

from typing import Any

import numpy as np
from keras import ops

from kpdetect.core.geometry import Floats
from kpdetect.detection.finder import CELL, SIZE_UNIT

FROM, TO = 12.0, 96.0
"""Pixels of the longer side of a face that is to be found; a photograph is looked at in several sizes, halved each."""
CENTER = 0.16  # of a face's side: how far from its centre a square still tells of it
UNSURE = 0.4  # of a face's side: how far from its centre a square may tell of it or not
FOCUS = 2.0  # gamma of the focal loss (Lin et al., arXiv:1708.02002)
BOX_WEIGHT = 0.5


def targets(boxes_xyxy: Floats, side: int) -> Floats:
    """What to say of each square.

    Args:
        boxes_xyxy: (N, 4), the faces of a canvas, in pixels.
        side: Of the canvas, a multiple of 16.

    Returns:
        (side / 8, side / 8, 5): 1 for a face, 0 for none or -1 for either; its centre from the square's, in squares;
        the logarithms of its width and height in units of 32 pixels.
    """
    count = side // CELL
    said = np.zeros((count, count, 5), np.float32)
    middle = (np.arange(count) + 0.5) * CELL - 0.5
    x, y = np.meshgrid(middle, middle)
    order = np.argsort([-max(box[2] - box[0], box[3] - box[1]) for box in boxes_xyxy], kind="stable")
    for box in np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)[order]:  # the smaller face is told where two meet
        size, center = box[2:] - box[:2], (box[:2] + box[2:]) / 2
        longer = float(size.max())
        offset_x, offset_y = center[0] - x, center[1] - y
        distance = np.hypot(offset_x, offset_y)
        said[(distance < max(UNSURE * longer, CELL)) & (said[..., 0] == 0), 0] = -1
        if not FROM <= longer <= TO:
            said[(distance < UNSURE * longer) | (distance == distance.min()), 0] = -1
            continue
        near = (distance <= CENTER * longer) | (distance == distance.min())
        near &= (np.abs(offset_x) <= max(CELL, longer / 2)) & (np.abs(offset_y) <= max(CELL, longer / 2))
        said[near, 0] = 1
        said[near, 1], said[near, 2] = offset_x[near] / CELL, offset_y[near] / CELL
        said[near, 3:] = np.log(size / SIZE_UNIT)
    return said


def finder_loss(truth: Any, predicted: Any) -> Any:
    """Focal loss of the faces and smooth L1 of their boxes, both over the number of squares that tell of a face.

    Args:
        truth: (B, n, n, 5), of `targets`.
        predicted: (B, n / 2, n / 2, 20), of `kpdetect.models.finder`.

    Returns:
        A number.
    """
    said = by_squares(ops.cast(predicted, "float32"))
    face, unsure = truth[..., 0] > 0.5, truth[..., 0] < -0.5
    logit = ops.where(face, said[..., 0], -said[..., 0])  # of what is right
    focal = ops.power(ops.sigmoid(-logit), FOCUS) * ops.softplus(-logit)
    weight = ops.where(face, 1.0, ops.where(unsure, 0.0, 0.5))
    off = ops.abs(said[..., 1:] - truth[..., 1:])
    smooth = ops.sum(ops.where(off < 0.1, 5 * ops.square(off), off - 0.05), axis=-1)
    faces = ops.maximum(ops.sum(ops.cast(face, "float32")), 1.0)
    return (ops.sum(weight * focal) + BOX_WEIGHT * ops.sum(ops.where(face, smooth, 0.0))) / faces


def by_squares(predicted: Any) -> Any:
    """(B, h, w, 20) of cells of four quarters -> (B, 2h, 2w, 5)."""
    batch, height, width, values = ops.shape(predicted)
    quarters = ops.reshape(predicted, (batch, height, width, 2, 2, values // 4))
    return ops.reshape(ops.transpose(quarters, (0, 1, 3, 2, 4, 5)), (batch, 2 * height, 2 * width, values // 4))
