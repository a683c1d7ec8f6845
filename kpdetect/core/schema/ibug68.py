"""Schema of the 68 points of iBUG 300-W."""

from kpdetect.core.schema.scheme import KeypointSchema, flip_permutation_from_names

_IBUG68_NAMES = (
    *(f"jaw_right_{i}" for i in range(1, 9)),
    "chin",
    *(f"jaw_left_{i}" for i in range(8, 0, -1)),
    *(f"right_eyebrow_{i}" for i in range(1, 6)),
    *(f"left_eyebrow_{i}" for i in range(5, 0, -1)),
    *("nose_bridge_1", "nose_bridge_2", "nose_bridge_3", "nose_tip"),
    *("nostril_right_2", "nostril_right_1", "nose_base", "nostril_left_1", "nostril_left_2"),
    *("right_eye_outer", "right_eye_top_outer", "right_eye_top_inner"),
    *("right_eye_inner", "right_eye_bottom_inner", "right_eye_bottom_outer"),
    *("left_eye_inner", "left_eye_top_inner", "left_eye_top_outer"),
    *("left_eye_outer", "left_eye_bottom_outer", "left_eye_bottom_inner"),
    *("mouth_right", "upper_lip_right_2", "upper_lip_right_1", "upper_lip_top"),
    *("upper_lip_left_1", "upper_lip_left_2", "mouth_left"),
    *("lower_lip_left_2", "lower_lip_left_1", "lower_lip_bottom", "lower_lip_right_1", "lower_lip_right_2"),
    *("inner_mouth_right", "inner_upper_lip_right", "inner_upper_lip", "inner_upper_lip_left"),
    *("inner_mouth_left", "inner_lower_lip_left", "inner_lower_lip", "inner_lower_lip_right"),
)

IBUG68 = KeypointSchema(
    name="ibug68",
    point_names=_IBUG68_NAMES,
    groups={
        "jaw": tuple(range(17)),
        "right_eyebrow": tuple(range(17, 22)),
        "left_eyebrow": tuple(range(22, 27)),
        "nose_bridge": tuple(range(27, 31)),
        "nose_base": tuple(range(31, 36)),
        "right_eye": tuple(range(36, 42)),
        "left_eye": tuple(range(42, 48)),
        "outer_lip": tuple(range(48, 60)),
        "inner_lip": tuple(range(60, 68)),
    },
    regions={
        "jaw": tuple(range(17)),
        "brows": tuple(range(17, 27)),
        "nose": tuple(range(27, 36)),
        "eyes": tuple(range(36, 48)),
        "mouth": tuple(range(48, 68)),
    },
    flip_permutation=flip_permutation_from_names(_IBUG68_NAMES),
    normalizer_points=(36, 45),
)
"""The 68 points of iBUG 300-W (Sagonas et al., https://ibug.doc.ic.ac.uk/resources/300-W/), 0-based."""
