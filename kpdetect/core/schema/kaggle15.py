"""Schema of the 15 points of Kaggle's Facial Keypoints Detection."""

from kpdetect.core.schema.scheme import KeypointSchema, flip_permutation_from_names

_KAGGLE15_NAMES = (
    *("left_eye_center", "right_eye_center"),
    *("left_eye_inner_corner", "left_eye_outer_corner", "right_eye_inner_corner", "right_eye_outer_corner"),
    *("left_eyebrow_inner_end", "left_eyebrow_outer_end", "right_eyebrow_inner_end", "right_eyebrow_outer_end"),
    "nose_tip",
    *("mouth_left_corner", "mouth_right_corner", "mouth_center_top_lip", "mouth_center_bottom_lip"),
)

KAGGLE15 = KeypointSchema(
    name="kaggle15",
    point_names=_KAGGLE15_NAMES,
    groups={
        "left_eye": (0, 2, 3),
        "right_eye": (1, 4, 5),
        "left_eyebrow": (6, 7),
        "right_eyebrow": (8, 9),
        "nose": (10,),
        "mouth": (11, 12, 13, 14),
    },
    regions={"eyes": tuple(range(6)), "brows": tuple(range(6, 10)), "nose": (10,), "mouth": tuple(range(11, 15))},
    flip_permutation=flip_permutation_from_names(_KAGGLE15_NAMES),
    normalizer_points=(0, 1),
)
"""The 15 points of https://www.kaggle.com/c/facial-keypoints-detection, in the order of its columns.

Errors are divided by the distance of the eye centres, since two thirds of the faces have only four points: the eye
centres, the nose tip and the bottom of the mouth.
"""
