"""Logarithms without the large numbers that cancel: parts of the gamma and beta functions.

At concentrations in the thousands log Gamma is a difference of numbers near 1e5, of which
float32 keeps nothing behind the point. What Stirling's formula leaves of it is small, and
the large terms of densities cancel on paper. The densities themselves stand elsewhere.
"""

import jax
import jax.numpy as jnp

from mazejax.types import Array

# x times Stirling's rest as a polynomial in 1 / x, by least squares over all x >= 1: met to
# 3e-12 there, its slope to 8e-11.
_REST = (
    8.333333332080382e-02,
    3.487817424197709e-09,
    -2.7779407200729535e-03,
    3.019465898223856e-06,
    7.644444603155872e-04,
    1.6739828615638626e-04,
    -1.1967342947367746e-03,
    1.3484290792840972e-03,
    -8.1133718425407e-04,
    2.701608635640568e-04,
    -3.930996885229288e-05,
)
_NEAR = 0.4
"""Up to where log(1 + x) - x is a series: beyond it the difference loses less than 3 bits."""
_TERMS = 6
"""Of the series; the seventh is below 1e-9 of it."""


def stirling_rest(x: Array) -> Array:
    """What remains of log Gamma(x) for x > 0, near 1 / (12 x).

    log Gamma(x) = (x - 1/2) log x - x + log(2 pi) / 2 + rest.
    """
    # Below 1 by one step of the recurrence Gamma(x + 1) = x Gamma(x).
    is_small = x < 1
    small = jnp.where(is_small, x, 1)
    step = jnp.where(is_small, (small + 0.5) * jnp.log1p(1 / small) - 1, 0)
    inverse = 1 / jnp.where(is_small, small + 1, x)
    return step + inverse * _polynomial(inverse, _REST)


def stirling_slope(x: Array) -> Array:
    """The derivative of `stirling_rest`: digamma(x) - log x + 1 / (2 x)."""
    return jax.jvp(stirling_rest, (x,), (jnp.ones_like(x),))[1]


def log_rest(x: Array, one_plus_x: Array) -> Array:
    """What remains of log(1 + x) for x > -1 without its first term: log(1 + x) - x, near -x^2 / 2.

    Both x and 1 + x are given, since rounding would spoil one that is made of the other.
    """
    is_near = jnp.abs(x) < _NEAR
    near = jnp.where(is_near, x, 0)
    # log(1 + x) = 2 artanh(r) = 2 (r + r^3 / 3 + r^5 / 5 + ...), and 2 r - x = -x r.
    r = near / (2 + near)
    odd = tuple(1 / (2 * i + 3) for i in range(_TERMS))
    series = r * (2 * r**2 * _polynomial(r**2, odd) - near)
    return jnp.where(is_near, series, jnp.log(jnp.where(is_near, 1, one_plus_x)) - x)


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    value = jnp.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value
