"""`Spec`, the description of a model, and its JSON form ``spec.json``."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, NotRequired, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt

from kpdetect import __version__
from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule
from kpdetect.core.schema import KeypointSchema
from kpdetect.modelfile.spec_text import (
    FACE_SCORE_TEXT,
    SCORE_TEXT,
    UNCERTAINTY_TEXT,
    VISIBILITY_TEXT,
    describe_crop,
    describe_input,
    describe_output,
)

FORMAT = "kpdetect-model"
FORMAT_VERSION = 1
SPEC_FILE = "spec.json"
MAX_SPEC_BYTES = 4 << 20
MAX_SIDE, MAX_POINTS, MAX_MARGIN = 2048, 10_000, 100.0  # of a crop, of a scheme, of a crop rule
RANGES_FROM = "ranges_from"
"""Key of `Spec.extra` that names the faces on which an ``int8`` file measured its ranges."""
INPUT_NAME, OUTPUT_NAME = "image", "keypoints"  # names in every exported file
UNCERTAINTY_NAME = "uncertainty"  # the second output of models with uncertainty
SCORE_NAME, VISIBILITY_NAME = "score", "visibility"  # further outputs of models with these heads

_INPUT_TYPES = ("float32", "uint8")
_COLORS = {1: "grey", 3: "RGB"}
# No error is recorded without its normaliser, split and box source.
_ERROR_ROW_KEYS = ("dataset", "split", "boxes", "n", "normaliser")

Part = TypeVar("Part")


class FileRecord(TypedDict):
    """Record of one file of a bundle.

    Attributes:
        sha256: 64 hexadecimal digits.
        bytes: Its size.
        max_difference_px: Greatest difference from Keras at export, in pixels of the crop (relative for an uncertainty
            above one pixel); None for a file that was not compared.
        mean_difference_px: Mean of the same differences.
        batch: The number of crops that the file takes at once; absent if it is free.
    """

    sha256: str
    bytes: int
    max_difference_px: float | None
    mean_difference_px: NotRequired[float | None]
    batch: NotRequired[int]


@dataclass(frozen=True)
class Spec:
    """Description of a model: everything that its caller must know.

    Attributes:
        schema: The scheme of the K points.
        architecture: A name that `kpdetect.models.build` knows.
        architecture_options: Options of the architecture, plain JSON.
        crop: How a face box becomes the crop; ``size_hw`` is the input's height and width.
        channels: 1 for grey, 3 for RGB.
        recipe: Name of the recipe it was trained with.
        data: Names of the data sets it was trained on.
        terms: Terms of use of those data.
        errors: Result rows; each names its ``dataset``, ``split``, ``boxes``, ``n`` and ``normaliser``.
        files: The other files of the bundle, by POSIX path relative to it.
        kpdetect_version: The version that wrote it.
        uncertainty: Whether the model has an output ``uncertainty``, the expected error of each point.
        score: Whether the model has an output ``score``, the probability that a crop contains a face.
        visibility: Whether the model has an output ``visibility``, the probability of each point that it is seen.
        face_score: Parameters ``middle`` and ``slope`` of `face_scores`, for models without the output ``score``; None
            without a face score.
        extra: Anything else, plain JSON.
        input_dtype: Type of the pixels that this file takes: ``float32`` or ``uint8``.

    Raises:
        KpdetectError: A field has an invalid value; the text names the field.

    Example:
        ```python
        spec = Spec(IBUG68, "compact", {}, CropRule((160, 160), 1.2), channels=1)
        assert Spec.from_json(spec.to_json()) == spec
        ```
    """

    schema: KeypointSchema
    architecture: str
    architecture_options: Mapping[str, Any]
    crop: CropRule
    channels: int
    recipe: str = ""
    data: tuple[str, ...] = ()
    terms: str = ""
    errors: tuple[Mapping[str, Any], ...] = ()
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    kpdetect_version: str = __version__
    uncertainty: bool = False
    score: bool = False
    visibility: bool = False
    face_score: Mapping[str, float] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    input_dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("architecture_options", "files", "extra"):
            object.__setattr__(self, name, _plain_json(name, getattr(self, name), dict))
        for name in ("errors", "data"):
            object.__setattr__(self, name, tuple(_plain_json(name, getattr(self, name), list)))
        if self.face_score is not None:
            object.__setattr__(self, "face_score", _plain_json("face_score", self.face_score, dict))
        self._check()

    def _check(self) -> None:
        if self.channels not in _COLORS:
            raise _mismatch("channels", "1 (grey) or 3 (RGB)", self.channels)
        if max(self.crop.size_hw) > MAX_SIDE:
            raise _mismatch("crop.size_hw", f"at most {MAX_SIDE} pixels", self.crop.size_hw)
        if self.crop.margin > MAX_MARGIN:
            raise _mismatch("crop.margin", f"at most {MAX_MARGIN:g}", self.crop.margin)
        if self.num_keypoints > MAX_POINTS:
            raise _mismatch("schema.point_names", f"at most {MAX_POINTS}", self.num_keypoints)
        if self.input_dtype not in _INPUT_TYPES:
            raise _mismatch("input.dtype", " or ".join(_INPUT_TYPES), self.input_dtype)
        for name in ("architecture", "recipe", "terms", "kpdetect_version"):
            _must_be(name, getattr(self, name), str)
        for name in self.data:
            _must_be("data", name, str)
        for row in self.errors:
            missing = [key for key in _ERROR_ROW_KEYS if key not in _must_be("errors", row, dict)]
            if missing:
                raise _mismatch("errors", f"rows that name {', '.join(_ERROR_ROW_KEYS)}", f"one without {missing}")
        for name, record in self.files.items():
            _check_file_record(name, record)
        for name in ("uncertainty", "score", "visibility"):
            _must_be(name, getattr(self, name), bool)
        _ = self.mean_target  # raises where it is wrong
        if self.face_score is not None:
            for name in ("middle", "slope"):
                _must_be(f"face_score.{name}", self.face_score.get(name), float)

    @property
    def judges_faces(self) -> bool:
        """Whether the model has a face score: as an output, or derived from its uncertainty."""
        return self.score or self.face_score is not None

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """The names of the model's outputs, and their shapes without the batch."""
        count = self.num_keypoints
        shapes = {
            OUTPUT_NAME: (count, 2),
            UNCERTAINTY_NAME: (count,) if self.uncertainty else None,
            SCORE_NAME: () if self.score else None,
            VISIBILITY_NAME: (count,) if self.visibility else None,
        }
        return {name: shape for name, shape in shapes.items() if shape is not None}

    @property
    def split_rule(self) -> Mapping[str, Any]:
        """Split rule for `kpdetect.data.split_by_rule`; training's default if not recorded."""
        rule: Mapping[str, Any] | None = self.extra.get("split")
        return rule or {"val_fraction": 0.1, "seed": 0}

    @property
    def mean_target(self) -> npt.NDArray[np.float32] | None:
        """(K, 2), the mean label over the training crops, relative to the crop; None where it was not recorded.

        Raises:
            KpdetectError: It is not K pairs of finite numbers.
        """
        target = self.extra.get("mean_target")
        if target is None:
            return None
        try:
            points = np.array(target, np.float32)
        except (TypeError, ValueError) as error:
            raise _mismatch("extra.mean_target", f"{self.num_keypoints} pairs of numbers", target) from error
        if points.shape != (self.num_keypoints, 2) or not np.isfinite(points).all():
            raise _mismatch("extra.mean_target", f"{self.num_keypoints} pairs of finite numbers", points.shape)
        return points

    @property
    def num_keypoints(self) -> int:
        """K, the number of points."""
        return self.schema.num_keypoints

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one crop."""
        return (*self.crop.size_hw, self.channels)

    def to_json(self) -> str:
        """Returns the text of ``spec.json``; `from_json` reads it."""
        return json.dumps(_document(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str = SPEC_FILE) -> "Spec":
        """Reads the output of `to_json`.

        Args:
            text: The JSON; bytes are UTF-8.
            where: The file it is from, for errors.

        Raises:
            KpdetectError: It is no spec, a field is missing or invalid, or a newer version of kpdetect wrote it.
        """
        try:
            return _from_document(_parse(text))
        except KpdetectError as error:
            raise KpdetectError(f"{where}: {error}") from error


def _document(spec: Spec) -> dict[str, Any]:
    height, width = spec.crop.size_hw
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "kpdetect_version": spec.kpdetect_version,
        "recipe": spec.recipe,
        "architecture": {"name": spec.architecture, "options": dict(spec.architecture_options)},
        "input": {
            "name": INPUT_NAME,
            "shape": [None, height, width, spec.channels],
            "channels": spec.channels,
            "color": _COLORS[spec.channels],
            "dtype": spec.input_dtype,
            "range": [0, 255],
            "description": describe_input(spec.channels, spec.input_dtype),
        },
        "crop": {**spec.crop.to_dict(), "description": describe_crop(spec.crop)},
        "output": {
            "name": OUTPUT_NAME,
            "shape": [None, spec.num_keypoints, 2],
            "description": describe_output(spec.crop),
        },
        "uncertainty": _further_output(UNCERTAINTY_NAME, spec, UNCERTAINTY_TEXT),
        "score": _further_output(SCORE_NAME, spec, SCORE_TEXT),
        "visibility": _further_output(VISIBILITY_NAME, spec, VISIBILITY_TEXT),
        "face_score": None if spec.face_score is None else {**spec.face_score, "description": FACE_SCORE_TEXT},
        "schema": spec.schema.to_dict(),
        "data": list(spec.data),
        "terms": spec.terms,
        "errors": list(spec.errors),
        "files": dict(spec.files),
        "extra": dict(spec.extra),
    }


def _from_document(document: dict[str, Any]) -> Spec:
    return Spec(
        schema=_build("schema", _at(document, "schema", dict), KeypointSchema.from_dict),
        architecture=_at(document, "architecture.name", str),
        architecture_options=_at(document, "architecture.options", dict),
        crop=_build("crop", _at(document, "crop", dict), CropRule.from_dict),
        channels=_at(document, "input.channels", int),
        input_dtype=str(document["input"].get("dtype", "float32")),  # older files do not record it
        recipe=_at(document, "recipe", str),
        data=tuple(_at(document, "data", list)),
        terms=_at(document, "terms", str),
        errors=tuple(_at(document, "errors", list)),
        files=_at(document, "files", dict),
        kpdetect_version=_at(document, "kpdetect_version", str),
        uncertainty=bool(document.get(UNCERTAINTY_NAME)),
        score=bool(document.get(SCORE_NAME)),  # older files have neither of these two
        visibility=bool(document.get(VISIBILITY_NAME)),
        face_score=_face_score(document),
        extra=_at(document, "extra", dict),
    )


def _parse(text: str | bytes) -> dict[str, Any]:
    if len(text) > MAX_SPEC_BYTES:
        raise KpdetectError(f"expected at most {MAX_SPEC_BYTES} bytes, received more")
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise KpdetectError("not JSON: nested too deep") from error
    except ValueError as error:  # JSONDecodeError or UnicodeDecodeError
        raise KpdetectError(f"not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise KpdetectError(f"expected a JSON object with format '{FORMAT}'")
    version = _at(document, "format_version", int)
    if not 1 <= version <= FORMAT_VERSION:
        raise KpdetectError(
            f"format_version: this kpdetect ({__version__}) reads up to {FORMAT_VERSION}, received {version}; "
            "upgrade with: pip install --upgrade kpdetect"
        )
    return document


def _further_output(name: str, spec: Spec, description: str) -> dict[str, Any] | None:
    if name not in spec.outputs:
        return None
    return {"name": name, "shape": [None, *spec.outputs[name]], "description": description}


def face_scores(uncertainty: npt.NDArray[np.float32], face_score: Mapping[str, float]) -> npt.NDArray[np.float32]:
    """Returns the face score of crops, from 0 to 1.

    It is ``1 / (1 + exp(slope * (ln m - middle)))`` of the mean uncertainty m.

    Args:
        uncertainty: (N, K), relative to the crop.
        face_score: ``middle`` and ``slope``, as in `Spec.face_score`.

    Returns:
        (N,) float32.

    >>> face_scores(np.full((1, 68), np.exp(-3.0), np.float32), {"middle": -3.0, "slope": 5.0}).round(3)
    array([0.5], dtype=float32)
    """
    level = np.log(np.maximum(uncertainty.mean(axis=1, dtype=np.float64), 1e-9))
    exponent = np.clip(face_score["slope"] * (level - face_score["middle"]), -50, 50)
    return np.asarray(1 / (1 + np.exp(exponent)), np.float32)


def _face_score(document: Mapping[str, Any]) -> dict[str, float] | None:
    if document.get("face_score") is None:
        return None
    return {name: _at(document, f"face_score.{name}", float) for name in ("middle", "slope")}


def _at(document: Mapping[str, Any], path: str, kind: type[Part]) -> Part:
    """Returns the value at a dotted path after a check of its type."""
    value: Any = document
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            raise KpdetectError(f"{path}: missing")
        value = value[key]
    return _must_be(path, value, kind)


def _build(name: str, description: Mapping[str, Any], build: Callable[[Mapping[str, Any]], Part]) -> Part:
    try:
        return build(description)
    except KeyError as error:
        raise KpdetectError(f"{name}.{error.args[0]}: missing") from error
    except (TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise KpdetectError(f"{name}: {error}") from error


def _must_be(name: str, value: Any, kind: type[Part]) -> Part:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        raise _mismatch(name, kind.__name__, value)
    return value


def _plain_json(name: str, value: Any, kind: type[Part]) -> Part:
    """Returns a copy that consists of plain JSON values, so that the object equals what the file will hold."""
    try:
        return _must_be(name, json.loads(json.dumps(dict(value) if kind is dict else value, allow_nan=False)), kind)
    except (TypeError, ValueError, RecursionError) as error:
        raise KpdetectError(f"{name}: expected plain, finite JSON values: {error}") from error


def _check_file_record(name: str, record: Any) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise _mismatch("files", "paths within the bundle", name)
    where = f"files.{name}"
    _must_be(where, record, dict)
    for key, kind in (("sha256", str), ("bytes", int)):
        if key not in record:
            raise KpdetectError(f"{where}.{key}: missing")
        _must_be(f"{where}.{key}", record[key], kind)
    digest = record["sha256"]
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise _mismatch(f"{where}.sha256", "64 hexadecimal digits", digest)
    if record["bytes"] < 0:
        raise _mismatch(f"{where}.bytes", "a size", record["bytes"])
    for key in ("max_difference_px", "mean_difference_px"):
        difference = record.get(key)
        if difference is not None and not (isinstance(difference, int | float) and math.isfinite(difference)):
            raise _mismatch(f"{where}.{key}", "a number or null", difference)
    if "batch" in record and _must_be(f"{where}.batch", record["batch"], int) < 1:
        raise _mismatch(f"{where}.batch", "a number from 1", record["batch"])


def _mismatch(name: str, expected: str, received: Any) -> KpdetectError:
    return KpdetectError(f"{name}: expected {expected}, received {received!r}")
