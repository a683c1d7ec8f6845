"""Sheets of crops with keypoints: numbered labels, transforms, and predictions beside labels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats
from kpdetect.core.images import Pixels
from kpdetect.core.schema import KeypointSchema
from kpdetect.visualization.contours import contour_edges
from kpdetect.visualization.figures import (
    PathLike,
    hide_unused,
    new_figure,
    save_figure,
    show_picture,
    write_captions,
)
from kpdetect.visualization.marks import OUTLINE, draw_numbers, part_colors, side_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHEET_COLUMNS = 4
SHEET_INCHES = 3.0
TRUTH_COLOR, PREDICTED_COLOR = "#30e060", "#ff40c0"  # distinguishable with most kinds of colour blindness
MISS_COLOR = "#ffd400"
POINT_SHARE, FEW_POINTS_SHARE = 0.011, 0.025  # diameter of a point as a share of the panel
FEW_POINTS = 10

LABEL_INCHES = 4.8  # side of a panel, large enough for 68 numbers
LABEL_FONT = 6.5  # typographic points
TRANSFORM_INCHES = 1.75


def prediction_sheet(
    crops: npt.ArrayLike,
    truth_px: npt.ArrayLike,
    predicted_px: npt.ArrayLike,
    errors: npt.ArrayLike,
    path: PathLike,
    caption: str = "",
    schema: KeypointSchema | None = None,
) -> None:
    """Draws predictions (magenta) and labels (green) on the crops that the model received.

    Args:
        crops: (N, H, W, C) uint8, grey or RGB.
        truth_px: (N, K, 2) in pixels of the crop; NaN is not drawn.
        predicted_px: (N, K, 2) in pixels of the crop.
        errors: (N,) fractions of the normaliser, written above each crop in per cent.
        path: The file to write; its suffix sets the format.
        caption: The model, the data and the protocol; written above the sheet.
        schema: The scheme of the points; if given, its contours are drawn for labels and predictions.

    Raises:
        KpdetectError: There is no crop, the lengths differ, or the file cannot be written.
        MissingExtra: Matplotlib is not installed.

    Example:
        ```python
        made = predictions_of("runs/compact-112", faces, "val", count=20)
        prediction_sheet(made.crops, made.true_px, made.predicted_px, made.per_face, "predictions.png")
        ```
    """
    pictures, truth, predicted = np.asarray(crops), np.asarray(truth_px), np.asarray(predicted_px)
    percents = 100 * np.asarray(errors, np.float64)
    counts = (len(pictures), len(truth), len(predicted), len(percents))
    _check_counts(path, "crops with truth, prediction and error each", *counts)
    columns = min(SHEET_COLUMNS, len(pictures))
    shape_ratio = pictures.shape[1] / pictures.shape[2]
    figure, axes = new_figure(
        math.ceil(len(pictures) / columns), columns, (SHEET_INCHES, SHEET_INCHES * shape_ratio + 0.25)
    )
    hide_unused(axes, len(pictures))
    edges = contour_edges(schema) if schema is not None else ()
    area = (72 * SHEET_INCHES * (POINT_SHARE if truth.shape[1] > FEW_POINTS else FEW_POINTS_SHARE)) ** 2
    for axis, picture, true, guess, percent in zip(axes, pictures, truth, predicted, percents, strict=False):
        show_picture(axis, picture)
        axis.plot(*np.stack([true, guess]).transpose(2, 0, 1), color=MISS_COLOR, linewidth=0.5, alpha=0.8)
        for points, color in ((true, TRUTH_COLOR), (guess, PREDICTED_COLOR)):
            for edge in edges:
                axis.plot(*points[list(edge)].T, color=color, linewidth=0.6, alpha=0.8)
            axis.scatter(points[:, 0], points[:, 1], s=area, color=color, linewidths=0, zorder=3)
        axis.set_title(f"{percent:.1f} %", fontsize="medium", pad=3)
    write_captions(figure, caption, "green: label, magenta: prediction, yellow: from label to prediction; above: NME")
    save_figure(figure, path)


def keypoint_sheet(
    crops: npt.ArrayLike, keypoints_px: npt.ArrayLike, schema: KeypointSchema, titles: Sequence[str], path: PathLike
) -> None:
    """Draws crops with their numbered keypoints, in the colours of the groups.

    Args:
        crops: (N, H, W, C) uint8, grey or RGB.
        keypoints_px: (N, K, 2) in pixels of the crop; NaN is not drawn.
        schema: The scheme of the points.
        titles: A title per crop, N of them.
        path: The file to write; its suffix sets the format.

    Raises:
        KpdetectError: There is no crop, the lengths differ, or the file cannot be written.
        MissingExtra: Matplotlib is not installed.

    Example:
        ```python
        crops, points = crop_faces(faces, CropRule((480, 480), 1.25))
        keypoint_sheet(crops, points, faces.schema, faces.paths.tolist(), "labels.png")
        ```
    """
    pictures, points = np.asarray(crops), np.asarray(keypoints_px)
    _check_counts(path, "crops with points and a title each", len(pictures), len(points), len(titles))
    columns = min(2, len(pictures))
    figure, axes = new_figure(math.ceil(len(pictures) / columns), columns, (LABEL_INCHES, LABEL_INCHES + 0.2))
    hide_unused(axes, len(pictures))
    colors = part_colors(schema)
    for axis, picture, places, title in zip(axes, pictures, points, titles, strict=False):
        show_picture(axis, picture)
        for start, end in contour_edges(schema):
            axis.plot(*places[[start, end]].T, color=colors[start], linewidth=0.8, alpha=0.6)
        _scatter(axis, places, colors, 14)
        draw_numbers(axis, places, colors, LABEL_FONT, picture.shape[1] / (72 * LABEL_INCHES))
        axis.set_title(title, fontsize="small")
    write_captions(figure, "", f"scheme {schema.name}: points numbered from 0, coloured by group")
    save_figure(figure, path)


@dataclass(frozen=True)
class TransformRow:
    """The pictures and keypoints after one transform.

    Attributes:
        label: The name of the transform, and after a line break its parameters; written beside the row.
        images: N pictures (H, W, C) uint8, of any size.
        keypoints: (N, K, 2) in pixels of each picture; NaN is not drawn.

    Example:
        ```python
        TransformRow("RandomFlip", [image[:, ::-1]], flipped_keypoints[None])
        ```
    """

    label: str
    images: Sequence[Pixels]
    keypoints: Floats


def transform_sheet(rows: Sequence[TransformRow], schema: KeypointSchema, caption: str, path: PathLike) -> None:
    """Draws pictures and keypoints before and after transforms: a row per transform, a column per picture.

    Args:
        rows: The pictures before, after each transform, and after all of them; the same number in each row.
        schema: The scheme of the points; its left-right permutation sets the colours.
        caption: Written above the sheet.
        path: The file to write; its suffix sets the format.

    Raises:
        KpdetectError: There is no picture, the rows differ in length, or the file cannot be written.
        MissingExtra: Matplotlib is not installed.

    Example:
        ```python
        transform_sheet(transform_rows(faces, recipe, seed=0), faces.schema, "recipe compact", "transforms.png")
        ```
    """
    counts = [len(part) for row in rows for part in (row.images, row.keypoints)]
    _check_counts(path, "as many pictures as points in every row", *(counts or [0]))
    figure, axes = new_figure(len(rows), counts[0], (TRANSFORM_INCHES, TRANSFORM_INCHES))
    figure.set_figwidth(TRANSFORM_INCHES * (counts[0] + 1.2))  # one column for the labels
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)  # type: ignore[union-attr,call-arg]
    colors = side_colors(schema)
    for number, row in enumerate(rows):
        panels = axes[number * counts[0] : (number + 1) * counts[0]]
        for axis, picture, points in zip(panels, row.images, row.keypoints, strict=True):
            show_picture(axis, picture)
            _scatter(axis, points, colors, 7)
        _label_left(panels[0], row.label)
    sides = (
        "orange: the person's right side, blue: left side, white: middle; a mirrored picture exchanges right and left"
    )
    write_captions(figure, f"{caption}\n{sides}" if schema.flip_permutation else caption)
    save_figure(figure, path)


def _label_left(axis: "Axes", label: str) -> None:
    name, _, details = label.partition("\n")
    axis.text(-0.06, 0.52, name, transform=axis.transAxes, ha="right", va="bottom", fontsize=8, fontweight="bold")
    axis.text(-0.06, 0.48, details, transform=axis.transAxes, ha="right", va="top", fontsize=7)


def _scatter(axis: "Axes", points: npt.NDArray[np.floating], colors: Sequence[str], area: float) -> None:
    axis.scatter(points[:, 0], points[:, 1], s=area, c=list(colors), edgecolors=OUTLINE, linewidths=0.4)


def _check_counts(path: PathLike, expected: str, *counts: int) -> None:
    if len(set(counts)) > 1 or 0 in counts:
        raise KpdetectError(f"{path}: expected {expected}, received {sorted(set(counts))}")
