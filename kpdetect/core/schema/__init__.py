"""Keypoint schemas: point names, groups, flip permutation and the normaliser of errors.

*Left* and *right* are the person's own: ``right_eye`` is at the left of an unmirrored image.
"""

from kpdetect.core.schema.ibug68 import IBUG68
from kpdetect.core.schema.imm58 import IMM58
from kpdetect.core.schema.scheme import KeypointSchema, describe_flip, flip_permutation_from_names, user_schema

__all__ = [
    "IBUG68",
    "IMM58",
    "SCHEMAS",
    "KeypointSchema",
    "describe_flip",
    "flip_permutation_from_names",
    "user_schema",
]

SCHEMAS: dict[str, KeypointSchema] = {"ibug68": IBUG68, "imm58": IMM58}
"""The schemas of known data sets by name."""
