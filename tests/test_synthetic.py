"""Synthetic faces: reproducible, with exact keypoints, and painted at the keypoints."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from counting import counted_calls
from messages import lines_with, mentions

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import tight_box, to_relative
from kpdetect.core.images import cv2
from kpdetect.core.schema import IBUG68
from kpdetect.data.synthetic import annotations, paint, render, render_address
from kpdetect.data.synthetic.appearance import sample_appearance
from kpdetect.data.synthetic.brush import curve, ellipse_polygon, fill, outline
from kpdetect.data.synthetic.face_shape import face_shape, mean_shape
from kpdetect.data.synthetic.shape import POINT_DEPTH, Pose, place_face, turn_head, uncross
from tools import derive_face_shape

SWAP = list(IBUG68.flip_permutation or ())


def polygon_mask(points, size):
    mask = np.zeros((size, size), np.uint8)
    fill(mask, points, 1)
    return mask.astype(bool)


def changed_pixels(index, attribute, size):
    """The pixels of a face that change with one of its colours, and the placed face."""
    placed = place_face(6, index)
    appearance = replace(sample_appearance(6, index), blur=0.0, noise=0.0, glasses=0, moustache=0.0, beard=0.0)
    dark, bright = (
        paint(placed, replace(appearance, **{attribute: color}), size) for color in ((20.0,) * 3, (240.0,) * 3)
    )
    return np.abs(dark.astype(int) - bright).max(axis=-1) > 40, placed


def frontal(**changes):
    return replace(Pose(yaw_deg=0, pitch_deg=0, roll_deg=0, extent=0.5, center_xy=(0.5, 0.5)), **changes)


def test_a_face_is_the_same_in_any_order():
    first = [render(5, index)[0].tobytes() for index in range(4)]
    again = [render(5, index)[0].tobytes() for index in reversed(range(4))]
    assert first == again[::-1]
    assert len(set(first)) == 4


def test_another_seed_gives_other_faces():
    image, points = render(0, 3)
    other_image, other_points = render(1, 3)
    assert not np.array_equal(image, other_image)
    assert np.abs(points - other_points).max() > 1


@pytest.mark.parametrize("size", [48, 128])
def test_a_picture_has_its_size_and_its_points_inside(size):
    image, points = render(2, 7, size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert points.shape == (68, 2)
    assert points.dtype == np.float32
    keypoints = annotations(200, seed=2, size=size).keypoints
    assert keypoints.min() > 0
    assert keypoints.max() < size - 1


def test_annotations_have_the_keypoints_of_the_pictures():
    faces = annotations(6, seed=4, size=64)
    assert faces.schema == IBUG68
    assert faces.name == "synthetic"
    assert len(set(faces.subjects.tolist())) == 6
    assert faces.visible.all()
    np.testing.assert_array_equal(faces.boxes, tight_box(faces.keypoints))
    for index, path in enumerate(faces.paths.tolist()):
        image, points = render(4, index, 64)
        np.testing.assert_array_equal(points, faces.keypoints[index])
        np.testing.assert_array_equal(image, faces.read(path))


def test_fewer_faces_are_the_first_of_more():
    np.testing.assert_array_equal(annotations(3).keypoints, annotations(8).keypoints[:3])


def test_the_same_face_at_any_size():
    small, large = annotations(5, size=64), annotations(5, size=200)
    np.testing.assert_allclose(
        to_relative(small.keypoints, (64, 64)), to_relative(large.keypoints, (200, 200)), atol=1e-6
    )
    coarse = cv2.resize(render(0, 3, 128)[0], (16, 16), interpolation=cv2.INTER_AREA).astype(float)
    fine = cv2.resize(render(0, 3, 256)[0], (16, 16), interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(coarse - fine).mean() < 6


def test_faces_vary_and_leave_room_for_a_crop():
    boxes = annotations(200).boxes / 128
    extent = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    assert extent.min() > 0.4
    assert extent.max() < 0.62
    assert extent.std() > 0.03
    assert (boxes[:, :2].std(axis=0) > 0.04).all()


def test_the_mean_face_is_mirror_symmetric():
    mean = face_shape().mean
    np.testing.assert_array_equal(mean[SWAP] * [-1, 1], mean)
    unit = mean_shape()
    np.testing.assert_allclose(unit[SWAP] * [-1, 1] + [1, 0], unit, atol=1e-6)
    np.testing.assert_allclose(tight_box(unit), [0, 0, 1, 1], atol=1e-6)


def test_modes_are_orthonormal_and_symmetric_or_antisymmetric():
    modes = face_shape().modes.reshape(len(face_shape().deviations), -1)
    np.testing.assert_allclose(modes @ modes.T, np.eye(len(modes)), atol=1e-3)
    mirrored = (face_shape().modes[:, SWAP] * [-1, 1]).reshape(modes.shape)
    np.testing.assert_allclose(np.abs((modes * mirrored).sum(axis=1)), 1, atol=1e-2)
    assert all(a >= b for a, b in pairwise(face_shape().deviations.tolist()))


def test_depth_is_symmetric():
    assert np.array(POINT_DEPTH)[SWAP].tolist() == list(POINT_DEPTH)


@pytest.mark.parametrize(("yaw", "pitch", "roll"), [(0, 0, 25), (30, 0, 0), (-17, 12, -8), (38, -15, 30)])
def test_turning_the_other_way_gives_the_mirror_image(yaw, pitch, roll):
    mean = face_shape().mean
    turned, _ = turn_head(mean, frontal(yaw_deg=yaw, pitch_deg=pitch, roll_deg=roll))
    other, _ = turn_head(mean, frontal(yaw_deg=-yaw, pitch_deg=pitch, roll_deg=-roll))
    np.testing.assert_allclose(other[SWAP] * [-1, 1], turned, atol=1e-9)


def test_yaw_moves_the_nose_to_its_side_and_pitch_down():
    mean = face_shape().mean
    straight, _ = turn_head(mean, frontal())
    right, _ = turn_head(mean, frontal(yaw_deg=25))
    down, _ = turn_head(mean, frontal(pitch_deg=15))
    assert (right[30] - right[[36, 45]].mean(axis=0))[0] > (straight[30] - straight[[36, 45]].mean(axis=0))[0] + 0.05
    assert (down[30] - down[[36, 45]].mean(axis=0))[1] > (straight[30] - straight[[36, 45]].mean(axis=0))[1] + 0.02


def test_lids_and_lips_do_not_cross():
    shape = face_shape().mean.copy()
    shape[[62, 66]] = shape[[66, 62]]
    shape[[37, 41]] = shape[[41, 37]]
    straight = uncross(shape)
    assert (straight[[51, 62, 66], 1] < straight[[62, 66, 57], 1]).all()
    assert straight[37, 1] < straight[41, 1]
    np.testing.assert_allclose(uncross(straight), straight, atol=1e-6)


def test_curves_pass_through_their_points():
    points = np.random.default_rng(0).uniform(0, 100, (7, 2))
    np.testing.assert_allclose(curve(points, steps=5)[::5], points, atol=1e-9)
    np.testing.assert_allclose(outline(points, corners=(0, 3))[::6], points, atol=1e-9)


def test_the_brush_fills_polygons_at_subpixel_precision():
    size, misses, excess = 40, [], []
    for offset in np.random.default_rng(1).uniform(0, 1, (60, 2)):
        polygon = ellipse_polygon(offset + 18, (11, 7), 30)  # in pixels of the picture
        canvas = np.zeros((2 * size, 2 * size), np.uint8)
        fill(canvas, (polygon + 0.5) * 2 - 0.5, 255)
        picture = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA) / 255
        x, y = (picture * np.arange(size)).sum(), (picture * np.arange(size)[:, None]).sum()
        misses.append(np.array([x, y]) / picture.sum() - polygon.mean(axis=0))
        excess.append(picture.sum() / cv2.contourArea(polygon.astype(np.float32)) - 1)
    np.testing.assert_allclose(np.mean(misses, axis=0), 0, atol=0.03)
    assert np.abs(misses).max() < 0.15
    assert abs(np.mean(excess)) < 0.01


def test_lips_are_redder_than_the_skin_around_them():
    contrast = []
    for index in range(50):
        image, points = render(8, index)
        redness = image[..., 0] - image[..., 1:].mean(axis=-1)
        lips = points[48:60]
        inside = polygon_mask(lips, 128)
        ring = polygon_mask(lips.mean(axis=0) + (lips - lips.mean(axis=0)) * 1.35, 128) & ~inside
        contrast.append(redness[inside].mean() - redness[ring].mean())
    assert np.mean(contrast) > 5


def test_lips_are_at_their_keypoints_to_a_pixel():
    size, steps = 256, [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)]
    overlap = np.zeros(len(steps))
    for index in range(20):
        changed, placed = changed_pixels(index, "lips", size)
        points = placed.points * size - 0.5
        lips = polygon_mask(outline(points[48:60], (0, 6)), size) & ~polygon_mask(outline(points[60:68], (0, 4)), size)
        for place, (x, y) in enumerate(steps):
            moved = np.roll(lips, (y, x), axis=(0, 1))
            overlap[place] += (changed & moved).sum() / (changed | moved).sum() / 20
    assert steps[int(overlap.argmax())] == (0, 0)
    assert overlap.max() > 0.65


@pytest.mark.parametrize(
    ("attribute", "parts", "least_share"),
    [("lips", [(slice(48, 60), (0, 6))], 0.7), ("iris", [(slice(36, 42), (0, 3)), (slice(42, 48), (0, 3))], 0.05)],
)
def test_a_colour_is_painted_inside_its_keypoints_only(attribute, parts, least_share):
    """The colour of the lips changes the lips, and the colour of the iris changes the eye between the lids."""
    size, changed_area, outside_area, part_area = 256, 0, 0, 0
    for index in range(20):
        changed, placed = changed_pixels(index, attribute, size)
        points = placed.points * size - 0.5
        inside = sum(polygon_mask(outline(points[part], corners), size) for part, corners in parts) > 0
        near = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0  # one pixel for soft edges
        changed_area += changed.sum()
        outside_area += (changed & ~near).sum()
        part_area += inside.sum()
    assert outside_area <= 0.03 * changed_area
    assert changed_area > least_share * part_area


def test_eyes_are_brighter_and_darker_than_the_lids():
    """The range of grey levels is wider in an eye than on the bridge of the nose."""
    eyes, bridges = [], []
    for index in range(50):
        image, points = render(9, index)
        for eye in (points[36:42], points[42:48]):
            eyes.append(np.ptp(image[polygon_mask(eye, 128)].mean(axis=-1)))
        bridges.append(
            np.ptp(
                image[polygon_mask(points[[27, 28, 29, 28]] + [[-1, 0], [-1, 0], [0, 0], [1, 0]], 128)].mean(axis=-1)
            )
        )
    assert np.mean(eyes) > 1.3 * np.mean(bridges)


def test_rendering_a_face_takes_a_few_thousand_calls():
    """About 5,200 calls, or 20 seconds for a thousand faces."""
    render(0, 0)
    with counted_calls() as counts:
        for index in range(10):
            render(0, index)
    assert 1000 < (counts["call"] + counts["c_call"]) / 10 < 10_000


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda: annotations(0), ["1", "0"]),
        (lambda: annotations(4, seed=-1), ["seed", "0", "-1"]),
        (lambda: annotations(4, size=8), ["size", "32", "2048", "8"]),
        (lambda: render(0, -1), ["index", "0", "-1"]),
        (lambda: render(0, 1.5), ["index", "1.5"]),
        (lambda: render_address("faces/1.jpg"), ["faces/1.jpg", "synthetic://0/41"]),
        (lambda: render_address("synthetic://0/1?size=9999"), ["32", "2048", "9999"]),
    ],
)
def test_invalid_arguments_are_errors(call, parts):
    with pytest.raises(KpdetectError, match=mentions(*parts)):
        call()


def test_the_derivation_recovers_a_known_shape(tmp_path, capsys):
    """Randomly shifted, rotated and scaled faces give their mean shape; the package reads the written file."""
    random = np.random.default_rng(3)
    true = face_shape()
    folder = tmp_path / "labels"
    folder.mkdir()
    for number in range(120):
        shape = true.shape(random.normal(0, 0.5, len(true.deviations)))
        turn, size = random.uniform(-0.6, 0.6), random.uniform(40, 200)
        matrix = size * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        lines = "\n".join(f"{x:.4f} {y:.4f}" for x, y in shape @ matrix.T + random.uniform(0, 500, 2))
        wrapped = f"version: 1\nn_points: 68\n{{\n{lines}\n}}\n" if number % 2 else lines
        (folder / f"{number}.pts").write_text(wrapped)
    assert derive_face_shape.main([str(tmp_path / "shape.json"), "--data", str(folder)]) == 0
    assert lines_with(capsys.readouterr().out, "25", "120")
    found = derive_face_shape.derive(derive_face_shape.read_faces(folder))
    assert np.abs(found.mean - true.mean).mean() < 0.02
    np.testing.assert_allclose(found.mean[SWAP] * [-1, 1], found.mean, atol=1e-6)


def test_too_few_faces_for_the_derivation_are_an_error(tmp_path):
    with pytest.raises(KpdetectError, match=mentions("25", ".pts", "68", "0")):
        derive_face_shape.read_faces(tmp_path)


def test_the_shipped_shape_is_derived_from_the_labels(shared_data):
    derived = derive_face_shape.derive(derive_face_shape.read_faces(shared_data / "ibug_300w"))
    np.testing.assert_allclose(derived.mean, face_shape().mean, atol=1e-4)
    np.testing.assert_allclose(derived.deviations, face_shape().deviations, atol=1e-4)


def test_a_placed_face_has_the_extent_of_its_pose():
    for index in range(20):
        placed = place_face(0, index)
        box = tight_box(placed.points)
        assert max(box[2] - box[0], box[3] - box[1]) == pytest.approx(placed.pose.extent, abs=1e-5)
