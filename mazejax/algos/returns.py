"""Return and advantage estimators.

Pure functions over [T, ...] arrays, any trailing axes; every one is an instance of the
reverse affine scan. Termination zeroes the value of what follows, truncation keeps it,
and both end the sum.
"""

import jax
import jax.numpy as jnp

from mazejax.types import Array


def affine_reverse_scan(offset: Array, factor: Array, last: Array) -> Array:
    """Solution x of x_t = offset_t + factor_t * x_{t+1} with x_T = last, [T, ...]."""

    def add_step(later: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        offset_t, factor_t = now
        x_t = offset_t + factor_t * later
        return x_t, x_t

    return jax.lax.scan(add_step, last, (offset, factor), reverse=True)[1]


def gae(
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: Array,
    truncated: Array,
    gamma: float | Array,
    gae_lambda: float | Array,
) -> Array:
    """Generalised advantage estimates, [T, ...].

    A_t = d_t + gamma * lambda * (1 - ended_t) * A_{t+1},
    d_t = r_t + gamma * (1 - terminated_t) * v(s_{t+1}) - v(s_t).
    `next_value` is the value of the true next observation, of the final one where an
    episode was truncated. Schulman et al., 2016, arXiv:1506.02438.
    """
    delta = reward + gamma * jnp.where(terminated, 0.0, next_value) - value
    decay = gamma * gae_lambda * jnp.where(terminated | truncated, 0.0, 1.0)
    return affine_reverse_scan(delta, decay, jnp.zeros_like(delta[0]))


def explained_variance(prediction: Array, target: Array) -> Array:
    """1 - Var[target - prediction] / Var[target], float32; nan where the target is constant."""
    # From the first target on, so that rounding gives equal targets no variance.
    variance = jnp.var(target - target.ravel()[0])
    return jnp.where(variance > 0, 1.0 - jnp.var(target - prediction) / variance, jnp.nan)
