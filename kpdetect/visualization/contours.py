"""The lines between neighbouring keypoints: the edges of a scheme, or jaw, eyebrows, eyes, nose and lips."""

from kpdetect.core.schema import SCHEMAS, KeypointSchema

_CLOSED = frozenset({"right_eye", "left_eye", "outer_lip", "inner_lip"})
"""Groups whose last point is joined to the first."""


def contour_edges(schema: KeypointSchema) -> tuple[tuple[int, int], ...]:
    """Pairs of keypoints that are neighbours on a contour of the face.

    An edge is kept in a subset of a scheme where both of its points are. Schemes with ``edges`` of their own, such as
    the skeleton of a COCO file, have these; of the others, only `SCHEMAS` have contours.

    Args:
        schema: A scheme, or a subset of one, as `KeypointSchema.subset` returns it.

    Returns:
        Pairs of indices into the scheme's points; empty for a scheme without contours.

    >>> from kpdetect.core.schema import IBUG68, user_schema
    >>> contour_edges(IBUG68.subset(["left_eye_inner", "left_eye_top_inner", "chin"]))
    ((0, 1),)
    >>> contour_edges(user_schema(["left_eye", "right_eye"]))
    ()
    >>> contour_edges(user_schema(["left_eye", "right_eye"], edges=[(0, 1)]))
    ((0, 1),)
    """
    if schema.edges:
        return schema.edges
    base = SCHEMAS.get(schema.name.partition("(")[0])
    if base is None:
        return ()
    place = {name: index for index, name in enumerate(schema.point_names)}
    edges = []
    for group, points in base.groups.items():
        following = [*points[1:], points[0]] if group in _CLOSED else points[1:]
        for start, end in zip(points, following, strict=False):
            names = base.point_names[start], base.point_names[end]
            if all(name in place for name in names):
                edges.append((place[names[0]], place[names[1]]))
    return tuple(edges)
