"""Collects pictures without a face, for the face score of the shipped model.

    python tools/compact_backgrounds.py DATA_FOLDER LABELS_FOLDER --out runs/backgrounds.npz [--mistakes-of MODEL]

From ``wild/scenes`` and from the photographs of labelled faces: the boxes that the face finder takes for faces but that
meet neither a label nor any box of MediaPipe's detectors, and random windows. ``LABELS_FOLDER`` has the detections
``*.mp.jsonl`` of ``tools/wild_labels.py``; photographs with unlabelled faces need them. With ``--mistakes-of`` the
pictures are instead the upright crops that a trained model takes for faces, or nearly does, where there is none.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kpdetect import Predictor
from kpdetect.core.geometry import Floats, intersection_over_union
from kpdetect.core.images import Pixels, read_image, warp_crop
from kpdetect.data import is_held_out
from kpdetect.detection.finder import FaceFinder
from tools.compact_faces import RULE

LOWEST_SCORE = 0.05  # of the finder's boxes; the model judges boxes from 0.25 on
MOST_BOXES, RANDOM_WINDOWS = 40, 6  # of a photograph
MOST_BESIDE = 4  # boxes of a photograph with faces
NEARLY = 0.03  # score from which a prediction is a mistake that the score head should learn
TOUCHING = 0.02  # intersection over union with a face from which a box is not background


def backgrounds_of(photograph: Pixels, faces: Floats, finder: FaceFinder, rng: np.random.Generator) -> list[Pixels]:
    """Pictures (288, 288) of a photograph (H, W, 3) around boxes that meet none of its faces (N, 4)."""
    boxes = finder.detect(photograph).boxes[:MOST_BOXES]
    height, width = photograph.shape[:2]
    sides = min(height, width) * np.exp(rng.uniform(np.log(0.08), np.log(0.7), RANDOM_WINDOWS))
    centers = rng.uniform(0, 1, (RANDOM_WINDOWS, 2)) * (width, height)
    windows = np.concatenate([centers - sides[:, None] / 2, centers + sides[:, None] / 2], axis=1)
    boxes = np.concatenate([boxes, windows]).astype(np.float32)
    if len(faces):
        boxes = boxes[(intersection_over_union(boxes, grown(faces)) < TOUCHING).all(axis=1)][:MOST_BESIDE]
    return [warp_crop(photograph, RULE.matrix(box), RULE.size_hw, 1)[..., 0] for box in boxes]


class Lenient(Predictor):
    """A predictor that searches as with the usual threshold of the score, but keeps lower scores."""

    _judges = True  # a property of the base class


def mistakes_of(photograph: Pixels, faces: Floats, predictor: Predictor) -> list[Pixels]:
    """Pictures (288, 288) of the predicted faces of a photograph that meet none of its faces (N, 4)."""
    found = predictor(photograph)
    if found and len(faces):
        overlap = intersection_over_union(np.stack([face.box for face in found]), grown(faces))
        found = [face for face, meets in zip(found, overlap.max(axis=1) >= TOUCHING, strict=True) if not meets]
    if not found:
        return []
    points = np.stack([face.keypoints for face in found])
    matrices = RULE.upright_matrix(points, points[:, 45] - points[:, 36])
    return [warp_crop(photograph, matrix, RULE.size_hw, 1)[..., 0] for matrix in matrices]


def grown(boxes: Floats) -> Floats:
    """Boxes (N, 4) with a fifth of their size more on each side."""
    low, high = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([1.2 * low - 0.2 * high, 1.2 * high - 0.2 * low], axis=1)


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the data folder")
    parser.add_argument("labels", type=Path, help="the folder of *.mp.jsonl and *.faces.jsonl")
    parser.add_argument("--out", type=Path, default=Path("runs/backgrounds.npz"))
    parser.add_argument("--mistakes-of", help="a model")
    parser.add_argument("--groups", default="scenes,helen,lfpw,mtfl,portraits", help="sets, separated by commas")
    arguments = parser.parse_args()
    finder, rng = FaceFinder(min_face=0.04, min_score=LOWEST_SCORE), np.random.default_rng(0)
    pictures: list[Pixels] = []
    groups: list[str] = []
    validation: list[bool] = []
    predictor = Lenient(arguments.mistakes_of, min_score=NEARLY) if arguments.mistakes_of else None
    for group in arguments.groups.split(","):
        own: dict[str, list[list[float]]] = {}
        labels = arguments.labels / f"{group}.faces.jsonl"
        for line in labels.read_text(encoding="utf-8").splitlines() if labels.exists() else []:
            face = json.loads(line)
            if face["box"] is not None:
                own.setdefault(face["image"], []).append(face["box"])
        for line in tqdm((arguments.labels / f"{group}.mp.jsonl").read_text(encoding="utf-8").splitlines(), group):
            found = json.loads(line)
            faces = own.get(found["image"], []) + [box[:4] for name in ("short", "full") for box in found[name]]
            faces += [[*np.min(mesh, axis=0)[:2], *np.max(mesh, axis=0)[:2]] for mesh in found["mesh"]]
            if group != "scenes" and not faces:
                continue
            photograph = read_image(arguments.data / found["image"])
            boxes = np.array(faces, np.float32).reshape(-1, 4)
            if predictor is None:
                cut = backgrounds_of(photograph, boxes, finder, rng)
            else:
                cut = mistakes_of(photograph, boxes, predictor)
            pictures += cut
            groups += [group] * len(cut)
            validation += [is_held_out(Path(found["image"]).name)] * len(cut)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(arguments.out, picture=np.stack(pictures), group=np.array(groups), validation=np.array(validation))
    print(dict(zip(*(part.tolist() for part in np.unique(groups, return_counts=True)), strict=True)))


if __name__ == "__main__":
    main()
