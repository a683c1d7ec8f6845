"""Calibration of uncertainties and face scores, on simulated errors and synthetic photographs."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import lines_with, mentions
from small_models import COMPACT, small_model

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule
from kpdetect.core.schema import IBUG68, user_schema
from kpdetect.data import Annotations, synthetic
from kpdetect.data.crops import evaluation_crops
from kpdetect.evaluation.evaluator import evaluate
from kpdetect.evaluation.uncertainty import (
    BACKGROUND_TRIES,
    BATCH_SIZE,
    OVERALL_FACES,
    UncertaintyErrors,
    _drawn_boxes,
    background_crops,
    face_score_rates,
    fit_face_score,
    measure_uncertainty,
    predict_with_uncertainty,
    reliability_table,
)
from kpdetect.modelfile.runtime import Prediction
from kpdetect.modelfile.spec import Spec, face_scores
from kpdetect.training.uncertainty_calibration import MIN_CROPS, calibrate, predict_function_of

# Keras 3.15 reads its variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

FACTORS = np.array([0.4, 0.8, 1.0, 1.5, 3.0])


def drawn(count: int, seed: int = 0, factors: np.ndarray = FACTORS) -> UncertaintyErrors:
    """Simulated uncertainties and errors; the mean error is `factors` times the uncertainty."""
    random = np.random.default_rng(seed)
    said = random.lognormal(-4, 0.5, (count, len(factors)))
    distance = said * factors * random.gamma(2.0, 0.5, said.shape)
    return UncertaintyErrors(distance, said, random.uniform(0.3, 0.5, count))


def with_hidden(judged: UncertaintyErrors, share: float = 0.3) -> UncertaintyErrors:
    hidden = np.random.default_rng(1).random(judged.distance.shape) < share
    return dataclasses.replace(judged, distance=np.where(hidden, np.nan, judged.distance))


class TestFactors:
    @pytest.mark.parametrize("hide", [False, True])
    def test_factors_of_many_faces_are_the_true_ones(self, hide):
        judged = with_hidden(drawn(20_000)) if hide else drawn(20_000)
        np.testing.assert_allclose(judged.factors(), FACTORS, rtol=0.03)

    def test_factors_make_the_means_equal(self):
        judged = drawn(5_000)
        again = dataclasses.replace(judged, uncertainty=judged.uncertainty * judged.factors())
        np.testing.assert_allclose(again.distance.mean(axis=0), again.uncertainty.mean(axis=0), rtol=0.02)
        np.testing.assert_allclose(again.factors(), 1, rtol=0.02)

    @pytest.mark.parametrize("count", [1, 2, 5, OVERALL_FACES, 200])
    def test_factors_of_few_faces_are_close_to_the_common_factor(self, count):
        judged = drawn(count, seed=count)
        overall = judged.distance.mean() / judged.uncertainty.mean()
        own = judged.distance.mean(axis=0) / judged.uncertainty.mean(axis=0)
        expected = overall + (own - overall) * count / (count + OVERALL_FACES)
        np.testing.assert_allclose(judged.factors(), expected, rtol=1e-9)

    def test_a_point_that_is_never_visible_has_the_common_factor(self):
        judged = drawn(500)
        judged.distance[:, 2] = np.nan
        seen = [0, 1, 3, 4]
        overall = judged.distance[:, seen].mean() / judged.uncertainty[:, seen].mean()
        assert judged.factors()[2] == pytest.approx(overall)
        assert np.isfinite(judged.factors()).all()

    def test_hidden_points_and_faces_without_size_are_ignored(self):
        judged = with_hidden(drawn(300))
        hidden = np.isnan(judged.distance)
        nonsense = dataclasses.replace(judged, uncertainty=np.where(hidden, 1e3, judged.uncertainty))
        np.testing.assert_allclose(nonsense.factors(), judged.factors())
        assert nonsense.reliability() == judged.reliability()
        flat = np.arange(300) < 50
        sized = UncertaintyErrors(judged.distance[~flat], judged.uncertainty[~flat], judged.normalizer[~flat])
        without_size = dataclasses.replace(judged, normalizer=np.where(flat, 0.0, judged.normalizer))
        np.testing.assert_allclose(without_size.factors(), sized.factors())
        assert without_size.reliability() == sized.reliability()


class TestReliability:
    @settings(max_examples=25, deadline=None)
    @given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 99), st.floats(0, 0.5))
    def test_bins_are_ordered_and_contain_every_visible_point_once(self, count, bins, seed, share):
        judged = with_hidden(drawn(count, seed), share)
        rows, known = judged.reliability(bins), np.isfinite(judged.distance)
        assert sum(row.n for row in rows) == known.sum()
        assert len(rows) == min(bins, known.sum())
        assert max(row.n for row in rows) - min(row.n for row in rows) <= 1
        assert all(one.expected <= other.expected for one, other in itertools.pairwise(rows))
        for attribute, array in (("expected", judged.uncertainty), ("measured", judged.distance)):
            mean = np.average([getattr(row, attribute) for row in rows], weights=[row.n for row in rows])
            assert mean == pytest.approx((array / judged.normalizer[:, None])[known].mean())

    def test_predicted_and_actual_errors_of_a_calibrated_model_agree(self):
        for row in drawn(20_000, factors=np.ones(4)).reliability():
            assert row.measured == pytest.approx(row.expected, rel=0.05)

    def test_actual_errors_of_an_uninformative_model_are_constant(self):
        judged = drawn(20_000, factors=np.ones(4))
        shuffled = dataclasses.replace(judged, distance=np.random.default_rng(2).permutation(judged.distance))
        real = [row.measured for row in shuffled.reliability()]
        assert max(real) < 1.6 * min(real)
        assert shuffled.reliability()[-1].expected > 2.5 * shuffled.reliability()[0].expected

    def test_the_table_has_a_line_for_each_bin(self):
        rows = drawn(50).reliability()
        head, *lines = reliability_table(rows, "inter-ocular").splitlines()
        assert "(inter-ocular)" in head
        assert [f"{100 * row.expected:.2f} %" in line for row, line in zip(rows, lines, strict=True)] == [True] * 5
        assert all(f"({row.n} points)" in line for row, line in zip(rows, lines, strict=True))


class TestJudging:
    @pytest.mark.parametrize("size_hw", [(32, 32), (32, 48), (48, 32)], ids=str)
    @pytest.mark.parametrize("points", [("nose_tip",), IBUG68.point_names], ids=len)
    def test_actual_errors_equal_those_of_the_evaluation(self, size_hw, points):
        faces = synthetic.annotations(6).select(points)
        spec = Spec(faces.schema, "compact", {}, CropRule(size_hw, 1.35), 1)
        _, truth, _ = evaluation_crops(faces, spec.crop, spec.channels)
        off = np.random.default_rng(0).normal(0, 0.05, truth.shape).astype(np.float32)

        def mark(crops):
            assert len(crops) == len(truth)
            return Prediction(truth + off, np.full(truth.shape[:2], 0.1, np.float32))

        judged = measure_uncertainty(mark, faces, spec)
        measured = evaluate(lambda crops: mark(crops).keypoints, faces, spec)
        np.testing.assert_allclose(
            (judged.distance / judged.normalizer[:, None]).mean(axis=1), measured.errors, rtol=1e-4
        )
        np.testing.assert_allclose(judged.uncertainty, 0.1, rtol=1e-6)

    def test_hidden_points_are_left_out(self):
        faces = synthetic.annotations(3)
        faces.visible[:, 5] = False
        spec = Spec(IBUG68, "compact", {}, CropRule((32, 32), 1.35), 1)
        judged = measure_uncertainty(lambda crops: said_of(crops, 68, 0.1), faces, spec)
        assert np.isnan(judged.distance[:, 5]).all()
        assert np.isfinite(np.delete(judged.distance, 5, axis=1)).all()

    def test_a_model_without_uncertainty_is_an_error(self):
        spec = Spec(IBUG68, "compact", {}, CropRule((32, 32), 1.35), 1, recipe="some")
        with pytest.raises(KpdetectError, match=mentions("some", "uncertainty")):
            measure_uncertainty(
                lambda crops: Prediction(said_of(crops, 68, 0.1).keypoints, None), synthetic.annotations(2), spec
            )
        with pytest.raises(KpdetectError, match=mentions("some", "face_score")):
            face_score_rates(lambda crops: said_of(crops, 68, 0.1), synthetic.annotations(2), spec)

    @pytest.mark.parametrize("count", [1, BATCH_SIZE, BATCH_SIZE + 1, 2 * BATCH_SIZE + 5])
    def test_batches_are_concatenated_in_order(self, count):
        crops = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)
        sizes = []

        def mark(batch):
            sizes.append(len(batch))
            return Prediction(np.zeros((len(batch), 1, 2), np.float32), batch.reshape(-1, 1).astype(np.float32))

        assert predict_with_uncertainty(mark, crops).uncertainty[:, 0].tolist() == list(range(count))
        assert max(sizes) <= BATCH_SIZE
        assert sum(sizes) == count


def said_of(crops: np.ndarray, num_keypoints: int, uncertainty: float) -> Prediction:
    """The centre of each crop, and one uncertainty per point."""
    shape = (len(crops), num_keypoints)
    return Prediction(np.full((*shape, 2), 0.5, np.float32), np.full(shape, uncertainty, np.float32))


BOXES = np.float32([[60, 70, 110, 130], [150, 40, 180, 70]])  # two faces in one photograph, and one in another
OTHER_BOX = np.float32([[80, 60, 140, 130]])
FACE_GREY, BESIDE_GREY = 200, 90


def photographs() -> Annotations:
    """Photographs with faces as bright rectangles on grey."""

    def read(path: str) -> np.ndarray:
        picture = np.full((200, 240, 3), BESIDE_GREY, np.uint8)
        for x0, y0, x1, y1 in (BOXES if path == "two" else OTHER_BOX).astype(int):
            picture[y0 : y1 + 1, x0 : x1 + 1] = FACE_GREY
        return picture

    boxes = np.concatenate([BOXES, OTHER_BOX])
    corners = boxes.reshape(-1, 2, 2)
    names = np.array(["two", "two", "one"])
    return Annotations(user_schema(["a", "b"]), "grey", names, corners, np.ones((3, 2), bool), boxes, names, read=read)


GREY_SPEC = Spec(user_schema(["a", "b"]), "compact", {}, CropRule((32, 32), 1.35), 1)


def share_in(box: np.ndarray, other: np.ndarray) -> float:
    """The fraction of a box inside another one, counted at 40 x 40 positions."""
    x, y = np.meshgrid(*(np.linspace(box[axis], box[axis + 2], 40) for axis in (0, 1)))
    return float(((x >= other[0]) & (x <= other[2]) & (y >= other[1]) & (y <= other[3])).mean())


class TestBackground:
    @pytest.mark.parametrize("seed", range(5))
    def test_background_boxes_do_not_overlap_faces(self, seed):
        random = np.random.default_rng(seed)
        found = 0
        for _ in range(200):
            boxes = _drawn_boxes(BOXES, BOXES[0], random)
            assert len(boxes) <= BACKGROUND_TRIES
            found += len(boxes)
            for box in boxes:
                assert box[2] - box[0] == pytest.approx(box[3] - box[1], rel=1e-4)
                assert 0.24 * 60 < box[2] - box[0] < 1.01 * 60
                for face in BOXES:
                    assert share_in(box, face) < 0.13
                    assert share_in(face, box) < 0.13
        assert found > 400

    def test_background_boxes_depend_on_the_seed_only(self):
        faces = photographs()
        crops = background_crops(faces, GREY_SPEC)
        np.testing.assert_array_equal(background_crops(faces, GREY_SPEC), crops)
        other = background_crops(faces, GREY_SPEC, seed=1)
        assert crops.shape != other.shape or not np.array_equal(crops, other)

    def test_background_crops_avoid_every_face_of_their_photograph(self):
        faces = photographs()
        crops = np.concatenate([background_crops(faces, GREY_SPEC, seed) for seed in range(80)])
        assert crops.dtype == np.uint8
        assert crops.shape[1:] == GREY_SPEC.input_shape
        assert (crops == 0).mean(axis=(1, 2, 3)).max() < 0.3  # black is outside the photograph
        # The box is the inner 24 of 32 pixels; a face may cover a tenth of it.
        assert (crops[:, 4:28, 4:28] > 150).mean(axis=(1, 2, 3)).max() < 0.15
        assert (crops == BESIDE_GREY).any(axis=(1, 2, 3)).all()

    def test_the_number_of_background_crops_is_limited(self, monkeypatch):
        """The crops of a million faces would not fit into memory."""
        faces = photographs().take([0, 1, 2] * 3)
        whole = len(background_crops(faces, GREY_SPEC))
        monkeypatch.setattr("kpdetect.evaluation.uncertainty.BACKGROUND_FACES", 2)
        assert len(background_crops(faces, GREY_SPEC)) <= 2 * BACKGROUND_TRIES < whole

    def test_photographs_filled_by_faces_have_no_background_crops(self):
        faces = photographs()
        whole = np.repeat(np.float32([[-200, -200, 440, 400]]), 3, axis=0)
        crops = background_crops(dataclasses.replace(faces, boxes=whole), GREY_SPEC)
        assert crops.shape == (0, *GREY_SPEC.input_shape)


class TestFaceScore:
    @settings(max_examples=25, deadline=None)
    @given(st.floats(-5, -2), st.floats(0.5, 2), st.floats(0.05, 0.2), st.floats(0.05, 0.4), st.integers(0, 99))
    def test_the_score_separates_two_log_normal_distributions(self, level, apart, width, other_width, seed):
        random = np.random.default_rng(seed)
        levels = level + random.normal(0, width, 4000), level + apart + random.normal(0, other_width, 4000)
        faces, background = (np.exp(part)[:, None].repeat(3, axis=1).astype(np.float32) for part in levels)
        fitted = fit_face_score(faces, background)
        deviations = apart / (width + other_width)  # equal numbers from both distributions
        assert fitted["middle"] == pytest.approx(level + deviations * width, abs=0.05)
        assert (face_scores(faces, fitted) < 0.5).mean() < 0.01 + _normal_tail(deviations)
        assert (face_scores(background, fitted) >= 0.5).mean() < 0.01 + _normal_tail(deviations)
        assert np.median(face_scores(faces, fitted)) == pytest.approx(0.999, abs=1e-3)

    def test_no_score_if_the_uncertainty_of_the_background_is_lower(self):
        faces, background = np.full((30, 2), 0.2, np.float32), np.full((30, 2), 0.1, np.float32)
        fitted = fit_face_score(faces, background)
        assert fitted["slope"] == 0
        np.testing.assert_allclose(face_scores(np.concatenate([faces, background]), fitted), 0.5)

    def test_distributions_of_zero_width_have_a_finite_slope(self):
        faces, background = np.full((30, 2), 0.1, np.float32), np.full((30, 2), 0.2, np.float32)
        fitted = fit_face_score(faces, background)
        assert np.isfinite(fitted["slope"])
        assert face_scores(faces, fitted).min() > 0.99
        assert face_scores(background, fitted).max() < 0.01

    @pytest.mark.parametrize(("of_faces", "of_others"), [(0.01, 0.2), (0.2, 0.01), (0.01, 0.01), (0.2, 0.2)])
    def test_face_score_rates(self, of_faces, of_others):
        spec = dataclasses.replace(
            GREY_SPEC, uncertainty=True, face_score={"middle": float(np.log(0.05)), "slope": 9.0}
        )

        def mark(crops):
            shown = crops[:, 16, 16, :1] == FACE_GREY
            return Prediction(
                np.full((len(crops), 2, 2), 0.5, np.float32),
                np.where(shown, np.float32(of_faces), np.float32(of_others)).repeat(2, axis=1),
            )

        faces = photographs()
        rates = face_score_rates(mark, faces, spec)
        assert (rates.faces, rates.background) == (float(of_faces < 0.05), float(of_others < 0.05))
        assert rates.num_background == len(background_crops(faces, spec)) > 0


def _normal_tail(deviations: float) -> float:
    """An upper bound of the tail of a normal distribution beyond some standard deviations (Chernoff)."""
    return float(np.exp(-(deviations**2) / 2))


class TestCalibrating:
    def spec(self, architecture: str = "compact") -> Spec:
        options = COMPACT if architecture == "compact" else {}
        return Spec(IBUG68, architecture, options, CropRule((64, 64), 1.35), 1)

    def test_calibration_makes_predicted_errors_correct_and_keeps_the_points(self):
        spec, faces = self.spec(), synthetic.annotations(60)
        network = small_model(spec)
        mark = predict_function_of(network)
        crops = evaluation_crops(faces, spec.crop, spec.channels)[0]
        before, off = mark(crops), measure_uncertainty(mark, faces, spec).factors()
        assert np.abs(np.log(off)).max() > 0.5  # otherwise there is nothing to calibrate
        calibrated = calibrate(network, faces, spec)
        np.testing.assert_array_equal(mark(crops).keypoints, before.keypoints)
        np.testing.assert_allclose(mark(crops).uncertainty, before.uncertainty * off, rtol=1e-4)
        after = measure_uncertainty(mark, faces, spec)
        assert after.uncertainty.mean() == pytest.approx(after.distance.mean(), rel=0.1)
        background = background_crops(faces, spec)
        assert len(background) >= MIN_CROPS
        fitted = fit_face_score(mark(crops).uncertainty, mark(background).uncertainty)
        assert calibrated == dataclasses.replace(spec, uncertainty=True, face_score=calibrated.face_score)
        assert calibrated.face_score == pytest.approx(fitted, rel=1e-3)

    def test_too_few_faces_give_no_score(self, capsys):
        spec = self.spec()
        calibrated = calibrate(small_model(spec), synthetic.annotations(MIN_CROPS - 1), spec)
        assert (calibrated.uncertainty, calibrated.face_score) == (True, None)
        assert lines_with(capsys.readouterr().err, "score", str(MIN_CROPS - 1))

    def test_a_network_without_uncertainty_is_unchanged(self):
        spec = self.spec("naimish")
        spec = dataclasses.replace(spec, crop=CropRule((94, 96), 1.35))
        network = small_model(spec)
        before = network.get_weights()
        assert calibrate(network, synthetic.annotations(2), spec) is spec
        for one, other in zip(before, network.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
