"""Colours of keypoints by group and by side, and the placement of their numbers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import Floats
from kpdetect.core.schema import KeypointSchema

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PART_COLORS = ("#4da3ff", "#ff8c1a", "#ffd400", "#2fd06c", "#12cfc4", "#ff5c5c", "#c77dff", "#ff6ec7", "#b5e61d")
"""Colours of the groups of a scheme, in their order; visible on photographs and on white."""

RIGHT_COLOR, MIDDLE_COLOR, LEFT_COLOR = "#ff9f1a", "#ffffff", "#35b6ff"
"""Colours of the pictured person's right side, of the middle line, and of the left side."""

OUTLINE = "#202020"

_DIRECTIONS = 16
_NEAR, _FAR = 1.0, 1.6  # distances that are tried, in units of `distance`


def part_colors(schema: KeypointSchema) -> list[str]:
    """The colour of each point, by the first group that contains it; points of no group share one more colour.

    >>> from kpdetect.core.schema import user_schema
    >>> part_colors(user_schema(["nose"]))
    ['#4da3ff']
    """
    part_of = {point: order for order, part in reversed(list(enumerate(schema.groups.values()))) for point in part}
    places = [part_of.get(point, len(schema.groups)) for point in range(schema.num_keypoints)]
    return [PART_COLORS[place % len(PART_COLORS)] for place in places]


def side_colors(schema: KeypointSchema) -> list[str]:
    """The colour of each point, by the side of the pictured person it is on.

    A point without a partner is on the middle line, as are all points of a scheme without a left-right permutation.
    If the names of a pair contain no side, its first point counts as the right one.

    >>> from kpdetect.core.schema import user_schema
    >>> side_colors(user_schema(["left_eye", "right_eye"])) == [LEFT_COLOR, RIGHT_COLOR]
    True
    """
    swap = schema.flip_permutation or tuple(range(schema.num_keypoints))
    return [_side_color(schema.point_names[point], point, partner) for point, partner in enumerate(swap)]


def _side_color(name: str, point: int, partner: int) -> str:
    if point == partner:
        return MIDDLE_COLOR
    if "right" in name or ("left" not in name and point < partner):
        return RIGHT_COLOR
    return LEFT_COLOR


def number_places(points: npt.ArrayLike, distance: float) -> Floats:
    """Places for the numbers of points, so that they do not cover points or each other.

    Greedy: each number takes the place around its point that is farthest from all points and earlier numbers.

    Args:
        points: (K, 2), in any unit; NaN where there is no point.
        distance: Distance of a point to the centre of its number, in that unit.

    Returns:
        (K, 2) float32, the centres of the numbers; NaN where there is no point.

    >>> bool(number_places([[0.0, 0.0], [1.0, 0.0]], 1.0)[0, 0] < 0)
    True
    """
    where = np.asarray(points, np.float64)
    taken = where[np.isfinite(where).all(axis=1)]
    turn = 2 * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS
    ring = distance * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    around = np.concatenate([_NEAR * ring, _FAR * ring])
    # A number far from its point may be taken for that of another.
    effort = np.repeat([0.0, 0.25], _DIRECTIONS)
    places = np.full(where.shape, np.nan, np.float32)
    for index, point in enumerate(where):
        if np.isfinite(point).all():
            squared = np.square((point + around)[:, None] - taken[None]).sum(axis=2)
            crowd = (distance**4 / np.maximum(np.square(squared), 1e-9 * distance**4)).sum(axis=1)
            places[index] = point + around[np.argmin(crowd + effort)]
            taken = np.concatenate([taken, places[index : index + 1]])
    return places


def draw_numbers(axis: "Axes", points: npt.ArrayLike, colors: Sequence[str], font_points: float, unit: float) -> None:
    """Writes the number of each point, counted from 0, beside it.

    Args:
        axis: The panel.
        points: (K, 2) in units of the panel; NaN is left out.
        colors: Colours of the numbers; K of them.
        font_points: Font size in typographic points.
        unit: The size of a typographic point (1/72 inch) in units of the panel.
    """
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=font_points / 5, foreground=OUTLINE)]
    for number, (x, y) in enumerate(number_places(points, 0.95 * font_points * unit)):
        if np.isfinite(x + y):
            text = axis.text(x, y, str(number), color=colors[number], fontsize=font_points, ha="center", va="center")
            text.set(path_effects=outline, clip_on=True)
