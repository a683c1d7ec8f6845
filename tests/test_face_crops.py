"""Crops of leaning heads, and the detections that are tried in other rotations."""

import dataclasses

import numpy as np
import pytest

from kpdetect import Predictor
from kpdetect.core.geometry import CropRule, apply_matrix, rotation
from kpdetect.core.images import warp_crop
from kpdetect.core.schema import IBUG68
from kpdetect.data.synthetic import render
from kpdetect.detection import Detections, Face, oriented
from kpdetect.inference.face_crops import MAX_TURNED, Candidates, oriented_crop_boxes

POINTS = render(7, 11, 200)[1]


def turned_by(angle_deg: float) -> np.ndarray:
    return apply_matrix(rotation(angle_deg, (100, 100)), POINTS)


@pytest.mark.parametrize("angle_deg", [-170.0, -90.0, 30.0, 135.0, 180.0])
def test_a_leaning_face_has_its_rotation(angle_deg: float) -> None:
    upright, turned = oriented_crop_boxes(np.stack([POINTS, turned_by(angle_deg)]), IBUG68)
    assert upright[4] == 0
    expected = oriented.oriented_boxes(turned_by(angle_deg))[0]
    assert abs((turned[4] - expected[4] + 180) % 360 - 180) < 6  # mouth and chin of a face are not on one line
    np.testing.assert_allclose(turned[:4], expected[:4], atol=6)


def test_an_oriented_box_gives_the_crop_around_the_turned_points() -> None:
    rule, points = CropRule((160, 160), 1.2), turned_by(110)
    box = oriented_crop_boxes(points[None], IBUG68)
    roll = np.deg2rad(box[0, 4])
    expected = rule.upright_matrix(points[None], [[np.cos(roll), np.sin(roll)]])
    np.testing.assert_allclose(rule.matrix(oriented.upright_boxes(box), box[:, 4]), expected, atol=1e-3)


def test_a_schema_without_eyes_is_not_turned() -> None:
    plain = dataclasses.replace(IBUG68, normalizer_points=None)
    found = oriented_crop_boxes(turned_by(120)[None], plain)[0]
    assert found[4] == 0
    np.testing.assert_allclose(
        oriented.upright_boxes(found)[0], [*turned_by(120).min(0), *turned_by(120).max(0)], atol=1e-3
    )


def candidates(rows: list[tuple[float, ...]], scores: list[float]) -> Candidates:
    found = Detections(np.float32(rows), np.float32(scores))
    return Candidates(np.zeros((1, 1, 1), np.uint8), found.boxes, True, found)


def rolls(found: Candidates) -> list[float]:
    return [] if found.detections is None else found.detections.roll_deg.tolist()


def test_only_detections_without_a_certain_face_are_turned() -> None:
    x, y = (POINTS.min(axis=0) + POINTS.max(axis=0)) / 2
    here, likely, unlikely = (x, y, 100, 90, 5), (500, y, 40, 40, 30), (700, y, 40, 40, 0)
    found = candidates([here, likely, unlikely], [0.2, 0.6, 0.1])
    assert rolls(found.turned_by_quarters([Face(POINTS, IBUG68, 0.99)])) == [120, 210, 300]
    assert rolls(found.turned_by_quarters([Face(POINTS, IBUG68, 0.7)])) == [120, 95, 210, 185, 300, 275]
    assert len(rolls(found.turned_by_quarters([]))) == 9


def test_one_detection_of_a_place_is_turned_and_not_more_than_a_limit() -> None:
    assert len(rolls(candidates([(50, 50, 40, 40, 0), (52, 50, 40, 40, 90)], [0.5, 0.6]).turned_by_quarters([]))) == 3
    many = [(100 * i, 50, 40, 40, 0) for i in range(MAX_TURNED + 5)]
    assert len(rolls(candidates(many, [0.5] * len(many)).turned_by_quarters([]))) == 3 * MAX_TURNED


def test_boxes_without_rotations_are_not_turned() -> None:
    found = Candidates(np.zeros((1, 1, 1), np.uint8), np.float32([[0, 0, 9, 9]]), True)
    assert len(found.turned_by_quarters([]).boxes) == 0


@pytest.mark.parametrize("wrong_by_deg", [90.0, 180.0, 270.0])
def test_a_detection_of_a_wrong_rotation_is_predicted_upright(wrong_by_deg: float, monkeypatch) -> None:
    picture, points = render(7, 11, 300)
    box = oriented.oriented_boxes(points)
    box[:, 4] += wrong_by_deg
    found = Detections(box, np.float32([0.5]))
    monkeypatch.setattr("kpdetect.detection.FaceFinder.detect", lambda *_: found)
    (face,) = Predictor()(picture)
    assert np.linalg.norm(face.keypoints - points, axis=1).mean() < 0.08 * np.linalg.norm(points[36] - points[45])


@pytest.mark.parametrize("angle_deg", [0.0, 90.0, 180.0])
def test_oriented_boxes_are_predicted_from_upright_crops(angle_deg: float) -> None:
    picture, points = render(7, 11, 200)
    matrix = rotation(angle_deg, (99.5, 99.5))
    turned = warp_crop(picture, matrix, (200, 200), 3)
    boxes = oriented_crop_boxes(apply_matrix(matrix, points)[None], IBUG68)
    (face,) = Predictor().predict_oriented(turned, boxes)
    truth = apply_matrix(matrix, points)
    assert np.linalg.norm(face.keypoints - truth, axis=1).mean() < 0.08 * np.linalg.norm(truth[36] - truth[45])
