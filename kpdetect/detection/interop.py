"""Faces as the result objects of other libraries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kpdetect.core.errors import KpdetectError
from kpdetect.detection.face import Face

VISIBLE_CONFIDENCE = 0.5
"""Keypoints with a lower confidence are not drawn by supervision's annotators."""


def faces_to_supervision(faces: Sequence[Face], min_confidence: float = VISIBLE_CONFIDENCE) -> Any:
    """Converts the faces of one photograph to `supervision.KeyPoints` (https://supervision.roboflow.com).

    Its edges are pairs of numbers from 1: ``[(a + 1, b + 1) for a, b in contour_edges(face.schema)]`` with
    `kpdetect.visualization.contour_edges`.

    Args:
        faces: N faces of one scheme.
        min_confidence: Keypoints with a lower `Face.keypoint_confidence` are not ``visible``, in [0, 1].

    Returns:
        A `supervision.KeyPoints` with ``xy`` (N, K, 2), ``visible`` (N, K), ``class_id`` (N,) of zeros,
        ``data["class_name"]``, and ``keypoint_confidence`` (N, K) and ``detection_confidence`` (N,), which are None if
        the model has none.

    Raises:
        KpdetectError: The faces are of different schemes, or supervision is not installed or too old.

    Example:
        >>> key_points = faces_to_supervision(Predictor()("photo.jpg"))  # doctest: +SKIP
    """
    try:
        import supervision
    except ModuleNotFoundError as error:
        raise KpdetectError("supervision is not installed: pip install 'supervision>=0.31'") from error
    names = {face.schema.name for face in faces}
    if len(names) > 1:
        raise KpdetectError(f"supervision: expected faces of one scheme, received {', '.join(sorted(names))}")
    if not faces:
        return supervision.KeyPoints.empty()
    confidences = [face.keypoint_confidence for face in faces]
    known = [confidence for confidence in confidences if confidence is not None]
    keypoint_confidence = np.stack(known) if len(known) == len(faces) else None
    scores = [face.score for face in faces if face.score is not None]
    visible = np.ones((len(faces), faces[0].schema.num_keypoints), bool)
    try:
        return supervision.KeyPoints(
            xy=np.stack([face.keypoints for face in faces]),
            class_id=np.zeros(len(faces), int),
            keypoint_confidence=keypoint_confidence,
            detection_confidence=np.array(scores, np.float32) if len(scores) == len(faces) else None,
            visible=visible if keypoint_confidence is None else keypoint_confidence >= min_confidence,
            data={"class_name": np.array(["face"] * len(faces))},
        )
    except TypeError as error:
        raise KpdetectError(
            f"supervision: expected version 0.31 or later, found {supervision.__version__}: "
            "pip install 'supervision>=0.31'"
        ) from error
