"""Pictures of a keypoint scheme without a photograph: its points by number and name, and errors on a mean face."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats
from kpdetect.core.schema import KeypointSchema
from kpdetect.visualization.contours import contour_edges
from kpdetect.visualization.figures import PathLike, new_figure, save_figure, write_captions
from kpdetect.visualization.marks import OUTLINE, draw_numbers, part_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FACE_INCHES = 7.0
ROWS_OF_NAMES = 34  # two columns hold 68 names
NAMES_INCHES = 2.4  # per column
WORST_POINTS = 10

BACKGROUND = "#3a3f47"  # dark, because the bright colours of the groups are made for photographs
LINE_COLOR = "#7a828e"
ERROR_COLORS = ("#fff6c2", "#ffb01a", "#ff2222")  # from 0 to the largest error
LARGEST_CIRCLE = 0.07  # radius as a share of the panel; larger circles would cover the face


def scheme_page(layout: npt.ArrayLike, schema: KeypointSchema, path: PathLike) -> None:
    """Draws a scheme: numbered points on a typical face, left-right pairs, and the names of the points.

    Args:
        layout: (K, 2), the points of a typical face, in any unit that is the same in x and y; y points down.
        schema: The scheme.
        path: The file to write; its suffix sets the format.

    Raises:
        KpdetectError: The layout has another number of points, or the file cannot be written.
        MissingExtra: Matplotlib is not installed.

    Example:
        ```python
        faces = load("synthetic:500")
        scheme_page(mean_layout(faces), faces.schema, "scheme.png")
        ```
    """
    points = _checked(layout, schema, path)
    names_inches = NAMES_INCHES * math.ceil(schema.num_keypoints / ROWS_OF_NAMES)
    width = (FACE_INCHES + names_inches) / 2
    figure, (face, names) = new_figure(1, 2, (width, FACE_INCHES), (FACE_INCHES, names_inches))
    colors = part_colors(schema)
    _empty_face(face, points)
    _draw_swaps(face, points, schema)
    _draw_contours(face, points, schema)
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
    """Draws the mean error of each point on a typical face, and the largest errors as bars with names.

    The radius of a circle is the mean error at the scale of the face. If circles would cover the face, all are drawn
    smaller by the same factor, which the caption states.

    Args:
        layout: (K, 2), the points of a typical face, in crop widths for a scheme of one point and in any unit for
            others; y points down.
        errors: (K,) mean error of each point as a fraction of the normaliser; NaN where no face shows the point.
        schema: The scheme.
        caption: The model, the data and the protocol; written above the picture.
        path: The file to write; its suffix sets the format.

    Raises:
        KpdetectError: The layout or the errors have another number of points, or the file cannot be written.
        MissingExtra: Matplotlib is not installed.

    Example:
        ```python
        point_errors(mean_layout(faces), np.full(68, 0.03), faces.schema, "compact on 300-W", "errors.png")
        ```
    """
    points, values = _checked(layout, schema, path), np.asarray(errors, np.float64)
    if values.shape != (schema.num_keypoints,):
        raise KpdetectError(f"{path}: expected errors of {schema.num_keypoints} points, received {values.shape}")
    figure, (face, bars) = new_figure(1, 2, (FACE_INCHES * 0.75, FACE_INCHES), (1.0, 0.5))
    _empty_face(face, points)
    _draw_contours(face, points, schema)
    colors = _error_colors(figure, face, values)
    scale = _draw_circles(face, points, _radii(points, values, schema), colors)
    draw_numbers(face, points, ["#ffffff"] * len(points), 7.5, _unit(face))
    _bars_of_worst(bars, values, schema, colors)
    size = "at" if scale == 1 else f"at {scale:.2g} times"
    write_captions(figure, caption, f"radius of a circle: mean error of the point, {size} the scale of the face")
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
    """Prepares a square panel with a margin around the points."""
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    center, half = (low + high) / 2, 0.57 * max(float((high - low).max()), 1e-3)
    if len(points) == 1:
        half = 0.5  # the unit of the layout is the width of the crop
    axis.set(xlim=(center[0] - half, center[0] + half), ylim=(center[1] + half, center[1] - half), aspect="equal")
    axis.set(xticks=[], yticks=[], facecolor=BACKGROUND)


def _unit(axis: "Axes") -> float:
    """The size of a typographic point (1/72 inch) in units of a square panel."""
    left, right = axis.get_xlim()
    return (right - left) / (72 * FACE_INCHES)


def _draw_contours(axis: "Axes", points: Floats, schema: KeypointSchema) -> None:
    for edge in contour_edges(schema):
        axis.plot(*points[list(edge)].T, color=LINE_COLOR, linewidth=1.0, zorder=1)


def _draw_swaps(axis: "Axes", points: Floats, schema: KeypointSchema) -> None:
    for point, partner in enumerate(schema.flip_permutation or ()):
        if point < partner:
            ends = points[[point, partner]]
            axis.plot(ends[:, 0], ends[:, 1], color="#ffffff", alpha=0.25, linewidth=0.8, linestyle=":", zorder=0)


def _own_partners(schema: KeypointSchema) -> npt.NDArray[np.bool_]:
    """(K,) whether a point is on the middle line and keeps its number in a mirrored picture."""
    if schema.flip_permutation is None:
        return np.zeros(schema.num_keypoints, bool)
    return np.equal(schema.flip_permutation, np.arange(schema.num_keypoints))


def _swap_in_words(schema: KeypointSchema) -> str:
    if schema.flip_permutation is None:
        return "this scheme has no left-right pairs; its points are never mirrored"
    return (
        "dotted lines and ⇄: pairs that are exchanged in a mirrored picture; diamonds: points on the middle line\n"
        "left and right are those of the pictured person"
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
    """The colour of each error; adds a colour bar beside the panel."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize, to_hex

    colors = LinearSegmentedColormap.from_list("errors", ERROR_COLORS)
    scale = ScalarMappable(Normalize(0, 100 * float(np.nanmax(values))), colors)
    figure.colorbar(scale, ax=axis, location="left", shrink=0.5, label="mean error, %")
    return [to_hex(color) for color in scale.to_rgba(100 * values)]


def _radii(points: Floats, values: npt.NDArray[np.float64], schema: KeypointSchema) -> npt.NDArray[np.float64]:
    """Errors as lengths in units of the layout."""
    whole = np.where(np.isfinite(points), points, np.nanmean(points, axis=0))
    return values * float(schema.normalizers(whole[None], 1.0)[0])


def _draw_circles(axis: "Axes", points: Floats, radii: npt.NDArray[np.float64], colors: Sequence[str]) -> float:
    """Draws a circle around each point; returns the factor by which the radii were reduced, 1 if they were not."""
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
    axis.axvline(100 * float(np.nanmean(values)), color=OUTLINE, linestyle=":")
    axis.set(title=f"{len(worst)} largest errors", xlabel="mean error, %\n(dotted: mean of all points)")
