"""Losses against hand-worked numbers, and their gradients against finite differences."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.algos import losses


def test_the_surrogate_is_the_pessimistic_one_of_the_plain_and_the_clipped():
    # eps = 0.2, loss = -min(ratio * A, clip(ratio, 0.8, 1.2) * A)
    ratio = jnp.array([1.0, 1.5, 0.5, 1.5, 0.5, 1.1])
    advantage = jnp.array([2.0, 2.0, 2.0, -2.0, -2.0, -1.0])
    #  1.0 * 2          = 2.0   -> -2.0
    #  min(3.0, 2.4)    = 2.4   -> -2.4, clipped: no more is gained above 1.2
    #  min(1.0, 1.6)    = 1.0   -> -1.0, not clipped: going back up must be rewarded
    #  min(-3.0, -2.4)  = -3.0  ->  3.0, not clipped: going back down must be rewarded
    #  min(-1.0, -1.6)  = -1.6  ->  1.6, clipped
    #  min(-1.1, -1.1)  = -1.1  ->  1.1
    expected = [-2.0, -2.4, -1.0, 3.0, 1.6, 1.1]
    np.testing.assert_allclose(losses.clipped_surrogate(ratio, advantage, 0.2), expected, rtol=1e-6)


def test_the_gradient_of_the_surrogate_is_zero_exactly_where_it_is_clipped():
    ratio = jnp.array([1.0, 1.5, 0.5, 1.5, 0.5, 1.1])
    advantage = jnp.array([2.0, 2.0, 2.0, -2.0, -2.0, -1.0])
    slope = jax.grad(lambda r: losses.clipped_surrogate(r, advantage, 0.2).sum())(ratio)
    # -A where the plain term is the smaller one, 0 where the clipped one is.
    np.testing.assert_array_equal(slope, [-2.0, 0.0, -2.0, 2.0, 0.0, 1.0])


def test_the_surrogate_at_a_ratio_of_one_has_the_policy_gradient():
    # d/d theta of -exp(log_prob - old) * A at log_prob = old is -A.
    advantage = jnp.array([0.3, -1.7])
    slope = jax.grad(
        lambda log_prob: losses.clipped_surrogate(jnp.exp(log_prob), advantage, 0.2).sum()
    )(jnp.zeros(2))
    np.testing.assert_allclose(slope, -advantage, rtol=1e-6)


def test_the_value_loss_is_half_the_squared_error():
    # 0.5 * (3 - 1)^2 = 2; 0.5 * (-1 - 1)^2 = 2; 0
    value, target = jnp.array([3.0, -1.0, 5.0]), jnp.array([1.0, 1.0, 5.0])
    np.testing.assert_array_equal(losses.value_loss(value, target), [2.0, 2.0, 0.0])
    slope = jax.grad(lambda v: losses.value_loss(v, target).sum())(value)
    np.testing.assert_array_equal(slope, value - target)


def test_the_clipped_value_loss_is_the_worse_one():
    old, clip_range = jnp.zeros(4), 0.5
    value = jnp.array([0.25, 2.0, 2.0, -2.0])
    target = jnp.array([1.0, 3.0, 0.0, 0.0])
    # 0.25 is near: both 0.5 * 0.75^2 = 0.28125
    # 2.0 kept at 0.5: max(0.5 * 1, 0.5 * 2.5^2) = 3.125, no gradient
    # 2.0 kept at 0.5: max(0.5 * 4, 0.5 * 0.25) = 2.0, moving back pays
    # -2.0 kept at -0.5: the same, mirrored
    expected = [0.28125, 3.125, 2.0, 2.0]
    np.testing.assert_array_equal(
        losses.clipped_value_loss(value, old, target, clip_range), expected
    )
    slope = jax.grad(lambda v: losses.clipped_value_loss(v, old, target, clip_range).sum())(value)
    np.testing.assert_array_equal(slope, [-0.75, 0.0, 2.0, -2.0])


def test_the_divergence_estimate_is_zero_for_equal_policies_and_never_negative():
    log_ratio = jnp.array([0.0, 0.5, -0.5, 1e-4, -3.0])
    # (ratio - 1) - log(ratio); of 1e-4: 1e-8 / 2, which (exp(x) - 1) - x would lose in float32
    expected = [0.0, np.expm1(0.5) - 0.5, np.expm1(-0.5) + 0.5, 5e-9, np.expm1(-3.0) + 3.0]
    estimate = losses.approximate_kl(log_ratio)
    np.testing.assert_allclose(estimate[:3], expected[:3], rtol=1e-6)
    np.testing.assert_allclose(estimate[3], expected[3], atol=1e-11)
    np.testing.assert_allclose(estimate[4], expected[4], rtol=1e-6)
    assert (losses.approximate_kl(jnp.linspace(-5, 5, 1001)) >= 0).all()


def test_the_divergence_estimate_has_the_divergence_as_its_mean():
    old, new = np.array([0.2, 0.5, 0.3]), np.array([0.4, 0.4, 0.2])
    mean = (old * np.asarray(losses.approximate_kl(jnp.log(new / old)))).sum()
    np.testing.assert_allclose(mean, (old * np.log(old / new)).sum(), rtol=1e-5)


def test_standardized_values_have_mean_zero_and_deviation_one():
    # [1, 2, 3, 6]: mean 3, variance (4 + 1 + 0 + 9) / 4 = 3.5
    standardized = losses.standardize(jnp.array([1.0, 2.0, 3.0, 6.0]))
    np.testing.assert_allclose(standardized, np.array([-2, -1, 0, 3]) / 3.5**0.5, rtol=1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.7, 100.1])
@pytest.mark.parametrize("num", [1, 64, 1000])
def test_equal_values_standardize_to_exactly_zero_whatever_the_rounding(constant, num):
    standardized = losses.standardize(jnp.full(num, constant))
    np.testing.assert_array_equal(standardized, np.zeros(num))


def test_values_far_from_zero_standardize_like_values_near_it():
    near = np.random.default_rng(0).integers(-100, 100, 512).astype(np.float32)
    far = near + np.float32(2**20)
    np.testing.assert_allclose(losses.standardize(far), losses.standardize(near), atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_under_a_mask_the_masked_values_are_standardized_and_the_rest_is_zero(seed):
    random = np.random.default_rng(seed)
    values = (3 * random.normal(size=(8, 5)) + 2).astype(np.float32)
    where = random.random((8, 5)) < 0.4
    chosen = np.float64(values[where])
    expected = np.zeros((8, 5))
    expected[where] = (chosen - chosen.mean()) / chosen.std()
    standardize = jax.jit(lambda values, where: losses.standardize(values, where=where))
    np.testing.assert_allclose(standardize(values, where), expected, rtol=1e-5, atol=1e-6)
    hidden = np.where(where, values, np.nan)
    np.testing.assert_allclose(standardize(hidden, where), expected, rtol=1e-5, atol=1e-6)
    everywhere = standardize(values, np.ones_like(where))
    np.testing.assert_allclose(everywhere, losses.standardize(values), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.7, 100.1])
@pytest.mark.parametrize("num", [0, 1, 21, 64])
def test_equal_values_under_a_mask_and_no_values_at_all_standardize_to_exactly_zero(constant, num):
    where = jnp.arange(64) < num
    values = jnp.where(where, constant, jnp.arange(64.0))
    np.testing.assert_array_equal(losses.standardize(values, where=where), np.zeros(64))


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: losses.clipped_surrogate(jnp.exp(x), jnp.array([1.0, -2.0, 0.5, 3.0]), 0.2),
        lambda x: losses.value_loss(x, jnp.array([1.0, -2.0, 0.5, 3.0])),
        lambda x: losses.clipped_value_loss(x, jnp.zeros(4), jnp.array([1.0, -2.0, 0.5, 3.0]), 0.3),
        losses.approximate_kl,
        lambda x: losses.standardize(x) * jnp.array([1.0, -2.0, 0.5, 3.0]),
    ],
    ids=["surrogate", "value", "clipped_value", "approximate_kl", "standardize"],
)
def test_gradients_agree_with_finite_differences(loss):
    # Away from the kinks at ratio 0.8 and 1.2 and at a value change of 0.3.
    x = jnp.array([0.1, -0.6, 0.5, -0.1])
    chex.assert_numerical_grads(lambda x: loss(x).sum(), (x,), order=1, atol=2e-3, rtol=2e-3)
