"""Owns `Face`, the result of a prediction."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kpdetect.core.errors import KpdetectError, unknown_name
from kpdetect.core.geometry import Floats
from kpdetect.core.schema import KeypointSchema

FACE_SCORE = 0.5
"""What a face scores at least; a model that leaves out the rest lets detectors find more than is sure."""


@dataclass(frozen=True, eq=False)
class Face:
    """A face and its points.

    Attributes:
        box: (4,) float32, the face box (x0, y0, x1, y1) that the points were looked for in.
        keypoints: (K, 2) float32, in pixels of the photograph as it is seen (EXIF turned), centres on integers.
        schema: The scheme of the points.
        score: Whether this is a face at all, from 0 to 1, by the model's own uncertainty; None where the model does not
            tell.
        uncertainty: (K,) float32, how far off each point is expected to be, in pixels of the photograph; None where
            the model does not tell.
    """

    box: Floats
    keypoints: Floats
    schema: KeypointSchema
    score: float | None = None
    uncertainty: Floats | None = None

    def __post_init__(self) -> None:
        expected = (self.schema.num_keypoints, 2)
        if self.uncertainty is not None and self.uncertainty.shape != expected[:1]:
            raise KpdetectError(
                f"face: expected an uncertainty of shape {expected[:1]}, received {self.uncertainty.shape}"
            )
        if self.box.shape != (4,) or self.keypoints.shape != expected:
            raise KpdetectError(
                f"face: expected a box of shape (4,) and keypoints of shape {expected}, "
                f"received {self.box.shape} and {self.keypoints.shape}"
            )

    def __getitem__(self, group: str) -> Floats:
        """The points of a part, such as ``face["left_eye"]``: (n, 2).

        Raises:
            KpdetectError: The scheme has no such part.
        """
        if group not in self.schema.groups:
            raise unknown_name(f"group of points in scheme '{self.schema.name}',", group, self.schema.groups)
        return np.asarray(self.keypoints[list(self.schema.groups[group])])

    def point(self, name: str) -> Floats:
        """One point by its name, such as ``face.point("nose_tip")``: (2,).

        Raises:
            KpdetectError: The scheme has no such point.
        """
        return np.asarray(self.keypoints[self.schema.index(name)])

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready description; coordinates in pixels to a thousandth."""
        return {
            "box": [round(float(side), 3) for side in self.box],
            "score": None if self.score is None else round(self.score, 4),
            "names": list(self.schema.point_names),
            "keypoints": [[round(float(x), 3), round(float(y), 3)] for x, y in self.keypoints],
            "uncertainty": None if self.uncertainty is None else [round(float(u), 3) for u in self.uncertainty],
        }
