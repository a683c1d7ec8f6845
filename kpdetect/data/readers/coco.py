"""Reader of COCO keypoints: a JSON file with images, annotations and categories.

Coordinates are pixels, 0-based, with the pixel centre on the integer, and are not converted. A COCO box is x, y, width
and height in a system whose origin is the corner of the first pixel, so that x0 is ``x - 0.5`` and x1 is
``x + width - 0.5``. Format: https://cocodataset.org/#format-data.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from kpdetect.core.errors import KpdetectError
from kpdetect.core.schema import KeypointSchema, known_or_user_schema
from kpdetect.data.annotations import Annotations
from kpdetect.data.readers.files import find_image, finite, members, read_json
from kpdetect.data.readers.rows import BadRow, LabelledFace, Problems, assemble_labelled


def read_coco(file: str, skip_bad_rows: bool = False) -> Annotations:
    """Reads COCO keypoints. The names and the skeleton of the category with keypoints make the schema.

    A point of visibility 0 is not labelled; covered points (1) count as labelled. Annotations of crowds are left out.
    The box of a face is the tight box of its points; the annotation's ``bbox`` is used for a face without points, which
    is for prediction, and for a schema of one point. The subject is the annotation's ``subject``, if it has one, or the
    image. Images are looked for in the JSON's folder, in ``images/`` beside it, and in the folder above.

    Example:
        ``read_coco("annotations/faces.json")``

    Args:
        file: The JSON file.
        skip_bad_rows: Leave out invalid annotations and count them, instead of raising.

    Raises:
        DataError: Annotations are invalid; the error lists all problems with their ids.
        KpdetectError: The file does not exist, is not COCO JSON, or has several categories with different keypoints.
    """
    document = read_json(file, "COCO keypoints")
    images = {image.get("id"): image for image in members(document, "images", file) if _is_key(image.get("id"))}
    annotations = [item for item in members(document, "annotations", file) if not item.get("iscrowd")]
    if not annotations:
        raise KpdetectError(f"{file}: expected annotations with keypoints, found none")
    schema, category_ids = _schema(document, annotations, file)
    used = [
        item
        for item in annotations
        if not category_ids or (_is_key(item.get("category_id")) and item["category_id"] in category_ids)
    ]
    if not used:
        raise KpdetectError(f"{file}: expected annotations with keypoints, found none of {len(annotations)}")
    faces = [_face(file, item, images, schema) for item in used]
    return assemble_labelled(faces, schema, f"coco:{os.path.basename(file)}", "", skip_bad_rows)


def _is_key(value: Any) -> bool:
    return isinstance(value, (int, str))


def _schema(document: Any, annotations: list[Mapping[str, Any]], file: str) -> tuple[KeypointSchema, set[int | str]]:
    """Returns the schema, and the ids of the categories that have its points (empty for all annotations)."""
    categories = members(document, "categories", file) if "categories" in document else []
    used = {item["category_id"] for item in annotations if _is_key(item.get("category_id"))}
    found = [item for item in categories if item.get("keypoints") and _is_key(item.get("id")) and item["id"] in used]
    kinds = {str(item["keypoints"]) for item in found}
    if len(kinds) > 1:
        names = ", ".join(str(item.get("name")) for item in found)
        raise KpdetectError(f"{file}: expected one category with keypoints, found {names}; keep one of them")
    if not found:
        counts = {len(item["keypoints"]) for item in annotations if isinstance(item.get("keypoints"), list)}
        if len(counts) != 1 or min(counts) < 3 or min(counts) % 3:
            raise KpdetectError(f"{file}: expected a category that names its keypoints, found none")
        return known_or_user_schema(tuple(f"p{index}" for index in range(min(counts) // 3))), set()
    names = found[0]["keypoints"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise KpdetectError(f"{file}: expected the category's keypoints as a list of names")
    skeleton = found[0].get("skeleton") or []
    try:
        edges = tuple((int(first) - 1, int(second) - 1) for first, second in skeleton)  # counted from 1
    except (TypeError, ValueError, OverflowError) as error:
        raise KpdetectError(f"{file}: expected the category's skeleton as pairs of numbers from 1") from error
    return known_or_user_schema(tuple(names), edges), {item["id"] for item in found}


def _face(
    file: str, item: Mapping[str, Any], images: Mapping[Any, Mapping[str, Any]], schema: KeypointSchema
) -> LabelledFace | Problems:
    where = f"{file}: annotation {str(item.get('id'))[:40]}"
    try:
        key = item.get("image_id")
        if not _is_key(key) or key not in images:
            raise BadRow(f"expected an image_id of 'images', received {str(key)[:40]!r}")
        folder = os.path.dirname(file)
        folders = [folder, *(os.path.join(folder, name) for name in ("images", "..", os.path.join("..", "images")))]
        path = find_image(images[key].get("file_name"), folders)
        points = np.full((schema.num_keypoints, 2), np.nan, np.float32)
        flat = item.get("keypoints") or []
        if flat and (not isinstance(flat, list) or len(flat) != 3 * len(points)):
            raise BadRow(
                f"expected {3 * len(points)} numbers x, y, visibility for scheme '{schema.name}', received {len(flat)}"
            )
        for index in range(len(flat) // 3):
            x, y, visibility = (finite(value, "keypoint") for value in flat[3 * index : 3 * index + 3])
            if visibility > 0:
                points[index] = x, y
        box = None
        if item.get("bbox"):
            if not isinstance(item["bbox"], list) or len(item["bbox"]) != 4:
                raise BadRow("expected bbox as x, y, width, height")
            x, y, width, height = (finite(value, "bbox") for value in item["bbox"])
            box = np.array([x, y, x + width, y + height], np.float32) - np.float32(0.5)
    except BadRow as bad:
        return bad.at(where).args
    subject = item.get("subject")
    return LabelledFace(where, path, points, box, subject if isinstance(subject, str) else "")
