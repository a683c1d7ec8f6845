"""Schema of the 98 points of WFLW."""

from kpdetect.core.schema.scheme import KeypointSchema, flip_permutation_from_names

_EYE = ("outer", "top_outer", "top", "top_inner", "inner", "bottom_inner", "bottom", "bottom_outer")

_WFLW98_NAMES = (
    *(f"jaw_right_{i}" for i in range(1, 17)),
    "chin",
    *(f"jaw_left_{i}" for i in range(16, 0, -1)),
    # The upper edge of an eyebrow from its outer end, and back along the lower edge; the left one mirrors this.
    *(f"right_eyebrow_top_{i}" for i in range(1, 6)),
    *(f"right_eyebrow_bottom_{i}" for i in range(5, 1, -1)),
    *(f"left_eyebrow_top_{i}" for i in range(5, 0, -1)),
    *(f"left_eyebrow_bottom_{i}" for i in range(2, 6)),
    *("nose_bridge_1", "nose_bridge_2", "nose_bridge_3", "nose_tip"),
    *("nostril_right_2", "nostril_right_1", "nose_base", "nostril_left_1", "nostril_left_2"),
    *(f"right_eye_{place}" for place in _EYE),
    *(f"left_eye_{place}" for place in ("inner", "top_inner", "top", "top_outer")),
    *(f"left_eye_{place}" for place in ("outer", "bottom_outer", "bottom", "bottom_inner")),
    *("mouth_right", "upper_lip_right_2", "upper_lip_right_1", "upper_lip_top"),
    *("upper_lip_left_1", "upper_lip_left_2", "mouth_left"),
    *("lower_lip_left_2", "lower_lip_left_1", "lower_lip_bottom", "lower_lip_right_1", "lower_lip_right_2"),
    *("inner_mouth_right", "inner_upper_lip_right", "inner_upper_lip", "inner_upper_lip_left"),
    *("inner_mouth_left", "inner_lower_lip_left", "inner_lower_lip", "inner_lower_lip_right"),
    *("right_pupil", "left_pupil"),
)

WFLW98 = KeypointSchema(
    name="wflw98",
    point_names=_WFLW98_NAMES,
    groups={
        "jaw": tuple(range(33)),
        "right_eyebrow": tuple(range(33, 42)),
        "left_eyebrow": tuple(range(42, 51)),
        "nose_bridge": tuple(range(51, 55)),
        "nose_base": tuple(range(55, 60)),
        "right_eye": tuple(range(60, 68)),
        "left_eye": tuple(range(68, 76)),
        "outer_lip": tuple(range(76, 88)),
        "inner_lip": tuple(range(88, 96)),
        "pupils": (96, 97),
    },
    regions={
        "jaw": tuple(range(33)),
        "brows": tuple(range(33, 51)),
        "nose": tuple(range(51, 60)),
        "eyes": (*range(60, 76), 96, 97),
        "mouth": tuple(range(76, 96)),
    },
    flip_permutation=flip_permutation_from_names(_WFLW98_NAMES),
    normalizer_points=(60, 72),
)
"""The 98 points of WFLW (Wu et al., CVPR 2018, "Look at Boundary"), 0-based."""
