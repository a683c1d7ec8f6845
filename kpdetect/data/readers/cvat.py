"""Reader of the XML that CVAT exports as "CVAT for images 1.1".

CVAT's coordinates have their origin at the corner of the first pixel, so that 0.5 is subtracted here.
Format: https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from kpdetect.core.errors import KpdetectError
from kpdetect.core.schema import IBUG68, known_or_user_schema
from kpdetect.data.annotations import Annotations
from kpdetect.data.readers.files import find_image, parse_xml
from kpdetect.data.readers.rows import BadRow, LabelledFace, Problems, assemble_labelled, parse_number


@dataclass
class _Shape:
    """A skeleton, a box or points, with its line."""

    where: str
    tag: str
    attributes: Mapping[str, str]
    points: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)  # (line, attributes) in a skeleton


@dataclass
class _Image:
    where: str
    attributes: Mapping[str, str]
    shapes: list[_Shape] = field(default_factory=list)


def read_cvat(file: str, skip_bad_rows: bool = False) -> Annotations:
    """Reads skeletons and points of CVAT.

    A skeleton is a face, and the labels of its points make the schema. Without skeletons, a shape of several points is
    a face with unnamed points (68 are those of iBUG); shapes of single points are named by their label, and those of a
    group, or else of an image, are one face. Points outside the image (``outside="1"``) are not labelled. The subject
    is the image.

    Example:
        ``read_cvat("annotations.xml")``

    Args:
        file: The XML file.
        skip_bad_rows: Leave out invalid faces and count them, instead of raising.

    Raises:
        DataError: Faces are invalid; the error lists all problems with their lines.
        KpdetectError: The file does not exist, is not CVAT's XML, has a DOCTYPE or has no points.
    """
    images = _read(file)
    named = [
        [(label, where, attributes) for label, where, attributes in face]
        for image in images
        for face in _named_faces(image)
    ]
    names = dict.fromkeys(label for face in sorted(named, key=len, reverse=True) for label, _, _ in face)
    faces: list[LabelledFace | Problems] = []
    if names:
        schema = known_or_user_schema(tuple(names))
        for image in images:
            faces += [_face(file, image, face, list(names)) for face in _named_faces(image)]
    else:
        counts = [len(shape.attributes.get("points", "").split(";")) for image in images for shape in image.shapes]
        if not counts:
            raise KpdetectError(f"{file}: expected skeletons or points, found none in {len(images)} images")
        count = max(counts, key=counts.count)
        point_names = [f"p{index}" for index in range(count)]
        schema = IBUG68 if count == IBUG68.num_keypoints else known_or_user_schema(tuple(point_names))
        for image in images:
            faces += [_unnamed_face(file, image, shape, count) for shape in image.shapes]
    return assemble_labelled(faces, schema, f"cvat:{os.path.basename(file)}", "", skip_bad_rows)


def _read(file: str) -> list[_Image]:
    images: list[_Image] = []
    open_tags: list[str] = []

    def start(tag: str, attributes: dict[str, str], where: str) -> None:
        if not open_tags and tag != "annotations":
            raise KpdetectError(f"{where}: expected CVAT's XML, which begins with <annotations>, received <{tag}>")
        outer = open_tags[-1] if open_tags else ""
        if tag == "track":
            raise KpdetectError(f"{where}: expected 'CVAT for images 1.1', received a track of 'CVAT for video 1.1'")
        if tag == "image" and outer == "annotations":
            images.append(_Image(where, attributes))
        elif outer == "image" and tag in ("points", "skeleton"):
            images[-1].shapes.append(_Shape(where, tag, attributes))
        elif outer == "skeleton" and tag == "points" and "image" in open_tags:
            images[-1].shapes[-1].points.append((where, attributes))
        open_tags.append(tag)

    def end(_tag: str) -> None:
        open_tags.pop()

    parse_xml(file, "CVAT's XML", start, end)
    return images


_Named = list[tuple[str, str, Mapping[str, str]]]


def _named_faces(image: _Image) -> list[_Named]:
    """Returns the label, line and attributes of the points of each face whose points are named."""
    skeletons = [shape for shape in image.shapes if shape.tag == "skeleton"]
    if skeletons:
        return [[(a.get("label", ""), where, a) for where, a in shape.points] for shape in skeletons]
    groups: dict[str, _Named] = {}
    for shape in image.shapes:
        if ";" not in shape.attributes.get("points", ""):
            point = (shape.attributes.get("label", ""), shape.where, shape.attributes)
            groups.setdefault(shape.attributes.get("group_id", ""), []).append(point)
    return list(groups.values())


def _image_path(file: str, image: _Image) -> str:
    folder = os.path.dirname(file)
    return find_image(image.attributes.get("name"), [folder, os.path.join(folder, "images")])


def _face(file: str, image: _Image, face: _Named, names: list[str]) -> LabelledFace | Problems:
    where = face[0][1] if face else image.where
    try:
        points = np.full((len(names), 2), np.nan, np.float32)
        for label, line, attributes in face:
            if attributes.get("outside") == "1":
                continue
            index = names.index(label)
            if np.isfinite(points[index]).any():
                raise BadRow(f"expected each point once, received '{label}' again; group the points of a face in CVAT")
            points[index] = _coordinates(attributes.get("points", ""), line)
        return LabelledFace(where, _image_path(file, image), points)
    except BadRow as bad:
        return bad.at(where).args


def _unnamed_face(file: str, image: _Image, shape: _Shape, count: int) -> LabelledFace | Problems:
    try:
        texts = shape.attributes.get("points", "").split(";")
        if len(texts) != count:
            raise BadRow(f"expected {count} points, as most faces have, received {len(texts)}")
        points = np.array([_coordinates(text, shape.where) for text in texts], np.float32)
        return LabelledFace(shape.where, _image_path(file, image), points)
    except BadRow as bad:
        return bad.at(shape.where).args


def _coordinates(text: str, where: str) -> tuple[float, float]:
    values = [parse_number(part.strip()) for part in text.split(",")]
    if len(values) != 2 or None in values or not all(part.strip() for part in text.split(",")):
        raise BadRow(f"expected points as x,y in finite numbers, received '{text[:40]}' ({where.rpartition(':')[2]})")
    x, y = (value for value in values if value is not None)
    return x - 0.5, y - 0.5
