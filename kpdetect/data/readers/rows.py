"""Shared parts of the readers: one labelled face, the problems of an invalid one, and assembly of `Annotations`."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os.path import splitext
from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import DataError
from kpdetect.core.geometry import Floats, tight_box
from kpdetect.core.images import HEIF_SUFFIXES, IMAGE_SUFFIXES
from kpdetect.core.schema import KeypointSchema
from kpdetect.data.annotations import Annotations

LARGEST_COORDINATE = 1e6  # pixels; larger than any image, and float32 still resolves 1/16 pixel there


@dataclass(frozen=True)
class Row:
    """A valid face.

    Attributes:
        path: Path of the image.
        keypoints: (K, 2) float32, in pixels.
        visible: (K,) bool.
        box: (4,) float32, as (x0, y0, x1, y1) in pixels.
        subject: The person or the photograph; splits keep it together.
    """

    path: str
    keypoints: Floats
    visible: npt.NDArray[np.bool_]
    box: Floats
    subject: str


Problems = tuple[str, ...]
"""The problems of an invalid face, each with its file and line."""


class BadRow(Exception):
    """Raised for an invalid face. Each argument is the text of one problem."""

    args: Problems

    def at(self, where: str) -> "BadRow":
        """Returns the same problems, each preceded by its file, or file and line."""
        return BadRow(*(f"{where}: {problem}" for problem in self.args))


@dataclass(frozen=True)
class Line:
    """A line of a text file that is not blank.

    Attributes:
        where: ``FILE:LINE`` for error messages.
        text: The text, without spaces at its ends.
    """

    where: str
    text: str


def text_lines(file: str) -> list[Line]:
    """Returns the lines of a text file that are not blank. Bytes that are not UTF-8 become U+FFFD.

    Raises:
        BadRow: The file cannot be read.
    """
    try:
        with open(file, encoding="utf-8-sig", errors="replace") as stream:
            lines = [Line(f"{file}:{count}", text.strip()) for count, text in enumerate(stream, start=1)]
    except OSError as error:
        raise BadRow(f"{file}: expected a readable file: {error.strerror}") from error
    return [line for line in lines if line.text]


def collect(*parts: Callable[[], Any]) -> list[Any]:
    """Calls functions and returns their results in order.

    Raises:
        BadRow: Some of them raised `BadRow`; it contains the problems of all of them.
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


def parse_number(text: str) -> float | None:
    """Returns the number in a text; NaN for an empty text, None for no number or above `LARGEST_COORDINATE`."""
    if not text:
        return float("nan")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) <= LARGEST_COORDINATE and "_" not in text else None


def box_of_visible(keypoints: Floats, visible: npt.NDArray[np.bool_], hint: str = "") -> Floats:
    """Returns the tight box of a face's visible points, (4,) float32.

    Raises:
        BadRow: The points are on one horizontal or vertical line. The text ends with `hint` and names no file.
    """
    box = tight_box(keypoints, visible)
    if not (box[2:] > box[:2]).all():
        raise BadRow(f"its visible points lie on one line, so they have no face box{hint}")
    return box


def images_by_stem(folder: str, names: Iterable[str]) -> dict[str, str]:
    """Returns the images of a folder by their names without suffix, for label files beside them.

    >>> images_by_stem("faces", ["a.JPG", "a.pts", "b.txt"])
    {'a': 'faces/a.JPG'}
    """
    images = [
        name for name in sorted(names, reverse=True) if splitext(name)[1].lower() in (*IMAGE_SUFFIXES, *HEIF_SUFFIXES)
    ]
    return {splitext(name)[0]: os.path.join(folder, name) for name in images}


def image_beside(label_file: str, images: Mapping[str, str]) -> str:
    """Returns the image beside a label file: the file of the same name with an image's suffix.

    Args:
        label_file: Path of the label file.
        images: Result of `images_by_stem` for its folder.

    Raises:
        BadRow: There is no such image. The text names the label file.
    """
    stem = splitext(os.path.basename(label_file))[0]
    if stem not in images:
        raise BadRow(f"{label_file}: expected its image {stem}.jpg (or .png, .webp, …) beside it, found nothing")
    return images[stem]


def assemble(
    faces: Sequence[Row | Problems], schema: KeypointSchema, name: str, terms: str, skip_bad_rows: bool
) -> Annotations:
    """Assembles `Annotations` from the valid faces.

    Args:
        faces: One entry per face of the file: the face or its problems.
        schema: The schema of the points.
        name: Name of the data set in results.
        terms: Terms of use of the data.
        skip_bad_rows: Leave out invalid faces and count them, instead of raising.

    Raises:
        DataError: Faces are invalid (the error lists all problems), or no face is valid.
    """
    rows = [face for face in faces if isinstance(face, Row)]
    # Faces of one image share its problems.
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
