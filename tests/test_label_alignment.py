"""Correction of label offsets: the shift in image coordinates and the offsets in face coordinates."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpdetect.core.geometry import apply_matrix, rotation, scaling
from kpdetect.core.schema import IBUG68
from kpdetect.data import align, synthetic
from kpdetect.data.label_alignment import align_keypoints, label_offsets, rotate_upright

quick = settings(max_examples=25, deadline=None)
angle = st.floats(-180, 180)
RIGHT_EYE, LEFT_EYE = IBUG68.normalizer_points


def faces(count: int = 4) -> np.ndarray:
    return synthetic.annotations(count, seed=1).keypoints


def offsets(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, (68, 2))


def eye_distances(keypoints: np.ndarray) -> np.ndarray:
    return IBUG68.normalizers(keypoints)[:, None, None]


class TestAlignedKeypoints:
    @pytest.mark.parametrize("points", [None, np.zeros((68, 2))], ids=["none", "zeros"])
    def test_no_shift_and_no_offsets_are_the_identity(self, points):
        moved = align_keypoints(faces(), 0.0, points)
        np.testing.assert_array_equal(moved, faces())
        assert moved.dtype == np.float32

    def test_by_hand(self):
        """The eyes are 50 apart and vertical: right in the upright face is down in this image."""
        keypoints = np.zeros((1, 68, 2), np.float32)
        keypoints[0, RIGHT_EYE], keypoints[0, LEFT_EYE] = (100, 10), (100, 60)
        points = np.zeros((68, 2))
        points[5] = (0.1, 0.02)
        moved = align_keypoints(keypoints, 0.04, points)
        np.testing.assert_allclose(moved[0, 5], [-1 - 2, 5], atol=1e-5)  # 0.02 down in the face is left in the image
        np.testing.assert_allclose(moved[0, 6], [-2, 0], atol=1e-5)  # the shift is in image coordinates

    @quick
    @given(angle, st.integers(0, 9))
    def test_offsets_rotate_with_the_face(self, angle_deg, seed):
        turn = rotation(angle_deg, (64, 50))
        turned_first = align_keypoints(apply_matrix(turn, faces()), 0.0, offsets(seed))
        turned_last = apply_matrix(turn, align_keypoints(faces(), 0.0, offsets(seed)))
        np.testing.assert_allclose(turned_first, turned_last, atol=1e-3)

    @quick
    @given(st.floats(0.1, 20), st.floats(-0.1, 0.1))
    def test_corrections_scale_with_the_image(self, scale, shift_x):
        scaled_first = align_keypoints(apply_matrix(scaling(scale), faces()), shift_x, offsets())
        scaled_last = apply_matrix(scaling(scale), align_keypoints(faces(), shift_x, offsets()))
        np.testing.assert_allclose(scaled_first, scaled_last, atol=1e-4 * max(scale, 1) * 128)

    @quick
    @given(angle, st.floats(-0.1, 0.1))
    def test_the_shift_does_not_rotate_with_the_face(self, angle_deg, shift_x):
        keypoints = apply_matrix(rotation(angle_deg, (64, 50)), faces())
        moved = align_keypoints(keypoints, shift_x, offsets()) - align_keypoints(keypoints, 0.0, offsets())
        expected = np.broadcast_to(-shift_x * eye_distances(keypoints) * [1, 0], moved.shape)
        np.testing.assert_allclose(moved, expected, atol=1e-3)

    @quick
    @given(angle, st.integers(0, 9))
    def test_the_inverse_restores_the_points(self, angle_deg, seed):
        keypoints = apply_matrix(rotation(angle_deg, (64, 50)), faces())
        moved = align_keypoints(keypoints, 0.0, offsets(seed)).astype(np.float64) - keypoints
        found = rotate_upright(moved, keypoints) / eye_distances(keypoints)
        np.testing.assert_allclose(found, np.broadcast_to(offsets(seed), found.shape), atol=1e-4)

    def test_faces_without_points_are_unchanged(self):
        empty = np.zeros((2, 68, 2), np.float32)
        np.testing.assert_array_equal(align_keypoints(empty, 0.03, offsets()), empty)


class TestFigures:
    @pytest.mark.parametrize("name", label_offsets()["sets"])
    def test_offsets_are_mirror_symmetric(self, name):
        points = np.array(label_offsets()["sets"][name].get("points", np.zeros((68, 2))))
        assert points.shape == (68, 2)
        np.testing.assert_allclose(points[list(IBUG68.flip_permutation)] * (-1, 1), points, atol=1e-9)

    @pytest.mark.parametrize("name", label_offsets()["sets"])
    def test_offsets_are_small_fractions_of_the_eye_distance(self, name):
        known = label_offsets()["sets"][name]
        assert 0 < known["shift_x"] < 0.05
        assert np.abs(np.array(known.get("points", 0.0))).max() < 0.1

    def test_the_reference_set_is_unchanged(self):
        assert "points" not in label_offsets()["sets"][label_offsets()["reference"]]


class TestAlign:
    @pytest.mark.parametrize("name", ["synthetic", "faces.csv", "imm", "ibug2"])
    def test_an_unknown_set_is_unchanged(self, name):
        annotations = dataclasses.replace(synthetic.annotations(3), name=name)
        assert align(annotations) is annotations

    def test_other_schemes_are_unchanged(self):
        nose = dataclasses.replace(synthetic.annotations(3).select(["nose_tip"]), name="ibug")
        assert align(nose) is nose

    @pytest.mark.parametrize("name", label_offsets()["sets"])
    @pytest.mark.parametrize("place", ["", ":test"])
    def test_only_the_points_of_a_known_set_change(self, name, place):
        annotations = dataclasses.replace(synthetic.annotations(3), name=name + place)
        aligned = align(annotations)
        known = label_offsets()["sets"][name]
        expected = align_keypoints(annotations.keypoints, known["shift_x"], known.get("points"))
        np.testing.assert_array_equal(aligned.keypoints, expected)
        assert not np.array_equal(aligned.keypoints, annotations.keypoints)
        np.testing.assert_array_equal(aligned.boxes, annotations.boxes)
        assert dataclasses.replace(aligned, keypoints=annotations.keypoints) == annotations

    def test_labels_move_to_the_left(self):
        """The original labels are biased to the right."""
        annotations = dataclasses.replace(synthetic.annotations(3), name="ibug")
        moved = align(annotations).keypoints - annotations.keypoints
        assert (moved[..., 0] < 0).all()
        np.testing.assert_allclose(moved[..., 1], 0, atol=1e-4)


def test_both_lists_of_a_set_have_the_same_correction():
    drawn = synthetic.annotations(2)
    names = ("youtube-faces", "youtube-faces published test (leaks: its people and videos are in the training list)")
    first, second = (align(dataclasses.replace(drawn, name=name)).keypoints for name in names)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, drawn.keypoints)
