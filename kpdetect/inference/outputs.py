"""Owns a marked photograph, and its forms as text: a line for people, JSON, JSON Lines, and CSV."""

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpdetect.core.geometry import Floats
from kpdetect.core.schema import KeypointSchema
from kpdetect.data.readers.columns import BOX_COLUMNS, SCORE_COLUMN
from kpdetect.detection import Face
from kpdetect.inference.inputs import Photograph


@dataclass(frozen=True)
class Marked:
    """A photograph that was marked.

    Attributes:
        photograph: Which.
        size_hw: Its (height, width) in pixels.
        faces: Its faces; in the order of the boxes where it came with boxes.
        measures: For each face what `kpdetect.measures.measure` says; None where nobody asked.
    """

    photograph: Photograph
    size_hw: tuple[int, int]
    faces: list[Face]
    measures: list[dict[str, Any]] | None = None

    def line(self) -> str:
        """What was found, for people."""
        boxes = ", ".join(f"[{' '.join(f'{side:.0f}' for side in face.box)}]" for face in self.faces)
        count = len(self.faces)
        return f"{self.photograph.path}: {count} face{'s' * (count != 1)}{' ' * bool(boxes)}{boxes}"

    def to_dict(self, schema: KeypointSchema) -> dict[str, Any]:
        """A JSON-ready description."""
        height, width = self.size_hw
        report = {"image": self.photograph.path, "width": width, "height": height, "scheme": schema.name}
        faces = [face.to_dict() for face in self.faces]
        if self.measures is not None:
            faces = [{**face, "measures": measures} for face, measures in zip(faces, self.measures, strict=True)]
        return {**report, "faces": faces}


def as_json(marked: Sequence[Marked], schema: KeypointSchema) -> str:
    """A list with a line per photograph: indented, the points alone would take hundreds."""
    return "[\n" + ",\n".join(_lines(marked, schema)) + "\n]\n"


def as_json_lines(marked: Sequence[Marked], schema: KeypointSchema) -> str:
    """A line per photograph, each a JSON object of its own (https://jsonlines.org)."""
    return "".join(f"{line}\n" for line in _lines(marked, schema))


def faces_csv(marked: Sequence[Marked], schema: KeypointSchema, folder: Path) -> str:
    """A row per face: photograph, points in pixels, face box, and score where the model tells one.

    The layout is the one that ``csv:FILE`` reads, so that marks that were looked through can be trained on. A
    photograph without a face has no row.

    Args:
        marked: The photographs.
        schema: The scheme of their points.
        folder: Where the CSV goes: photographs are named from there.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    points = (f"{name}_{axis}" for name in schema.point_names for axis in "xy")
    rows.writerow(["image", *points, *BOX_COLUMNS, SCORE_COLUMN])
    for one in marked:
        path = one.photograph.path
        seen_from_folder = os.path.relpath(path, folder) if os.path.exists(path) else path  # a drawn one has no file
        rows.writerows([seen_from_folder, *_cells(face)] for face in one.faces)
    return text.getvalue()


def face_box(face: Face) -> Floats:
    """The face box to train on: (4,) (x0, y0, x1, y1) in pixels.

    It is the tight box of the keypoints. If they are only some of a face's (see `KeypointSchema.subset`), or a single
    one, their tight box is not a face; then it is the box that they were predicted from.
    """
    partial = face.schema.num_keypoints == 1 or face.schema.name.endswith(")")
    return face.box if face.detection_box is None or not partial else face.detection_box


def _cells(face: Face) -> Iterator[str]:
    """A face's numbers, in pixels with three decimals; the score is empty if there is none."""
    for value in (*face.keypoints.ravel().tolist(), *face_box(face).tolist()):
        yield f"{value:.3f}"
    yield "" if face.score is None else f"{face.score:.4f}"


def _lines(marked: Sequence[Marked], schema: KeypointSchema) -> Iterator[str]:
    return (json.dumps(one.to_dict(schema), allow_nan=False) for one in marked)
