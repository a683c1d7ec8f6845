"""Owns what ``--draw`` draws on a photograph: boxes and points, or with ``--filter`` filters, or both."""

import sys
from collections.abc import Callable, Sequence

from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import Pixels
from kpdetect.core.schema import KeypointSchema
from kpdetect.detection import Face
from kpdetect.filters import SHIPPED, Filter, apply_filters, load_filter
from kpdetect.visualization import draw_faces

Draw = Callable[[Pixels, Sequence[Face]], Pixels]
"""A photograph (H, W, 3) and its faces to a copy that shows them."""


def check_drawing(filters: Sequence[str], draw_points: bool, target: str | None) -> None:
    """Says before any work what cannot be drawn.

    Raises:
        KpdetectError: There is no such filter, its files are bad, or nowhere to draw to.
    """
    for name in filters:
        load_filter(name)
    if filters and target is None:
        raise KpdetectError("--filter needs --draw FILE_OR_FOLDER, where the photographs with filters go")
    if draw_points and not filters:
        raise KpdetectError("--draw-points goes with --filter; without filters, --draw draws the points anyway")


def drawing(filters: Sequence[str], draw_points: bool, schema: KeypointSchema) -> Draw:
    """What draws the faces of one photograph.

    Args:
        filters: Names or files, as `load_filter` takes them; none draws boxes and points.
        draw_points: Draw boxes and points over the filters as well.
        schema: The scheme of the faces' points.

    Raises:
        KpdetectError: There is no such filter, or the scheme lacks its points.
    """
    if not filters:
        return draw_faces
    loaded = [load_filter(name) for name in filters]
    for one in loaded:
        _check_points(one, schema)

    def draw(image_rgb: Pixels, faces: Sequence[Face]) -> Pixels:
        worn = apply_filters(image_rgb, faces, loaded)
        return draw_faces(worn, faces) if draw_points else worn

    return draw


def _check_points(one: Filter, schema: KeypointSchema) -> None:
    """Warns of points that the scheme lacks: in a user's own filter they may be misspelt. Ours are for two schemes.

    Raises:
        KpdetectError: Too few are left.
    """
    missing = sorted(set(one.anchors) - set(one.check_scheme(schema)))
    if missing and one.name not in SHIPPED:
        points = ", ".join(missing)
        print(f"warning: filter '{one.name}': scheme '{schema.name}' lacks {points}; left out", file=sys.stderr)
