"""`Face`: the result of a prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError, unknown_name
from kpdetect.core.geometry import Floats, tight_box
from kpdetect.core.images import Pixels, as_rgb
from kpdetect.core.schema import KeypointSchema

FACE_SCORE = 0.5
"""The default threshold of `Face.score`: a detected box with a lower score is not a face."""

SEEN = 0.5
"""The threshold of `Face.visible`, to which the visibility of the packaged models is calibrated."""

CONFIDENT_ERROR = 0.08
"""The error that `Face.keypoint_confidence` refers to, relative to the scheme's normaliser, as in FR@8."""


def _list_of(item: dict[str, Any], length: int | None = None) -> dict[str, Any]:
    return {"type": "array", "items": item} | ({} if length is None else {"minItems": length, "maxItems": length})


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


_NUMBER, _SHARE = {"type": "number"}, {"type": "number", "minimum": 0, "maximum": 1}

FACE_JSON_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Face",
    "type": "object",
    "properties": {
        "box": _list_of(_NUMBER, 4),
        "detection_box": _or_null(_list_of(_NUMBER, 4)),
        "score": _or_null(_SHARE),
        "names": _list_of({"type": "string"}),
        "keypoints": _list_of(_list_of(_NUMBER, 2)),
        "uncertainty": _or_null(_list_of({"type": "number", "minimum": 0})),
        "keypoint_confidence": _or_null(_list_of(_SHARE)),
        "visibility": _or_null(_list_of(_SHARE)),
    },
    "required": [
        "box",
        "detection_box",
        "score",
        "names",
        "keypoints",
        "uncertainty",
        "keypoint_confidence",
        "visibility",
    ],
    "additionalProperties": False,
}
"""The JSON Schema of `Face.to_dict`. The lists ``names``, ``keypoints``, ``uncertainty``, ``keypoint_confidence`` and
``visibility`` are equally long. Coordinates are in pixels of the photograph after its EXIF rotation; boxes are
(x0, y0, x1, y1)."""


@dataclass(frozen=True, eq=False, repr=False)
class Face:
    """A face and its keypoints.

    Attributes:
        keypoints: (K, 2) float32 (x, y), in pixels of the photograph after its EXIF rotation; pixel centres are
            integers.
        schema: The names of the K keypoints, their groups, and what their error is divided by.
        score: The probability that this is a face, in [0, 1]; None if the model has no score.
        uncertainty: (K,) float32, the expected error of each keypoint in pixels of the photograph; None if the model
            does not estimate it.
        detection_box: (4,) float32 (x0, y0, x1, y1), the box that the keypoints were predicted from: the detector's, or
            the caller's; None if there was none. `box` is the tight box of the keypoints.
        visibility: (K,) float32, the probability of each keypoint that it is seen, and not hidden by a mask, a hand,
            hair or the head itself; None if the model does not estimate it. See `visible`.

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
    visibility: Floats | None = None

    def __post_init__(self) -> None:
        count = self.schema.num_keypoints
        arrays = (
            ("keypoints", self.keypoints, (count, 2)),
            ("an uncertainty", self.uncertainty, (count,)),
            ("a detection box", self.detection_box, (4,)),
            ("a visibility", self.visibility, (count,)),
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

    @property
    def visible(self) -> npt.NDArray[np.bool_] | None:
        """Which keypoints (K,) are seen: a `visibility` of at least `SEEN`. The place of the others is a guess.

        None if the model does not estimate the visibility.
        """
        return None if self.visibility is None else np.asarray(self.visibility >= SEEN)

    @property
    def keypoint_confidence(self) -> Floats | None:
        """The probability of each keypoint to be within `CONFIDENT_ERROR` of its true place.

        (K,) float32 in [0, 1]; None if the model has no uncertainty. The distance is relative to the scheme's
        normaliser, for 68 points to the distance between the outer eye corners. Errors are taken to follow the
        two-dimensional distribution with the density ``exp(-2 r / m)`` at the distance r, whose mean m is
        `uncertainty`: the probability is ``1 - (1 + 2 t / m) exp(-2 t / m)`` for the distance t. On 56 held-out faces
        of 300-W, in five groups by confidence, it differs from the measured share by 0.005 in the mean.
        """
        if self.uncertainty is None:
            return None
        single = self.schema.num_keypoints == 1
        width = None if self.detection_box is None else float(self.detection_box[2] - self.detection_box[0])
        if single and width is None:
            return None
        limit = CONFIDENT_ERROR * float(self.schema.normalizers(self.keypoints[None], width)[0])
        ratio = 2 * limit / np.maximum(self.uncertainty.astype(np.float64), 1e-9)
        return np.asarray(1 - (1 + ratio) * np.exp(-np.minimum(ratio, 700)), np.float32).clip(0, 1)

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

    def crop(self, image: npt.ArrayLike, margin: float = 1.2) -> Pixels:
        """Cuts the face out of its photograph, upright as it is there.

        `kpdetect.measures.face_chip` aligns the eyes and scales to a fixed size.

        Args:
            image: The photograph, (H, W, 3) RGB or another array that `kpdetect.core.images.as_rgb` accepts.
            margin: The sides of the crop, relative to those of `box`; above 0.

        Returns:
            (h, w, 3) uint8 RGB, a copy; only the part within the photograph.

        Raises:
            KpdetectError: The face is outside the photograph, or the margin is not above 0.
        """
        if not margin > 0:
            raise KpdetectError(f"crop: expected a margin above 0, received {margin}")
        pixels = as_rgb(image)
        low, high = self.box[:2].astype(np.float64), self.box[2:].astype(np.float64)
        center, half = (low + high) / 2, (high - low + 1) / 2 * margin
        limit = np.array(pixels.shape[1::-1])
        x0, y0 = np.clip(np.rint(center - half + 0.5), 0, limit).astype(int)
        x1, y1 = np.clip(np.rint(center + half + 0.5), 0, limit).astype(int)
        if x0 >= x1 or y0 >= y1:
            raise KpdetectError(
                f"crop: expected a face within the picture of {limit[0]} x {limit[1]}, received {self!r}"
            )
        return pixels[y0:y1, x0:x1].copy()

    def plot(self, image: npt.ArrayLike, **options: Any) -> Pixels:
        """Draws the face on a copy of its photograph, as `kpdetect.draw_faces` does.

        Args:
            image: The photograph, (H, W, 3) RGB.
            **options: Options of `kpdetect.draw_faces`, such as ``boxes=False``.

        Returns:
            (H, W, 3) uint8 RGB.
        """
        import kpdetect  # the drawing is above this package, and imports it

        return kpdetect.draw_faces(image, [self], **options)

    def transform_matrix(self) -> npt.NDArray[np.float64]:
        """The pose of the head as a matrix.

        Returns:
            (4, 4) float64, from the coordinates of a mean face to those of the camera. The unit is the distance between
            the outer eye corners; x points to the right of the picture, y down and z away from the camera.
            `kpdetect.head_transform` also returns the camera that it holds for.

        Raises:
            KpdetectError: The scheme lacks the points that the pose needs.
        """
        import kpdetect  # the measures are above this package, and import it

        return kpdetect.head_transform(self).matrix

    def to_supervision(self, min_confidence: float = 0.5) -> Any:
        """Converts the face to `supervision.KeyPoints`; see `kpdetect.faces_to_supervision`.

        Raises:
            KpdetectError: supervision is not installed.
        """
        from kpdetect.detection.interop import faces_to_supervision

        return faces_to_supervision([self], min_confidence)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready description, which `FACE_JSON_SCHEMA` describes.

        Returns:
            ``box`` and ``detection_box`` as (x0, y0, x1, y1), ``keypoints`` as (x, y) in the order of ``names``, and
            ``uncertainty``, in pixels with three decimals; ``score``, ``keypoint_confidence`` and ``visibility`` with
            four. What the face does not have is None.
        """

        def rounded(values: Floats | None, decimals: int = 3) -> Any:
            return None if values is None else np.round(values.astype(np.float64), decimals).tolist()

        return {
            "box": rounded(self.box),
            "detection_box": rounded(self.detection_box),
            "score": None if self.score is None else round(self.score, 4),
            "names": list(self.schema.point_names),
            "keypoints": rounded(self.keypoints),
            "uncertainty": rounded(self.uncertainty),
            "keypoint_confidence": rounded(self.keypoint_confidence, 4),
            "visibility": rounded(self.visibility, 4),
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
