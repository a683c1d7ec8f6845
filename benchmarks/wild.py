"""Measures faces that 300-W hardly shows: masks, babies, profiles, turned photographs, and scenes without a face.

    python benchmarks/wild.py [DATA_FOLDER] [--model MODEL] [--results exported_models/wild.csv]

The data folder, an argument or KPDETECT_DATA, contains wild/ and ibug_300w/. Of the wild sets only the people and
photographs that training leaves out are used (`kpdetect.data.is_held_out`). The shipped face finder was trained with
another quarter left out, so most of them were among its training pictures. The babies are not trained on at all. The
model finds the faces itself unless a row says otherwise. A face counts as found if a predicted box meets the labelled
one by an intersection over union of 0.3, because the tight boxes of profiles and tilted heads are narrow.
"""

import argparse
import csv
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from kpdetect import Predictor
from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.geometry import CropRule, Floats, apply_matrix, intersection_over_union, rotation, tight_box
from kpdetect.core.images import Pixels, to_channels, warp_crop
from kpdetect.data import Annotations, align, is_held_out, load, split_by_rule
from kpdetect.data.occlusion import draw_object
from kpdetect.detection import Face
from kpdetect.evaluation.results import today

FOUND = 0.3  # intersection over union
FAILURE_PERCENT = 8.0
ANGLES_DEG = (0, 45, 90, 135, 180)


@dataclass(frozen=True)
class WildRow:
    """One measurement.

    Attributes:
        model: The model file.
        dataset: The set and its part.
        split: How its part was held out.
        boxes: Source of the face boxes: ``finder`` or ``truth``.
        n: Photographs or faces.
        missed: Of these, without a found face.
        false: Found boxes that meet no face; counted where every face is labelled.
        error: Mean error of the found faces, in per cent of the normaliser.
        median: Median error of the found faces.
        fr8: Share above 8 %, missed faces included, in per cent.
        normaliser: ``inter-ocular``, or ``box``: the root of the area of the labelled points' tight box.
        date: ISO 8601.
    """

    model: str
    dataset: str
    split: str
    boxes: str
    n: int
    missed: int | None
    false: int | None
    error: float | None
    median: float | None
    fr8: float | None
    normaliser: str
    date: str


def nearest(faces: Sequence[Face], box: Floats) -> Face | None:
    """The face whose box meets a labelled one most; None below `FOUND`."""
    if not faces:
        return None
    overlap = intersection_over_union(np.stack([face.box for face in faces]), box[None])[:, 0]
    return faces[int(overlap.argmax())] if overlap.max() >= FOUND else None


def error_of(face: Face, truth: Floats, labelled: Any, normaliser: str) -> float:
    """The mean distance of the labelled points, in per cent."""
    distance = np.linalg.norm(face.keypoints[labelled] - truth[labelled], axis=1).mean()
    if normaliser == "inter-ocular":
        return float(100 * distance / np.linalg.norm(truth[36] - truth[45]))
    extent = np.ptp(truth[labelled], axis=0)
    return float(100 * distance / np.sqrt(extent.prod()))


def row_of(dataset: str, split: str, boxes: str, errors: Sequence[float | None], normaliser: str) -> WildRow:
    """Summarises the errors of faces; None for a face that was missed."""
    found = np.array([error for error in errors if error is not None])
    missed = len(errors) - len(found)
    failed = missed + int((found > FAILURE_PERCENT).sum())
    return WildRow(
        "",
        dataset,
        split,
        boxes,
        len(errors),
        missed,
        None,
        round(float(found.mean()), 3) if len(found) else None,
        round(float(np.median(found)), 3) if len(found) else None,
        round(100 * failed / len(errors), 2),
        normaliser,
        today(),
    )


def masks(data: Path, predictor: Predictor) -> Iterator[WildRow]:
    """Photographs of people in masks: those without any found face."""
    files = [file for file in sorted((data / "wild" / "masks").rglob("*")) if file.is_file() and is_held_out(file.name)]
    counts = [len(predictor(file)) for file in tqdm(files, "masks", mininterval=5)]
    missed = sum(count == 0 for count in counts)
    yield WildRow(
        "",
        "wild/masks, photographs",
        "left out by the landmark model",
        "finder",
        len(files),
        missed,
        None,
        None,
        None,
        None,
        "none",
        today(),
    )


def scenes(data: Path, predictor: Predictor) -> Iterator[WildRow]:
    """Photographs without a face: the found boxes."""
    files = [file for file in sorted((data / "wild" / "scenes").rglob("*.jpg")) if is_held_out(file.name)]
    false = sum(len(predictor(file)) for file in tqdm(files, "scenes", mininterval=5))
    yield WildRow(
        "",
        "wild/scenes, photographs",
        "left out by the landmark model",
        "finder",
        len(files),
        None,
        false,
        None,
        None,
        None,
        "none",
        today(),
    )


def labelled_set(
    name: str, split: str, faces: Annotations, rows: Sequence[int], normaliser: str, predictor: Predictor
) -> Iterator[WildRow]:
    """A set with labels: found by the predictor, and in the labels' boxes."""
    found, given = [], []
    for row in tqdm(rows, name, mininterval=5):
        photograph = faces.read(str(faces.paths[row]))
        truth, labelled = faces.keypoints[row], faces.visible[row]
        box = tight_box(truth[labelled])
        face = nearest(predictor(photograph), box)
        found.append(None if face is None else error_of(face, truth, labelled, normaliser))
        (face,) = predictor(photograph, boxes=[box])
        given.append(error_of(face, truth, labelled, normaliser))
    yield row_of(name, split, "finder", found, normaliser)
    yield row_of(name, split, "truth", given, normaliser)


def babies(data: Path, predictor: Predictor) -> Iterator[WildRow]:
    """The babies, and those with tilted heads."""
    file = data / "wild" / "infants" / "labels.csv"
    faces = load(f"csv:{file}")
    with file.open(newline="", encoding="utf-8") as handle:
        tilted = {row["image"] for row in csv.DictReader(handle) if row.get("tilted") in ("1", "True", "true")}
    every = range(len(faces))
    yield from labelled_set("wild/infants", "all (never trained on)", faces, every, "inter-ocular", predictor)
    leaning = [row for row in every if Path(str(faces.paths[row])).name in tilted]
    if leaning:
        yield from labelled_set(
            "wild/infants, tilted", "all (never trained on)", faces, leaning, "inter-ocular", predictor
        )


def profiles(data: Path, predictor: Predictor) -> Iterator[WildRow]:
    """Full profiles, with 30 labelled points, of held-out people."""
    file = data / "wild" / "cfp" / "labels.csv"
    faces = load(f"csv:{file}")
    with file.open(newline="", encoding="utf-8") as handle:
        subject = {row["image"]: row["subject"] for row in csv.DictReader(handle)}
    names = [Path(str(path)).relative_to(file.parent).as_posix() for path in faces.paths.tolist()]
    rows = [row for row, name in enumerate(names) if "profile" in name and is_held_out(subject[name])]
    yield from labelled_set(
        "wild/cfp, profiles", "people left out by the landmark model", faces, rows, "box", predictor
    )


def turned(data: Path, predictor: Predictor) -> Iterator[WildRow]:
    """300-W's test faces in photographs that are turned."""
    rule = predictor.model.spec.split_rule
    parts = [load(f"ibug:{data / 'ibug_300w' / part}", relabel=align) for part in ("helen", "lfpw")]
    tests = [split_by_rule(part, rule)[2] for part in parts]
    for angle in ANGLES_DEG:
        errors: list[float | None] = []
        for faces in tests:
            for row in tqdm(range(len(faces)), f"turned by {angle}", mininterval=5):
                picture, matrix = turn(faces.read(str(faces.paths[row])), angle)
                truth = apply_matrix(matrix, faces.keypoints[row])
                face = nearest(predictor(picture), tight_box(truth))
                errors.append(None if face is None else error_of(face, truth, slice(None), "inter-ocular"))
        yield row_of(f"300-W turned by {angle} degrees", "test by subject", "finder", errors, "inter-ocular")


def turn(photograph: Pixels, angle_deg: float) -> tuple[Pixels, Any]:
    """Turns a photograph (H, W, 3) on a canvas that holds all of it, and gives the matrix to it."""
    height, width = photograph.shape[:2]
    matrix = rotation(angle_deg, (0.0, 0.0))
    corners = apply_matrix(
        matrix, np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float32)
    )
    low, high = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
    move = np.eye(3)
    move[:2, 2] = -low
    size = (high - low).astype(int) + 1
    return warp_crop(photograph, move @ matrix, (int(size[1]), int(size[0]))), move @ matrix


def visibility(data: Path, predictor: Predictor) -> dict[str, float]:
    """Precision and recall of hidden points under hands, which training did not draw, on 300-W's test faces."""
    spec = predictor.model.spec
    faces = split_by_rule(load(f"ibug:{data / 'ibug_300w' / 'helen'}", relabel=align), spec.split_rule)[2]
    rule: CropRule = spec.crop
    right = wrong = lost = 0
    for row in range(len(faces)):
        photograph = to_channels(faces.read(str(faces.paths[row])), 1)
        matrix = rule.matrix(faces.boxes[row])
        crop = warp_crop(photograph, matrix, rule.size_hw)[..., 0].copy()
        points = apply_matrix(matrix, faces.keypoints[row])
        hidden = draw_object(crop, points, np.random.default_rng(row), kinds=["hand"])
        found = predictor.model.predict(crop[None, ..., None]).visibility
        if found is None:
            return {}
        guessed = found[0] < 0.5
        right, wrong, lost = (
            right + (guessed & hidden).sum(),
            wrong + (guessed & ~hidden).sum(),
            lost + (~guessed & hidden).sum(),
        )
    return {
        "faces": len(faces),
        "hidden points": int(right + lost),
        "precision": round(float(right / max(right + wrong, 1)), 3),
        "recall": round(float(right / max(right + lost, 1)), 3),
    }


SETS: dict[str, Callable[[Path, Predictor], Iterator[WildRow]]] = {
    "masks": masks,
    "scenes": scenes,
    "babies": babies,
    "profiles": profiles,
    "turned": turned,
}


def write(path: Path, rows: Sequence[WildRow]) -> None:
    """Replaces the rows of the same model, set and boxes, and keeps the others."""
    names = [field.name for field in dataclasses.fields(WildRow)]
    texts = [
        {name: "" if value is None else str(value) for name, value in dataclasses.asdict(row).items()} for row in rows
    ]
    keys = {(row["model"], row["dataset"], row["boxes"]) for row in texts}
    kept: list[dict[str, str]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            kept = [row for row in csv.DictReader(file) if (row["model"], row["dataset"], row["boxes"]) not in keys]
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*texts, *kept])


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default=os.environ.get("KPDETECT_DATA", "data"))
    parser.add_argument("--model", help="a model; the packaged one by default")
    parser.add_argument("--sets", default=",".join(SETS), help="separated by commas (default: %(default)s)")
    parser.add_argument("--results", type=Path, help="a CSV file whose rows are replaced")
    arguments = parser.parse_args()
    predictor, data = Predictor(arguments.model), Path(arguments.data)
    rows = []
    for name in arguments.sets.split(","):
        for row in SETS[name](data, predictor):
            named = dataclasses.replace(row, model=Path(getattr(predictor.model, "path", "model")).name)
            print(json.dumps(dataclasses.asdict(named)), flush=True)
            rows.append(named)
    print(json.dumps({"visibility under drawn hands": visibility(data, predictor)}))
    if arguments.results:
        write(arguments.results, rows)


if __name__ == "__main__":
    main()
