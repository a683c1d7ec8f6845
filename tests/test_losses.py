"""Losses: values by hand, zero weight of hidden points, and finite gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from messages import mentions

from kpdetect.core.errors import KpdetectError
from kpdetect.models import losses

# One face, one point, with errors of 3 in x and 8 in y in the loss's unit; expected values are by hand.
OFF_BY = np.array([[[3.0, 8.0]]], np.float32)
BY_HAND = {
    "mse": (9 + 64) / 2,
    "l1": (3 + 8) / 2,
    "smooth_l1": (2.5 + 7.5) / 2,
    # w 6, epsilon 2: 6 ln(1 + 3/2) = 5.497744; 8 - (6 - 6 ln 4) = 10.317766
    "wing": (5.497744 + 10.317766) / 2,
}


@pytest.mark.parametrize("name", losses.LOSSES)
def test_each_loss_equals_the_value_by_hand(name):
    unit = 50.0
    loss = losses.build(name, unit)(np.full_like(OFF_BY, 0.5), 0.5 + OFF_BY / unit)
    assert float(loss) == pytest.approx(BY_HAND[name], rel=1e-5)


def test_smooth_l1_is_quadratic_below_beta():
    loss = losses.SmoothL1(unit=1.0, beta=2.0)
    assert float(loss(np.zeros((1, 1, 2)), np.full((1, 1, 2), 1.0))) == pytest.approx(0.25)


def test_wing_is_continuous():
    loss, width = losses.Wing(unit=1.0), 6.0
    below, above = (ops.convert_to_numpy(loss.of_difference(width + d)) for d in (-1e-4, 1e-4))
    assert above == pytest.approx(below, abs=1e-3)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_a_loss_is_per_point_and_hidden_points_have_zero_weight(name):
    rng = np.random.default_rng(0)
    true, predicted = rng.random((2, 4, 5, 2), np.float32)
    visible = (rng.random((4, 5)) < 0.5).astype(np.float32)
    loss = losses.build(name, 100.0)
    per_point = ops.convert_to_numpy(loss.call(true, predicted))
    assert per_point.shape == (4, 5)
    far_off = predicted + 7.0 * (1 - visible[..., None])
    expected = per_point[visible > 0].mean()
    assert float(loss(true, far_off, sample_weight=visible)) == pytest.approx(expected, rel=1e-5)
    assert float(loss(true, predicted, sample_weight=np.zeros_like(visible))) == 0.0


@pytest.mark.parametrize("name", losses.LOSSES)
def test_gradients_are_finite_at_zero_and_at_large_errors(name):
    loss = losses.build(name, 100.0)
    true = np.full((2, 3, 2), 0.5, np.float32)
    assert float(loss(true, true)) == 0.0
    for offset in (0.0, 1e-8, 0.06, 1e4):
        for said in (None, 1e-4, 0.5):
            third = [] if said is None else [np.full((2, 3, 1), said, np.float32)]
            predicted = tf.Variable(np.concatenate([true + np.float32(offset), *third], axis=-1))
            with tf.GradientTape() as tape:
                value = loss(true, predicted)
            assert np.isfinite(tape.gradient(value, predicted).numpy()).all()


# --- predicted errors -------------------------------------------------------------------------------------------------

# Errors of 0.03 and 0.04 of the crop, so 0.05; predicted error 0.1: ln 0.1 + 0.05 / 0.1 = -2.302585 + 0.5.
LIKELIHOOD_BY_HAND = -1.802585


def off_by_a_twentieth(said=0.1):
    true = np.full((2, 3, 2), 0.5, np.float32)
    return true, np.concatenate([true + np.float32([0.03, -0.04]), np.full((2, 3, 1), said, np.float32)], axis=-1)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_the_uncertainty_term_equals_the_value_by_hand(name):
    loss, (true, predicted) = losses.build(name, 100.0), off_by_a_twentieth()
    points_alone = float(loss(true, predicted[..., :2]))
    expected = points_alone + losses.LIKELIHOOD_WEIGHT * LIKELIHOOD_BY_HAND
    assert float(loss(true, predicted)) == pytest.approx(expected, abs=1e-4)
    assert loss.call(true, predicted).shape == (2, 3)


@pytest.mark.parametrize("distance", [1e-4, 0.02, 0.5])
def test_the_likelihood_is_maximal_at_the_actual_error(distance):
    said = np.geomspace(distance / 20, distance * 20, 4001).astype(np.float32)
    values = ops.convert_to_numpy(losses.error_likelihood(np.full_like(said, distance), said))
    assert said[values.argmin()] == pytest.approx(distance, rel=0.01)


def test_the_best_predicted_error_of_several_distances_is_their_mean():
    distances = np.random.default_rng(0).gamma(2.0, 0.01, 5000).astype(np.float32)
    said = np.linspace(0.005, 0.06, 1101, dtype=np.float32)
    values = [float(ops.mean(losses.error_likelihood(distances, number))) for number in said]
    assert said[np.argmin(values)] == pytest.approx(distances.mean(), rel=0.01)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_the_uncertainty_term_has_no_gradient_to_the_points(name):
    loss, (true, predicted) = losses.build(name, 100.0), off_by_a_twentieth()
    joined, alone = tf.Variable(predicted), tf.Variable(predicted[..., :2])
    with tf.GradientTape(persistent=True) as tape:
        values = loss(true, joined), loss(true, alone)
    of_joined = tape.gradient(values[0], joined).numpy()
    np.testing.assert_allclose(of_joined[..., :2], tape.gradient(values[1], alone), rtol=1e-6)
    # By hand: the weight times (1 / u - d / u^2) = 10 - 5, over the six points.
    np.testing.assert_allclose(of_joined[..., 2], losses.LIKELIHOOD_WEIGHT * 5 / 6, rtol=1e-4)


def test_the_likelihood_has_no_gradient_to_the_distance():
    distance, said = tf.Variable([0.05, 0.2]), tf.Variable([0.1, 0.1])
    with tf.GradientTape() as tape:
        value = losses.error_likelihood(distance, said)
    to_distance, to_said = tape.gradient(value, [distance, said])
    assert to_distance is None
    assert np.sign(to_said.numpy()).tolist() == [1, -1]  # predicted too large, predicted too small


@pytest.mark.parametrize("name", losses.LOSSES)
def test_uncertainties_of_hidden_points_have_zero_weight(name):
    loss, (true, predicted) = losses.build(name, 100.0), off_by_a_twentieth()
    visible = np.float32([[1, 0, 1], [0, 0, 1]])
    otherwise = np.where(visible[..., None] > 0, predicted, np.float32(0.9))
    expected = float(loss(true, predicted, sample_weight=visible))
    assert float(loss(true, otherwise, sample_weight=visible)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_a_loss_round_trips_through_its_config(name):
    loss = losses.build(name, 4.48)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()


def test_fit_weights_points_by_visibility():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Reshape((1, 2))])
    model.compile(loss=losses.build("l1", 100.0))
    inputs = np.array([[0.5, 0.5], [0.9, 0.9]], np.float32)
    true = np.array([[[0.5, 0.6]], [[0.0, 0.0]]], np.float32)
    visible = np.array([[1.0], [0.0]], np.float32)
    assert model.evaluate(inputs, true, sample_weight=visible, verbose=0) == pytest.approx(5.0, rel=1e-4)


def test_invalid_arguments_are_one_line_errors():
    with pytest.raises(KpdetectError, match=mentions("wings", "wing")):
        losses.build("wings", 100.0)
    with pytest.raises(KpdetectError, match=mentions("0")):
        losses.build("mse", 0)
