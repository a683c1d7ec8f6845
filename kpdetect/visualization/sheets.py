"""Owns sheets of pictures with points on them: labels by number, what transforms do, predictions beside the truth."""

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

SHEET_COLUMNS = 5
TRUTH_COLOR, PREDICTED_COLOR = "#30e060", "#ff40c0"  # green and magenta: told apart by most colour-blind eyes too
MISS_COLOR = "#ffd400"

LABEL_INCHES = 4.8  # a panel's side, at which 68 numbers can be read
LABEL_FONT = 6.5  # typographic points
TRANSFORM_INCHES = 1.75


def prediction_sheet(
    crops: npt.ArrayLike,
    truth_px: npt.ArrayLike,
    predicted_px: npt.ArrayLike,
    errors: npt.ArrayLike,
    path: PathLike,
    caption: str = "",
) -> None:
    """Draws predictions (magenta) beside the truth (green) on the crops they were made from.

    Args:
        crops: (N, H, W, C) uint8, grey or RGB.
        truth_px: (N, K, 2) in pixels of the crop; NaN is not drawn.
        predicted_px: (N, K, 2) in pixels of the crop.
        errors: (N,) fractions of the normaliser, written above each crop in per cent.
        path: Where to; the suffix tells the format.
        caption: What was measured, on what; stands above the sheet.

    Raises:
        MissingExtra: Matplotlib is not installed.
        KpdetectError: There is no crop, or the numbers differ.
    """
    pictures, truth, predicted = np.asarray(crops), np.asarray(truth_px), np.asarray(predicted_px)
    percents = 100 * np.asarray(errors, np.float64)
    counts = (len(pictures), len(truth), len(predicted), len(percents))
    _check_counts(path, "crops with truth, prediction and error each", *counts)
    columns = min(SHEET_COLUMNS, len(pictures))
    figure, axes = new_figure(math.ceil(len(pictures) / columns), columns, (2.4, 2.6))
    hide_unused(axes, len(pictures))
    for axis, picture, true, guess, percent in zip(axes, pictures, truth, predicted, percents, strict=False):
        show_picture(axis, picture)
        axis.plot(*np.stack([true, guess]).transpose(2, 0, 1), color=MISS_COLOR, linewidth=0.7)
        axis.scatter(true[:, 0], true[:, 1], s=7, color=TRUTH_COLOR, linewidths=0)
        axis.scatter(guess[:, 0], guess[:, 1], s=7, color=PREDICTED_COLOR, linewidths=0)
        axis.set_title(f"{percent:.1f} %")
    write_captions(figure, caption, "green: truth, magenta: prediction, a line joins the two; above: the error")
    save_figure(figure, path)


def keypoint_sheet(
    crops: npt.ArrayLike, keypoints_px: npt.ArrayLike, schema: KeypointSchema, titles: Sequence[str], path: PathLike
) -> None:
    """Draws pictures with their labelled points, each with its number and in the colour of its part.

    Args:
        crops: (N, H, W, C) uint8, grey or RGB.
        keypoints_px: (N, K, 2) in pixels of the crop; NaN is not drawn.
        schema: The scheme of the points.
        titles: What stands above each crop, N of them.
        path: Where to; the suffix tells the format.

    Raises:
        MissingExtra: Matplotlib is not installed.
        KpdetectError: There is no crop, or the numbers differ.
    """
    pictures, points = np.asarray(crops), np.asarray(keypoints_px)
    _check_counts(path, "crops with points and a title each", len(pictures), len(points), len(titles))
    columns = min(2, len(pictures))
    figure, axes = new_figure(math.ceil(len(pictures) / columns), columns, (LABEL_INCHES, LABEL_INCHES + 0.2))
    hide_unused(axes, len(pictures))
    colors = part_colors(schema)
    for axis, picture, places, title in zip(axes, pictures, points, titles, strict=False):
        show_picture(axis, picture)
        _scatter(axis, places, colors, 14)
        draw_numbers(axis, places, colors, LABEL_FONT, picture.shape[1] / (72 * LABEL_INCHES))
        axis.set_title(title, fontsize="small")
    write_captions(figure, "", f"scheme {schema.name}: points are numbered from 0; colours are parts")
    save_figure(figure, path)


@dataclass(frozen=True)
class TransformRow:
    """What one transform made of several pictures.

    Attributes:
        label: What stands beside the row.
        images: N pictures (H, W, C) uint8, of any size.
        keypoints: (N, K, 2) in the pixels of each picture; NaN is not drawn.
    """

    label: str
    images: Sequence[Pixels]
    keypoints: Floats


def transform_sheet(rows: Sequence[TransformRow], schema: KeypointSchema, caption: str, path: PathLike) -> None:
    """Draws what transforms make of pictures and of the points on them: a row a transform, a column a picture.

    Args:
        rows: The pictures before, after each transform, after all of them; the same number in each.
        schema: The scheme of the points; it tells right from left.
        caption: What is shown.
        path: Where to; the suffix tells the format.

    Raises:
        MissingExtra: Matplotlib is not installed.
        KpdetectError: There is no picture, or the rows differ in length.
    """
    counts = [len(part) for row in rows for part in (row.images, row.keypoints)]
    _check_counts(path, "as many pictures as points in every row", *(counts or [0]))
    figure, axes = new_figure(len(rows), counts[0], (TRANSFORM_INCHES, TRANSFORM_INCHES))
    figure.set_figwidth(TRANSFORM_INCHES * (counts[0] + 1))  # a column's width for the labels
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)  # type: ignore[union-attr,call-arg]
    colors = side_colors(schema)
    for number, row in enumerate(rows):
        panels = axes[number * counts[0] : (number + 1) * counts[0]]
        for axis, picture, points in zip(panels, row.images, row.keypoints, strict=True):
            show_picture(axis, picture)
            _scatter(axis, points, colors, 7)
        _label_left(panels[0], row.label)
    sides = "orange: labelled as the person's right, blue: left, white: middle; mirrored pictures have them exchanged"
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
