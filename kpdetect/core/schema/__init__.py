"""Owns what a set of keypoints is: names, groups, the left-right swap, and what normalises its error.

*Left* and *right* are the pictured person's own: ``right_eye`` stands at the left of an unmirrored picture.
"""

from kpdetect.core.schema.ibug68 import IBUG68
from kpdetect.core.schema.imm58 import IMM58
from kpdetect.core.schema.scheme import KeypointSchema, flip_permutation_from_names, user_schema

__all__ = ["IBUG68", "IMM58", "SCHEMAS", "KeypointSchema", "flip_permutation_from_names", "user_schema"]

SCHEMAS: dict[str, KeypointSchema] = {"ibug68": IBUG68, "imm58": IMM58}
