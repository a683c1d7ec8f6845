"""Crops of the faces of photographs: the matrices to them, and the predicted keypoints back in the photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import (
    Floats,
    Matrix,
    apply_matrix,
    intersection_over_union,
    invert,
    mirrored_relative,
    rotation,
    tight_box,
    to_pixels,
)
from kpdetect.core.images import Pixels, warp_crop
from kpdetect.core.schema import KeypointSchema
from kpdetect.detection import Detections, Face, non_maximum_suppression
from kpdetect.detection.oriented import upright_boxes
from kpdetect.modelfile.runtime import Prediction
from kpdetect.modelfile.spec import Spec

MAX_TURNED = 20  # of a photograph, the detections that are tried in other rotations
CERTAIN_ROLL_DEG = 20.0
"""A detected face that leans by more than this, in degrees, is also tried as an upright one."""

CERTAIN_SCORE = 0.98
"""A face of a lower score may be predicted in a wrong rotation. Of faces whose rotation the detector got wrong, on AFW
and the validation faces of 300-W turned by 135 and 180 degrees, the highest score in the wrong one is 0.983, and in the
right one nearly all have more."""

LIKELY_DETECTION = 0.35
"""Of a detector's score: where other faces are found, only such detections are tried in other rotations."""

SAME_PLACE = 0.3
"""Intersection over union from which two boxes are in one place, whatever the rotations of their faces."""

MOUTH_GROUPS = ("outer_lip", "inner_lip", "mouth")
"""Groups of a schema whose points are a mouth."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """The boxes of one photograph that may be faces.

    Attributes:
        pixels: (H, W, C) uint8, the photograph with the model's number of channels.
        boxes: (N, 4) in pixels.
        detected: Whether a detector found the boxes, so that they may be inexact or false.
        detections: Those of a detector that predicts rotations; they have the boxes `boxes`.
    """

    pixels: Pixels
    boxes: Floats
    detected: bool
    detections: Detections | None = None

    def matrices(self, spec: Spec) -> Matrix:
        """(N, 3, 3) from the photograph to the crop of each box, upright if its rotation is known."""
        if self.detections is None:
            return spec.crop.matrix(self.boxes)
        return spec.crop.matrix(upright_boxes(self.detections.oriented), self.detections.roll_deg)

    def turned_by_quarters(self, faces: Sequence[Face]) -> Candidates:
        """The detections without a certain face, each turned by 90, 180 and 270 degrees.

        Of several detections in one place only the one of the highest score is turned, and of all at most `MAX_TURNED`.

        Args:
            faces: The faces that were found in this photograph.
        """
        found = Detections(np.zeros((0, 5), np.float32), np.zeros(0, np.float32))
        if self.detections is not None:
            boxes = np.reshape([face.box for face in faces], (-1, 4))
            certain = np.array([face.score is None or face.score >= CERTAIN_SCORE for face in faces], bool)
            here = intersection_over_union(self.detections.boxes, boxes) >= SAME_PLACE
            likely = (self.detections.scores >= LIKELY_DETECTION) | here.any(axis=1) | (len(faces) == 0)
            found = self.detections.take(likely & ~here[:, certain].any(axis=1))
            found = found.take(non_maximum_suppression(found.boxes, found.scores, SAME_PLACE)[:MAX_TURNED])
        oriented = np.tile(found.oriented, (3, 1))
        oriented[:, 4] += np.repeat([90, 180, 270], len(found.scores))
        turned = Detections(oriented, np.tile(found.scores, 3))
        return replace(self, boxes=turned.boxes, detections=turned)


def with_upright(detections: Detections) -> Detections:
    """The detections, and each that leans by more than `CERTAIN_ROLL_DEG` a second time as upright.

    The predicted rotation of a small or covered face may be wrong, and most faces are upright. The score decides.
    """
    leaning = np.flatnonzero(np.abs((detections.roll_deg + 180) % 360 - 180) > CERTAIN_ROLL_DEG)
    upright = detections.oriented[leaning].copy()
    upright[:, 4] = 0
    return Detections(
        np.concatenate([detections.oriented, upright]), np.concatenate([detections.scores, detections.scores[leaning]])
    )


def crop(owners: Sequence[Candidates], matrices: Matrix, spec: Spec) -> Pixels:
    """Crops a face from each photograph.

    Args:
        owners: The photograph of each of the N crops.
        matrices: (N, 3, 3), photograph to crop.
        spec: The model's description.

    Returns:
        (N, height, width, C) uint8.
    """
    crops = [warp_crop(one.pixels, matrix, spec.crop.size_hw) for one, matrix in zip(owners, matrices, strict=True)]
    return np.stack(crops)


def with_mirrored(crops: Pixels) -> Pixels:
    """Crops (N, H, W, C) followed by their mirror images: (2N, H, W, C)."""
    return np.concatenate([crops, crops[:, :, ::-1]])


def to_photographs(
    prediction: Prediction, matrices: Matrix, spec: Spec, flip_permutation: Sequence[int] | None = None
) -> Prediction:
    """Converts a model's prediction of crops to the photographs' coordinates.

    Args:
        prediction: Of N crops; or of 2N, the second half mirrored, whose means are taken.
        matrices: (N, 3, 3), photograph to crop.
        spec: The model's description.
        flip_permutation: The schema's left-right permutation if the second half is mirrored, otherwise None.

    Returns:
        The prediction of N crops with keypoints in pixels of the photographs; uncertainties stay relative to the crop.

    Raises:
        KpdetectError: A number is not finite.
    """
    if not all(array is None or np.isfinite(array).all() for array in prediction):
        raise KpdetectError("model: expected finite numbers, received NaN or infinity; the weights are damaged")
    if flip_permutation is not None:
        prediction = mean_of_mirrored(prediction, list(flip_permutation))
    relative = to_pixels(prediction.keypoints, spec.crop.size_hw)
    return prediction._replace(keypoints=apply_matrix(invert(matrices), relative))


def mean_of_mirrored(prediction: Prediction, swap: list[int]) -> Prediction:
    """The mean of the predictions of N crops and of their N mirror images, which follow them; of N crops."""
    count = len(prediction.keypoints) // 2

    def mean(values: Floats | None, per_point: bool) -> Floats | None:
        if values is None:
            return None
        mirrored = values[count:, swap] if per_point else values[count:]
        return np.asarray((values[:count] + mirrored) / 2, np.float32)

    swapped = mirrored_relative(prediction.keypoints[count:], swap)
    return Prediction(
        np.asarray((prediction.keypoints[:count] + swapped) / 2, np.float32),
        mean(prediction.uncertainty, per_point=True),
        mean(prediction.score, per_point=False),
        mean(prediction.visibility, per_point=True),
    )


def spans_area(keypoints: Floats, spec: Spec) -> npt.NDArray[np.bool_]:
    """Which faces (N,) can be cropped around their keypoints (N, K, 2); none for models of whole pictures."""
    extent = keypoints.max(axis=1) - keypoints.min(axis=1)
    eyes_apart = np.ones(len(keypoints), bool)
    if spec.schema.normalizer_points is not None:
        first, second = spec.schema.normalizer_points
        eyes_apart = np.linalg.norm(keypoints[:, second] - keypoints[:, first], axis=1) > 0
    return np.asarray((spec.crop.around == "face") & (extent.min(axis=1) > 1) & eyes_apart)


def eye_directions(keypoints: Floats, matrices: Matrix, spec: Spec) -> Floats:
    """The direction across each face, towards the right of the crop, (N, 2), in pixels of the photograph.

    It is the sum of the vector from eye to eye, between the schema's two normalizer points, and of the vector from the
    eyes to the mouth, turned by 90 degrees, if the schema has a mouth. In a profile the eyes are nearly in one place,
    and their direction alone is arbitrary. Without normalizer points the direction is the crop's x axis.

    Args:
        keypoints: (N, K, 2) in pixels of the photographs.
        matrices: (N, 3, 3), photograph to the crop that the keypoints were predicted from.
        spec: The model's description.
    """
    crop_x = np.asarray(matrices[:, 0, :2], np.float32)  # similarities: the first row points along the crop's x axis
    across, beside = across_and_beside(keypoints, spec.schema)
    return crop_x if across is None else towards(across, crop_x) + (0 if beside is None else towards(beside, crop_x))


def oriented_crop_boxes(keypoints: Floats, schema: KeypointSchema) -> Floats:
    """Returns the boxes that faces are predicted from again, such as in the next frame of a video.

    Their rotation is 0 up to `CERTAIN_ROLL_DEG`, for which models are trained. They are tight in the rotated crop, for
    any schema; the boxes of `kpdetect.detection.oriented` are those that the face finder predicts.

    Args:
        keypoints: (N, K, 2) in pixels.
        schema: Their schema. Faces of one without normalizer points are not turned; without a mouth, by less than 90
            degrees.

    Returns:
        (N, 5) float32: see `kpdetect.detection.oriented`.

    Example:
        ``predictor.predict_oriented(next_frame, oriented_crop_boxes(keypoints, schema))``
    """
    points = np.asarray(keypoints, np.float32)
    across, beside = across_and_beside(points, schema)
    roll_deg = np.zeros(len(points), np.float32)
    if across is not None:
        upwards = beside if beside is not None else np.array([1, 0], np.float32)
        across = towards(across, upwards) + (0 if beside is None else beside)
        roll_deg = np.rad2deg(np.arctan2(across[:, 1], across[:, 0]))
        roll_deg = np.where(np.abs(roll_deg) > CERTAIN_ROLL_DEG, roll_deg, 0)
    turns = np.stack([rotation(-float(roll), (0, 0)) for roll in roll_deg]) if len(points) else np.zeros((0, 3, 3))
    upright = tight_box(apply_matrix(turns, points))
    center = apply_matrix(invert(turns), ((upright[:, :2] + upright[:, 2:]) / 2)[:, None])[:, 0]
    return np.concatenate([center, upright[:, 2:] - upright[:, :2], roll_deg[:, None]], axis=1, dtype=np.float32)


def across_and_beside(keypoints: Floats, schema: KeypointSchema) -> tuple[Floats | None, Floats | None]:
    """Returns two directions (N, 2) across faces (N, K, 2).

    The first is the vector from eye to eye, between the schema's two normalizer points; None without them. The second
    is the vector from the eyes to the mouth, turned by 90 degrees towards the right of an upright face; None without a
    mouth.
    """
    if schema.normalizer_points is None:
        return None, None
    first, second = schema.normalizer_points
    across = keypoints[:, second] - keypoints[:, first]
    mouth = [point for name in MOUTH_GROUPS for point in schema.groups.get(name, ())]
    if not mouth:
        return across, None
    down = keypoints[:, mouth].mean(axis=1) - (keypoints[:, first] + keypoints[:, second]) / 2
    return across, np.stack([down[:, 1], -down[:, 0]], axis=1)


def towards(vectors: Floats, directions: Floats) -> Floats:
    """Returns the vectors (N, 2), turned round where they point away from the directions, (N, 2) or (2,)."""
    return np.where((vectors * directions).sum(axis=1, keepdims=True) < 0, -vectors, vectors)
