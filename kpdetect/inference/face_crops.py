"""Crops of the faces of photographs: the matrices to them, and the predicted keypoints back in the photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats, Matrix, apply_matrix, invert, mirrored_relative, to_pixels
from kpdetect.core.images import Pixels, warp_crop
from kpdetect.detection import Detections
from kpdetect.detection.oriented import upright_boxes
from kpdetect.modelfile.runtime import Prediction
from kpdetect.modelfile.spec import Spec

MAX_TURNED = 20  # of a photograph without a face, the detections that are tried in other rotations

CERTAIN_ROLL_DEG = 20.0
"""A detected face that leans by more than this, in degrees, is also tried as an upright one."""

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

    def turned_by_quarters(self) -> Candidates:
        """The first `MAX_TURNED` detections, each turned by 90, 180 and 270 degrees."""
        detections = Detections(np.zeros((0, 5), np.float32), np.zeros(0, np.float32))
        if self.detections is not None:
            first = self.detections.take(np.arange(min(len(self.boxes), MAX_TURNED)))
            oriented = np.tile(first.oriented, (3, 1))
            oriented[:, 4] += np.repeat([90, 180, 270], len(first.scores))
            detections = Detections(oriented, np.tile(first.scores, 3))
        return replace(self, boxes=detections.boxes, detections=detections)


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
    if spec.schema.normalizer_points is None:
        return crop_x
    first, second = spec.schema.normalizer_points
    across = keypoints[:, second] - keypoints[:, first]
    across = np.where((across * crop_x).sum(axis=1, keepdims=True) < 0, -across, across)
    mouth = [point for name in MOUTH_GROUPS for point in spec.schema.groups.get(name, ())]
    if mouth:
        down = keypoints[:, mouth].mean(axis=1) - (keypoints[:, first] + keypoints[:, second]) / 2
        beside = np.stack([down[:, 1], -down[:, 0]], axis=1)
        across = across + np.where((beside * crop_x).sum(axis=1, keepdims=True) < 0, -beside, beside)
    return across
