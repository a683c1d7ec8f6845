"""The tool that changes the proportions of training faces."""

import cv2
import numpy as np
import pytest

from kpdetect.data import load
from tools.face_proportions import reshape


def dotted_face(side: int = 288) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A black picture with a soft dot at some points of a drawn face, whose points fill 180 of 288 pixels."""
    faces = load("synthetic:1")
    low, high = faces.keypoints[0].min(axis=0), faces.keypoints[0].max(axis=0)
    points = (faces.keypoints[0] - (low + high) / 2) * (180 / (high - low).max()) + side / 2
    picture = np.zeros((side, side), np.uint8)
    return picture, points.astype(np.float32), points[[36, 45, 30, 48, 54]].astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("index", [8, 5, 30, 36, 51, 19])
def test_points_move_with_the_picture(seed: int, index: int) -> None:
    picture, points, five = dotted_face()
    distance = np.stack(np.meshgrid(np.arange(288), np.arange(288)), axis=-1) - points[index]
    picture = np.asarray(255 * np.exp(-(distance**2).sum(axis=-1) / 8), np.uint8)
    changed, moved, _ = reshape(picture, points, five, np.random.default_rng(seed))
    weights = np.where(changed > 60, changed, 0).astype(float)
    ys, xs = np.mgrid[:288, :288]
    found = np.array([(weights * xs).sum(), (weights * ys).sum()]) / weights.sum()
    assert np.linalg.norm(moved[index] - points[index]) > 0.05
    assert np.abs(found - moved[index]).max() < 0.5


def test_the_five_points_follow_the_68() -> None:
    picture, points, five = dotted_face()
    _, moved, moved_five = reshape(picture, points, five, np.random.default_rng(0))
    assert np.abs(moved_five - moved[[36, 45, 30, 48, 54]]).max() < 1e-3


def test_missing_five_points_stay_missing() -> None:
    picture, points, five = dotted_face()
    _, moved, moved_five = reshape(picture, points, np.full_like(five, np.nan), np.random.default_rng(0))
    assert np.isfinite(moved).all()
    assert np.isnan(moved_five).all()


def test_a_profile_is_unchanged() -> None:
    picture, points, five = dotted_face()
    cv2.circle(picture, (100, 100), 20, 255, -1)
    points = points.copy()
    points[36:48] = points[27]
    changed, moved, _ = reshape(picture, points, five, np.random.default_rng(0))
    assert (changed == picture).all()
    assert (moved == points).all()
