"""Angles on the whole circle against numpy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.envs.classic import angles


@pytest.mark.parametrize("bound", [7.0, 6000.0])
def test_sine_and_cosine_are_exact_to_float32(bound):
    x = np.linspace(-bound, bound, 200_001, dtype=np.float32)
    sin, cos = jax.device_get(jax.jit(angles.sin_cos)(x))
    exact = x.astype(np.float64)
    np.testing.assert_allclose(sin, np.sin(exact), rtol=0, atol=1.3e-7)
    np.testing.assert_allclose(cos, np.cos(exact), rtol=0, atol=1.3e-7)
    assert max(np.abs(sin).max(), np.abs(cos).max()) <= 1.0


def test_wrapping_keeps_the_direction_and_stays_within_half_a_turn():
    x = np.linspace(-40, 40, 100_001, dtype=np.float32)
    wrapped = np.asarray(jax.jit(angles.wrap)(x)).astype(np.float64)
    assert np.abs(wrapped).max() <= np.pi + 2e-6
    np.testing.assert_allclose(np.sin(wrapped - x.astype(np.float64)), 0, atol=3e-7)


def test_what_is_within_half_a_turn_is_left_as_it_is():
    x = np.linspace(-np.pi, np.pi, 10_001, dtype=np.float32)
    np.testing.assert_array_equal(jax.jit(angles.wrap)(x), x)


def test_gradients_are_those_of_sine_and_cosine():
    x = jnp.linspace(-6.0, 6.0, 101)
    d_sin = jax.vmap(jax.grad(lambda a: angles.sin_cos(angles.wrap(a))[0]))(x)
    d_cos = jax.vmap(jax.grad(lambda a: angles.sin_cos(a)[1]))(x)
    np.testing.assert_allclose(d_sin, np.cos(x), atol=2e-6)
    np.testing.assert_allclose(d_cos, -np.sin(x), atol=2e-6)
