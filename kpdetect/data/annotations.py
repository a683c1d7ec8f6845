"""`Annotations`, the result of every reader, and its splits by subject. Uses no TensorFlow."""

import dataclasses
import hashlib
import logging
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import DataError, KpdetectError
from kpdetect.core.geometry import Floats, image_box
from kpdetect.core.images import image_size, read_image
from kpdetect.core.schema import KeypointSchema

_LOG = logging.getLogger(__name__)

ReadImage = Callable[[str], npt.NDArray[np.uint8]]

HELD_OUT_ONE_IN = 4  # of the people or photographs of sets without a split; see `is_held_out`


@dataclass(frozen=True)
class Annotations:
    """Labelled faces: N faces of K points each.

    Example:
        ``annotations.take(annotations.subjects == "ann").keypoints`` are the points of one person's faces.

    Attributes:
        schema: The schema of the points.
        name: Name of the data set in results, such as ``youtube-faces``.
        paths: (N,) str, path of each face's image. An image with several faces occurs several times.
        keypoints: (N, K, 2) float32, in pixels of the image after its EXIF rotation, pixel centres on integers.
        visible: (N, K) bool. A point that is not visible has zero weight in losses and metrics.
        boxes: (N, 4) float32, face boxes as (x0, y0, x1, y1) in pixels: the tight box of the points unless the data set
            has its own.
        subjects: (N,) str, the person or the photograph; splits keep a subject together.
        boxes_around: What the boxes contain: ``face``, or ``image`` for whole images.
        terms: Terms of use of the data, for model cards.
        read: Returns the image of a path as RGB uint8 (H, W, 3). Synthetic sets render it.
        skipped: Number of invalid rows that were left out.

    Raises:
        KpdetectError: The shapes of the arrays do not match.
    """

    schema: KeypointSchema
    name: str
    paths: npt.NDArray[np.str_]
    keypoints: Floats
    visible: npt.NDArray[np.bool_]
    boxes: Floats
    subjects: npt.NDArray[np.str_]
    terms: str = ""
    read: ReadImage = read_image
    skipped: int = 0
    boxes_around: str = "face"

    def __post_init__(self) -> None:
        n, k = len(self.paths), self.schema.num_keypoints
        expected = {"keypoints": (n, k, 2), "visible": (n, k), "boxes": (n, 4), "subjects": (n,)}
        for attribute, shape in expected.items():
            found = getattr(self, attribute).shape
            if found != shape:
                raise KpdetectError(
                    f"annotations '{self.name}': expected {attribute} of shape {shape}, received {found}"
                )

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def dataset(self) -> str:
        """Name of the data set without its part; see `dataset_of`."""
        return dataset_of(self.name)

    def is_image_file(self, path: str) -> bool:
        """Whether `path` is a file that `read_image` reads. Otherwise `read` renders or changes the image."""
        reader = self.read.reader_of[path] if isinstance(self.read, _ReadFromParts) else self.read
        return reader is read_image

    def take(self, rows: npt.ArrayLike, name: str | None = None) -> "Annotations":
        """Returns some of the faces.

        Example:
            ``annotations.take([2, 0])`` or ``annotations.take(annotations.visible.all(axis=1))``

        Args:
            rows: Indices in the order wanted, or an (N,) bool mask.
            name: Name of the result; None keeps the name.
        """
        index = np.asarray(rows)
        if index.dtype != bool:
            index = index.astype(np.int64)
        arrays = {key: getattr(self, key)[index] for key in ("paths", "keypoints", "visible", "boxes", "subjects")}
        return dataclasses.replace(self, name=name or self.name, **arrays)

    def select(self, point_names: Sequence[str]) -> "Annotations":
        """Returns the faces with some of their points. The boxes are unchanged.

        Example:
            ``annotations.select(["nose_tip"]).keypoints`` has the shape (N, 1, 2).

        Args:
            point_names: Unique names of points of the schema, in the order wanted.

        Raises:
            KpdetectError: A name is unknown or repeated, or there is none.
        """
        schema = self.schema.subset(point_names)
        index = [self.schema.index(name) for name in schema.point_names]
        return dataclasses.replace(
            self, schema=schema, keypoints=self.keypoints[:, index], visible=self.visible[:, index]
        )

    @classmethod
    def from_dataframe(cls, frame: Any, folder: str = "", name: str = "dataframe") -> "Annotations":
        """Reads labelled faces from a pandas data frame with the columns that `kpdetect.data.read_csv` takes.

        Example:
            ``Annotations.from_dataframe(pandas.read_csv("faces.csv"))``

        Args:
            frame: One face per row; NaN for points that are not labelled.
            folder: Folder to which the paths of images are relative; by default the current folder.
            name: Name of the data set in results.

        Raises:
            DataError: Rows are invalid; the error lists all of them, counted from 0.
            KpdetectError: The columns are not those of labelled faces.
        """
        from kpdetect.data.readers.tabular import read_dataframe

        return read_dataframe(frame, folder, name)

    def to_dataframe(self) -> Any:
        """Returns a pandas data frame: image, x and y of each point, subject and the face box of each face.

        Example:
            ``annotations.to_dataframe().to_csv("faces.csv", index=False)``

        Raises:
            MissingExtra: pandas is not installed.
        """
        from kpdetect.data.writers.tables import to_dataframe

        return to_dataframe(self)


def with_image_boxes(annotations: Annotations) -> Annotations:
    """Returns the faces with whole images as boxes, for models of images with one face each.

    The sizes of files are those in their headers; nothing is decoded.

    Raises:
        DataError: The sizes of images cannot be read; the error lists all of them.

    Example:
        ``with_image_boxes(load("imm:DIR")).boxes_around`` is ``image``.
    """
    boxes: dict[str, Floats] = {}
    problems: list[str] = []
    for path in np.unique(annotations.paths).tolist():
        try:
            size_hw = image_size(path) if annotations.is_image_file(path) else None
            height, width = size_hw or annotations.read(path).shape[:2]
            boxes[path] = image_box((height, width))
        except KpdetectError as error:
            problems.append(str(error))
    if problems:
        raise DataError(problems)
    image_boxes = np.stack([boxes[path] for path in annotations.paths.tolist()])
    return dataclasses.replace(annotations, boxes=image_boxes, boxes_around="image")


def drop_unlabelled(annotations: Annotations, purpose: str) -> Annotations:
    """Returns the faces with at least one visible point, and logs the number of the others.

    Args:
        annotations: Faces with or without labelled points.
        purpose: What the points are needed for, such as ``train``, for the error message.

    Raises:
        KpdetectError: No face has a visible point.

    Example:
        ``faces = drop_unlabelled(load("ibug:FILE.xml"), "train")``
    """
    has_points = annotations.visible.any(axis=1)
    if not has_points.any():
        raise KpdetectError(
            f"'{annotations.name}': expected visible points to {purpose} on, found none in its {len(annotations)} "
            "faces; use such a set for prediction (python -m kpdetect.predict --data)"
        )
    if has_points.all():
        return annotations
    left_out = int((~has_points).sum())
    _LOG.warning(f"'{annotations.name}': left out {left_out} of {len(annotations)} faces: no visible point")
    return annotations.take(has_points)


@dataclass(frozen=True)
class _ReadFromParts:
    """Reads each image with the reader of its set. Unlike a function inside a function, it can be pickled."""

    reader_of: Mapping[str, ReadImage]

    def __call__(self, path: str) -> npt.NDArray[np.uint8]:
        return self.reader_of[path](path)


def concatenate(parts: list[Annotations]) -> Annotations:
    """Concatenates sets of the same schema.

    Example:
        ``concatenate(load_sets("ibug:300w,synthetic:500"))``

    Raises:
        KpdetectError: The schemas differ.
    """
    first = parts[0]
    for other in parts[1:]:
        if other.schema != first.schema:
            raise KpdetectError(
                f"'{first.name}' has the points of scheme '{first.schema.name}', '{other.name}' those of "
                f"'{other.schema.name}'; sets can be used together only if their points are the same"
            )
    if len(parts) == 1:
        return first
    arrays: dict[str, Any] = {
        key: np.concatenate([getattr(part, key) for part in parts])
        for key in ("paths", "keypoints", "visible", "boxes", "subjects")
    }
    return Annotations(
        schema=first.schema,
        name="+".join(part.name for part in parts),
        terms=" ".join(dict.fromkeys(part.terms for part in parts if part.terms)),
        read=_ReadFromParts({path: part.read for part in parts for path in part.paths.tolist()}),
        skipped=sum(part.skipped for part in parts),
        boxes_around="image" if all(part.boxes_around == "image" for part in parts) else "face",
        **arrays,
    )


def split_by_subject(
    annotations: Annotations, val_fraction: float, seed: int = 0, test_fraction: float = 0.0
) -> tuple[Annotations, Annotations, Annotations]:
    """Splits faces into training, validation and test parts without a common subject.

    A hash of the subject's name and the seed decides its part. So the part does not change when faces are added,
    removed or shuffled, and is the same in every data set. Exception: if a part would have no subject or all of them,
    as in a small set, the nearest subject is moved. The test part is chosen first and does not depend on
    `val_fraction`.

    Example:
        ``train, val, _ = split_by_subject(load("ibug:300w"), val_fraction=0.1)``

    Args:
        annotations: The faces to split.
        val_fraction: Fraction of the subjects for validation, in [0, 1).
        seed: Seed of the hash.
        test_fraction: Fraction of the subjects for the test, in [0, 1).

    Returns:
        (train, val, test). A part with a fraction of 0 is empty.

    Raises:
        KpdetectError: There are fewer subjects than parts, or a fraction is out of range.
    """
    if not 0 <= val_fraction < 1 or not 0 <= test_fraction < 1 or val_fraction + test_fraction >= 1:
        raise KpdetectError(f"split: expected fractions in [0, 1), received val {val_fraction}, test {test_fraction}")
    subjects = sorted(np.unique(annotations.subjects).tolist(), key=lambda subject: subject_position(subject, seed))
    if len(subjects) < 1 + (val_fraction > 0) + (test_fraction > 0):
        raise KpdetectError(
            f"'{annotations.name}': {len(subjects)} subject{'s' * (len(subjects) != 1)} cannot be split by subject; "
            "name a set of other subjects with --val-data"
        )
    positions = np.array([subject_position(subject, seed) for subject in subjects])
    num_test = max(int((positions < test_fraction).sum()), 1) if test_fraction > 0 else 0
    num_test = min(num_test, len(subjects) - 1 - (val_fraction > 0))
    remaining = positions[num_test:]
    num_val = max(int((remaining < test_fraction + val_fraction).sum()), 1) if val_fraction > 0 else 0
    num_val = min(num_val, len(remaining) - 1)
    parts = subjects[num_test + num_val :], subjects[num_test : num_test + num_val], subjects[:num_test]
    train, val, test = (annotations.take(np.isin(annotations.subjects, part)) for part in parts)
    return train, val, test


def split_by_rule(annotations: Annotations, rule: Mapping[str, Any]) -> tuple[Annotations, Annotations, Annotations]:
    """Splits faces by the rule that a model's ``spec.json`` records.

    Example:
        ``train, val, test = split_by_rule(faces, {"val_fraction": 0.1, "seed": 0})``

    Args:
        annotations: The faces to split.
        rule: ``val_subjects``, a list of names; or ``val_fraction``, ``seed`` and optionally ``test_fraction``, the
            arguments of `split_by_subject`.

    Returns:
        (train, val, test); test is empty if the rule has no test fraction.

    Raises:
        KpdetectError: The validation part would be empty or contain all faces.
    """
    if "val_subjects" not in rule:
        test_fraction = float(rule.get("test_fraction", 0.0))
        return split_by_subject(annotations, float(rule["val_fraction"]), int(rule["seed"]), test_fraction)
    held_out = np.isin(annotations.subjects, list(rule["val_subjects"]))
    if held_out.all() or not held_out.any():
        raise KpdetectError(
            f"'{annotations.name}': expected faces of the validation subjects {', '.join(rule['val_subjects'])} and of "
            f"others; found {held_out.sum()} of {len(annotations)} faces of these subjects"
        )
    return annotations.take(~held_out), annotations.take(held_out), annotations.take(np.zeros(len(annotations), bool))


def subject_position(subject: str, seed: int) -> float:
    """Returns the hash of a subject as a number in [0, 1), the same on every machine.

    Splits put the subjects below a share into one part.

    Example:
        >>> round(subject_position("ann", seed=0), 2)
        0.93
    """
    digest = hashlib.sha256(f"{seed}/{subject}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def is_held_out(key: str) -> bool:
    """Returns whether a person or photograph of a set without parts of its own is for validation: about a quarter.

    The tools that train on such sets and the benchmarks that measure on them share this rule. The last part of a path
    decides, so that the folder of a set does not matter.

    Args:
        key: The person, if the set names people; otherwise the photograph's name or path.

    Example:
        >>> is_held_out("004"), is_held_out("cfp/004"), is_held_out("001")
        (True, True, False)
    """
    return zlib.crc32(key.rsplit("/", 1)[-1].encode()) % HELD_OUT_ONE_IN == 0


def dataset_of(name: str) -> str:
    """Returns the data set's name without its part: ``youtube-faces`` for both of its lists.

    >>> dataset_of("ibug:helen"), dataset_of("youtube-faces published test (leaks: …)")
    ('ibug', 'youtube-faces')
    """
    return re.split("[: ]", name, maxsplit=1)[0]
