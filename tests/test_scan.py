"""The search of a whole photograph with the model if no detector finds a face."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpdetect.core.geometry import CropRule, intersection_over_union
from kpdetect.core.images import cv2
from kpdetect.core.schema import user_schema
from kpdetect.data import load, split_by_rule
from kpdetect.detection import Detections, FaceFinder, non_maximum_suppression, scan
from kpdetect.modelfile.runtime import Prediction
from kpdetect.modelfile.spec import Spec
from kpdetect.predict import Predictor

SCHEMA = user_schema(["right_top", "left_top", "left_bottom"])


class SeesSquares:
    """Predicts three corners of the bright region; certain if it covers 30 to 90 % of the crop."""

    def __init__(self) -> None:
        middle = float(np.log(0.1))
        rule = CropRule((48, 48), 1.2)
        self.spec = Spec(SCHEMA, "none", {}, rule, 1, uncertainty=True, face_score={"middle": middle, "slope": 8.0})
        self.looks = 0

    def predict(self, crops: np.ndarray) -> Prediction:
        self.looks += len(crops)
        points, unsure = np.zeros((len(crops), 3, 2), np.float32), np.full((len(crops), 3), 0.3, np.float32)
        for index, bright in enumerate(crops[..., 0] > 127):
            rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
            if len(rows) and len(columns):
                (y0, y1), (x0, x1) = rows[[0, -1]] + [0, 1], columns[[0, -1]] + [0, 1]
                points[index] = np.array([[x0, y0], [x1, y0], [x1, y1]]) / 48
                whole = min(x0, y0) > 0 and max(x1, y1) < 48
                unsure[index] = 0.02 if whole and 0.3 <= bright.mean() <= 0.9 else 0.11 if bright.mean() > 0.1 else 0.3
        return Prediction(points, unsure)


def with_squares(*squares: tuple[int, int, int], size_hw: tuple[int, int] = (200, 260)) -> np.ndarray:
    image = np.zeros((*size_hw, 3), np.uint8)
    for x, y, side in squares:
        image[y : y + side, x : x + side] = 255
    return image


def test_a_large_square_that_no_cascade_detects_is_found_once() -> None:
    (face,) = Predictor(SeesSquares())(with_squares((90, 70, 84)))
    np.testing.assert_allclose(face.keypoints, [[89.5, 69.5], [173.5, 69.5], [173.5, 153.5]], atol=3)
    assert intersection_over_union(face.box[None], np.float32([[89.5, 69.5, 173.5, 153.5]]))[0, 0] > 0.8
    assert face.score is not None
    assert face.score > 0.5


def test_nothing_is_found_in_an_empty_photograph() -> None:
    assert Predictor(SeesSquares())(with_squares()) == []


@pytest.mark.parametrize(
    "options", [{"detector": lambda image: np.zeros((0, 4))}, {"min_score": 0.4}, {"min_score": 0.0}]
)
def test_a_named_detector_or_min_score_0_disables_the_scan(options) -> None:
    model = SeesSquares()
    assert Predictor(model, **options)(with_squares((90, 70, 84))) == []
    assert model.looks == 0


def test_given_boxes_disable_the_scan() -> None:
    model = SeesSquares()
    assert Predictor(model)(with_squares((90, 70, 84)), boxes=[]) == []
    assert model.looks == 0


def test_a_detected_face_disables_the_scan(monkeypatch) -> None:
    monkeypatch.setattr("kpdetect.inference.predictor.make_detector", lambda *_: lambda image: [(85, 65, 175, 155)])
    model = SeesSquares()
    assert len(Predictor(model)(with_squares((90, 70, 84)))) == 1
    assert model.looks == 2


def test_faces_inside_a_false_box_of_a_higher_score_are_found(monkeypatch) -> None:
    boxes = np.float32([[100, 100, 190, 180, 0], [50, 60, 44, 44, 0], [150, 110, 60, 60, 0]])
    monkeypatch.setattr(FaceFinder, "detect", lambda *_: Detections(boxes, np.float32([0.9, 0.6, 0.4])))
    faces = Predictor(SeesSquares())(with_squares((30, 40, 40), (120, 80, 60)))
    found = np.stack([face.box for face in faces])
    np.testing.assert_allclose(found, [[119.5, 79.5, 179.5, 139.5], [29.5, 39.5, 69.5, 79.5]], atol=2)


def test_the_number_of_candidates_is_limited(monkeypatch) -> None:
    boxes = np.tile(np.float32([150, 110, 60, 60, 0]), (500, 1))
    monkeypatch.setattr(FaceFinder, "detect", lambda *_: Detections(boxes, np.full(500, 0.5, np.float32)))
    model = SeesSquares()
    assert len(Predictor(model)(with_squares((120, 80, 60)))) == 1
    assert model.looks == 200


@pytest.mark.parametrize("angle", [0, 45, 90, 180, -90])
def test_turned_squares_are_cropped_upright(monkeypatch, angle) -> None:
    """The model sees an upright square if the crop is turned by the finder's rotation."""
    crops = []

    class Records(SeesSquares):
        def predict(self, crops_: np.ndarray) -> Prediction:
            crops.extend(crops_)
            return super().predict(crops_)

    box = np.float32([[130, 100, 80, 80, angle]])
    monkeypatch.setattr(FaceFinder, "detect", lambda *_: Detections(box, np.float32([0.9])))
    image = np.zeros((200, 260, 3), np.uint8)
    cv2.fillPoly(image, [cv2.boxPoints(((130, 100), (80, 80), angle)).round().astype(np.int32)], (255, 255, 255))
    Predictor(Records(), second_look=False)(image)
    side = 48 / 1.2
    inner = slice(int(24 - side / 2) + 2, int(24 + side / 2) - 2)
    assert crops[0][inner, inner].min() > 127
    assert crops[0][:2].max() < 128


def test_two_detections_of_one_face_are_merged(monkeypatch) -> None:
    finds = [(85, 65, 175, 155), (95, 75, 180, 160), (84, 66, 172, 156)]
    monkeypatch.setattr("kpdetect.inference.predictor.make_detector", lambda *_: lambda image: finds)
    assert len(Predictor(SeesSquares())(with_squares((90, 70, 84)))) == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(60, 900), st.integers(60, 900), st.floats(0.35, 0.7), st.floats(0, 1), st.floats(0, 1))
def test_every_large_face_is_inside_a_window(height, width, share, along_x, along_y) -> None:
    found = scan.windows((height, width))
    if max(height, width) > scan.LONGEST * min(height, width):
        assert len(found) == 0
        return
    assert len(found) < 250
    assert (found[:, :2] >= -0.51).all()
    assert (found[:, 2:] <= np.float32([width, height]) - 0.49).all()
    side = share * min(height, width)
    x, y = along_x * (width - side), along_y * (height - side)
    overlap = intersection_over_union(np.float32([[x, y, x + side, y + side]]), found)
    assert overlap.max() > 0.36


def test_very_small_pictures_have_no_windows() -> None:
    assert scan.windows((1, 1)).shape == scan.windows((30, 40)).shape == (0, 4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.floats(0, 50, width=32)] * 2, st.floats(1, 40, width=32)), min_size=1, max_size=9))
def test_results_do_not_overlap(rows) -> None:
    boxes = np.float32([[x, y, x + side, y + side] for x, y, side in rows])
    scores = np.linspace(0, 1, len(boxes))
    kept = non_maximum_suppression(boxes, scores)
    overlap = intersection_over_union(boxes[kept], boxes[kept]) - np.eye(len(kept))
    assert overlap.max() < scan.SAME_FACE
    assert kept[0] == len(boxes) - 1
    for left_out in set(range(len(boxes))) - set(kept.tolist()):
        stronger = kept[scores[kept] > scores[left_out]]
        assert intersection_over_union(boxes[[left_out]], boxes[stronger]).max() >= scan.SAME_FACE


def test_labelled_people_are_found_without_the_cascades(shared_data, monkeypatch) -> None:
    monkeypatch.setattr("kpdetect.inference.predictor.make_detector", lambda *_: lambda image: np.zeros((0, 4)))
    predictor = Predictor()
    faces = load(f"ibug:{shared_data / 'ibug_300w' / 'helen'}")
    held_out = split_by_rule(faces, predictor.model.spec.extra["split"])[1].take(range(12))
    overlaps = []
    for path, box in zip(held_out.paths, held_out.boxes, strict=True):
        found = [face.keypoints for face in predictor(held_out.read(path))]
        boxes = np.float32([[*points.min(axis=0), *points.max(axis=0)] for points in found]).reshape(-1, 4)
        overlaps.append(intersection_over_union(box[None], boxes).max(initial=0))
    assert np.mean(np.array(overlaps) > 0.6) >= 0.9
