"""Matrices, boxes and crop rules, as properties and against values by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import mentions

from kpdetect.core import geometry
from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule

quick = settings(max_examples=40, deadline=None)
number = st.floats(-500, 500, width=32)
points = st.lists(st.tuples(number, number), min_size=1, max_size=8).map(np.float32)
scale = st.floats(0.1, 10)
angle = st.floats(-180, 180)


def close(actual: object, expected: object, tolerance: float = 1e-2) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=tolerance)


@st.composite
def boxes(draw: st.DrawFn) -> np.ndarray:
    x, y = draw(number), draw(number)
    return np.float32([x, y, x + draw(st.floats(1, 400)), y + draw(st.floats(1, 400))])


@quick
@given(points, scale, angle, number, number)
def test_inverse_after_forward_is_the_identity(p, s, turn, dx, dy):
    matrix = geometry.translation(dx, dy) @ geometry.rotation(turn, (3.0, 5.0)) @ geometry.scaling(s)
    close(geometry.apply_matrix(geometry.invert(matrix), geometry.apply_matrix(matrix, p)), p)


@quick
@given(points, st.integers(1, 640))
def test_flip_twice_is_the_identity(p, width):
    flip = geometry.horizontal_flip(width)
    np.testing.assert_allclose(geometry.apply_matrix(flip @ flip, p), p)


@quick
@given(points, angle)
def test_a_rotation_keeps_its_centre_and_all_distances(p, turn):
    center = (7.0, -2.0)
    matrix = geometry.rotation(turn, center)
    close(geometry.apply_matrix(matrix, [center]), [center])
    moved = geometry.apply_matrix(matrix, p)
    close(np.linalg.norm(moved - center, axis=1), np.linalg.norm(p - center, axis=1))


@quick
@given(points, st.integers(1, 500), st.integers(1, 500))
def test_relative_and_pixel_coordinates_are_inverses(p, height, width):
    close(geometry.to_pixels(geometry.to_relative(p, (height, width)), (height, width)), p)


@quick
@given(points, st.integers(1, 300), st.integers(1, 5))
def test_a_resize_keeps_relative_coordinates(p, width, s):
    resized = geometry.apply_matrix(geometry.scaling(s), p)
    close(geometry.to_relative(resized, (width * s, width * s)), geometry.to_relative(p, (width, width)), 1e-3)


def test_pixel_centres_by_hand():
    # Two pixels become four: the centre of the first, 0, is between the new pixels 0 and 1.
    close(geometry.apply_matrix(geometry.scaling(2), [[0, 1]]), [[0.5, 2.5]], 1e-6)
    # The outermost pixels of an image 4 wide are exchanged.
    close(geometry.apply_matrix(geometry.horizontal_flip(4), [[0, 9], [3, 9]]), [[3, 9], [0, 9]], 1e-6)
    # A quarter turn clockwise in the image: a point to the right of the centre moves below it.
    close(geometry.apply_matrix(geometry.rotation(90, (10, 10)), [[15, 10]]), [[10, 15]], 1e-5)
    close(geometry.to_relative([[0, 0], [3, 1]], (2, 4)), [[0.125, 0.25], [0.875, 0.75]], 1e-6)


def test_a_batch_of_matrices_equals_its_singles():
    random = np.random.default_rng(0)
    matrices = np.stack([geometry.rotation(turn, (1, 2)) for turn in (0, 30, 200)])
    p = random.normal(size=(3, 5, 2)).astype(np.float32)
    together = geometry.apply_matrix(matrices, p)
    alone = [geometry.apply_matrix(matrix, part) for matrix, part in zip(matrices, p, strict=True)]
    np.testing.assert_allclose(together, alone, rtol=1e-6)


@quick
@given(points)
def test_the_tight_box_contains_every_point_and_is_minimal(p):
    x0, y0, x1, y1 = geometry.tight_box(p)
    assert (x0, y0, x1, y1) == (p[:, 0].min(), p[:, 1].min(), p[:, 0].max(), p[:, 1].max())


def test_the_tight_box_ignores_invisible_points():
    p = [[0, 0], [2, 3], [5, 4], [99, 99]]
    assert geometry.tight_box(p, [False, True, True, False]).tolist() == [2, 3, 5, 4]
    assert geometry.tight_box(p, [False] * 4).tolist() == [0, 0, 99, 99]
    many = geometry.tight_box([p, p], [[True] * 4, [False, True, True, False]])
    assert many.tolist() == [[0, 0, 99, 99], [2, 3, 5, 4]]


@quick
@given(boxes(), st.floats(0.5, 3), st.integers(1, 300), st.integers(1, 300))
def test_a_crop_is_centred_upright_and_contains_its_box(box, margin, height, width):
    rule = CropRule((height, width), margin)
    matrix = rule.matrix(box)
    assert matrix[0, 0] == matrix[1, 1] > 0
    assert matrix[0, 1] == matrix[1, 0] == 0
    center = (box[:2] + box[2:]) / 2
    relative = geometry.to_relative(geometry.apply_matrix(matrix, [center]), (height, width))
    close(relative, [[0.5, 0.5]], 1e-3)
    corners = geometry.to_relative(geometry.apply_matrix(matrix, box.reshape(2, 2)), (height, width))
    # The longer direction is exactly 1 / margin of the crop.
    close((corners[1] - corners[0]).max(), 1 / margin, 2e-3)


def test_crop_rule_by_hand():
    # A box of 100 x 50 at (50, 25), margin 2: 200 pixels of the photograph become 112 of the crop.
    matrix = CropRule((112, 112), 2.0).matrix([0, 0, 100, 50])
    close(matrix, [[0.56, 0, 55.5 - 28], [0, 0.56, 55.5 - 14], [0, 0, 1]], 1e-9)
    # With the whole image as box, outer pixel edges included, the crop is the image.
    close(CropRule((60, 80), 1.0).matrix([-0.5, -0.5, 79.5, 59.5]), np.eye(3), 1e-6)


def test_a_batch_of_crops_equals_its_singles():
    rule, rows = CropRule((40, 30), 1.3), [[0, 0, 10, 20], [5, 5, 100, 50]]
    np.testing.assert_allclose(rule.matrix(rows), [rule.matrix(row) for row in rows])


@pytest.mark.parametrize("box", [[0, 0, 0, 5], [5, 0, 1, 5], [0, 0, np.nan, 5], [0, 0, np.inf, 5]])
def test_a_box_without_area_or_finite_sides_is_an_error(box):
    with pytest.raises(KpdetectError, match=mentions("x0 < x1", "y0 < y1")):
        CropRule((8, 8), 1.0).matrix([[0, 0, 1, 1], box])


@pytest.mark.parametrize(("size", "margin"), [((0, 8), 1.0), ((8, 8), 0.0), ((8, 8), float("nan"))])
def test_a_crop_rule_without_size_is_an_error(size, margin):
    with pytest.raises(KpdetectError, match=mentions("size_hw", "margin", str(size), str(margin))):
        CropRule(size, margin)


def test_a_crop_rule_round_trips():
    rule = CropRule((48, 64), 1.25)
    assert CropRule.from_dict(rule.to_dict()) == rule


def test_jitter_by_hand_and_zero_jitter():
    box = [[10, 10, 30, 50]]
    close(geometry.jitter_boxes(box, [0.1, -0.1], 1.5), [[7, -4, 37, 56]], 1e-4)
    close(geometry.jitter_boxes(box, [0, 0], 1), box, 1e-6)


@quick
@given(boxes(), boxes())
def test_overlap_is_symmetric_and_1_with_itself(a, b):
    assert geometry.intersection_over_union([a], [b]) == geometry.intersection_over_union([b], [a])
    close(geometry.intersection_over_union([a], [a]), [[1]], 1e-6)


def test_overlap_by_hand():
    overlap = geometry.intersection_over_union([[0, 0, 2, 2]], [[1, 1, 3, 3], [2, 2, 3, 3], [0, 0, 2, 1]])
    close(overlap, [[1 / 7, 0, 0.5]], 1e-9)
    assert geometry.intersection_over_union(np.zeros((0, 4)), [[0, 0, 1, 1]]).shape == (0, 1)
