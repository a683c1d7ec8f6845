"""Reader of YOLO pose labels: a ``data.yaml`` and a text file per image.

A line is ``class cx cy w h x1 y1 [v1] x2 y2 [v2] …``, relative to the image's width and height after its EXIF rotation;
a pixel extends from ``i / W`` to ``(i + 1) / W``, so that x is ``x * W - 0.5`` in pixels.
Format: https://docs.ultralytics.com/datasets/pose/.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import HEIF_SUFFIXES, IMAGE_SUFFIXES, image_size
from kpdetect.core.schema import KeypointSchema, known_or_user_schema
from kpdetect.data.annotations import Annotations
from kpdetect.data.readers.files import read_yaml
from kpdetect.data.readers.rows import BadRow, LabelledFace, Line, Problems, assemble_labelled, parse_number, text_lines

SPLITS = ("train", "val", "test")


def read_yolo(place: str, skip_bad_rows: bool = False) -> Annotations:
    """Reads one split of a YOLO pose data set. ``kpt_shape``, ``kpt_names`` and ``flip_idx`` make the schema.

    Points of visibility 0, or at 0,0 in files without visibility, are not labelled. The box of a face is the tight box
    of its points; the line's box is used for a face without points and for a schema of one point. The subject is the
    image. Labels are in ``labels/`` where the images are in ``images/``, or beside the images.

    Example:
        ``read_yolo("faces/data.yaml:val")``

    Args:
        place: The YAML file, and ``:train`` (the default), ``:val`` or ``:test``.
        skip_bad_rows: Leave out invalid faces and count them, instead of raising.

    Raises:
        DataError: Faces are invalid; the error lists all problems with their lines.
        KpdetectError: The file, the split or its images do not exist, or the YAML is not that of a pose data set.
        MissingExtra: PyYAML is not installed.
    """
    file, _, split = place.rpartition(":")
    if split not in SPLITS or not file:
        file, split = place, "train"
    if os.path.isdir(file):
        file = os.path.join(file, "data.yaml")
    document = read_yaml(file, "a YOLO pose data set")
    if not isinstance(document, dict) or "kpt_shape" not in document:
        raise KpdetectError(f"{file}: expected kpt_shape: [K, 2 or 3], as YOLO pose data sets have it")
    schema, dimensions = _schema(document, file)
    faces: list[LabelledFace | Problems] = []
    images = _images(document, file, split)
    for image in images:
        faces += _faces_of_image(image, schema, dimensions)
    if not faces:
        raise KpdetectError(f"{file}: expected label files of the {len(images)} images of '{split}', found no face")
    return assemble_labelled(faces, schema, f"yolo:{os.path.basename(file)}", "", skip_bad_rows)


def _schema(document: Mapping[str, Any], file: str) -> tuple[KeypointSchema, int]:
    shape = document["kpt_shape"]
    if (
        not isinstance(shape, list)
        or len(shape) != 2
        or not all(isinstance(number, int) for number in shape)
        or not 1 <= shape[0] <= 10_000
        or shape[1] not in (2, 3)
    ):
        raise KpdetectError(f"{file}: expected kpt_shape: [K, 2 or 3], received {str(shape)[:60]}")
    count, dimensions = shape
    names = document.get("kpt_names")
    if isinstance(names, dict):
        names = next(iter(names.values()), None)
    if names is None:
        names = [f"p{index}" for index in range(count)]
    if not isinstance(names, list) or len(names) != count:
        raise KpdetectError(f"{file}: expected kpt_names of {count} points, received {str(names)[:60]}")
    schema = known_or_user_schema(tuple(str(name) for name in names))
    flip = document.get("flip_idx")
    if flip is not None and schema.flip_permutation is None:
        if not isinstance(flip, list) or len(flip) != count or not all(isinstance(index, int) for index in flip):
            raise KpdetectError(f"{file}: expected flip_idx of {count} indices, received {str(flip)[:60]}")
        schema = KeypointSchema(schema.name, schema.point_names, flip_permutation=tuple(flip))
    return schema, dimensions


def _images(document: Mapping[str, Any], file: str, split: str) -> list[str]:
    """Returns the images of a split: of a folder at any depth, of a text file with a path a line, or of several."""
    base = os.path.join(os.path.dirname(file), str(document.get("path") or ""))
    if not os.path.isdir(base):
        base = os.path.dirname(file)  # as exported by tools that write the author's own path
    entry = document.get(split)
    entries = entry if isinstance(entry, list) else [entry] if entry else []
    images: list[str] = []
    for stated in entries:
        place = os.path.normpath(os.path.join(base, str(stated)))
        if os.path.isdir(place):
            for here, folders, names in os.walk(place):
                folders.sort()
                suffixes = (*IMAGE_SUFFIXES, *HEIF_SUFFIXES)
                images += [os.path.join(here, name) for name in sorted(names) if name.lower().endswith(suffixes)]
        elif os.path.isfile(place):
            lines = text_lines(place)
            images += [os.path.normpath(os.path.join(os.path.dirname(place), line.text)) for line in lines]
        else:
            raise KpdetectError(f"{file}: expected the images of '{split}' in {place}, found nothing there")
    if not images:
        raise KpdetectError(f"{file}: expected images of the split '{split}', found none")
    return images


def _faces_of_image(image: str, schema: KeypointSchema, dimensions: int) -> list[LabelledFace | Problems]:
    folder, name = os.path.split(image)
    stem = os.path.splitext(name)[0]
    parts = f"{folder}{os.sep}".rpartition(f"{os.sep}images{os.sep}")
    beside = os.path.join(folder, f"{stem}.txt")
    labels = os.path.join(f"{parts[0]}{os.sep}labels{os.sep}{parts[2]}", f"{stem}.txt") if parts[1] else beside
    labels = labels if os.path.isfile(labels) else beside
    if not os.path.isfile(labels):
        return []  # an image without a face
    try:
        size_hw = image_size(image)
        if size_hw is None:
            return [(f"{labels}: expected the image {image}, received a file that is no image",)]
        return [_face(line, image, size_hw, schema, dimensions) for line in text_lines(labels)]
    except BadRow as bad:
        return [bad.args]
    except KpdetectError as error:
        return [(f"{labels}: {error}",)]


def _face(
    line: Line, image: str, size_hw: tuple[int, int], schema: KeypointSchema, dimensions: int
) -> LabelledFace | Problems:
    fields = line.text.split()
    expected = 5 + schema.num_keypoints * dimensions
    values = [parse_number(text) for text in fields]
    if len(fields) != expected:
        return (f"{line.where}: expected {expected} numbers for scheme '{schema.name}', received {len(fields)}",)
    if None in values:
        return (f"{line.where}: expected numbers, received '{fields[values.index(None)][:40]}'",)
    numbers = np.array(values, np.float64)
    if (np.abs(numbers[1:5] - 0.5) > 10).any():
        return (f"{line.where}: expected a box relative to the image, 0 to 1, received {' '.join(fields[1:5])[:80]}",)
    height, width = size_hw
    points = numbers[5:].reshape(-1, dimensions)
    labelled = points[:, 2] > 0 if dimensions == 3 else (points != 0).any(axis=1)
    pixels = np.where(labelled[:, None], points[:, :2] * (width, height) - 0.5, np.nan)
    center, size = numbers[1:3], numbers[3:5]
    corners = np.concatenate([center - size / 2, center + size / 2]) * (width, height, width, height) - 0.5
    return LabelledFace(line.where, image, pixels.astype(np.float32), corners.astype(np.float32), "", size_hw)
