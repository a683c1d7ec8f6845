"""Keypoint metrics: values by hand, hidden points, and equality of Keras and NumPy."""

import subprocess
import sys

import numpy as np
import pytest
from messages import mentions

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import to_relative
from kpdetect.core.schema import IBUG68, KeypointSchema
from kpdetect.evaluation.metrics import cumulative_error_curve, nme_per_face, nme_per_point, summary
from kpdetect.models.metrics_keras import NormalizedMeanError

EYES = KeypointSchema("eyes", ("right_eye", "left_eye", "nose"), normalizer_points=(0, 1))
BOXED = KeypointSchema("boxed", ("a", "b", "c"))
NOSE = KeypointSchema("nose", ("nose",))
SCHEMES = (IBUG68, EYES, BOXED, NOSE)

FACE = np.array([[[0.0, 0.0], [40.0, 0.0], [20.0, 10.0]]])
OFF = FACE + np.array([[3.0, 4.0], [0.0, 0.0], [0.0, -10.0]])  # errors of 5, 0 and 10 pixels
ALL = np.ones((1, 3), bool)


def random_faces(schema, rng, count=50):
    true = rng.random((count, schema.num_keypoints, 2)) * 100
    visible = rng.random((count, schema.num_keypoints)) < 0.7
    visible[0] = False  # a face without an error value
    return true, true + rng.normal(size=true.shape) * 3, visible


def test_the_normalizer_is_the_distance_of_two_points():
    assert nme_per_point(FACE, OFF, ALL, EYES) == pytest.approx(np.array([[5, 0, 10]]) / 40)
    assert nme_per_face(FACE, OFF, ALL, EYES) == pytest.approx([15 / 3 / 40])


def test_the_normalizer_is_the_box_size_without_a_pair_of_points():
    assert nme_per_face(FACE, OFF, ALL, BOXED) == pytest.approx([15 / 3 / np.sqrt(40 * 10)])


def test_one_point_is_normalised_by_the_crop_width_which_is_required():
    true, predicted, visible = FACE[:, :1], OFF[:, :1], ALL[:, :1]
    assert nme_per_face(true, predicted, visible, NOSE, crop_width=80) == pytest.approx([5 / 80])
    with pytest.raises(KpdetectError, match=mentions(NOSE.name, "crop")):
        nme_per_face(true, predicted, visible, NOSE)


def test_the_68_points_are_normalised_by_the_outer_eye_corners():
    true = np.zeros((1, 68, 2))
    true[0, 36], true[0, 45] = (10, 20), (70, 100)  # 100 pixels apart
    assert nme_per_face(true, true + np.array([3.0, 4.0]), np.ones((1, 68)), IBUG68) == pytest.approx([0.05])


@pytest.mark.parametrize("schema", SCHEMES, ids=lambda schema: schema.name)
def test_predictions_of_hidden_points_have_zero_weight(schema):
    true, predicted, visible = random_faces(schema, np.random.default_rng(1))
    errors = nme_per_face(true, predicted, visible, schema, 112)
    hidden = ~visible[..., None]
    for placeholder in (0.0, -1e6, np.nan):
        moved = np.where(hidden, placeholder, true), np.where(hidden, 3.0, predicted)
        np.testing.assert_array_equal(nme_per_face(*moved, visible, schema, 112), errors)
    per_point = nme_per_point(true, predicted, visible, schema, 112)
    assert np.isnan(per_point[~visible]).all()
    measured = ~np.isnan(errors)
    assert measured.sum() > 5
    assert errors[measured] == pytest.approx(np.nanmean(per_point[measured], axis=1))


def test_faces_without_a_visible_point_or_normaliser_have_no_error():
    three = np.repeat(FACE, 3, axis=0)
    visible = np.array([[1, 1, 1], [0, 0, 0], [0, 1, 1]])  # the last face has one visible eye
    errors = nme_per_face(three, three + 4.0, visible, EYES)
    assert np.isnan(errors).tolist() == [False, True, True]
    assert summary(errors).n == 1
    assert np.isnan(nme_per_face(FACE, OFF, [[0, 0, 1]], BOXED)).all()  # one point has no box


def test_the_error_is_invariant_to_rotation_and_scale():
    rng = np.random.default_rng(2)
    true, predicted, visible = random_faces(EYES, rng)
    turn = 3.0 * np.array([[np.cos(1.0), np.sin(1.0)], [-np.sin(1.0), np.cos(1.0)]])
    plain = nme_per_face(true, predicted, visible, EYES)
    np.testing.assert_allclose(nme_per_face(true @ turn, predicted @ turn, visible, EYES), plain, rtol=1e-5)


def test_the_summary_equals_values_by_hand():
    result = summary([0.02, 0.04, 0.06, 0.12, np.nan])
    assert result.n == 4
    assert result.mean == pytest.approx(0.06)
    assert result.median == pytest.approx(0.05)
    assert result.auc8 == pytest.approx((6 + 4 + 2 + 0) / 8 / 4)
    assert result.fr8 == pytest.approx(0.25)
    assert result.to_dict() == pytest.approx({"mean": 0.06, "median": 0.05, "auc8": 0.375, "fr8": 0.25, "n": 4})


def test_an_empty_summary_and_missed_faces():
    assert summary([np.nan]).n == 0
    assert np.isnan(summary([]).mean)
    missed = summary([0.04, np.inf])  # a face that the detector missed is a failure
    assert (missed.auc8, missed.fr8) == pytest.approx((0.25, 0.5))


def test_the_area_under_the_curve_is_the_auc():
    errors = np.random.default_rng(3).gamma(2.0, 0.02, 200)
    thresholds, fractions = cumulative_error_curve(errors)
    assert (thresholds[0], thresholds[-1], fractions[0]) == (0.0, 0.08, 0.0)
    assert (np.diff(thresholds) >= 0).all()
    assert (np.diff(fractions) >= 0).all()
    assert np.trapezoid(fractions, thresholds) / 0.08 == pytest.approx(summary(errors).auc8)
    assert fractions[-1] == pytest.approx(1 - summary(errors).fr8)


def test_an_empty_curve_is_an_error():
    with pytest.raises(KpdetectError, match=mentions("0")):
        cumulative_error_curve([np.nan])


def test_wrong_shapes_are_errors():
    with pytest.raises(KpdetectError, match=mentions("(1, 3, 2)", "(1, 2)")):
        nme_per_face(FACE, OFF, ALL[:, :2], EYES)


@pytest.mark.parametrize("schema", SCHEMES, ids=lambda schema: schema.name)
def test_the_keras_metric_equals_numpy_over_batches(schema):
    size_hw = (80, 120)  # not square, so that relative x and y have different weights
    true, predicted, visible = random_faces(schema, np.random.default_rng(4))
    metric = NormalizedMeanError(schema, size_hw)
    for rows in np.array_split(np.arange(len(true)), 7):  # batches of different sizes
        relative = to_relative(true[rows], size_hw), to_relative(predicted[rows], size_hw)
        metric.update_state(*relative, sample_weight=visible[rows].astype(np.float32))
    expected = np.nanmean(nme_per_face(true, predicted, visible, schema, crop_width=120))
    assert float(metric.result()) == pytest.approx(expected, rel=1e-4)


def test_the_keras_metric_ignores_the_uncertainty():
    true, off = to_relative(FACE, (80, 120)), to_relative(OFF, (80, 120))
    metric = NormalizedMeanError(EYES, (80, 120))
    metric.update_state(true, np.concatenate([off, np.full((1, 3, 1), 0.7, np.float32)], axis=-1))
    assert float(metric.result()) == pytest.approx(0.125, rel=1e-4)


def test_the_keras_metric_without_weights_uses_every_point():
    metric = NormalizedMeanError(EYES, (80, 120))
    metric.update_state(to_relative(FACE, (80, 120)), to_relative(OFF, (80, 120)))
    assert float(metric.result()) == pytest.approx(0.125, rel=1e-4)
    metric.reset_state()
    assert np.isnan(float(metric.result()))


def test_the_keras_metric_round_trips_through_its_config():
    again = NormalizedMeanError.from_config(NormalizedMeanError(IBUG68, (112, 96), name="error").get_config())
    assert (again.schema, again.size_hw, again.name) == (IBUG68, (112, 96), "error")


def test_numpy_metrics_need_no_keras():
    code = "import sys, kpdetect.evaluation.metrics; assert not {'keras', 'tensorflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
