"""Labels the faces of ``wild/`` by teachers, for the training of the shipped model.

    pip install mediapipe==0.10.21                       # in an environment of its own: it needs an older NumPy
    python tools/wild_labels.py detect DATA_FOLDER LABELS_FOLDER
    python tools/wild_labels.py label DATA_FOLDER LABELS_FOLDER   # in kpdetect's environment

``detect`` runs MediaPipe's two face detectors and its face mesh on every photograph and writes ``SET.mp.jsonl``; it
imports neither kpdetect nor Keras. ``label`` fits a linear map from the mesh's 468 points to the 68 on training faces
of 300-W, and writes ``SET.faces.jsonl``: the mean of mesh and shipped model where both agree, the labelled points where
a set has some, and boxes where two detectors agree. The points of a profile that are not labelled are a guess: a mean
face in three dimensions, turned to fit the labelled ones. Source of the detectors and the mesh: MediaPipe 0.10.21,
Apache License 2.0 (Lugaresi et al., arXiv:1906.08172; Kartynnik et al., arXiv:1907.06724).
"""

import argparse
import csv
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SETS = {
    "masks": "wild/masks",
    "mtfl": "wild/mtfl",
    "ages": "wild/ages",
    "portraits": "wild/portraits",
    "cfp": "wild/cfp",
    "scenes": "wild/scenes",
    "helen": "ibug_300w/helen",
    "lfpw": "ibug_300w/lfpw",
}
WHOLE = ("masks", "scenes")  # the others are cut close, and are padded for the detectors
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
LOWEST_CONFIDENCE = 0.35
RIDGE = 0.3  # chosen on validation faces of 300-W: 4.27 % mean and 3.57 % median error
AGREEMENT, HALF_AGREEMENT = 0.05, 0.04  # mean distance, relative to the root of the area of the face box
SAME_FACE = 0.4  # intersection over union of two detectors' boxes

Doubles = Any  # arrays of float64
Distance = Callable[[Doubles], float]


def detect(data: Path, labels: Path) -> None:
    """Writes the detections and meshes of every photograph, in pixels with the centre of a pixel on the integer."""
    import cv2
    import mediapipe

    solutions = mediapipe.solutions
    detectors = {
        name: solutions.face_detection.FaceDetection(model_selection=number, min_detection_confidence=LOWEST_CONFIDENCE)
        for number, name in enumerate(("short", "full"))
    }
    mesh = solutions.face_mesh.FaceMesh(
        static_image_mode=True, max_num_faces=10, min_detection_confidence=LOWEST_CONFIDENCE
    )
    labels.mkdir(parents=True, exist_ok=True)
    for name, folder in SETS.items():
        files = sorted(file for file in (data / folder).rglob("*") if file.suffix.lower() in SUFFIXES)
        with (labels / f"{name}.mp.jsonl").open("w", encoding="utf-8") as out:
            for file in files:
                picture = cv2.imread(str(file))
                if picture is None:
                    continue
                height, width = picture.shape[:2]
                pad = 0 if name in WHOLE else max(height, width) // 3
                picture = cv2.copyMakeBorder(picture, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
                rgb = np.ascontiguousarray(picture[..., ::-1])
                row: dict[str, Any] = {"image": file.relative_to(data).as_posix(), "size": [width, height]}
                size = np.array(rgb.shape[1::-1])
                for key, detector in detectors.items():
                    row[key] = []
                    for found in detector.process(rgb).detections or []:
                        box = found.location_data.relative_bounding_box
                        low = np.array([box.xmin, box.ymin]) * size - pad - 0.5
                        high = low + np.array([box.width, box.height]) * size
                        row[key].append(np.round([*low, *high, found.score[0]], 2).tolist())
                row["mesh"] = [
                    np.round(
                        [[p.x * size[0] - pad - 0.5, p.y * size[1] - pad - 0.5, p.z * size[0]] for p in one.landmark], 2
                    ).tolist()
                    for one in mesh.process(rgb).multi_face_landmarks or []
                ]
                out.write(json.dumps(row) + "\n")
        print(name, len(files), flush=True)


def rows_of(labels: Path, name: str) -> list[dict[str, Any]]:
    """The lines of a set's ``.mp.jsonl``."""
    with (labels / f"{name}.mp.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def similarity(source: Doubles, target: Doubles) -> tuple[complex, Doubles, Doubles]:
    """The similarity that fits points (N, 2) to others: a complex factor, and the two centres."""
    a, b = source.mean(axis=0), target.mean(axis=0)
    first, second = (source - a) @ (1, 1j), (target - b) @ (1, 1j)
    return complex((np.conj(first) * second).sum() / (np.abs(first) ** 2).sum()), a, b


def moved(points: Doubles, factor: complex, center: Doubles, target: Doubles) -> Doubles:
    """Points (N, 2) under a similarity."""
    turned = ((points - center) @ (1, 1j)) * factor
    return np.stack([turned.real, turned.imag], axis=1) + target


class MeshMap:
    """The linear map from MediaPipe's mesh (468, 3) to the 68 points, in a frame of normalised place, size and roll."""

    def __init__(self, meshes: list[Doubles], points: list[Doubles]) -> None:
        self._template = meshes[0][:, :2]
        for _ in range(5):
            fitted = [moved(mesh[:, :2], *similarity(mesh[:, :2], self._template)) for mesh in meshes]
            mean = np.mean(fitted, axis=0)
            mean -= mean.mean(axis=0)
            self._template = mean / np.sqrt((mean**2).sum(axis=1).mean())
        features = np.stack([self._features(mesh)[0] for mesh in meshes])
        targets = []
        for mesh, point in zip(meshes, points, strict=True):
            targets.append(moved(point, *self._features(mesh)[1]).ravel())
        self._center, self.mean = features.mean(axis=0), np.mean(targets, axis=0)
        u, s, vt = np.linalg.svd(features - self._center, full_matrices=False)
        self._map = vt.T @ ((s / (s**2 + RIDGE))[:, None] * (u.T @ (np.stack(targets) - self.mean)))
        self.depth = np.mean([feature[2 * 468 :] for feature in features], axis=0)

    def _features(self, mesh: Doubles) -> tuple[Doubles, tuple[complex, Doubles, Doubles]]:
        fit = similarity(mesh[:, :2], self._template)
        depth = mesh[:, 2] * abs(fit[0])
        return np.concatenate([moved(mesh[:, :2], *fit).ravel(), depth - depth.mean()]), fit

    def __call__(self, mesh: Doubles) -> Doubles:
        """(468, 3) -> (68, 2), in pixels."""
        features, (factor, center, target) = self._features(np.asarray(mesh, np.float64))
        normal = ((features - self._center) @ self._map + self.mean).reshape(68, 2)
        return moved(normal, 1 / factor, target, center)

    def mean_face(self, swap: list[int]) -> Doubles:
        """A symmetric mean face in three dimensions, (68, 3): the depth of a point is that of the nearest vertices."""
        points = self.mean.reshape(68, 2)
        points = (points + points[swap] * (-1, 1)) / 2
        near = np.argsort(((points[:, None] - self._template[None]) ** 2).sum(axis=-1), axis=1)[:, :4]
        return np.column_stack([points, self.depth[near].mean(axis=1)])


def fit_mesh_map(data: Path, labels: Path) -> MeshMap:
    """Fits the map on the training faces of 300-W that have one mesh in the middle of the face."""
    from kpdetect.data import load, split_by_rule
    from kpdetect.modelfile import bundle

    faces = split_by_rule(load(f"ibug:{data}/ibug_300w"), bundle.read_spec(bundle.shipped_model()).split_rule)[0]
    found = {row["image"]: row["mesh"] for name in ("helen", "lfpw") for row in rows_of(labels, name)}
    meshes, points = [], []
    for path, keypoints in zip(faces.paths.tolist(), faces.keypoints.astype(np.float64), strict=True):
        low, high = keypoints.min(axis=0), keypoints.max(axis=0)
        for mesh in found.get(Path(path).relative_to(data).as_posix(), []):
            center = np.mean(mesh, axis=0)[:2]
            if (center > low).all() and (center < high).all():
                meshes.append(np.array(mesh))
                points.append(keypoints)
                break
    return MeshMap(meshes, points)


def tight(points: Doubles) -> Doubles:
    """The tight box (4,) of points."""
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def side(box: Doubles) -> float:
    """The root of a box's area."""
    return float(np.sqrt(max((box[2] - box[0]) * (box[3] - box[1]), 1.0)))


class Labeller:
    """Combines the teachers on the photographs of a set."""

    def __init__(self, data: Path, labels: Path) -> None:
        from kpdetect import Predictor
        from kpdetect.core.schema import IBUG68

        self._data, self._labels = data, labels
        self._model = Predictor(min_score=0.0, mirror=True)
        self._mesh = fit_mesh_map(data, labels)
        self._swap = list(IBUG68.flip_permutation or ())
        self._boxes = {key: self._box_rule(key) for key in ("short", "full")}

    def _box_rule(self, key: str) -> Doubles:
        """How a detector's box becomes a tight box: median shift and size, relative to it, on 300-W."""
        rules = []
        for name in ("helen", "lfpw"):
            for row in rows_of(self._labels, name):
                if len(row[key]) == 1 and len(row["mesh"]) == 1:
                    box, own = np.array(row[key][0][:4]), tight(self._mesh(row["mesh"][0]))
                    if overlap(box, own) > 0.3:
                        size = box[2:] - box[:2]
                        shift = ((own[:2] + own[2:]) - (box[:2] + box[2:])) / 2 / size
                        rules.append([*shift, *(own[2:] - own[:2]) / size])
        return np.median(rules, axis=0)

    def _tight_of(self, key: str, detection: list[float]) -> Doubles:
        box = np.array(detection[:4])
        size = box[2:] - box[:2]
        center = (box[:2] + box[2:]) / 2 + self._boxes[key][:2] * size
        half = size * self._boxes[key][2:] / 2
        return np.concatenate([center - half, center + half])

    def both(self, row: dict[str, Any], distance: Distance, limit: float) -> dict[str, Any] | None:
        """The mean of mesh and model if they agree; else the one that meets the labels; None if neither does."""
        from kpdetect.core.images import read_image

        faces = self._model(read_image(self._data / row["image"]))
        found: list[Any] = []
        for teacher in ([self._mesh(mesh) for mesh in row["mesh"]], [face.keypoints.astype(float) for face in faces]):
            found.append(min(((distance(one), one) for one in teacher), key=lambda pair: pair[0], default=(9.0, None)))
        (mesh_off, mesh), (model_off, model) = found
        if mesh is not None and model is not None:
            apart = np.linalg.norm(mesh - model, axis=1).mean() / side(tight(model))
            if apart < limit and min(mesh_off, model_off) < 1.5 * limit:
                return described(row, (mesh + model) / 2, True, "mesh+model")
        for off, points, name in ((model_off, model, "model"), (mesh_off, mesh, "mesh")):
            if points is not None and off < limit:
                return described(row, points, False, name)
        return None

    def masks(self) -> Iterator[dict[str, Any]]:
        """Points of the mesh where a detector agrees, and boxes where both detectors do."""
        for row in rows_of(self._labels, "masks"):
            boxes = {key: [self._tight_of(key, one) for one in row[key]] for key in ("short", "full")}
            meshes = [self._mesh(mesh) for mesh in row["mesh"]]
            for points in meshes:
                agree = all(any(overlap(tight(points), box) > SAME_FACE for box in boxes[key]) for key in boxes)
                yield described(row, points, agree, "mesh")
            for box in boxes["full"]:
                same = [other for other in boxes["short"] if overlap(box, other) > SAME_FACE]
                if same and not any(overlap(box, tight(points)) > 0.3 for points in meshes):
                    mean = (box + same[0]) / 2
                    yield {
                        "image": row["image"],
                        "box": mean.round(2).tolist(),
                        "points": None,
                        "agree": True,
                        "source": "full+short",
                    }

    def mtfl(self) -> Iterator[dict[str, Any]]:
        """Points that meet the five labelled ones; the five alone where no teacher does."""
        five = five_points(self._data / "wild" / "mtfl" / "labels.csv")
        for row in rows_of(self._labels, "mtfl"):
            labelled = five[row["image"].removeprefix("wild/mtfl/")]
            face = self.both(row, functools.partial(off_five, five=labelled), AGREEMENT)
            empty = {"image": row["image"], "box": None, "points": None, "agree": False, "source": ""}
            yield {**(face or empty), "five": labelled.tolist()}

    def close(self, name: str) -> Iterator[dict[str, Any]]:
        """Points of faces in the middle of pictures without labels, where both teachers agree."""
        for row in rows_of(self._labels, name):
            size = np.array(row["size"])

            def distance(points: Doubles, size: Doubles = size) -> float:
                return 0.0 if (np.abs(points.mean(axis=0) - size / 2) < 0.25 * size).all() else 1.0

            face = self.both(row, distance, AGREEMENT)
            if face and face["agree"]:
                yield face

    def cfp(self) -> Iterator[dict[str, Any]]:
        """Frontal faces whose missing half the teachers complete; profiles with their labelled points and a guess."""
        own = {row["image"].removeprefix("wild/cfp/"): row for row in rows_of(self._labels, "cfp")}
        mean_face = self._mesh.mean_face(self._swap)
        with (self._data / "wild" / "cfp" / "labels.csv").open(newline="", encoding="utf-8") as file:
            for record in csv.DictReader(file):
                row = own[record["image"]]
                points = np.array([[float(record[f"{i}_{axis}"] or "nan") for axis in "xy"] for i in range(68)])
                labelled = ~np.isnan(points[:, 0])
                partial = [None if np.isnan(x) else [x, y] for x, y in points.round(2).tolist()]
                partial = [point or [None, None] for point in partial]
                extra = {"subject": record["subject"], "partial": partial}
                if "profile" in record["image"]:
                    guess = hidden_points(mean_face, points, labelled, self._swap).round(2).tolist()
                    box = tight(points[labelled]).round(2).tolist()
                    yield {
                        "image": row["image"],
                        "box": box,
                        "points": None,
                        "agree": True,
                        "source": "labels",
                        "guess": guess,
                        **extra,
                    }
                    continue

                def distance(found: Doubles, points: Doubles = points, labelled: Doubles = labelled) -> float:
                    return float(np.linalg.norm((found - points)[labelled], axis=1).mean() / side(tight(found)))

                face = self.both(row, distance, HALF_AGREEMENT)
                if face:
                    whole = np.array(face["points"])
                    whole[labelled] = points[labelled]
                    yield {**face, "points": whole.round(2).tolist(), "box": tight(whole).round(2).tolist(), **extra}


def described(row: dict[str, Any], points: Doubles, agree: bool, source: str) -> dict[str, Any]:
    """A line of ``.faces.jsonl``."""
    box = tight(points).round(2).tolist()
    return {
        "image": row["image"],
        "box": box,
        "points": points.round(2).tolist(),
        "agree": bool(agree),
        "source": source,
    }


def five_points(file: Path) -> dict[str, Doubles]:
    """The labels of MTFL by image: pupils, nose tip and corners of the mouth, (5, 2)."""
    names = [
        f"{part}_{axis}" for part in ("left_eye", "right_eye", "nose_tip", "mouth_left", "mouth_right") for axis in "xy"
    ]
    with file.open(newline="", encoding="utf-8") as handle:
        return {
            row["image"]: np.array([float(row[name] or "nan") for name in names]).reshape(5, 2)
            for row in csv.DictReader(handle)
        }


def off_five(points: Doubles, five: Doubles) -> float:
    """The mean distance of 68 points from five labelled ones, relative to the face."""
    own = np.stack([points[36:42].mean(axis=0), points[42:48].mean(axis=0), points[30], points[48], points[54]])
    return float(np.nanmean(np.linalg.norm(own - five, axis=1)) / side(tight(points)))


def hidden_points(mean_face: Doubles, points: Doubles, labelled: Doubles, swap: list[int]) -> Doubles:
    """Completes a profile: a scaled orthographic projection of the mean face, fitted to the labelled points."""
    shape, target = mean_face[labelled], points[labelled]
    affine = np.linalg.lstsq(shape - shape.mean(axis=0), target - target.mean(axis=0), rcond=None)[0].T
    u, s, vt = np.linalg.svd(affine, full_matrices=False)
    projection = s.mean() * u @ vt
    projected = (mean_face - shape.mean(axis=0)) @ projection.T + target.mean(axis=0)
    completed = projected.copy()
    for index in np.flatnonzero(~labelled):
        if labelled[swap[index]]:  # the face is as its visible half
            completed[index] += points[swap[index]] - projected[swap[index]]
    completed[labelled] = target
    return completed


def overlap(first: Doubles, second: Doubles) -> float:
    """The intersection over union of two boxes."""
    common = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    if (common <= 0).any():
        return 0.0
    area = float(common.prod())
    return area / (float(np.prod(first[2:] - first[:2])) + float(np.prod(second[2:] - second[:2])) - area)


def main() -> None:
    """Detects or labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("detect", "label"))
    parser.add_argument("data", type=Path, help="the data folder")
    parser.add_argument("labels", type=Path, help="the folder to write to")
    arguments = parser.parse_args()
    if arguments.step == "detect":
        detect(arguments.data, arguments.labels)
        return
    labeller = Labeller(arguments.data, arguments.labels)
    steps: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        "masks": labeller.masks,
        "mtfl": labeller.mtfl,
        "ages": lambda: labeller.close("ages"),
        "portraits": lambda: labeller.close("portraits"),
        "cfp": labeller.cfp,
    }
    for name, faces in steps.items():
        lines = [json.dumps(face) for face in faces()]
        (arguments.labels / f"{name}.faces.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(name, len(lines), flush=True)


if __name__ == "__main__":
    main()
