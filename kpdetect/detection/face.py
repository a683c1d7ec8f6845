"""`Face`: the result of a prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kpdetect.core.errors import KpdetectError, unknown_name
from kpdetect.core.geometry import Floats, tight_box
from kpdetect.core.schema import KeypointSchema

FACE_SCORE = 0.5
"""The default threshold of `Face.score`: a detected box with a lower score is not a face."""


@dataclass(frozen=True, eq=False, repr=False)
class Face:
    """A face and its keypoints.

    Attributes:
        keypoints: (K, 2) float32 (x, y), in pixels of the photograph after its EXIF rotation; pixel centres are
            integers.
        schema: The names of the K keypoints, their groups, and what their error is divided by.
        score: The probability that this is a face, in [0, 1], derived from the uncertainty; None if the model has no
            score.
        uncertainty: (K,) float32, the expected error of each keypoint in pixels of the photograph; None if the model
            does not estimate it.
        detection_box: (4,) float32 (x0, y0, x1, y1), the box that the keypoints were predicted from: the detector's, or
            the caller's; None if there was none. `box` is the tight box of the keypoints.

    Raises:
        KpdetectError: The shape of an array does not fit the schema.

    Example:
        >>> from kpdetect.core.schema import user_schema
        >>> face = Face(np.float32([[10, 20], [30, 20], [20, 35]]), user_schema(["left_eye", "right_eye", "nose"]))
        >>> face.point("nose"), face.box
        (array([20., 35.], dtype=float32), array([10., 20., 30., 35.], dtype=float32))
    """

    keypoints: Floats
    schema: KeypointSchema
    score: float | None = None
    uncertainty: Floats | None = None
    detection_box: Floats | None = None

    def __post_init__(self) -> None:
        count = self.schema.num_keypoints
        arrays = (
            ("keypoints", self.keypoints, (count, 2)),
            ("an uncertainty", self.uncertainty, (count,)),
            ("a detection box", self.detection_box, (4,)),
        )
        for name, array, expected in arrays:
            if array is not None and np.shape(array) != expected:
                raise KpdetectError(
                    f"face: expected {name} of shape {expected} for scheme '{self.schema.name}', "
                    f"received {np.shape(array)}"
                )

    @property
    def box(self) -> Floats:
        """The tight box of the keypoints: (4,) float32 (x0, y0, x1, y1) in pixels of the photograph."""
        return tight_box(self.keypoints)

    def __getitem__(self, group: str) -> Floats:
        """The keypoints of a group, such as ``face["left_eye"]``: (n, 2) in pixels.

        Raises:
            KpdetectError: The schema has no such group.
        """
        if group not in self.schema.groups:
            raise unknown_name(f"group in scheme '{self.schema.name}',", group, self.schema.groups)
        return np.asarray(self.keypoints[list(self.schema.groups[group])])

    def point(self, name: str) -> Floats:
        """One keypoint by its name, such as ``face.point("nose_tip")``: (2,) in pixels.

        Raises:
            KpdetectError: The schema has no such keypoint; the message suggests names.
        """
        return np.asarray(self.keypoints[self.schema.index(name)])

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready description.

        Returns:
            ``box`` and ``detection_box`` as (x0, y0, x1, y1), ``keypoints`` as (x, y) in the order of ``names``, and
            ``uncertainty``, in pixels with three decimals; ``score`` with four. ``detection_box``, ``score`` and
            ``uncertainty`` are None where the face has none.
        """

        def rounded(values: Floats | None) -> Any:
            return None if values is None else np.round(values.astype(np.float64), 3).tolist()

        return {
            "box": rounded(self.box),
            "detection_box": rounded(self.detection_box),
            "score": None if self.score is None else round(self.score, 4),
            "names": list(self.schema.point_names),
            "keypoints": rounded(self.keypoints),
            "uncertainty": rounded(self.uncertainty),
        }

    def __repr__(self) -> str:
        box = ", ".join(f"{side:.1f}" for side in self.box)
        score = "" if self.score is None else f", score={self.score:.2f}"
        return f"Face({self.schema.num_keypoints} keypoints of '{self.schema.name}', box=({box}){score})"

    def __str__(self) -> str:
        """Three lines: the box, the score and the keypoints."""
        x0, y0, x1, y1 = self.box.tolist()
        score = "none" if self.score is None else f"{self.score:.2f}"
        distance = ""
        if self.schema.normalizer_points is not None:
            distance = (
                f", {self.schema.normalizer_name} distance {self.schema.normalizers(self.keypoints[None])[0]:.1f} px"
            )
        error = "" if self.uncertainty is None else f", expected error {self.uncertainty.mean():.1f} px"
        return (
            f"box: ({x0:.1f}, {y0:.1f}, {x1:.1f}, {y1:.1f}), {x1 - x0:.1f} x {y1 - y0:.1f} px\n"
            f"score: {score}\n"
            f"keypoints: {self.schema.num_keypoints} of scheme '{self.schema.name}'{distance}{error}"
        )
