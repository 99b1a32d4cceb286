"""Loss functions, elementwise or averaged over rows, free of networks."""

import jax.numpy as jnp

from mazejax.types import Array


def clipped_surrogate(ratio: Array, advantage: Array, clip_eps: float | Array) -> Array:
    """PPO's pessimistic surrogate to be minimized, per row.

    -min(ratio * A, clip(ratio, 1 - eps, 1 + eps) * A).
    Schulman et al., 2017, arXiv:1707.06347, equation 7.
    """
    clipped = jnp.clip(ratio, 1.0 - clip_eps, 1.0 + clip_eps)
    return -jnp.minimum(ratio * advantage, clipped * advantage)


def value_loss(value: Array, target: Array) -> Array:
    """Half the squared error, per row."""
    return 0.5 * jnp.square(value - target)


def clipped_value_loss(
    value: Array, old_value: Array, target: Array, clip_range: float | Array
) -> Array:
    """The worse of the plain loss and that of a value kept near the old one, per row."""
    near = old_value + jnp.clip(value - old_value, -clip_range, clip_range)
    return jnp.maximum(value_loss(value, target), value_loss(near, target))


def approximate_kl(log_ratio: Array) -> Array:
    """Low-variance estimate of KL(old || new) from samples of the old policy, per row.

    (ratio - 1) - log(ratio). Schulman, "Approximating KL divergence", 2020.
    """
    return jnp.expm1(log_ratio) - log_ratio


def standardize(values: Array, epsilon: float = 1e-8, where: Array | None = None) -> Array:
    """Values minus their mean over their standard deviation; all 0 if they are all equal.

    With a mask, of the values where it is true; 0 elsewhere.
    """
    if where is None:
        # From the first value on: the mean of equal numbers differs from them by rounding,
        # which divided by an equally small deviation would be 1.
        values = values - values.ravel()[0]
        return (values - jnp.mean(values)) / (jnp.std(values) + epsilon)
    count = jnp.maximum(jnp.sum(where), 1)
    values = jnp.where(where, values - jnp.max(values, where=where, initial=-jnp.inf), 0.0)
    rest = jnp.where(where, values - jnp.sum(values) / count, 0.0)
    return rest / (jnp.sqrt(jnp.sum(jnp.square(rest)) / count) + epsilon)
