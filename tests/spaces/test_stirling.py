"""What Stirling's formula leaves, against SciPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from mazejax.spaces import stirling

NUMBERS = np.float32([1e-3, 0.1, 0.5, 0.999, 1, 1.001, 1.5, 2, 3.7, 8, 30, 1e3, 1e6, 1e30])


def rest(x):
    """By SciPy; the first terms of the series where SciPy's own difference loses digits."""
    x = np.float64(x)
    difference = scipy.special.gammaln(x) - (x - 0.5) * np.log(x) + x - np.log(2 * np.pi) / 2
    series = 1 / (12 * x) - 1 / (360 * x**3) + 1 / (1260 * x**5)
    return np.where(x < 20, difference, series)


def slope(x):
    x = np.float64(x)
    difference = scipy.special.digamma(x) - np.log(x) + 1 / (2 * x)
    series = -1 / (12 * x**2) + 1 / (120 * x**4) - 1 / (252 * x**6)
    return np.where(x < 20, difference, series)


def curvature(x):
    x = np.float64(x)
    difference = scipy.special.polygamma(1, x) - 1 / x - 1 / (2 * x**2)
    return np.where(x < 20, difference, 1 / (6 * x**3) - 1 / (30 * x**5))


def test_the_rest_and_its_derivatives_are_those_of_scipy():
    x = jnp.asarray(NUMBERS)
    found = jax.jit(stirling.stirling_rest)(x), jax.jit(stirling.stirling_slope)(x)
    for got, want in zip(found, (rest(x), slope(x)), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-6, atol=2e-7)
    second = jax.jit(jax.vmap(jax.grad(stirling.stirling_slope)))(x)
    np.testing.assert_allclose(second, curvature(x), rtol=1e-5, atol=1e-6)


def test_the_rest_of_a_double_is_exact_to_ten_digits():
    with jax.enable_x64(True):
        x = jnp.asarray(np.geomspace(0.1, 1e4, 200))
        np.testing.assert_allclose(stirling.stirling_rest(x), rest(x), atol=2e-11, rtol=0)


@pytest.mark.parametrize("side", [-1, 1])
def test_the_rest_of_a_logarithm_keeps_all_its_digits(side):
    x = side * np.geomspace(1e-12, 0.999, 400).astype(np.float32)
    wide = np.float64(x)
    want = np.where(np.abs(wide) < 1e-4, -(wide**2) / 2 + wide**3 / 3, np.log1p(wide) - wide)
    got = jax.jit(stirling.log_rest)(jnp.asarray(x), jnp.asarray(np.float32(1 + wide)))
    np.testing.assert_allclose(got, want, rtol=1e-6)
    gradient = jax.jit(jax.vmap(jax.grad(lambda x: stirling.log_rest(x, 1 + x))))(jnp.asarray(x))
    np.testing.assert_allclose(gradient, -wide / (1 + wide), rtol=1e-4)


def test_an_x_that_rounds_to_minus_one_leaves_what_one_plus_x_says():
    got = stirling.log_rest(jnp.float32(-1.0), jnp.float32(1e-20))
    assert float(got) == pytest.approx(np.log(1e-20) + 1, rel=1e-6)
