"""Owns what pictures of labelled faces are made of: faces chosen and cropped, a typical face, a training's log."""

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule, Floats, apply_matrix
from kpdetect.core.images import Pixels, as_rgb, warp_crop
from kpdetect.data import Annotations


def spread(annotations: Annotations, count: int) -> Annotations:
    """So many faces, evenly spread over the set; all of them where there are no more.

    Raises:
        KpdetectError: The set is empty.
    """
    if not len(annotations):
        raise KpdetectError(f"'{annotations.name}': there is no face to show")
    rows = np.linspace(0, len(annotations) - 1, min(count, len(annotations)))
    return annotations.take(np.rint(rows).astype(np.int64))


def visible_points(points: Floats, annotations: Annotations) -> Floats:
    """Points (N, K, 2) with NaN where they are not visible."""
    return np.where(annotations.visible[..., None], points, np.float32(np.nan))


def typical_layout(annotations: Annotations) -> Floats:
    """Where the points lie on average, each face about the middle of its box and in units of its longer side.

    Returns:
        (K, 2) float32; NaN for a point that no face shows.
    """
    corners = annotations.boxes.reshape(-1, 2, 2)
    center = corners.mean(axis=1, keepdims=True)
    side = np.ptp(corners, axis=1).max(axis=1)[:, None, None]
    placed = visible_points((annotations.keypoints - center) / side, annotations)
    return mean_of_known(placed)


def mean_of_known(values: npt.NDArray[np.floating]) -> Floats:
    """The mean over faces, without a warning for what no face shows: that stays NaN."""
    known = np.isfinite(values)
    total, count = np.where(known, values, 0).sum(axis=0), known.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def cropped(annotations: Annotations, crop: CropRule) -> tuple[Pixels, Floats]:
    """Crops around faces in colour, and the points in them; one after the other, for a few faces.

    Returns:
        crops (N, H, W, 3) uint8 RGB, and points (N, K, 2) in pixels of the crop, NaN where they are not visible.

    Raises:
        KpdetectError: An image cannot be read, or a box has no area.
    """
    matrices = crop.matrix(annotations.boxes)
    photographs = (as_rgb(annotations.read(path)) for path in annotations.paths.tolist())
    crops = [warp_crop(photo, matrix, crop.size_hw) for photo, matrix in zip(photographs, matrices, strict=True)]
    return np.stack(crops), visible_points(apply_matrix(matrices, annotations.keypoints), annotations)


def read_history(run: str) -> dict[str, list[float]]:
    """The figures of a training per epoch.

    Args:
        run: A run folder, or its ``history.csv``.

    Raises:
        KpdetectError: There is no such file, or it is no log of a training.
    """
    file = Path(run) / "history.csv" if Path(run).is_dir() else Path(run)
    if not file.is_file():
        raise KpdetectError(f"{file}: no log of a training; name the folder that `kpdetect train --out DIR` wrote")
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        names = [name for name in (rows[0] if rows else {}) if name != "epoch"]
        return {name: [float(row[name]) for row in rows] for name in names}
    except (ValueError, TypeError, csv.Error) as error:
        raise KpdetectError(
            f"{file}: expected the log of a training, a number per figure and epoch: {error}"
        ) from error
