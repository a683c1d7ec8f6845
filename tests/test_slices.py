"""Errors by slices of the data: slices are complete, and attributes are computed from the faces."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from messages import lines_with

from kpdetect.core.images import cv2
from kpdetect.core.schema import IBUG68
from kpdetect.data import Annotations, load
from kpdetect.evaluation.slices import sharpness, slice_errors, slices_table, yaws


@pytest.fixture(scope="module")
def faces() -> Annotations:
    return load("synthetic:40")


@pytest.fixture(scope="module")
def crops(faces) -> np.ndarray:
    smooth = [cv2.GaussianBlur(noise(seed), (0, 0), 0.5 + seed / 10) for seed in range(len(faces))]
    return np.stack(smooth)[..., None]


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 48), dtype=np.uint8)


def test_the_slices_of_each_attribute_are_a_partition_with_the_overall_mean(faces, crops):
    errors = np.random.default_rng(0).uniform(0, 0.1, len(faces))
    parts = slice_errors(faces, SimpleNamespace(errors=errors, crops=crops))
    assert set(parts) == {"yaw", "sharpness", "face"}
    for group in parts.values():
        assert sum(part.n for part in group) == len(faces)
        assert sum(part.n * part.nme for part in group) / len(faces) == pytest.approx(errors.mean())
    thirds = [part.n for part in parts["sharpness"]]
    assert [part.name for part in parts["sharpness"]] == ["blurred", "middle", "sharp"]
    assert max(thirds) - min(thirds) <= 1


def test_an_error_that_increases_with_blur_is_visible(faces, crops):
    parts = slice_errors(faces, SimpleNamespace(errors=1 / sharpness(crops), crops=crops))["sharpness"]
    assert parts[0].nme > parts[1].nme > parts[2].nme


def test_sharpness_decreases_with_blur_but_not_with_contrast():
    sharp = noise(1)
    blurred, faint = cv2.GaussianBlur(sharp, (0, 0), 2.0), (sharp // 4 + 90).astype(np.uint8)
    of_sharp, of_blurred, of_faint, of_grey = sharpness(np.stack([sharp, blurred, faint, 0 * sharp + 7])[..., None])
    assert of_blurred < of_sharp / 3
    assert of_faint == pytest.approx(of_sharp, rel=0.02)
    assert of_grey == 0


def test_mirrored_faces_have_the_opposite_yaw(faces):
    mirrored = faces.keypoints[:, list(IBUG68.flip_permutation)] * np.float32([-1, 1]) + np.float32([500, 0])
    other = dataclasses.replace(faces, keypoints=mirrored)
    np.testing.assert_allclose(yaws(other), -yaws(faces), atol=0.5)
    assert np.abs(yaws(faces)).max() > 5


def test_points_without_a_pose_are_left_out(faces, crops):
    nose = faces.select(["nose_tip"])
    parts = slice_errors(nose, SimpleNamespace(errors=np.full(len(nose), 0.02), crops=crops))
    assert set(parts) == {"sharpness", "face"}


def test_the_table_names_every_slice_with_its_count(faces, crops):
    parts = slice_errors(faces, SimpleNamespace(errors=np.full(len(faces), 0.02), crops=crops))
    table = slices_table(parts)
    assert len(table.splitlines()) == 3
    for group in parts.values():
        for part in group:
            assert lines_with(table, part.name, "2.00 %", str(part.n))
