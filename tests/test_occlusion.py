"""Objects drawn over faces: what they hide, and what they leave."""

import numpy as np
import pytest

from kpdetect.data import load
from kpdetect.data.occlusion import OBJECTS, draw_object, hidden_points

BROWS, MOUTH, EYES = slice(17, 27), slice(48, 68), slice(36, 48)


@pytest.fixture(scope="module")
def face():
    faces = load("synthetic:1:3")
    picture = np.full((256, 256), 128, np.uint8)
    points = faces.keypoints[0]
    scale = 150 / np.ptp(points, axis=0).max()
    return picture, ((points - points.mean(axis=0)) * scale + 128).astype(np.float32)


def drawn(face, kind, seed):
    picture, points = face[0].copy(), face[1]
    hidden = draw_object(picture, points, np.random.default_rng(seed), kinds=[kind])
    return picture, hidden


@pytest.mark.parametrize("kind", OBJECTS)
def test_an_object_changes_the_picture_and_hides_points_in_it(face, kind):
    results = [drawn(face, kind, seed) for seed in range(12)]
    assert all((picture != face[0]).any() for picture, _ in results)
    assert all(hidden.shape == (68,) and hidden.dtype == bool for _, hidden in results)
    assert max(hidden.sum() for _, hidden in results) >= 3
    for picture, hidden in results:  # a point is hidden only where the picture was painted
        columns, rows = np.rint(face[1][hidden]).astype(int).T
        painted = np.abs(picture[rows, columns].astype(int) - 128) > 0
        assert not hidden.any() or painted.mean() > 0.8


def test_masks_hide_mouths_and_not_brows(face):
    hidden = np.mean([drawn(face, "mask", seed)[1] for seed in range(30)], axis=0)
    assert hidden[MOUTH].mean() > 0.8
    assert hidden[BROWS].mean() < 0.05


def test_sunglasses_hide_eyes_and_not_mouths(face):
    hidden = np.mean([drawn(face, "sunglasses", seed)[1] for seed in range(30)], axis=0)
    assert hidden[EYES].mean() > 0.8
    assert hidden[MOUTH].mean() < 0.05


def test_the_same_seed_draws_the_same_object(face):
    for first, second in zip(drawn(face, "hand", 4), drawn(face, "hand", 4), strict=True):
        np.testing.assert_array_equal(first, second)


def test_points_outside_the_picture_are_not_hidden():
    opacity = np.ones((4, 5), np.float32)
    points = np.array([[0, 0], [4, 3], [5, 3], [-1, 2], [2, 9]], np.float32)
    assert hidden_points(opacity, points).tolist() == [True, True, False, False, False]
