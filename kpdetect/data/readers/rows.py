"""Owns what the readers share: one labelled face, what is wrong with a bad one, and how faces become `Annotations`."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os.path import splitext
from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import DataError
from kpdetect.core.geometry import Floats, tight_box
from kpdetect.core.schema import KeypointSchema
from kpdetect.data.annotations import Annotations

LARGEST_COORDINATE = 1e6  # pixels; beyond any photograph, so a slip, and float32 is still exact to 1/16 pixel
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class Row:
    """A good face.

    Attributes:
        path: The photograph.
        keypoints: (K, 2) float32, in pixels.
        visible: (K,) bool.
        box: (4,) float32, as (x0, y0, x1, y1).
        subject: Who, or which photograph; splits keep it together.
    """

    path: str
    keypoints: Floats
    visible: npt.NDArray[np.bool_]
    box: Floats
    subject: str


Problems = tuple[str, ...]
"""What is wrong with a bad face, each with its file and line."""


class BadRow(Exception):
    """What is wrong with a face; each of its arguments, which are texts, is one problem."""

    args: Problems

    def at(self, where: str) -> "BadRow":
        """The same problems, each named with its file, or file and line."""
        return BadRow(*(f"{where}: {problem}" for problem in self.args))


@dataclass(frozen=True)
class Line:
    """A line of a text file that is not blank.

    Attributes:
        where: File and number of the line, as errors name it.
        text: What it says, without spaces at its ends.
    """

    where: str
    text: str


def text_lines(file: str) -> list[Line]:
    """The lines of a text file that are not blank; bytes that are no UTF-8 become signs that no number has.

    Raises:
        BadRow: The file cannot be read.
    """
    try:
        with open(file, encoding="utf-8-sig", errors="replace") as stream:
            lines = [Line(f"{file}:{count}", text.strip()) for count, text in enumerate(stream, start=1)]
    except OSError as error:
        raise BadRow(f"{file}: expected a readable file: {error.strerror}") from error
    return [line for line in lines if line.text]


def every(*parts: Callable[[], Any]) -> list[Any]:
    """What each part gives, in order.

    Raises:
        BadRow: Some failed; it holds the problems of all of them and not of the first only.
    """
    values: list[Any] = []
    problems: list[str] = []
    for part in parts:
        try:
            values.append(part())
        except BadRow as bad:
            problems += bad.args
    if problems:
        raise BadRow(*problems)
    return values


def number(text: str) -> float | None:
    """The number that a file states, NaN for an empty text, None for what is no usable number."""
    if not text:
        return float("nan")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) <= LARGEST_COORDINATE and "_" not in text else None


def visible_box(keypoints: Floats, visible: npt.NDArray[np.bool_], way_out: str = "") -> Floats:
    """The tight box of a face's visible points, (4,).

    Raises:
        BadRow: They lie on one line; the text ends with `way_out`, and names no file.
    """
    box = tight_box(keypoints, visible)
    if not (box[2:] > box[:2]).all():
        raise BadRow(f"its visible points lie on one line, so they tell no face box{way_out}")
    return box


def images_by_stem(folder: str, names: Iterable[str]) -> dict[str, str]:
    """The images of a folder by their names without suffix, for label files that stand beside them.

    >>> images_by_stem("faces", ["a.JPG", "a.pts", "b.txt"])
    {'a': 'faces/a.JPG'}
    """
    images = [name for name in sorted(names, reverse=True) if splitext(name)[1].lower() in IMAGE_SUFFIXES]
    return {splitext(name)[0]: os.path.join(folder, name) for name in images}


def image_beside(label_file: str, images: Mapping[str, str]) -> str:
    """The photograph that a label file stands beside: its name with an image's suffix.

    Args:
        label_file: Path of the label file.
        images: What `images_by_stem` gave for its folder.

    Raises:
        BadRow: There is none; the text names the label file.
    """
    stem = splitext(os.path.basename(label_file))[0]
    if stem not in images:
        suffixes = ", ".join(IMAGE_SUFFIXES[1:])
        raise BadRow(f"{label_file}: expected its image {stem}.jpg (or {suffixes}) beside it, found nothing")
    return images[stem]


def assemble(
    faces: Sequence[Row | Problems], schema: KeypointSchema, name: str, terms: str, skip_bad_rows: bool
) -> Annotations:
    """The good faces as `Annotations`.

    Args:
        faces: One entry per face of the file: the face, or what is wrong with it.
        schema: The scheme of the points.
        name: The set's name as results print it.
        terms: The terms under which the data may be used.
        skip_bad_rows: Leave bad faces out and count them, instead of raising.

    Raises:
        DataError: Faces are bad, all of their problems are named; or none is good.
    """
    rows = [face for face in faces if isinstance(face, Row)]
    # Faces of one photograph share its problems.
    problems = list(dict.fromkeys(problem for face in faces if not isinstance(face, Row) for problem in face))
    if problems and not (skip_bad_rows and rows):
        raise DataError(problems)
    return Annotations(
        schema=schema,
        name=name,
        paths=np.array([row.path for row in rows]),
        keypoints=np.stack([row.keypoints for row in rows]),
        visible=np.stack([row.visible for row in rows]),
        boxes=np.stack([row.box for row in rows]),
        subjects=np.array([row.subject for row in rows]),
        terms=terms,
        skipped=len(faces) - len(rows),
    )
