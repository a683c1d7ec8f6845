"""Keypoint schemas: point names, groups, flip permutation and the normaliser of errors.

*Left* and *right* are the person's own: ``right_eye`` is at the left of an unmirrored image.
"""

from kpdetect.core.schema.ibug68 import IBUG68
from kpdetect.core.schema.imm58 import IMM58
from kpdetect.core.schema.kaggle15 import KAGGLE15
from kpdetect.core.schema.scheme import KeypointSchema, describe_flip, flip_permutation_from_names, user_schema
from kpdetect.core.schema.wflw98 import WFLW98

__all__ = [
    "IBUG68",
    "IMM58",
    "KAGGLE15",
    "SCHEMAS",
    "WFLW98",
    "KeypointSchema",
    "describe_flip",
    "flip_permutation_from_names",
    "user_schema",
]

SCHEMAS: dict[str, KeypointSchema] = {schema.name: schema for schema in (IBUG68, IMM58, KAGGLE15, WFLW98)}
"""The schemas of known data sets by name."""


def known_or_user_schema(point_names: tuple[str, ...], edges: tuple[tuple[int, int], ...] = ()) -> KeypointSchema:
    """Returns the schema of `SCHEMAS` with exactly these points, or else a user-defined one.

    >>> known_or_user_schema(IBUG68.point_names) is IBUG68
    True
    """
    known = next((schema for schema in SCHEMAS.values() if schema.point_names == tuple(point_names)), None)
    return known or user_schema(point_names, edges=edges)
