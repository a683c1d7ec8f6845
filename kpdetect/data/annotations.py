"""Owns `Annotations`, the one struct that every reader gives, and its splits by subject. No pixels, no TensorFlow."""

import dataclasses
import hashlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import DataError, KpdetectError
from kpdetect.core.geometry import Floats, image_box
from kpdetect.core.images import read_image
from kpdetect.core.schema import KeypointSchema

ReadImage = Callable[[str], npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Annotations:
    """Labelled faces: one row per face, N rows of K points.

    Attributes:
        schema: The scheme of the points.
        name: The data set's name as results print it, such as ``youtube-faces``.
        paths: (N,) of str; a photograph with several faces stands in several rows.
        keypoints: (N, K, 2) float32, in the photograph's pixels (EXIF turned), centres on integers.
        visible: (N, K) bool; a point that is not visible weighs nothing in losses and errors.
        boxes: (N, 4) float32, the face boxes as (x0, y0, x1, y1): the tight box of the points unless the set says more.
        subjects: (N,) of str, who is pictured; splits keep a subject together.
        boxes_around: What the boxes are: ``face``, or ``image`` where they are whole pictures.
        terms: The terms under which the data may be used, for model cards.
        read: Gives the photograph of a path as RGB uint8 (H, W, 3); drawn sets draw it instead of reading a file.
        skipped: How many bad rows were left out.

    Raises:
        KpdetectError: The arrays do not fit each other.
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
    def kind(self) -> str:
        """Which set it is a part of; see `kind_of`."""
        return kind_of(self.name)

    def take(self, rows: npt.ArrayLike, name: str | None = None) -> "Annotations":
        """The rows of a mask or of a list of indices, in that order."""
        index = np.asarray(rows)
        if index.dtype != bool:
            index = index.astype(np.int64)
        arrays = {key: getattr(self, key)[index] for key in ("paths", "keypoints", "visible", "boxes", "subjects")}
        return dataclasses.replace(self, name=name or self.name, **arrays)

    def select(self, point_names: Sequence[str]) -> "Annotations":
        """The same faces with some of their points alone, such as ``["nose_tip"]``; the boxes stay as they are.

        Args:
            point_names: Unique names of points of the scheme, in the order wanted.

        Raises:
            KpdetectError: A name is unknown or there twice, or there is none.
        """
        schema = self.schema.subset(point_names)
        index = [self.schema.index(name) for name in schema.point_names]
        return dataclasses.replace(
            self, schema=schema, keypoints=self.keypoints[:, index], visible=self.visible[:, index]
        )


def on_whole_pictures(annotations: Annotations) -> Annotations:
    """The same faces with whole pictures for boxes, for models of pictures that show one face each.

    Raises:
        DataError: Images cannot be read; all of them are named.
    """
    boxes: dict[str, Floats] = {}
    problems: list[str] = []
    for path in np.unique(annotations.paths).tolist():
        try:
            height, width = annotations.read(path).shape[:2]
            boxes[path] = image_box((height, width))
        except KpdetectError as error:
            problems.append(str(error))
    if problems:
        raise DataError(problems)
    whole = np.stack([boxes[path] for path in annotations.paths.tolist()])
    return dataclasses.replace(annotations, boxes=whole, boxes_around="image")


def labelled(annotations: Annotations, purpose: str) -> Annotations:
    """The faces with at least one visible point; sets without points are for prediction alone.

    Args:
        annotations: Faces, with points or without.
        purpose: What the points are needed for, such as ``train``: for the error.

    Raises:
        KpdetectError: No face has a point.
    """
    has_points = annotations.visible.any(axis=1)
    if not has_points.any():
        raise KpdetectError(
            f"'{annotations.name}': expected visible points to {purpose} on, but none of its {len(annotations)} faces "
            "has one; such a set is for prediction (python -m kpdetect.predict --data)"
        )
    if has_points.all():
        return annotations
    left_out = int((~has_points).sum())
    print(f"'{annotations.name}': left out {left_out} of {len(annotations)} faces: no visible point", file=sys.stderr)
    return annotations.take(has_points)


def concatenate(parts: list[Annotations]) -> Annotations:
    """Several sets of one scheme as one.

    Raises:
        KpdetectError: Their schemes differ.
    """
    first = parts[0]
    for other in parts[1:]:
        if other.schema != first.schema:
            raise KpdetectError(
                f"'{first.name}' has the points of scheme '{first.schema.name}', "
                f"'{other.name}' those of '{other.schema.name}': train them apart"
            )
    if len(parts) == 1:
        return first
    reader_of = {path: part.read for part in parts for path in part.paths.tolist()}
    arrays: dict[str, Any] = {
        key: np.concatenate([getattr(part, key) for part in parts])
        for key in ("paths", "keypoints", "visible", "boxes", "subjects")
    }
    return Annotations(
        schema=first.schema,
        name="+".join(part.name for part in parts),
        terms=" ".join(dict.fromkeys(part.terms for part in parts if part.terms)),
        read=lambda path: reader_of[path](path),
        skipped=sum(part.skipped for part in parts),
        boxes_around="image" if all(part.boxes_around == "image" for part in parts) else "face",
        **arrays,
    )


def split_by_subject(
    annotations: Annotations, val_fraction: float, seed: int = 0, test_fraction: float = 0.0
) -> tuple[Annotations, Annotations, Annotations]:
    """Train, validation and test rows; every subject lies in one of them alone.

    A subject's place follows from a hash of its name and the seed: it stays the same when rows are added,
    left out or shuffled, and in every set where the subject appears. (Only where a share would catch nobody
    or everybody, as in a small set, the nearest subject is taken or left.) The test part comes first, so that who is
    in it does not depend on how many are validated on.

    Args:
        annotations: The rows to split.
        val_fraction: The share of subjects in validation, in [0, 1).
        seed: Another seed gives another split.
        test_fraction: The share of subjects in test.

    Returns:
        (train, val, test); test may be empty.

    Raises:
        KpdetectError: There are fewer subjects than parts.
    """
    if not 0 <= val_fraction < 1 or not 0 <= test_fraction < 1 or val_fraction + test_fraction >= 1:
        raise KpdetectError(f"split: expected fractions in [0, 1), received val {val_fraction}, test {test_fraction}")
    subjects = sorted(np.unique(annotations.subjects).tolist(), key=lambda subject: _place(subject, seed))
    if len(subjects) < 1 + (val_fraction > 0) + (test_fraction > 0):
        raise KpdetectError(
            f"'{annotations.name}': {len(subjects)} subject{'s' * (len(subjects) != 1)} cannot be split by subject; "
            "name a set of other people with --val-data"
        )
    num_test = min(_share(subjects, 0.0, test_fraction, seed), len(subjects) - 1 - (val_fraction > 0))
    num_val = min(_share(subjects[num_test:], test_fraction, val_fraction, seed), len(subjects) - num_test - 1)
    parts = subjects[num_test + num_val :], subjects[num_test : num_test + num_val], subjects[:num_test]
    train, val, test = (annotations.take(np.isin(annotations.subjects, part)) for part in parts)
    return train, val, test


def split_by_rule(annotations: Annotations, rule: Mapping[str, Any]) -> tuple[Annotations, Annotations, Annotations]:
    """Train, validation and test rows by a rule that a model's description can hold.

    Args:
        annotations: The rows to split.
        rule: ``val_subjects``, a list of names; or else ``val_fraction``, ``seed`` and, where a test part is kept out
            too, ``test_fraction``, as `split_by_subject` takes.

    Returns:
        (train, val, test); test is empty where the rule keeps none.

    Raises:
        KpdetectError: None or all of the rows would be held out.
    """
    if "val_subjects" not in rule:
        test_fraction = float(rule.get("test_fraction", 0.0))
        return split_by_subject(annotations, float(rule["val_fraction"]), int(rule["seed"]), test_fraction)
    held_out = np.isin(annotations.subjects, list(rule["val_subjects"]))
    if held_out.all() or not held_out.any():
        raise KpdetectError(
            f"'{annotations.name}': expected some of its subjects among {', '.join(rule['val_subjects'])}, and others; "
            f"found {held_out.sum()} of {len(annotations)} faces there"
        )
    return annotations.take(~held_out), annotations.take(held_out), annotations.take(np.zeros(len(annotations), bool))


def _share(subjects: list[str], start: float, fraction: float, seed: int) -> int:
    """How many of the leading subjects fall into [start, start + fraction); one at least where any is wanted."""
    count = sum(_place(subject, seed) < start + fraction for subject in subjects)
    return max(count, 1) if fraction > 0 else 0


def _place(subject: str, seed: int) -> float:
    """A subject's place in [0, 1), the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{subject}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def kind_of(name: str) -> str:
    """Which set a data set of this name is a part of: ``youtube-faces`` for either of its lists.

    >>> kind_of("ibug:helen"), kind_of("youtube-faces published test (leaks: …)")
    ('ibug', 'youtube-faces')
    """
    return re.split("[: ]", name, maxsplit=1)[0]
