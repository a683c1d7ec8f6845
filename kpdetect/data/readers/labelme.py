"""Reader of the JSON files of LabelMe, one beside each image.

LabelMe's coordinates have their origin at the corner of the first pixel, so that 0.5 is subtracted here.
Format: https://github.com/wkentaro/labelme.
"""

import os
from typing import Any

import numpy as np

from kpdetect.core.errors import KpdetectError
from kpdetect.core.schema import known_or_user_schema
from kpdetect.data.annotations import Annotations
from kpdetect.data.readers.files import find_image, finite, members, read_json
from kpdetect.data.readers.rows import BadRow, LabelledFace, Problems, assemble_labelled

_Shapes = dict[Any, list[dict[str, Any]]]


def read_labelme(folder: str, skip_bad_rows: bool = False) -> Annotations:
    """Reads point shapes of LabelMe; their labels make the schema.

    The points of a group (``group_id``), or else of an image, are one face, and a rectangle of that group is its box
    where it has fewer than two points. The subject is the image. Image data inside the JSON is not used.

    Example:
        ``read_labelme("my_faces")``

    Args:
        folder: Searched for ``.json`` files at any depth.
        skip_bad_rows: Leave out invalid faces and count them, instead of raising.

    Raises:
        DataError: Faces are invalid; the error lists all problems with their files.
        KpdetectError: The folder does not exist or has no point shapes.
    """
    if not os.path.isdir(folder):
        raise KpdetectError(f"{folder}: expected a folder of LabelMe's JSON files, found nothing")
    documents: list[tuple[str, Any, _Shapes]] = []
    problems: list[Problems] = []
    for here, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if name.lower().endswith(".json"):
                file = os.path.join(here, name)
                try:
                    document = read_json(file, "LabelMe")
                    documents.append((file, document, _groups(document, file)))
                except KpdetectError as error:
                    problems.append((str(error),))
    names: dict[str, None] = {}
    for _, _, groups in sorted(documents, key=lambda item: -max(map(len, item[2].values()), default=0)):
        for shapes in groups.values():
            names |= dict.fromkeys(str(shape.get("label")) for shape in shapes if shape.get("shape_type") == "point")
    if not names:
        hint = f"; {problems[0][0]}" if problems else ""
        raise KpdetectError(f"{folder}: expected LabelMe's JSON files with point shapes, found none{hint}")
    schema = known_or_user_schema(tuple(names))
    faces: list[LabelledFace | Problems] = list(problems)
    for file, document, groups in documents:
        faces += [_face(file, document, shapes, list(names)) for shapes in groups.values()]
    name = os.path.basename(os.path.abspath(folder))
    return assemble_labelled(faces, schema, f"labelme:{name}", "", skip_bad_rows)


def _groups(document: Any, file: str) -> _Shapes:
    """Returns the point and rectangle shapes of each group that has points."""
    groups: _Shapes = {}
    for shape in members(document, "shapes", file):
        if shape.get("shape_type") in ("point", "rectangle"):
            groups.setdefault(str(shape.get("group_id")), []).append(dict(shape))
    return {key: shapes for key, shapes in groups.items() if any(shape["shape_type"] == "point" for shape in shapes)}


def _face(file: str, document: Any, shapes: list[dict[str, Any]], names: list[str]) -> LabelledFace | Problems:
    try:
        path = find_image(document.get("imagePath"), [os.path.dirname(file)])
        points = np.full((len(names), 2), np.nan, np.float32)
        box = None
        for shape in shapes:
            corners = shape.get("points")
            count = 1 if shape["shape_type"] == "point" else 2
            if not isinstance(corners, list) or len(corners) != count:
                raise BadRow(f"expected {count} points of shape '{shape.get('label')}', received {str(corners)[:40]}")
            pairs = np.array([_pair(corner) for corner in corners], np.float32) - np.float32(0.5)
            if shape["shape_type"] == "rectangle":
                box = np.concatenate([pairs.min(axis=0), pairs.max(axis=0)])
                continue
            index = names.index(str(shape.get("label")))
            if np.isfinite(points[index]).any():
                raise BadRow(f"expected each point once, received '{names[index]}' again; set each face's group_id")
            points[index] = pairs[0]
    except BadRow as bad:
        return bad.at(file).args
    return LabelledFace(file, path, points, box, prefers_box=bool(np.isfinite(points).all(axis=1).sum() < 2))


def _pair(corner: Any) -> tuple[float, float]:
    if not isinstance(corner, list) or len(corner) != 2:
        raise BadRow(f"expected a point as [x, y], received {str(corner)[:40]}")
    return finite(corner[0], "x"), finite(corner[1], "y")
