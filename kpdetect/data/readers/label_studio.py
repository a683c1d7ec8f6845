"""Reader of Label Studio's JSON export of keypoint labels.

Coordinates are percentages of the image's width and height, from the corner of the first pixel: x is
``x / 100 * W - 0.5`` in pixels. Format: https://labelstud.io/guide/export.
"""

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

import numpy as np

from kpdetect.core.errors import KpdetectError
from kpdetect.core.schema import known_or_user_schema
from kpdetect.data.annotations import Annotations
from kpdetect.data.readers.files import find_image, finite, read_json
from kpdetect.data.readers.rows import BadRow, LabelledFace, Problems, assemble_labelled

_Results = list[Mapping[str, Any]]


def read_label_studio(file: str, skip_bad_rows: bool = False) -> Annotations:
    """Reads keypoint labels of Label Studio; the labels make the schema.

    The points with the same parent region (``parentID``), or else of an image, are one face. The first annotation of a
    task that is not cancelled is used. Images are looked for by their name in the JSON's folder and in ``images/``
    beside it, with and without the prefix that an upload adds. The subject is the image.

    Example:
        ``read_label_studio("project-1.json")``

    Args:
        file: The JSON export (not JSON-MIN).
        skip_bad_rows: Leave out invalid faces and count them, instead of raising.

    Raises:
        DataError: Faces are invalid; the error lists all problems with the ids of their tasks.
        KpdetectError: The file does not exist, is no such JSON or has no keypoint labels.
    """
    tasks = read_json(file, "Label Studio")
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise KpdetectError(f"{file}: expected a list of tasks, as Label Studio exports it")
    faces_of = [(task, face) for task in tasks for face in _groups(task).values()]
    names: dict[str, None] = {}
    for _, face in sorted(faces_of, key=lambda item: -len(item[1])):
        names |= dict.fromkeys(_label(result) for result in face)
    if not names:
        raise KpdetectError(f"{file}: expected keypoint labels, found none in {len(tasks)} tasks")
    schema = known_or_user_schema(tuple(names))
    faces = [_face(file, task, face, list(names)) for task, face in faces_of]
    return assemble_labelled(faces, schema, f"label-studio:{os.path.basename(file)}", "", skip_bad_rows)


def _groups(task: Mapping[str, Any]) -> dict[str, _Results]:
    """Returns the keypoint results of each face of a task."""
    annotations = task.get("annotations") or task.get("completions") or []
    usable = [item for item in annotations if isinstance(item, dict) and not item.get("was_cancelled")]
    groups: dict[str, _Results] = {}
    for result in (usable[0].get("result") or []) if usable else []:
        if isinstance(result, dict) and result.get("type") == "keypointlabels":
            groups.setdefault(str(result.get("parentID") or ""), []).append(result)
    return groups


def _label(result: Mapping[str, Any]) -> str:
    value = result.get("value")
    labels = value.get("keypointlabels") if isinstance(value, dict) else None
    return str(labels[0]) if isinstance(labels, list) and labels else ""


def _face(file: str, task: Mapping[str, Any], face: _Results, names: list[str]) -> LabelledFace | Problems:
    where = f"{file}: task {str(task.get('id'))[:40]}"
    try:
        path = _image(file, task)
        points = np.full((len(names), 2), np.nan, np.float32)
        for result in face:
            index = names.index(_label(result))
            if np.isfinite(points[index]).any():
                raise BadRow(f"expected each point once, received '{names[index]}' again; put each face in a region")
            value = result["value"] if isinstance(result.get("value"), dict) else {}
            width = finite(result.get("original_width"), "original_width")
            height = finite(result.get("original_height"), "original_height")
            percent = np.array([finite(value.get("x"), "x"), finite(value.get("y"), "y")])
            points[index] = percent / 100 * (width, height) - 0.5
    except BadRow as bad:
        return bad.at(where).args
    return LabelledFace(where, path, points)


def _image(file: str, task: Mapping[str, Any]) -> str:
    data = task.get("data")
    stated = next((value for value in data.values() if isinstance(value, str)), "") if isinstance(data, dict) else ""
    if isinstance(data, dict) and isinstance(data.get("image"), str):
        stated = data["image"]
    try:
        address = urlparse(stated)
    except ValueError as error:
        raise BadRow(f"expected the address of an image, received '{stated[:60]}'") from error
    local = parse_qs(address.query).get("d", [""])[0]  # /data/local-files/?d=folder/a.jpg
    name = local or unquote(address.path).removeprefix("/data/upload/")
    folders = [os.path.dirname(file), os.path.join(os.path.dirname(file), "images")]
    return find_image(name, folders)
