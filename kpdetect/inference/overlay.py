"""The drawings of ``--draw``: boxes and keypoints, or the filters of ``--filter``, or both."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import Pixels
from kpdetect.core.schema import KeypointSchema
from kpdetect.detection import Face
from kpdetect.filters import SHIPPED, apply_filters, load_filter
from kpdetect.visualization import draw_faces

_LOG = logging.getLogger(__name__)

Draw = Callable[[Pixels, Sequence[Face]], Pixels]
"""A function from a photograph (H, W, 3) and its faces to a copy with a drawing."""


def check_drawing_options(filters: Sequence[str], draw_points: bool, target: str | None) -> None:
    """Checks ``--filter``, ``--draw-points`` and ``--draw`` before any prediction.

    Raises:
        KpdetectError: There is no such filter, its files are bad, or an option needs another one.
    """
    for name in filters:
        load_filter(name)
    if filters and target is None:
        raise KpdetectError("--filter needs --draw FILE_OR_FOLDER, where the photographs with filters go")
    if draw_points and not filters:
        raise KpdetectError("--draw-points needs --filter; without a filter, --draw draws the points anyway")


def make_draw(filters: Sequence[str], draw_points: bool, schema: KeypointSchema) -> Draw:
    """Makes the function that draws the faces of one photograph.

    Args:
        filters: Names or files, see `kpdetect.filters.load_filter`; empty draws boxes and keypoints.
        draw_points: Draw boxes and keypoints over the filters.
        schema: The schema of the faces' keypoints. Points that one of the user's filters names and the schema lacks
            are warned of, since they may be misspelled.

    Raises:
        KpdetectError: There is no such filter, or the schema lacks too many of its points.
    """
    if not filters:
        return draw_faces
    loaded = [load_filter(name) for name in filters]
    for one in loaded:
        missing = sorted(set(one.anchors) - set(one.check_scheme(schema)))
        if missing and one.name not in SHIPPED:
            points = ", ".join(missing)
            _LOG.warning(f"filter '{one.name}': scheme '{schema.name}' lacks {points}; left out")

    def draw(image_rgb: Pixels, faces: Sequence[Face]) -> Pixels:
        filtered = apply_filters(image_rgb, faces, loaded)
        return draw_faces(filtered, faces) if draw_points else filtered

    return draw
