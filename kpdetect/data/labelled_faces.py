"""Selects and crops labelled faces for pictures of a data set, and reads the log of a training."""

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule, Floats, apply_matrix
from kpdetect.core.images import Pixels, as_rgb, warp_crop
from kpdetect.data import Annotations


def select_evenly(annotations: Annotations, count: int) -> Annotations:
    """Returns `count` faces at even distances in the set, or all faces if there are fewer.

    Example:
        ``select_evenly(load("synthetic:100"), 3).paths`` are those of faces 0, 50 and 99.

    Raises:
        KpdetectError: The set is empty.
    """
    if not len(annotations):
        raise KpdetectError(f"'{annotations.name}': expected at least one face, found none")
    rows = np.linspace(0, len(annotations) - 1, min(count, len(annotations)))
    return annotations.take(np.rint(rows).astype(np.int64))


def nan_where_invisible(points: Floats, annotations: Annotations) -> Floats:
    """Returns `points` (N, K, 2) with NaN for points that are not visible."""
    return np.where(annotations.visible[..., None], points, np.float32(np.nan))


def mean_layout(annotations: Annotations) -> Floats:
    """Returns the mean position of each point, relative to the centre of the face box, in its longer sides.

    Returns:
        (K, 2) float32; NaN for a point that is visible in no face.
    """
    corners = annotations.boxes.reshape(-1, 2, 2)
    center = corners.mean(axis=1, keepdims=True)
    side = np.ptp(corners, axis=1).max(axis=1)[:, None, None]
    return finite_mean(nan_where_invisible((annotations.keypoints - center) / side, annotations))


def finite_mean(values: npt.NDArray[np.floating]) -> Floats:
    """Returns the mean of the finite values along the first axis, float32; NaN, without a warning, if there is none.

    >>> finite_mean(np.array([[1.0, np.nan], [3.0, np.nan]])).tolist()
    [2.0, nan]
    """
    finite = np.isfinite(values)
    total, count = np.where(finite, values, 0).sum(axis=0), finite.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def crop_faces(annotations: Annotations, crop: CropRule) -> tuple[Pixels, Floats]:
    """Crops all faces in colour, one after the other; meant for a few faces.

    Example:
        ``crops, points = crop_faces(load("synthetic:4"), CropRule((128, 128), margin=1.25))``

    Returns:
        Crops (N, H, W, 3) uint8 RGB, and points (N, K, 2) in pixels of the crop, NaN where they are not visible.

    Raises:
        KpdetectError: An image cannot be read, or a box has no area.
    """
    matrices = crop.matrix(annotations.boxes)
    images = (as_rgb(annotations.read(path)) for path in annotations.paths.tolist())
    crops = [warp_crop(image, matrix, crop.size_hw) for image, matrix in zip(images, matrices, strict=True)]
    return np.stack(crops), nan_where_invisible(apply_matrix(matrices, annotations.keypoints), annotations)


def read_history(run: str) -> dict[str, list[float]]:
    """Reads the metrics of a training per epoch.

    Example:
        ``read_history("runs/compact-112")["val_nme"][-1]`` is the last epoch's validation error.

    Args:
        run: A run folder, or its ``history.csv``.

    Returns:
        One value per epoch for each column of the file.

    Raises:
        KpdetectError: The file does not exist, or is not the log of a training.
    """
    file = Path(run) / "history.csv" if Path(run).is_dir() else Path(run)
    if not file.is_file():
        raise KpdetectError(f"{file}: not found; name the folder that `kpdetect train --out DIR` wrote")
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        names = [name for name in (rows[0] if rows else {}) if name != "epoch"]
        return {name: [float(row[name]) for row in rows] for name in names}
    except (ValueError, TypeError, csv.Error) as error:
        raise KpdetectError(
            f"{file}: expected the log of a training, with a number per column and epoch: {error}"
        ) from error
