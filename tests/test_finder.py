"""The face finder: image pyramid, decoding of boxes, training targets, loss, canvases, and detection."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import mentions

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import intersection_over_union
from kpdetect.data import load, split_by_rule, synthetic
from kpdetect.detection import FaceFinder, HaarDetector, finder, make_detector
from kpdetect.detection.finder import CELL, SIZE_UNIT, STRIDE, Pyramid, decode_cells
from kpdetect.models.finder import finder as finder_network
from kpdetect.predict import Predictor
from kpdetect.training.finder import draw_canvas, export_finder, finder_loss, portraits_of, targets

few = settings(max_examples=25, deadline=None)


@pytest.fixture(scope="module")
def drawn() -> synthetic.Annotations:
    return synthetic.annotations(24, seed=5, size=160)


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
        truth = np.float64([x * width - 9, y * height - 7, x * width + 9, y * height + 7])
        scale, origin = np.tile(pyramid.scales_xy[level], 2), np.tile(pyramid.places[level, :2], 2)
        box = (truth + 0.5) * scale + origin - 0.5
        np.testing.assert_allclose(pyramid.to_photograph(np.float32(box[None]))[0], truth, atol=0.01)

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
    def test_a_cell_is_decoded_to_a_box(self):
        output = np.full((2, 3, 20), -9, np.float32)
        output[1, 2, 10:15] = (
            2.0,
            0.5,
            -0.25,
            math.log(48 / SIZE_UNIT),
            math.log(64 / SIZE_UNIT),
        )  # the lower left quarter of the cell
        boxes, scores = decode_cells(output, 0.5)
        x, y = (4 + 0.5 + 0.5) * CELL - 0.5, (3 + 0.5 - 0.25) * CELL - 0.5
        np.testing.assert_allclose(boxes, [[x - 24, y - 32, x + 24, y + 32]], rtol=1e-6)
        assert scores == pytest.approx([1 / (1 + math.exp(-2))])

    def test_decoded_targets_are_the_boxes(self):
        faces = np.float32([[20, 30, 60, 90], [150, 160, 170, 180]])
        truth = targets(faces, 256)
        logits = np.where(truth[..., :1] > 0.5, 9.0, -9.0)
        cells = np.concatenate([logits, truth[..., 1:]], axis=-1)
        output = cells.reshape(16, 2, 16, 2, 5).transpose(0, 2, 1, 3, 4).reshape(16, 16, 20)
        boxes, _ = decode_cells(output.astype(np.float32), 0.5)
        overlap = intersection_over_union(faces, boxes)
        assert (overlap.max(axis=0) > 0.999).all()
        assert (overlap.max(axis=1) > 0.999).all()

    @pytest.mark.parametrize(("side", "expected"), [(6, -1), (10, -1), (40, 1), (120, -1), (200, -1)])
    def test_faces_outside_the_size_range_are_ignored(self, side, expected):
        truth = targets(np.float32([[128 - side / 2, 128 - side / 2, 128 + side / 2, 128 + side / 2]]), 256)
        assert truth[15:17, 15:17, 0].max() == expected
        assert truth[..., 0].min() == -1

    def test_the_loss_of_one_cell_equals_the_value_by_hand(self):
        truth = np.zeros((1, 2, 2, 5), np.float32)
        truth[0, 1, 0] = 1, 0.5, 0, 0, 0
        output = np.full((1, 1, 1, 20), 0, np.float32)
        output[..., 0::5] = -30
        output[0, 0, 0, 10:15] = 1, 0.2, 0.04, 0, 0
        wrong = 1 / (1 + math.e)
        focal = wrong**2 * math.log(1 + math.exp(-1))
        box = (0.3 - 0.05) + 5 * 0.04**2
        assert float(finder_loss(truth, output)) == pytest.approx(focal + 0.5 * box, rel=1e-4)

    def test_ignored_cells_do_not_change_the_loss(self):
        truth = np.zeros((1, 2, 2, 5), np.float32)
        truth[0, 0, 0, 0], truth[0, 0, 1] = -1, (1, 0, 0, 0, 0)
        output = np.zeros((1, 1, 1, 20), np.float32)
        before = float(finder_loss(truth, output))
        output[0, 0, 0, 0] = 7
        assert float(finder_loss(truth, output)) == before


class TestCanvases:
    def test_the_seed_determines_the_canvas(self, drawn):
        portraits = portraits_of(drawn)
        first, second = (draw_canvas(portraits, np.random.default_rng(3)) for _ in range(2))
        np.testing.assert_array_equal(first.picture, second.picture)
        np.testing.assert_array_equal(first.boxes, second.boxes)

    def test_faces_have_all_sizes_and_do_not_overlap(self, drawn):
        portraits = portraits_of(drawn)
        canvases = [draw_canvas(portraits, np.random.default_rng(number)) for number in range(150)]
        boxes = np.concatenate([canvas.boxes for canvas in canvases])
        sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
        assert sides.min() < 12
        assert sides.max() > 80
        for canvas in canvases:
            overlap = intersection_over_union(canvas.boxes, canvas.boxes) - np.eye(len(canvas.boxes))
            assert overlap.max(initial=0) == 0

    def test_boxes_are_at_the_pasted_faces(self, drawn):
        """The pixels that change on a grey canvas are those of the pasted face."""
        from kpdetect.training.finder import canvases

        for portrait in portraits_of(drawn)[:6]:
            rng, boxes = np.random.default_rng(1), []
            picture = np.full((256, 256), 200, np.uint8)
            canvases._paste_face(picture, portrait, boxes, rng)
            changed = np.argwhere(np.abs(picture.astype(int) - 200) > 3)[:, ::-1]
            low, high = np.maximum(boxes[0][:2], 0), np.minimum(boxes[0][2:], 255)
            assert (changed.min(axis=0) <= low + 3).all()
            assert (changed.max(axis=0) >= high - 3).all()


class TestFaceFinder:
    def test_it_detects_synthetic_faces(self, drawn):
        detector = FaceFinder(min_score=0.25)
        found = [
            intersection_over_union(drawn.boxes[[row]], detector(drawn.read(drawn.paths[row]))) for row in range(24)
        ]
        assert np.mean([overlap.max(initial=0) > 0.5 for overlap in found]) >= 0.9

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
    export_finder(finder_network((4, 8, 8, 16), 1), tmp_path / "finder.tflite")
    assert (tmp_path / "finder.tflite").stat().st_size > 10_000


def test_a_missing_detector_file_is_an_error_of_the_constructor(tmp_path):
    with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "gone.onnx"), "YuNet")):
        Predictor(detector=tmp_path / "gone.onnx")


@pytest.mark.usefixtures("cascades")
def test_a_predictor_accepts_a_detector_by_name(drawn):
    picture = drawn.read(drawn.paths[0])
    named, given = Predictor(detector="haar")(picture), Predictor(detector=make_detector("haar", judged=True))(picture)
    assert [face.box.tolist() for face in named] == [face.box.tolist() for face in given]
