"""Collects the faces that train the shipped model into one file of equal pictures.

    python tools/compact_faces.py DATA_FOLDER LABELS_FOLDER --out runs/faces.npz

The labelled sets give their labels; the faces of ``wild/`` have those that ``tools/wild_labels.py`` wrote. Every face
becomes a grey picture of 288x288 pixels with room for rotated and shifted crops. Validation and test faces of 300-W and
YouTube Faces are those of the shipped model; a quarter of the people or photographs of each wild set is for validation.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from kpdetect.core.geometry import CropRule, Floats, apply_matrix
from kpdetect.core.images import Pixels, read_image, warp_crop
from kpdetect.data import Annotations, align, is_held_out, load, split_by_rule
from kpdetect.data.crops import visit_photographs
from kpdetect.data.face_morphing import morphed_faces
from kpdetect.modelfile import bundle

SIDE, MARGIN = 288, 2.16
"""At the shipped crop of 160 pixels and margin 1.2 a face has 133 pixels, and so it has here."""
RULE = CropRule((SIDE, SIDE), MARGIN)
TEACHER_WEIGHT, MESH_WEIGHT, GUESS_WEIGHT = 0.5, 0.3, 0.1
SEEN, HIDDEN, UNKNOWN = 1, 0, -1


@dataclass(frozen=True)
class Example:
    """One face.

    Attributes:
        group: Its set.
        picture: (288, 288) uint8 grey.
        points: (68, 2) float32 in pixels of the picture; finite where the weight is positive.
        weight: (68,) float32, of each point in the loss.
        seen: (68,) int8, `SEEN`, `HIDDEN` or `UNKNOWN`.
        five: (5, 2) float32: pupils, nose tip and corners of the mouth; NaN without such labels.
        box: (4,) tight box in pixels of the picture.
        validation: Whether it is held out.
    """

    group: str
    picture: Pixels
    points: Floats
    weight: Floats
    seen: np.ndarray
    five: Floats
    box: Floats
    validation: bool


NO_FIVE = np.full((5, 2), np.nan, np.float32)


def labelled(data: Path) -> Iterator[Example]:
    """The faces of 300-W and YouTube Faces with aligned labels, and two morphed faces per training face of 300-W."""
    rule = bundle.read_spec(bundle.shipped_model()).extra["split"]
    sets = [
        ("ibug", f"ibug:{data}/ibug_300w"),
        ("youtube-faces", f"youtube-faces:{data}/youtube_faces"),
        ("youtube-faces-published", f"youtube-faces-published-test:{data}/youtube_faces"),
    ]
    for group, place in sets:
        train, validation, _ = split_by_rule(load(place, relabel=align), rule)
        yield from _of_annotations(group, train, False)
        if group != "youtube-faces-published":
            yield from _of_annotations(group, validation, True)
        if group == "ibug":
            yield from _of_annotations("morphed", morphed_faces(train, 2 * len(train), seed=20), False)


def _of_annotations(group: str, faces: Annotations, validation: bool) -> list[Example]:
    found: dict[int, Example] = {}

    def keep(row: int, photograph: Pixels) -> None:
        visible = faces.visible[row]
        weight = visible.astype(np.float32)
        points = np.nan_to_num(faces.keypoints[row])
        seen = np.where(visible, SEEN, UNKNOWN)
        name = "afw" if Path(str(faces.paths[row])).parent.name == "afw" else group
        found[row] = example(name, photograph, points, weight, seen, NO_FIVE, faces.boxes[row], validation)

    visit_photographs(faces, keep, group)
    return [found[row] for row in sorted(found)]


def example(
    group: str,
    photograph: Pixels,
    points: Floats,
    weight: Floats,
    seen: np.ndarray,
    five: Floats,
    box: Floats,
    validation: bool,
) -> Example:
    """Crops a face of a photograph (H, W, 3) around its tight box."""
    matrix = RULE.matrix(box)
    picture = warp_crop(photograph, matrix, RULE.size_hw, 1)[..., 0]
    moved = apply_matrix(matrix, np.asarray(points, np.float32))
    five = apply_matrix(matrix, five) if np.isfinite(five).any() else NO_FIVE
    corners = apply_matrix(matrix, np.reshape(box, (2, 2))).reshape(4)
    return Example(group, picture, moved, weight.astype(np.float32), seen.astype(np.int8), five, corners, validation)


def wild(data: Path, labels: Path) -> Iterator[Example]:
    """The faces of ``wild/``, with partial, five-point, or teachers' labels."""
    for group in ("cfp", "mtfl", "ages", "portraits", "masks"):
        with (labels / f"{group}.faces.jsonl").open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        for row in tqdm(rows, group, mininterval=5):
            if row["box"] is not None and (row["agree"] or group == "mtfl"):
                yield _wild_example(group, data, row)


def _wild_example(group: str, data: Path, row: dict[str, Any]) -> Example:
    photograph = read_image(data / row["image"])
    box = np.array(row["box"], np.float32)
    validation = is_held_out(row.get("subject") or Path(row["image"]).name)
    five = np.array(row["five"], np.float32) if "five" in row else NO_FIVE
    points, weight, seen = np.zeros((68, 2), np.float32), np.zeros(68, np.float32), np.full(68, UNKNOWN)
    if row["points"] is not None:
        points = np.array(row["points"], np.float32)
        weight[:] = MESH_WEIGHT if group == "masks" else TEACHER_WEIGHT if row["agree"] else MESH_WEIGHT
        seen[:] = UNKNOWN if group == "masks" else SEEN
    if "partial" in row:
        partial = np.array([[np.nan if x is None else x for x in point] for point in row["partial"]], np.float32)
        labelled = np.isfinite(partial).all(axis=1)
        if row["points"] is None:  # a profile: the other points are hidden by the head, and their place is a guess
            guess = np.array(row["guess"], np.float32)
            points, seen = np.clip(guess, box[:2], box[2:]), np.where(labelled, SEEN, HIDDEN)
            weight[:] = GUESS_WEIGHT
        points[labelled], weight[labelled] = partial[labelled], 1.0
    return example(group, photograph, points, weight, seen, five, box, validation)


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the data folder")
    parser.add_argument("labels", type=Path, help="the folder of *.faces.jsonl")
    parser.add_argument("--out", type=Path, default=Path("runs/faces.npz"))
    arguments = parser.parse_args()
    examples = [*labelled(arguments.data), *wild(arguments.data, arguments.labels)]
    names = ("group", "picture", "points", "weight", "seen", "five", "box", "validation")
    arrays: dict[str, Any] = {name: np.stack([getattr(one, name) for one in examples]) for name in names}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(arguments.out, **arrays)
    groups, counts = np.unique([f"{e.group}{' val' * e.validation}" for e in examples], return_counts=True)
    print(dict(zip(groups.tolist(), counts.tolist(), strict=True)))


if __name__ == "__main__":
    main()
