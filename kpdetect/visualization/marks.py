"""Owns how points are told apart in a picture: colours by part and by side, and numbers that stand beside them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import Floats
from kpdetect.core.schema import KeypointSchema

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PART_COLORS = ("#4da3ff", "#ff8c1a", "#ffd400", "#2fd06c", "#12cfc4", "#ff5c5c", "#c77dff", "#ff6ec7", "#b5e61d")
"""Of the parts, in their order; bright enough for a photograph, and told apart on white."""

RIGHT_COLOR, MIDDLE_COLOR, LEFT_COLOR = "#ff9f1a", "#ffffff", "#35b6ff"
"""Of the pictured person's right side, of the middle line, and of the left side."""

OUTLINE = "#202020"

_DIRECTIONS = 16
_NEAR, _FAR = 1.0, 1.6  # distances that are tried for a number


def part_colors(schema: KeypointSchema) -> list[str]:
    """The colour of each point, after the first part that names it; points of no part have a colour of their own."""
    part_of = {point: order for order, part in reversed(list(enumerate(schema.groups.values()))) for point in part}
    places = [part_of.get(point, len(schema.groups)) for point in range(schema.num_keypoints)]
    return [PART_COLORS[place % len(PART_COLORS)] for place in places]


def side_colors(schema: KeypointSchema) -> list[str]:
    """The colour of each point, after the pictured person's side it is on: a mirrored picture shows them exchanged.

    A point without a partner is in the middle, as are all points of a scheme that knows no sides. Where a pair's
    names tell no side, its first point counts as the right one.
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
    """Where a number beside each point covers neither another point nor a number.

    Every number takes, one after the other, the place around its point that is farthest from all that is there.

    Args:
        points: (K, 2), in any unit; NaN where there is no point.
        distance: From a point to the middle of its number, in that unit.

    Returns:
        (K, 2) float32, the middles of the numbers; NaN where there is no point.
    """
    where = np.asarray(points, np.float64)
    taken = where[np.isfinite(where).all(axis=1)]
    turn = 2 * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS
    ring = distance * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    around = np.concatenate([_NEAR * ring, _FAR * ring])
    # Nearer is better: a number far from its point may be read as another's.
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
    """Writes the number of each point, from 0, beside it.

    Args:
        axis: The panel.
        points: (K, 2) in the panel's unit; NaN is left out.
        colors: Of the numbers, K of them.
        font_points: The size of the numbers.
        unit: How many of the panel's units a typographic point (1/72 inch) takes.
    """
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=font_points / 5, foreground=OUTLINE)]
    for number, (x, y) in enumerate(number_places(points, 0.95 * font_points * unit)):
        if np.isfinite(x + y):
            text = axis.text(x, y, str(number), color=colors[number], fontsize=font_points, ha="center", va="center")
            text.set(path_effects=outline, clip_on=True)
