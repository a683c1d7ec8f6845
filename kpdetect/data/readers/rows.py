"""Shared parts of the readers: one labelled face, the problems of an invalid one, and assembly of `Annotations`."""

import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os.path import splitext
from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import DataError, KpdetectError
from kpdetect.core.geometry import Floats, image_box, tight_box
from kpdetect.core.images import HEIF_SUFFIXES, IMAGE_SUFFIXES, image_size, read_image
from kpdetect.core.schema import KeypointSchema
from kpdetect.data.annotations import Annotations

_LOG = logging.getLogger(__name__)

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


@dataclass(frozen=True)
class LabelledFace:
    """A face as a file describes it, before it is checked against its image.

    Attributes:
        where: ``FILE:LINE``, or file and record, for error messages.
        path: Path of the image.
        points: (K, 2) in pixels, NaN for points that are not labelled.
        box: (4,) the face box that the file states, or None.
        subject: The person or the photograph; splits keep it together.
        size_hw: (height, width) of the image if it is known; None looks it up in the image's header.
        prefers_box: The stated box replaces the tight box of the points.
    """

    where: str
    path: str
    points: npt.NDArray[np.floating]
    box: Floats | None = None
    subject: str = ""
    size_hw: tuple[int, int] | None = None
    prefers_box: bool = False


MISSING_VALUES = (-1.0, 0.0)
"""Coordinates that stand for a point that is not labelled, if they occur as x and y of several points of a set."""

MAX_OUTSIDE = 3
"""Farthest distance of a point or box from its image, in image sizes; beyond, it is a slip of the label."""


def drop_missing_values(faces: Sequence[LabelledFace | Problems], name: str) -> list[LabelledFace | Problems]:
    """Replaces ``-1,-1`` and ``0,0`` by NaN where a set repeats exactly that pair, and logs it once."""
    good = [face for face in faces if isinstance(face, LabelledFace)]
    repeated = []
    for value in MISSING_VALUES:
        count = sum(int((face.points == value).all(axis=-1).sum()) for face in good)
        if count > 1:
            repeated.append(value)
            _LOG.warning(f"{name}: {count} points at {value:g},{value:g} are read as not labelled")
    if not repeated:
        return list(faces)

    def without(face: LabelledFace) -> LabelledFace:
        missing = np.any([(face.points == value).all(axis=-1) for value in repeated], axis=0)
        return dataclasses.replace(face, points=np.where(missing[:, None], np.nan, face.points))

    return [without(face) if isinstance(face, LabelledFace) else face for face in faces]


def assemble_labelled(
    faces: Sequence[LabelledFace | Problems],
    schema: KeypointSchema,
    name: str,
    terms: str = "",
    skip_bad_rows: bool = False,
) -> Annotations:
    """Checks faces against their images and assembles `Annotations`.

    Args:
        faces: One entry per face: the face or its problems.
        schema: The schema of the points.
        name: Name of the data set in results.
        terms: Terms of use of the data.
        skip_bad_rows: Leave out invalid faces and count them, instead of raising.

    Raises:
        DataError: Faces are invalid (the error lists all problems), or no face is valid.
    """
    size_of = functools.cache(image_size)
    rows = [_checked_row(face, size_of) if isinstance(face, LabelledFace) else face for face in faces]
    single = [row.keypoints for row in rows if isinstance(row, Row)] if schema.num_keypoints == 1 else []
    if len(single) > 1 and (np.abs(np.stack(single) - 0.5) <= 0.5).all():
        rows = [(f"{face.where}: {_RELATIVE}",) if isinstance(face, LabelledFace) else face for face in faces]
    annotations = assemble(rows, schema, name, terms, skip_bad_rows)
    stated = any(isinstance(face, LabelledFace) and face.box is not None for face in faces)
    around = "image" if schema.num_keypoints == 1 and not stated else "face"
    return dataclasses.replace(annotations, boxes_around=around)


_RELATIVE = (
    "received coordinates from 0 to 1, which seem to be relative to the image; expected pixels: multiply x by its "
    "width and y by its height, and subtract 0.5"
)


def _checked_row(face: LabelledFace, size_of: Callable[[str], tuple[int, int] | None]) -> Row | Problems:
    """Returns the face with its box, or why its labels cannot be of its image."""
    visible = np.isfinite(face.points).all(axis=-1)
    keypoints = np.where(visible[:, None], face.points, 0).astype(np.float32)
    try:
        if not visible.any() and face.box is None:
            raise BadRow("expected at least one visible point, or a face box")
        size_hw = face.size_hw or size_of(face.path)
        if size_hw is not None:
            _check_points(keypoints[visible], size_hw)
        if face.box is not None and (face.prefers_box or not visible.any() or len(keypoints) == 1):
            box = np.asarray(face.box, np.float32)
            if not (box[2:] > box[:2]).all():  # not true for NaN
                raise BadRow(f"face box: expected x0 < x1 and y0 < y1, received {box.tolist()}")
        elif len(keypoints) == 1:
            box = image_box(size_hw or read_image(face.path).shape[:2])
        else:
            box = box_of_visible(keypoints, visible, f"; state it (in CSV: {BOX_HINT})")
        if size_hw is not None:
            _check_box(box, size_hw)
    except BadRow as bad:
        return bad.at(face.where).args
    except KpdetectError as error:
        return (f"{face.where}: {error}",)
    return Row(face.path, keypoints, visible, box, face.subject or face.path)


BOX_HINT = "columns box_x0,box_y0,box_x1,box_y1"


def _check_points(points: Floats, size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    if len(points) > 1 and min(height, width) >= 16 and (np.abs(points - 0.5) <= 0.5).all():
        raise BadRow(_RELATIVE)
    reach = MAX_OUTSIDE * max(height, width)
    far = (points < -reach).any(axis=-1) | (points > max(height, width) + reach).any(axis=-1)
    if far.any():
        x, y = points[far.argmax()].tolist()
        raise BadRow(f"expected points near the image of {width} x {height}, received {x:g},{y:g}")


def _check_box(box: Floats, size_hw: tuple[int, int]) -> None:
    """Checks that the face overlaps the image; it may extend beyond the border, as boxes of detectors do."""
    height, width = size_hw
    x0, y0, x1, y1 = box.tolist()
    reach = MAX_OUTSIDE * max(height, width)
    overlaps = x1 >= 0 and y1 >= 0 and x0 <= width - 1 and y0 <= height - 1
    if not overlaps or min(x0, y0) < -reach or max(x1, y1) > max(height, width) + reach:
        raise BadRow(
            f"expected a face inside the image of {width} x {height}, received one at x {x0:g} to {x1:g}, "
            f"y {y0:g} to {y1:g}; are the labels of this image, and of this size of it?"
        )


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
