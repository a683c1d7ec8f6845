"""Owns pictures of a scheme without a photograph: its points by number and name, and its errors on the mean face."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats
from kpdetect.core.schema import KeypointSchema
from kpdetect.visualization.figures import PathLike, new_figure, save_figure, write_captions
from kpdetect.visualization.marks import OUTLINE, draw_numbers, part_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FACE_INCHES = 7.0
ROWS_OF_NAMES = 34  # two columns hold 68 names
NAMES_INCHES = 2.4  # a column of them
WORST_POINTS = 10

BACKGROUND = "#3a3f47"  # dark, so that the parts' bright colours show as they do on photographs
LINE_COLOR = "#7a828e"
ERROR_COLORS = ("#fff6c2", "#ffb01a", "#ff2222")  # from none to the greatest; bright on the dark background
LARGEST_CIRCLE = 0.07  # radius as a share of the panel: beyond, the circles of a bad model would cover the face
CLOSED_GAP = 1.5  # a part whose ends are no farther apart than this many of its longest steps is a ring


def scheme_page(layout: npt.ArrayLike, schema: KeypointSchema, path: PathLike) -> None:
    """Draws a scheme: its points by number where they lie, which change places in a mirrored picture, and their names.

    Args:
        layout: (K, 2), where the points of a typical face lie, in any unit that is the same in x and y; y down.
        schema: The scheme.
        path: Where to; the suffix tells the format.

    Raises:
        MissingExtra: Matplotlib is not installed.
        KpdetectError: The layout is of another number of points.
    """
    points = _checked(layout, schema, path)
    names_inches = NAMES_INCHES * math.ceil(schema.num_keypoints / ROWS_OF_NAMES)
    width = (FACE_INCHES + names_inches) / 2
    figure, (face, names) = new_figure(1, 2, (width, FACE_INCHES), (FACE_INCHES, names_inches))
    colors = part_colors(schema)
    _empty_face(face, points)
    _draw_swaps(face, points, schema)
    _draw_parts(face, points, schema)
    alone = _own_partners(schema)
    for marker, chosen in (("o", ~alone), ("D", alone)):
        shown = np.flatnonzero(chosen)
        shades = [colors[point] for point in shown]
        face.scatter(points[shown, 0], points[shown, 1], s=40, c=shades, marker=marker, zorder=3)
    draw_numbers(face, points, colors, 8.5, _unit(face))
    _list_names(names, schema, colors)
    write_captions(figure, f"{schema.name}: {schema.num_keypoints} points, numbered from 0", _swap_in_words(schema))
    save_figure(figure, path)


def point_errors(
    layout: npt.ArrayLike, errors: npt.ArrayLike, schema: KeypointSchema, caption: str, path: PathLike
) -> None:
    """Draws the mean error of each point on a typical face, and the greatest by name.

    The radius of a circle is the error itself, at the scale of the face: a prediction lies on the circle's line,
    on average. Errors so great that the circles would cover the face are drawn smaller, all alike.

    Args:
        layout: (K, 2), where the points of a typical face lie, in crop widths for a scheme of one point and in any
            unit for others; y down.
        errors: (K,) mean error of each point, fractions of the normaliser; NaN where no face shows the point.
        schema: The scheme.
        caption: What was measured, on what.
        path: Where to; the suffix tells the format.

    Raises:
        MissingExtra: Matplotlib is not installed.
        KpdetectError: The layout or the errors are of another number of points.
    """
    points, values = _checked(layout, schema, path), np.asarray(errors, np.float64)
    if values.shape != (schema.num_keypoints,):
        raise KpdetectError(f"{path}: expected errors of {schema.num_keypoints} points, received {values.shape}")
    figure, (face, bars) = new_figure(1, 2, (FACE_INCHES * 0.75, FACE_INCHES), (1.0, 0.5))
    _empty_face(face, points)
    _draw_parts(face, points, schema)
    colors = _error_colors(figure, face, values)
    scale = _draw_circles(face, points, _radii(points, values, schema), colors)
    draw_numbers(face, points, ["#ffffff"] * len(points), 7.5, _unit(face))
    _bars_of_worst(bars, values, schema, colors)
    size = "at" if scale == 1 else f"at {scale:.2g} times"
    write_captions(figure, caption, f"a circle's radius is the mean error of its point, {size} the scale of the face")
    save_figure(figure, path)


def _checked(layout: npt.ArrayLike, schema: KeypointSchema, path: PathLike) -> Floats:
    points = np.asarray(layout, np.float32)
    if points.shape != (schema.num_keypoints, 2):
        raise KpdetectError(
            f"{path}: scheme '{schema.name}': expected a layout of shape ({schema.num_keypoints}, 2), "
            f"received {points.shape}"
        )
    return points


def _empty_face(axis: "Axes", points: Floats) -> None:
    """A square panel with some room about the points."""
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    center, half = (low + high) / 2, 0.57 * max(float((high - low).max()), 1e-3)
    if len(points) == 1:
        half = 0.5  # the unit of the layout is then the crop's width
    axis.set(xlim=(center[0] - half, center[0] + half), ylim=(center[1] + half, center[1] - half), aspect="equal")
    axis.set(xticks=[], yticks=[], facecolor=BACKGROUND)


def _unit(axis: "Axes") -> float:
    """How many units of a square panel a typographic point takes."""
    left, right = axis.get_xlim()
    return (right - left) / (72 * FACE_INCHES)


def _draw_parts(axis: "Axes", points: Floats, schema: KeypointSchema) -> None:
    for part in schema.groups.values():
        line = points[list(part)]
        steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
        if len(line) > 3 and np.linalg.norm(line[-1] - line[0]) <= CLOSED_GAP * steps.max():
            line = np.concatenate([line, line[:1]])
        axis.plot(line[:, 0], line[:, 1], color=LINE_COLOR, linewidth=1.0, zorder=1)


def _draw_swaps(axis: "Axes", points: Floats, schema: KeypointSchema) -> None:
    for point, partner in enumerate(schema.flip_permutation or ()):
        if point < partner:
            ends = points[[point, partner]]
            axis.plot(ends[:, 0], ends[:, 1], color="#ffffff", alpha=0.25, linewidth=0.8, linestyle=":", zorder=0)


def _own_partners(schema: KeypointSchema) -> npt.NDArray[np.bool_]:
    """(K,) whether a point lies on the middle line: a mirrored picture leaves it its name."""
    if schema.flip_permutation is None:
        return np.zeros(schema.num_keypoints, bool)
    return np.equal(schema.flip_permutation, np.arange(schema.num_keypoints))


def _swap_in_words(schema: KeypointSchema) -> str:
    if schema.flip_permutation is None:
        return "no left and right are known, so that these points are never mirrored"
    return (
        "dotted: the two change places in a mirrored picture (⇄ in the list); a diamond is its own partner\n"
        "left and right are the pictured person's own"
    )


def _list_names(axis: "Axes", schema: KeypointSchema, colors: Sequence[str]) -> None:
    axis.axis("off")
    axis.set(xlim=(0, math.ceil(schema.num_keypoints / ROWS_OF_NAMES)), ylim=(ROWS_OF_NAMES, 0))
    swap = schema.flip_permutation or tuple(range(schema.num_keypoints))
    for point, (name, partner) in enumerate(zip(schema.point_names, swap, strict=True)):
        column, row = divmod(point, ROWS_OF_NAMES)
        axis.scatter([column + 0.03], [row + 0.5], s=26, color=colors[point], edgecolors=OUTLINE, linewidths=0.4)
        line = f"{point:2} {name}" + (f"  ⇄ {partner}" if partner != point else "")
        axis.text(column + 0.08, row + 0.5, line, fontsize=7.5, va="center")


def _error_colors(figure: "Figure", axis: "Axes", values: npt.NDArray[np.float64]) -> list[str]:
    """A colour for each error, and the bar beside the panel that tells which is which."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize, to_hex

    colors = LinearSegmentedColormap.from_list("errors", ERROR_COLORS)
    scale = ScalarMappable(Normalize(0, 100 * float(np.nanmax(values))), colors)
    figure.colorbar(scale, ax=axis, location="left", shrink=0.5, label="mean error, %")
    return [to_hex(color) for color in scale.to_rgba(100 * values)]


def _radii(points: Floats, values: npt.NDArray[np.float64], schema: KeypointSchema) -> npt.NDArray[np.float64]:
    """Errors as lengths on the typical face."""
    whole = np.where(np.isfinite(points), points, np.nanmean(points, axis=0))
    return values * float(schema.normalizers(whole[None], 1.0)[0])


def _draw_circles(axis: "Axes", points: Floats, radii: npt.NDArray[np.float64], colors: Sequence[str]) -> float:
    """Draws a circle about each point, smaller than its radius where they would cover the face; gives their scale."""
    from matplotlib.patches import Circle

    left, right = axis.get_xlim()
    scale = min(1.0, LARGEST_CIRCLE * (right - left) / max(float(np.nanmax(radii)), 1e-9))
    for (x, y), radius, color in zip(points.tolist(), (scale * radii).tolist(), colors, strict=True):
        if np.isfinite(radius):
            axis.add_patch(Circle((x, y), radius, facecolor=color, alpha=0.5, edgecolor=color, linewidth=1.2))
            axis.plot([x], [y], marker=".", markersize=3, color=OUTLINE)
    return scale


def _bars_of_worst(
    axis: "Axes", values: npt.NDArray[np.float64], schema: KeypointSchema, colors: Sequence[str]
) -> None:
    worst = np.argsort(-np.nan_to_num(values))[:WORST_POINTS]
    axis.barh(np.arange(len(worst)), 100 * values[worst], color=[colors[point] for point in worst])
    axis.set_yticks(np.arange(len(worst)), [f"{schema.point_names[point]}  {point}" for point in worst], fontsize=8)
    axis.invert_yaxis()
    axis.axvline(100 * float(np.nanmean(values)), color=OUTLINE, linestyle=":", label="mean of all points")
    axis.set(title="the greatest", xlabel="mean error, %")
    axis.legend(fontsize="small", loc="lower right")
