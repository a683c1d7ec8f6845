"""Schema of the 58 points of the IMM Face Database."""

from kpdetect.core.schema.scheme import KeypointSchema, flip_permutation_from_names

_IMM58_NAMES = (
    *(f"jaw_right_{i}" for i in range(1, 7)),
    "chin",
    *(f"jaw_left_{i}" for i in range(6, 0, -1)),
    *("left_eye_outer", "left_eye_top_outer", "left_eye_top", "left_eye_top_inner"),
    *("left_eye_inner", "left_eye_bottom_inner", "left_eye_bottom", "left_eye_bottom_outer"),
    *("right_eye_outer", "right_eye_top_outer", "right_eye_top", "right_eye_top_inner"),
    *("right_eye_inner", "right_eye_bottom_inner", "right_eye_bottom", "right_eye_bottom_outer"),
    # As in iBUG's schema, the first point of an eyebrow is the outer one.
    *(f"left_eyebrow_{i}" for i in range(5, 0, -1)),
    *(f"right_eyebrow_{i}" for i in range(5, 0, -1)),
    *("mouth_right", "upper_lip_right", "upper_lip_top", "upper_lip_left", "mouth_left"),
    *("lower_lip_left", "lower_lip_bottom", "lower_lip_right"),
    # From between the eyes down the right side of the nose, around the nostrils, and up the left side.
    *(f"nose_right_{i}" for i in range(1, 6)),
    "nose_tip",
    *(f"nose_left_{i}" for i in range(5, 0, -1)),
)

IMM58 = KeypointSchema(
    name="imm58",
    point_names=_IMM58_NAMES,
    groups={
        "jaw": tuple(range(13)),
        "left_eye": tuple(range(13, 21)),
        "right_eye": tuple(range(21, 29)),
        "left_eyebrow": tuple(range(29, 34)),
        "right_eyebrow": tuple(range(34, 39)),
        "outer_lip": tuple(range(39, 47)),
        "nose": tuple(range(47, 58)),
    },
    regions={
        "jaw": tuple(range(13)),
        "brows": tuple(range(29, 39)),
        "nose": tuple(range(47, 58)),
        "eyes": tuple(range(13, 29)),
        "mouth": tuple(range(39, 47)),
    },
    flip_permutation=flip_permutation_from_names(_IMM58_NAMES),
    normalizer_points=(21, 13),
)
"""The 58 points of the IMM Face Database (Nordstrøm, Larsen, Sierakowski and Stegmann, DTU 2004), 0-based.

The jaw line runs from ear to ear through the chin, without the forehead. ``nose_tip`` is point 53 in the usual 1-based
count: the lowest point of the nose's outline, on the middle line. Its position is that of iBUG's ``nose_base``, below
the visible tip, so that the ``nose_tip`` of the two schemas are different places.
"""
