"""The result of one photograph, and its forms as text: a line, JSON, JSON Lines and CSV."""

from __future__ import annotations

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
from kpdetect.core.text import is_utf8, printable
from kpdetect.data.readers.columns import BOX_COLUMNS, SCORE_COLUMN
from kpdetect.detection import Face
from kpdetect.inference.inputs import PhotoTask


@dataclass(frozen=True)
class PhotoResult:
    """The faces of one photograph.

    Attributes:
        task: The photograph.
        size_hw: Its (height, width) in pixels.
        faces: Its faces, largest first, or in the order of the boxes of a data set.
        measures: The result of `kpdetect.measures.measure` for each face; None if it was not asked for.
        below_min_score: The number of detected boxes that were left out for their score.
    """

    task: PhotoTask
    size_hw: tuple[int, int]
    faces: list[Face]
    measures: list[dict[str, Any]] | None = None
    below_min_score: int = 0

    def line(self) -> str:
        """The printed line: path, number of faces and their boxes, and the number of boxes that were left out."""
        boxes = ", ".join(f"[{' '.join(f'{side:.0f}' for side in face.box)}]" for face in self.faces)
        count = len(self.faces)
        rejected = self.below_min_score
        below = f"; {rejected} box{'es' * (rejected != 1)} below --min-score" if rejected else ""
        return f"{printable(self.task.path)}: {count} face{'s' * (count != 1)}{' ' * bool(boxes)}{boxes}{below}"

    def to_dict(self, schema: KeypointSchema) -> dict[str, Any]:
        """A JSON-ready description.

        Returns:
            ``image``, ``width``, ``height``, ``scheme``, ``boxes_below_min_score``, and ``faces``, each as
            `Face.to_dict`, with ``measures`` if they were asked for.
        """
        height, width = self.size_hw
        faces = [face.to_dict() for face in self.faces]
        if self.measures is not None:
            faces = [{**face, "measures": measures} for face, measures in zip(faces, self.measures, strict=True)]
        return {
            "image": self.task.path,
            "width": width,
            "height": height,
            "scheme": schema.name,
            "boxes_below_min_score": self.below_min_score,
            "faces": faces,
        }


def as_json(results: Sequence[PhotoResult], schema: KeypointSchema) -> str:
    """A JSON list with one line per photograph."""
    return "[\n" + ",\n".join(_json_lines(results, schema)) + "\n]\n"


def as_json_lines(results: Sequence[PhotoResult], schema: KeypointSchema) -> str:
    """One JSON object per line and photograph (https://jsonlines.org)."""
    return "".join(f"{line}\n" for line in _json_lines(results, schema))


def faces_csv(results: Sequence[PhotoResult], schema: KeypointSchema, folder: Path) -> str:
    """A CSV row per face: photograph, keypoints, face box, and the score, which is empty if the model has none.

    ``csv:FILE`` reads this layout, so that checked predictions can be trained on. A photograph without a face has no
    row. A name that is not UTF-8 is escaped, so that the file is UTF-8. Coordinates are in pixels with three decimals.

    Args:
        results: The photographs.
        schema: The schema of their keypoints.
        folder: The folder of the CSV: photographs are named relative to it.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    points = (f"{name}_{axis}" for name in schema.point_names for axis in "xy")
    rows.writerow(["image", *points, *BOX_COLUMNS, SCORE_COLUMN])
    for result in results:
        path = result.task.path
        relative = os.path.relpath(path, folder) if os.path.exists(path) else path  # a synthetic one has no file
        name = relative if is_utf8(relative) else printable(relative)
        for face in result.faces:
            numbers = (f"{value:.3f}" for value in (*face.keypoints.ravel().tolist(), *training_box(face).tolist()))
            rows.writerow([name, *numbers, "" if face.score is None else f"{face.score:.4f}"])
    return text.getvalue()


def training_box(face: Face) -> Floats:
    """The face box to train on: (4,) (x0, y0, x1, y1) in pixels.

    It is the tight box of the keypoints. If they are only some of a face's (see `KeypointSchema.subset`), or a single
    one, their tight box is not a face; then it is the box that they were predicted from.
    """
    partial = face.schema.num_keypoints == 1 or face.schema.name.endswith(")")
    return face.box if face.detection_box is None or not partial else face.detection_box


def _json_lines(results: Sequence[PhotoResult], schema: KeypointSchema) -> Iterator[str]:
    return (json.dumps(result.to_dict(schema), allow_nan=False) for result in results)
