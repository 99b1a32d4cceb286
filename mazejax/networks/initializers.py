"""Initial weights by name, and biases that make first actions likely."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mazejax.base import is_number
from mazejax.errors import ConfigError, did_you_mean
from mazejax.types import Array, Key

Initializer = Callable[..., Array]
"""(key, shape, dtype) -> array."""


def normc(scale: float = 1.0) -> Initializer:
    """Gaussian kernels [..., inputs, outputs] whose columns are scaled to this norm."""

    def init(key: Key, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
        kernel = jax.random.normal(key, shape, dtype)
        inputs = tuple(range(len(shape) - 1))
        return (
            scale
            * kernel
            / jnp.linalg.norm(kernel.reshape(-1, shape[-1]), axis=0).reshape(
                (1,) * len(inputs) + shape[-1:]
            )
        )

    return init


_BY_NAME: dict[str, Callable[[float], Initializer]] = {
    "orthogonal": nn.initializers.orthogonal,
    "normc": normc,
    "lecun_normal": lambda scale: nn.initializers.variance_scaling(
        scale**2, "fan_in", "truncated_normal"
    ),
    "he_normal": lambda scale: nn.initializers.variance_scaling(
        2.0 * scale**2, "fan_in", "truncated_normal"
    ),
}


def is_finite_number(value: Any) -> bool:
    """Whether it is one real number that is neither infinite nor nan; no array of several."""
    return is_number(value) and np.ndim(value) == 0 and math.isfinite(value)


def initializer(name: str, scale: float | None = None) -> Initializer:
    """The initializer of this name; orthogonal kernels are scaled by sqrt(2) unless told.

    Raises ConfigError for an unknown name and a scale that is not positive.
    """
    if not isinstance(name, str) or name not in _BY_NAME:
        raise ConfigError(f"kernel_init: unknown {name!r}; {did_you_mean(str(name), _BY_NAME)}")
    if scale is None:
        scale = 2.0**0.5 if name == "orthogonal" else 1.0
    if not (is_finite_number(scale) and scale > 0):
        raise ConfigError(f"kernel_scale: must be positive, got {scale!r}")
    return _BY_NAME[name](scale)


def probability_bias(probability: float) -> float:
    """The logit of a probability: the bias with which a Bernoulli begins there.

    Raises ConfigError unless it is strictly between 0 and 1.
    """
    if not 0.0 < probability < 1.0:
        raise ConfigError(f"probability: must be between 0 and 1, got {probability!r}")
    return math.log(probability) - math.log1p(-probability)
