"""Readers of folders of ``.pts`` files and of dlib's XML: the 68 points of iBUG 300-W, or any others.

**Coordinates in ``.pts`` files are 1-based, and 1 is subtracted here; those in XML are 0-based.** On 2,009 faces that
exist in both formats, the integers in XML are the coordinates in ``.pts`` minus 1, rounded (mean difference 1.00 pixels
in x and y, between 0.5 and 1.5).

The box of a face is the tight box of its points. The box in XML is used for a face without points, which is for
prediction.
"""

import contextlib
import functools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from os.path import splitext

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats
from kpdetect.core.images import read_image
from kpdetect.core.schema import IBUG68, KeypointSchema, user_schema
from kpdetect.data.annotations import Annotations
from kpdetect.data.duplicates import DUPLICATE_OF
from kpdetect.data.readers.dlib_xml import Box, Document, Element, read_document
from kpdetect.data.readers.rows import (
    BadRow,
    Line,
    Problems,
    Row,
    assemble,
    box_of_visible,
    collect,
    image_beside,
    images_by_stem,
    parse_number,
    text_lines,
)

IBUG_TERMS = "iBUG 300-W (Sagonas et al., ICCV-W 2013; photographs of AFW, HELEN and LFPW): for research."
DLIB_TERMS = (
    "dlib's example faces (photographs of PASCAL VOC 2011) with labels that dlib's 68-point predictor made, "
    "itself a model of iBUG 300-W: for research."
)

_TERMS = {"shape_predictor_68": DLIB_TERMS, "ibug": IBUG_TERMS, "300-w": IBUG_TERMS, "afw": IBUG_TERMS}
"""Terms of use by a word in an XML file's description, in lower case; the first match is used."""

_COUNT = IBUG68.num_keypoints
_FACE_OF_PHOTOGRAPH = re.compile(r"(?P<photograph>.*\d)_\d{1,2}")
_FLICKR_NUMBER = re.compile(r"\d{6,}")
_Points = tuple[Floats, npt.NDArray[np.bool_]]
_Located = tuple[str, tuple[int, int]]


def read_ibug(place: str, skip_bad_rows: bool = False) -> Annotations:
    """Reads faces with the 68 points of iBUG 300-W, or with boxes only.

    A folder is searched for ``.pts`` files at any depth, each beside its image. Their header (``version``, ``n_points``
    and braces) is optional. An XML file may have several boxes per image, with all 68 parts or none; boxes with
    ``ignore='1'`` are left out. The subject is the photograph; see `photograph_of`. A place whose labels all have other
    points is read by `read_dlib` or `read_pts`.

    Example:
        ``read_ibug("ibug_300w")`` or ``read_ibug("testing_with_face_landmarks.xml")``

    Args:
        place: The folder or the XML file.
        skip_bad_rows: Leave out invalid faces and count them, instead of raising.

    Raises:
        DataError: Faces are invalid; the error lists all problems with their lines.
        KpdetectError: The place does not exist, has no face, or the XML is malformed or has a DOCTYPE.
    """
    name = f"ibug:{os.path.basename(os.path.abspath(place))}"
    if os.path.isdir(place):
        labels = _label_files(place)
        counts = {len(rows) for rows in _row_lists(labels)}
        if len(counts) == 1 and len(labels) > 1 and counts != {_COUNT}:
            return read_pts(place, skip_bad_rows)
        faces = [_face_of_pts(file, images, IBUG68, photograph_of) for file, images in labels]
        return assemble(faces, IBUG68, name, IBUG_TERMS, skip_bad_rows)
    if not os.path.isfile(place):
        raise KpdetectError(f"{place}: expected a folder of .pts files or an XML file, found nothing")
    document = read_document(place)
    if _has_other_parts(document):
        return read_dlib(place, skip_bad_rows)
    faces = _faces_of_document(document, place, IBUG68, photograph_of)
    description = document.description.lower()
    terms = next((terms for word, terms in _TERMS.items() if word in description), "")
    return assemble(faces, IBUG68, name, terms, skip_bad_rows)


def read_dlib(file: str, skip_bad_rows: bool = False) -> Annotations:
    """Reads the XML of dlib's ``imglab`` with any points; the names of the parts make the schema.

    Parts that a box does not have are points that are not labelled, and boxes without parts are faces for prediction.
    68 parts of the names 00 to 67 are those of iBUG. The subject is the image.

    Example:
        ``read_dlib("faces_of_7_points.xml").schema.point_names``

    Args:
        file: The XML file.
        skip_bad_rows: Leave out invalid faces and count them, instead of raising.

    Raises:
        DataError: Faces are invalid; the error lists all problems with their lines.
        KpdetectError: The file does not exist, has no face or no part, is malformed or has a DOCTYPE.
    """
    document = read_document(file)
    boxes = [box for image in document.images for box in image.boxes if _is_used(box)]
    names: dict[str, None] = {}
    for box in sorted(boxes, key=lambda box: -len(box.parts)):
        names |= dict.fromkeys(part.attributes.get("name", "") for part in box.parts)
    if not names:
        raise KpdetectError(f"{file}: expected boxes with parts, found none in its {len(boxes)} boxes")
    ordered = list(names)
    if all(_is_small_number(name) for name in ordered):
        ordered.sort(key=int)
    numbers = [int(name) for name in ordered if _is_small_number(name)]
    schema = IBUG68 if numbers == list(range(_COUNT)) and len(ordered) == _COUNT else user_schema(ordered)
    faces = _faces_of_document(document, file, schema, str)
    return assemble(faces, schema, f"dlib:{os.path.basename(file)}", "", skip_bad_rows)


def read_pts(folder: str, skip_bad_rows: bool = False) -> Annotations:
    """Reads ``.pts`` files of any number of points, at any depth, each beside its image; see `read_ibug`.

    The number of points that most files have makes the schema: the 68 points of iBUG, or p0, p1, …. The subject is the
    image.

    Example:
        ``read_pts("my_faces")``

    Args:
        folder: The folder.
        skip_bad_rows: Leave out invalid files and count them, instead of raising.

    Raises:
        DataError: Files are invalid; the error lists all problems with their lines.
        KpdetectError: The folder does not exist or has no ``.pts`` file.
    """
    if not os.path.isdir(folder):
        raise KpdetectError(f"{folder}: expected a folder of .pts files, found nothing")
    labels = _label_files(folder)
    counts = Counter(len(rows) for rows in _row_lists(labels))
    count = max(counts, key=lambda number: (counts[number], number), default=_COUNT) or _COUNT
    schema = IBUG68 if count == _COUNT else user_schema([f"p{index}" for index in range(count)])
    faces = [_face_of_pts(file, images, schema, str) for file, images in labels]
    return assemble(faces, schema, f"pts:{os.path.basename(os.path.abspath(folder))}", "", skip_bad_rows)


def photograph_of(path: str) -> str:
    """Returns the photograph from which an image of one face was cut; a split keeps its faces together.

    AFW, HELEN and the iBUG set number the faces of a photograph, ``PHOTO_K``, and mirrored copies end in ``_mirror``;
    both endings are removed. A photograph is identified by its Flickr number alone, so that AFW's whole photographs and
    the faces cut from them are one; without such a number also by its folder, because LFPW's train and test sets use
    the same numbers. If two photographs are taken for one, they only stay together. A duplicate is replaced by the
    first photograph of its group; see `kpdetect.data.duplicates`.

    >>> photograph_of("300w/afw/1051618982_1_mirror.jpg"), photograph_of("/data/lfpw/trainset/image_0052.png")
    ('1051618982', 'trainset/image_0003')
    """
    folder, file = os.path.split(os.path.abspath(path))
    stem = splitext(file)[0].removesuffix("_mirror")
    match = _FACE_OF_PHOTOGRAPH.fullmatch(stem)
    photograph = match["photograph"] if match else stem
    if not _FLICKR_NUMBER.fullmatch(photograph):
        photograph = f"{os.path.basename(folder)}/{photograph}"
    return DUPLICATE_OF.get(photograph, photograph)


def _label_files(folder: str) -> list[tuple[str, Mapping[str, str]]]:
    """Returns each ``.pts`` file at any depth, with the images of its folder by their stems."""
    labels: list[tuple[str, Mapping[str, str]]] = []
    found: set[str] = set()
    for here, folders, files in os.walk(folder):
        folders.sort()
        images = images_by_stem(here, files)
        labels += [(os.path.join(here, file), images) for file in sorted(files) if file.lower().endswith(".pts")]
        found |= {splitext(file)[1] for file in files}
    if not labels:
        kinds = ", ".join(sorted(kind or "files without a suffix" for kind in found)) or "no file"
        hint = "; name the XML file itself" if ".xml" in found else ""
        raise KpdetectError(f"{folder}: expected .pts files at any depth, found {kinds}{hint}")
    return labels


def _row_lists(labels: list[tuple[str, Mapping[str, str]]]) -> Iterator[list[Line]]:
    """Yields the lines of points of each file that can be read."""
    for file, _ in labels:
        with contextlib.suppress(BadRow):
            yield _between_braces(file, text_lines(file))


def _face_of_pts(
    file: str, images: Mapping[str, str], schema: KeypointSchema, subject_of: Callable[[str], str]
) -> Row | Problems:
    try:
        path, from_one = collect(lambda: image_beside(file, images), lambda: _points_of_pts(file, schema))
        keypoints, visible = np.array(from_one, np.float32) - 1, np.ones(schema.num_keypoints, bool)
        return Row(path, keypoints, visible, _box_of_points(file, keypoints, visible), subject_of(path))
    except BadRow as bad:
        return bad.args


def _points_of_pts(file: str, schema: KeypointSchema) -> list[tuple[float, float]]:
    """Returns the 1-based points of the file."""
    count, lines = schema.num_keypoints, text_lines(file)
    rows = _between_braces(file, lines)
    stated = [line for line in lines if line.text.startswith("n_points")]
    for line in stated:
        if line.text.partition(":")[2].strip() != str(count):
            raise BadRow(f"{line.where}: expected n_points: {count} for scheme '{schema.name}', received '{line.text}'")
    if len(rows) != count:
        where = rows[-1].where if rows else file
        raise BadRow(f"{where}: expected {count} points for scheme '{schema.name}', received {len(rows)}")
    return collect(*(functools.partial(_point, row.where, row.text.split()) for row in rows))


def _between_braces(file: str, lines: list[Line]) -> list[Line]:
    """Returns the lines between the braces, or all lines if there is no brace."""
    texts = [line.text for line in lines]
    if "{" not in texts and "}" not in texts:
        return lines
    if texts.count("{") != 1 or texts.count("}") != 1 or texts.index("}") < texts.index("{"):
        where = lines[-1].where if lines else file
        raise BadRow(f"{where}: expected the points between one {{ and one }}, each on its own line")
    return lines[texts.index("{") + 1 : texts.index("}")]


def _point(where: str, texts: list[str]) -> tuple[float, float]:
    """Returns x and y of a point."""
    values = [parse_number(text) for text in texts]
    if len(values) != 2 or None in values or "" in texts:
        raise BadRow(f"{where}: expected x and y as finite numbers, received '{' '.join(texts)}'")
    x, y = (value for value in values if value is not None)
    return x, y


def _box_of_points(where: str, keypoints: Floats, visible: npt.NDArray[np.bool_]) -> Floats:
    try:
        return box_of_visible(keypoints, visible)
    except BadRow as bad:
        raise bad.at(where) from bad


def _is_used(box: Box) -> bool:
    return box.element.attributes.get("ignore", "0") in ("0", "")


def _is_small_number(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,9}", text) is not None


def _has_other_parts(document: Document) -> bool:
    """Returns whether the boxes have parts of names, or all the same number of parts, other than iBUG's 68."""
    boxes = [box for image in document.images for box in image.boxes if box.parts and _is_used(box)]
    names = {part.attributes.get("name", "") for box in boxes for part in box.parts}
    counts = {len(box.parts) for box in boxes}
    named = bool(names) and not any(_is_small_number(name) or not name for name in names)
    return named or (len(boxes) > 1 and len(counts) == 1 and counts != {_COUNT})


def _faces_of_document(
    document: Document, file: str, schema: KeypointSchema, subject_of: Callable[[str], str]
) -> list[Row | Problems]:
    """Returns the faces of all images, without ignored boxes."""
    folder = os.path.dirname(file)
    faces: list[Row | Problems] = []
    for image in document.images:
        locate = functools.cache(functools.partial(_locate, image.element, folder))  # once per image
        faces += [_face_of_box(box, locate, schema, subject_of) for box in image.boxes if _is_used(box)]
    if not faces:
        raise KpdetectError(f"{file}: expected boxes, found none in its {len(document.images)} images")
    return faces


def _face_of_box(
    box: Box, locate: Callable[[], _Located], schema: KeypointSchema, subject_of: Callable[[str], str]
) -> Row | Problems:
    where = box.element.where
    try:
        (path, size_hw), stated, (keypoints, visible) = collect(
            locate, lambda: _stated_box(box.element), lambda: _points_of_parts(box, schema)
        )
        has_extent = visible.sum() > 1 or (visible.any() and schema == IBUG68)
        box_xyxy = _box_of_points(where, keypoints, visible) if has_extent else stated
        _check_overlap(where, box_xyxy, size_hw)
        return Row(path, keypoints, visible, box_xyxy, subject_of(path))
    except BadRow as bad:
        return bad.args


def _locate(image: Element, folder: str) -> _Located:
    """Returns the image's path and (height, width), from the XML if it has them, otherwise from the image."""
    path = os.path.join(folder, image.attributes.get("file", ""))
    if not os.path.isfile(path):
        found = "a folder" if os.path.isdir(path) else "nothing"
        raise BadRow(f"{image.where}: expected the image {path}, found {found} there")
    stated = [image.attributes.get(name, "") for name in ("height", "width")]
    if all(_is_small_number(text) and int(text) > 0 for text in stated):
        return path, (int(stated[0]), int(stated[1]))
    try:
        height, width = read_image(path).shape[:2]
    except KpdetectError as error:
        raise BadRow(f"{image.where}: {error}") from error
    return path, (height, width)


def _stated_box(element: Element) -> Floats:
    """Returns the box in the XML: it contains the pixels ``left`` to ``left + width - 1`` and ends at their centres."""
    texts = [element.attributes.get(name, "") for name in ("left", "top", "width", "height")]
    values = [parse_number(text) for text in texts]
    if None in values or "" in texts:
        raise BadRow(f"{element.where}: expected left, top, width, height as finite numbers, received {texts}")
    left, top, width, height = (value for value in values if value is not None)
    if min(width, height) < 2:
        raise BadRow(f"{element.where}: expected a box of at least 2 x 2 pixels, received {width:g} x {height:g}")
    return np.array([left, top, left + width - 1, top + height - 1], np.float32)


def _points_of_parts(box: Box, schema: KeypointSchema) -> _Points:
    """Returns the points and their visibility; none is visible if the box has no parts."""
    count = schema.num_keypoints
    if schema != IBUG68 or not box.parts:
        keypoints, visible = np.zeros((count, 2), np.float32), np.zeros(count, bool)
        for part in box.parts:
            index = schema.index(part.attributes.get("name", ""))
            if visible[index]:
                raise BadRow(f"{part.where}: expected each part once, received '{schema.point_names[index]}' again")
            keypoints[index], visible[index] = _point_of_part(part), True
        return keypoints, visible
    if len(box.parts) != _COUNT:
        raise BadRow(
            f"{box.element.where}: expected {_COUNT} parts for scheme 'ibug68', or none, received {len(box.parts)}"
        )
    points = dict(collect(*(functools.partial(_part, part) for part in box.parts)))
    missing = [f"{index:02d}" for index in range(_COUNT) if index not in points]
    if missing:
        raise BadRow(f"{box.element.where}: expected each of the parts 00 to 67 once, missing {', '.join(missing)}")
    return np.array([points[index] for index in range(_COUNT)], np.float32), np.ones(_COUNT, bool)


def _part(part: Element) -> tuple[int, tuple[float, float]]:
    """Returns the index of a part and its point."""
    name = part.attributes.get("name", "")
    if not _is_small_number(name) or int(name) >= _COUNT:
        raise BadRow(f"{part.where}: expected a part of name 00 to 67, received '{name}'")
    return int(name), _point_of_part(part)


def _point_of_part(part: Element) -> tuple[float, float]:
    return _point(part.where, [part.attributes.get("x", ""), part.attributes.get("y", "")])


def _check_overlap(where: str, box_xyxy: Floats, size_hw: tuple[int, int]) -> None:
    """Checks that the box overlaps the image; it may extend beyond the border, as boxes of detectors do."""
    height, width = size_hw
    x0, y0, x1, y1 = box_xyxy.tolist()
    if x1 < 0 or y1 < 0 or x0 > width - 1 or y0 > height - 1:
        raise BadRow(
            f"{where}: expected a face inside the image of {width} x {height}, received one at x {x0:g} to {x1:g}, "
            f"y {y0:g} to {y1:g}"
        )
