"""The face finder: image pyramid, decoding of boxes, training targets, loss, canvases, and detection."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import mentions

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import apply_matrix, intersection_over_union, rotation, tight_box, translation
from kpdetect.core.images import cv2
from kpdetect.data import load, split_by_rule, synthetic
from kpdetect.detection import FaceFinder, HaarDetector, finder, make_detector
from kpdetect.detection.finder import CELL, OUTPUT_UNIT, SIZE_UNIT, STRIDE, Detections, Pyramid, decode_cells, fuse
from kpdetect.detection.oriented import oriented_boxes, tight_boxes, transform_oriented, upright_boxes
from kpdetect.models.finder import finder as finder_network
from kpdetect.predict import Predictor
from kpdetect.training.finder import (
    canvases,
    draw_canvas,
    export_finder,
    finder_loss,
    mirrored_targets,
    occluders,
    portrait,
    portraits_of,
    targets,
    turned_targets,
)
from kpdetect.training.finder.targets import ROTATION_WEIGHT

few = settings(max_examples=25, deadline=None)


@pytest.fixture(scope="module")
def drawn() -> synthetic.Annotations:
    return synthetic.annotations(24, seed=5, size=160)


def turned(picture: np.ndarray, keypoints: np.ndarray, angle_deg: float) -> tuple[np.ndarray, np.ndarray]:
    """A picture and its keypoints turned clockwise about the middle, on a canvas that holds all of it."""
    height, width = picture.shape[:2]
    side = int(np.ceil(np.hypot(height, width)))
    middle = ((width - 1) / 2, (height - 1) / 2)
    matrix = translation((side - width) / 2, (side - height) / 2) @ rotation(angle_deg, middle)
    border = cv2.BORDER_REPLICATE
    return cv2.warpAffine(picture, matrix[:2], (side, side), borderMode=border), apply_matrix(matrix, keypoints)


def angles_between(first_deg: np.ndarray, second_deg: np.ndarray) -> np.ndarray:
    """The absolute difference of angles, at most 180 degrees."""
    return np.abs((np.asarray(first_deg) - second_deg + 180) % 360 - 180)


class TestOrientedBoxes:
    @few
    @given(st.floats(-179, 179), st.floats(0.2, 4), st.booleans(), st.integers(0, 9))
    def test_boxes_move_with_the_points(self, drawn, angle, scale, mirror, row):
        matrix = rotation(angle, (80, 60)) @ np.diag([scale, scale, 1])
        points = drawn.keypoints[row]
        if mirror:
            matrix = np.diag([-1.0, 1, 1]) @ matrix
        moved = apply_matrix(matrix, points)
        if mirror:
            moved = moved[list(drawn.schema.flip_permutation)]
        expected, found = oriented_boxes(moved[None])[0], transform_oriented(oriented_boxes(points[None]), matrix)[0]
        np.testing.assert_allclose(found[:4], expected[:4], rtol=1e-3, atol=0.05)
        assert angles_between(found[4], expected[4]) < 0.1

    def test_without_rotation_the_tight_box_is_the_upright_one(self):
        boxes = np.float32([[50, 40, 20, 30, 0], [10, 10, 8, 6, 180]])
        np.testing.assert_allclose(tight_boxes(boxes)[0], upright_boxes(boxes)[0], atol=1e-5)
        np.testing.assert_allclose(tight_boxes(boxes)[1], upright_boxes(boxes)[1], atol=1e-5)

    @pytest.mark.parametrize("angle", [30, 90, -135])
    def test_tight_boxes_are_near_those_of_the_points(self, drawn, angle):
        points = apply_matrix(rotation(angle, (0, 0)), drawn.keypoints)
        found, expected = tight_boxes(oriented_boxes(points)), tight_box(points)
        overlaps = [intersection_over_union(a[None], b[None])[0, 0] for a, b in zip(found, expected, strict=True)]
        assert np.mean(overlaps) > 0.85

    def test_the_rotation_of_half_a_face_is_that_of_its_nose_and_chin(self, drawn):
        half = drawn.keypoints[:1].copy()
        half[:, [i for i in range(68) if 9 <= i < 17 or 42 <= i < 48]] = np.nan
        assert angles_between(oriented_boxes(half)[0, 4], oriented_boxes(drawn.keypoints[:1])[0, 4]) < 20
        assert np.isfinite(oriented_boxes(half)).all()


class TestPyramid:
    @few
    @given(st.integers(1, 900), st.integers(1, 900), st.floats(0.01, 1))
    def test_levels_do_not_overlap_and_sizes_are_multiples_of_the_stride(self, height, width, min_face):
        pyramid = Pyramid.of(np.zeros((height, width), np.uint8), min_face)
        assert all(extent % STRIDE == 0 for extent in pyramid.picture.shape)
        low, high = pyramid.places[:, :2], pyramid.places[:, 2:]
        assert (low >= 0).all()
        assert (high <= pyramid.picture.shape[::-1]).all()
        apart = (low[:, None] >= high[None]).any(-1) | (low[None] >= high[:, None]).any(-1)
        assert (apart | np.eye(len(low), dtype=bool)).all()
        assert (high - low)[-1].max() <= finder.LAST_LEVEL

    @few
    @given(st.integers(60, 900), st.integers(60, 900), st.floats(0.1, 0.9), st.floats(0.1, 0.9), st.integers(0, 9))
    def test_boxes_of_every_level_map_to_the_photograph(self, height, width, x, y, which):
        pyramid = Pyramid.of(np.zeros((height, width), np.uint8), 0.05)
        level = which % len(pyramid.places)
        center, scale = np.array([x * width, y * height]), pyramid.scales_xy[level]
        place = (center + 0.5) * scale + pyramid.places[level, :2] - 0.5
        found = pyramid.to_photograph(np.float32([[*place, *(18 * scale.mean(), 14 * scale.mean()), 33]]))[0]
        np.testing.assert_allclose(found, [*center, 18, 14, 33], atol=0.01)

    def test_a_gradient_is_sampled_at_the_mapped_position(self):
        ramp = np.tile(np.linspace(0, 255, 640).astype(np.uint8), (480, 1))
        pyramid = Pyramid.of(ramp, 0.03)
        for (x0, y0, x1, y1), (scale, _) in zip(pyramid.places, pyramid.scales_xy, strict=True):
            x = (x0 + x1) // 2
            photograph_x = (x + 0.5 - x0) / scale - 0.5
            assert pyramid.picture[(y0 + y1) // 2, x] == pytest.approx(photograph_x / 639 * 255, abs=1.5)

    def test_the_smallest_face_has_the_smallest_detectable_size(self):
        pyramid = Pyramid.of(np.zeros((480, 640), np.uint8), 0.05)
        assert 0.05 * 640 * pyramid.scales_xy[0, 0] == pytest.approx(finder.SMALLEST_SEEN, rel=0.01)


class TestTargetsAndDecoding:
    def test_a_cell_is_decoded_to_a_face(self):
        output = np.full((2, 3, 28), -9, np.float32)
        values = np.array([0.5, -0.25, math.log(48 / SIZE_UNIT), math.log(64 / SIZE_UNIT), 0.5, -0.5])
        output[1, 2, 14:21] = 2.0, *(values * OUTPUT_UNIT)  # the lower left quarter of the cell
        found = decode_cells(output, 0.5)
        x, y = (4 + 0.5 + 0.5) * CELL - 0.5, (3 + 0.5 - 0.25) * CELL - 0.5
        np.testing.assert_allclose(found.oriented, [[x, y, 48, 64, 135]], rtol=1e-6)
        assert found.scores == pytest.approx([1 / (1 + math.exp(-2))])

    def test_decoded_targets_are_the_faces(self):
        faces = np.float32([[40, 60, 40, 60, 100], [160, 170, 20, 20, -10]])
        found = fuse(decode_cells(output_of(targets(faces, 256)), 0.5))
        np.testing.assert_allclose(found.oriented[np.argsort(found.oriented[:, 0])], faces, rtol=1e-4, atol=1e-3)

    @pytest.mark.parametrize(("side", "expected"), [(6, -1), (8, -1), (10, 1), (40, 1), (120, -1), (200, -1)])
    def test_faces_outside_the_size_range_are_ignored(self, side, expected):
        truth = targets([[128, 128, side, side, 0]], 256)
        assert truth[15:17, 15:17, 0].max() == expected
        assert truth[..., 0].min() == -1

    def test_boxes_that_may_be_faces_are_ignored_unless_they_are(self):
        box = [100, 100, 140, 140]
        assert set(np.unique(targets([], 256, [box])[..., 0])) == {-1, 0}
        assert targets([[120, 120, 30, 30, 0]], 256, [box])[..., 0].max() == 1

    @few
    @given(st.integers(0, 2**31))
    def test_targets_turn_and_mirror_with_the_picture(self, seed):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(1, 4))
        faces = np.c_[rng.uniform(20, 236, (count, 2)), rng.uniform(10, 60, (count, 2)), rng.uniform(-180, 180, count)]
        mirror, quarter = (
            np.array([[-1, 0, 255], [0, 1, 0], [0, 0, 1.0]]),
            np.array([[0, 1, 0], [-1, 0, 255.0], [0, 0, 1]]),
        )
        truth = targets(faces, 256)
        for expected, found in (
            (targets(transform_oriented(faces, mirror), 256), mirrored_targets(truth)),
            (targets(transform_oriented(faces, quarter), 256), turned_targets(truth)),
        ):
            np.testing.assert_allclose(found, expected, atol=1e-3)

    def test_the_loss_of_one_cell_equals_the_value_by_hand(self):
        truth = np.zeros((1, 2, 2, 7), np.float32)
        truth[0, 1, 0] = 1, 0.5, 0, 0, 0, 0, 1
        output = np.full((1, 1, 1, 28), 0, np.float32)
        output[..., 0::7] = -30
        output[0, 0, 0, 14:21] = 1, 0.2, 0.04, 0, 0, 0, 0.5
        wrong = 1 / (1 + math.e)
        focal = wrong**2 * math.log(1 + math.exp(-1))
        box = (0.3 - 0.05) + 5 * 0.04**2 + ROTATION_WEIGHT * (0.5 - 0.05)
        assert float(finder_loss(truth, output)) == pytest.approx(focal + 0.5 * box, rel=1e-4)

    def test_ignored_cells_do_not_change_the_loss(self):
        truth = np.zeros((1, 2, 2, 7), np.float32)
        truth[0, 0, 0, 0], truth[0, 0, 1] = -1, (1, 0, 0, 0, 0, 0, 1)
        output = np.zeros((1, 1, 1, 28), np.float32)
        before = float(finder_loss(truth, output))
        output[0, 0, 0, 0] = 7
        assert float(finder_loss(truth, output)) == before


def output_of(truth: np.ndarray) -> np.ndarray:
    """What a perfect network's file would output for targets (n, n, 7): (n / 2, n / 2, 28)."""
    logits = np.where(truth[..., :1] > 0.5, 9.0, -9.0)
    cells = np.concatenate([logits, truth[..., 1:] * OUTPUT_UNIT], axis=-1)
    half = len(truth) // 2
    return cells.reshape(half, 2, half, 2, 7).transpose(0, 2, 1, 3, 4).reshape(half, half, 28).astype(np.float32)


class TestFusing:
    def test_overlapping_faces_are_averaged_by_their_scores(self):
        found = fuse(Detections(np.float32([[50, 50, 20, 20, 170], [52, 50, 20, 20, -170]]), np.float32([0.9, 0.3])))
        np.testing.assert_allclose(found.oriented[0, :4], [50.5, 50, 20, 20])
        assert angles_between(found.oriented[0, 4], 175) < 0.1  # a mean of angles and not of numbers
        assert found.scores == pytest.approx([0.9])

    def test_a_face_within_a_false_box_is_kept_for_the_model(self):
        found = fuse(Detections(np.float32([[50, 50, 90, 90, 0], [50, 60, 20, 20, 0]]), np.float32([0.9, 0.5])))
        assert len(found.scores) == 2


class TestCanvases:
    def test_the_seed_determines_the_canvas(self, drawn):
        portraits = portraits_of(drawn)
        first, second = (draw_canvas(portraits, np.random.default_rng(3)) for _ in range(2))
        np.testing.assert_array_equal(first.picture, second.picture)
        np.testing.assert_array_equal(first.faces, second.faces)

    def test_faces_have_all_sizes_and_do_not_overlap(self, drawn):
        portraits = portraits_of(drawn)
        canvases = [draw_canvas(portraits, np.random.default_rng(number)) for number in range(150)]
        faces = np.concatenate([canvas.faces for canvas in canvases])
        sides = faces[:, 2:4].max(axis=1)
        assert sides.min() < 10
        assert sides.max() > 80
        assert np.histogram(faces[:, 4], 8, (-180, 180))[0].min() > 0
        assert np.mean(np.abs(faces[:, 4]) < 45) > 0.5
        for canvas in canvases:
            boxes = tight_boxes(canvas.faces)
            overlap = intersection_over_union(boxes, boxes) - np.diag(np.diag(intersection_over_union(boxes, boxes)))
            assert overlap.max(initial=0) < 0.05

    def test_mistakes_are_pasted_but_no_faces(self, drawn):
        faces = portraits_of(drawn)
        mistakes = [portrait(drawn.read(drawn.paths[0]), [80, 80, 60, 60, 0], is_face=False)]
        for seed in range(20):
            canvas = draw_canvas(
                faces, np.random.default_rng(seed), mistakes=mistakes, backgrounds=[np.zeros((300, 400), np.uint8)]
            )
            assert canvas.picture.shape == (256, 256)
            assert len(canvas.faces) <= 8

    def test_faces_of_photographs_with_others_bring_these_as_ignored_boxes(self, drawn):
        one = portrait(drawn.read(drawn.paths[0]), [80, 80, 60, 60, 0], alone=False, ignored=[[10, 10, 30, 30]])
        pasted = canvases._Pasted(np.zeros((256, 256), np.uint8))
        pasted.add(one, np.random.default_rng(0))
        assert (len(pasted.faces), len(pasted.ignored)) == (1, 1)
        share = pasted.faces[0][2] / 60
        size = pasted.ignored[0][2:] - pasted.ignored[0][:2]
        assert (size >= 20 * share - 0.01).all()
        assert (size <= 20 * share * 2**0.5 + 0.01).all()

    @pytest.mark.parametrize("seed", range(12))
    def test_occluders_change_the_face_and_little_else(self, seed):
        before = np.random.default_rng(0).integers(0, 256, (128, 128), np.uint8)
        picture = before.copy()
        occluders.cover(picture, np.float32([64, 64, 40, 44, 10 * seed]), np.random.default_rng(seed))
        rows, columns = np.nonzero(picture != before)
        assert (np.hypot(rows - 64, columns - 64) < 60).all()
        assert 20 < len(rows) < 40 * 44 * 1.5

    def test_boxes_are_at_the_pasted_faces(self, drawn):
        """The pixels that change on a grey canvas are those of the pasted face."""
        for one in portraits_of(drawn)[:6]:
            picture = np.full((256, 256), 200, np.uint8)
            pasted = canvases._Pasted(picture)
            pasted.add(one, np.random.default_rng(1))
            changed = np.argwhere(np.abs(picture.astype(int) - 200) > 3)[:, ::-1]
            box = tight_boxes(pasted.faces[0])[0]
            low, high = np.maximum(box[:2], 0), np.minimum(box[2:], 255)
            assert (changed.min(axis=0) <= low + 3).all()
            assert (changed.max(axis=0) >= high - 3).all()


class TestFaceFinder:
    def test_it_detects_synthetic_faces(self, drawn):
        detector = FaceFinder(min_score=0.25)
        found = [
            intersection_over_union(drawn.boxes[[row]], detector(drawn.read(drawn.paths[row]))) for row in range(24)
        ]
        assert np.mean([overlap.max(initial=0) > 0.5 for overlap in found]) >= 0.9

    @pytest.mark.parametrize("angle", [0, 45, 90, 180, -90])
    def test_it_detects_turned_faces_and_their_rotation(self, drawn, angle):
        detector, errors, overlaps = FaceFinder(min_score=0.25), [], []
        for row in range(24):
            picture, points = turned(drawn.read(drawn.paths[row]), drawn.keypoints[row], angle)
            truth, found = oriented_boxes(points[None])[0], detector.detect(picture)
            overlap = intersection_over_union(tight_box(points)[None], found.boxes)[0]
            overlaps.append(overlap.max(initial=0))
            if overlaps[-1] > 0.4:
                errors.append(angles_between(found.roll_deg[overlap.argmax()], truth[4]))
        assert np.mean(np.array(overlaps) > 0.4) >= 0.85
        assert np.median(errors) < 20

    @pytest.mark.parametrize("scale", [2, 3, 4])
    def test_boxes_scale_with_the_photograph(self, drawn, scale):
        detector, overlaps = FaceFinder(min_face=0.1, min_score=0.25), []
        for row in range(12):
            picture = drawn.read(drawn.paths[row])
            large = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            boxes, scaled = detector(picture), (detector(large) + 0.5) / scale - 0.5
            overlaps.append(intersection_over_union(boxes[:1], scaled).max(initial=0))
        assert np.mean(np.array(overlaps) > 0.6) >= 0.8

    @pytest.mark.parametrize("side", [256, 480, 768])
    def test_files_of_fixed_size_give_the_same_faces(self, drawn, side):
        from ai_edge_litert.interpreter import Interpreter

        from kpdetect.core.assets import packaged_file

        picture = np.full((side, side), 128, np.uint8)
        for row, (y, x) in enumerate([(0, 0), (side - 160, side - 160)]):
            picture[y : y + 160, x : x + 160] = drawn.read(drawn.paths[row])[..., 1]
        outputs = []
        for name in ("finder.tflite", f"finder_{side}.tflite"):
            interpreter = Interpreter(str(packaged_file("finder", name, "")))
            (image,), (faces,) = interpreter.get_input_details(), interpreter.get_output_details()
            if name == "finder.tflite":
                interpreter.resize_tensor_input(image["index"], [1, side, side, 1])
            interpreter.allocate_tensors()
            interpreter.set_tensor(image["index"], picture[None, ..., None])
            interpreter.invoke()
            outputs.append(interpreter.get_tensor(faces["index"])[0])
        any_size, fixed = (fuse(decode_cells(output, 0.5)) for output in outputs)
        assert len(any_size.scores) >= 2
        assert intersection_over_union(any_size.boxes, fixed.boxes).max(axis=1).min() > 0.9

    @pytest.mark.parametrize("size_hw", [(1, 1), (3, 700), (480, 640), (33, 17)])
    def test_every_size_is_accepted_and_grey_has_no_faces(self, size_hw):
        assert FaceFinder()(np.full((*size_hw, 3), 127, np.uint8)).shape == (0, 4)

    def test_results_do_not_depend_on_earlier_photographs(self, drawn):
        detector = FaceFinder()
        pictures = [drawn.read(drawn.paths[row])[: 160 - 30 * row] for row in range(3)]
        alone = [FaceFinder()(picture) for picture in pictures]
        for picture, expected in zip([*pictures, *pictures[::-1]], [*alone, *alone[::-1]], strict=True):
            np.testing.assert_array_equal(detector(picture), expected)

    @pytest.mark.parametrize(
        "options", [{"min_face": 0}, {"min_face": 1.1}, {"min_score": 0}, {"min_score": 1}, {"threads": 0}]
    )
    def test_options_out_of_range_are_errors(self, options):
        with pytest.raises(
            KpdetectError, match=mentions("min_face", "min_score", "threads", *map(str, options.values()))
        ):
            FaceFinder(**options)

    def test_a_missing_file_is_an_error(self, monkeypatch):
        monkeypatch.setattr(finder, "FINDER_FILE", "none.tflite")
        with pytest.raises(KpdetectError, match=mentions("none.tflite")):
            FaceFinder()

    def test_it_detects_held_out_people(self, shared_data):
        from kpdetect.modelfile.bundle import read_spec, shipped_model

        faces = load(f"ibug:{shared_data / 'ibug_300w' / 'helen'}")
        val = split_by_rule(faces, read_spec(shipped_model()).extra["split"])[1]
        detector = FaceFinder()
        overlaps = [
            intersection_over_union(box[None], detector(val.read(path))).max(initial=0)
            for path, box in zip(val.paths, val.boxes, strict=True)
        ]
        assert np.mean(np.array(overlaps) > 0.4) >= 0.97


def test_detectors_are_made_by_name(tmp_path, monkeypatch):
    assert isinstance(make_detector(), FaceFinder)
    assert make_detector(judged=True).min_score < make_detector().min_score
    assert make_detector(min_face=0.3).min_face == 0.3
    with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "none.onnx"), "YuNet")):
        make_detector(str(tmp_path / "none.onnx"))
    monkeypatch.setattr("kpdetect.detection.YuNetDetector", lambda model: f"YuNet of {model}")
    assert make_detector("yunet.onnx") == "YuNet of yunet.onnx"


@pytest.mark.usefixtures("cascades")
def test_cascades_are_made_by_name():
    assert isinstance(make_detector("haar"), HaarDetector)
    assert make_detector("haar", judged=True).min_votes < make_detector("haar").min_votes
    assert make_detector("haar", min_face=0.3).min_face == 0.3


def test_the_exported_network_equals_keras(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (9, 256, 256), np.uint8)
    export_finder(finder_network((4, 8, 8, 16), 1), tmp_path, pictures)
    names = {"finder.tflite", "finder_256.tflite", "finder_480.tflite", "finder_768.tflite"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert all(10_000 < path.stat().st_size < 60_000 for path in tmp_path.iterdir())


def test_a_missing_detector_file_is_an_error_of_the_constructor(tmp_path):
    with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "gone.onnx"), "YuNet")):
        Predictor(detector=tmp_path / "gone.onnx")


@pytest.mark.usefixtures("cascades")
def test_a_predictor_accepts_a_detector_by_name(drawn):
    picture = drawn.read(drawn.paths[0])
    named, given = Predictor(detector="haar")(picture), Predictor(detector=make_detector("haar", judged=True))(picture)
    assert [face.box.tolist() for face in named] == [face.box.tolist() for face in given]
