"""Bounded summaries of numbers: count, mean, spread and extremes, never per-step arrays.

Accumulators merge exactly (Chan, Golub and LeVeque, 1979), in the compiled loop and on
the host alike. What did not happen has count 0 and is absent when read, not 0.
"""

from collections.abc import Sequence
from typing import Any, Self

import jax.numpy as jnp
import numpy as np

from mazejax.base import Pytree
from mazejax.types import Array


class Accumulator(Pytree):
    """Summary of a stream of numbers; the scalars may carry leading axes, one summary each."""

    count: Array
    """int32."""
    center: Array
    """The mean, float32; 0 when empty, so that nothing computes with nan."""
    m2: Array
    """Sum of squared differences from the mean, float32."""
    min: Array
    """float32, inf when empty."""
    max: Array
    """float32, -inf when empty."""

    @classmethod
    def of(cls, values: Array, where: Array | None = None, axis: int | None = None) -> Self:
        """Summary of all the values, any shape; with a mask of that shape, of the true ones.

        With an axis a summary for each entry of the others.
        """
        values = jnp.asarray(values, jnp.float32)
        where = jnp.ones(values.shape, bool) if where is None else where
        count = jnp.sum(where, axis, dtype=jnp.int32)
        at_least_one = jnp.maximum(count, 1)
        rough = jnp.sum(jnp.where(where, values, 0.0), axis) / at_least_one
        along = rough if axis is None else jnp.expand_dims(rough, axis)
        # The rough mean of large numbers is off by rounding: what is left of it is taken out.
        rest = jnp.where(where, values - along, 0.0)
        offset = jnp.sum(rest, axis) / at_least_one
        return cls(
            count=count,
            center=rough + offset,
            m2=jnp.maximum(jnp.sum(jnp.square(rest), axis) - count * jnp.square(offset), 0.0),
            min=jnp.min(values, axis, initial=jnp.inf, where=where),
            max=jnp.max(values, axis, initial=-jnp.inf, where=where),
        )

    @classmethod
    def empty(cls, shape: tuple[int, ...] = ()) -> Self:
        """Summaries of nothing."""
        nothing = jnp.zeros(shape, jnp.float32)
        return cls(
            count=jnp.zeros(shape, jnp.int32),
            center=nothing,
            m2=nothing,
            min=nothing + jnp.inf,
            max=nothing - jnp.inf,
        )

    @property
    def mean(self) -> Array:
        """Mean, nan where nothing happened."""
        return _where(self.count > 0, self.center, np.nan)

    @property
    def std(self) -> Array:
        """Standard deviation, nan where nothing happened."""
        count = _where(self.count > 0, self.count, np.nan)
        return (self.m2 / count) ** 0.5

    def merge(self, other: Self) -> Self:
        """Summary of both streams."""
        count = self.count + other.count
        share = other.count / jnp.maximum(count, 1)
        delta = other.center - self.center
        return type(self)(
            count=count,
            center=self.center + delta * share,
            m2=self.m2 + other.m2 + jnp.square(delta) * self.count * share,
            min=jnp.minimum(self.min, other.min),
            max=jnp.maximum(self.max, other.max),
        )


def merge_on_host(parts: Sequence[Any]) -> Any:
    """One accumulator of several that hold NumPy arrays, in float64."""
    counts, means, spreads = (
        np.stack([np.asarray(getattr(part, name), np.float64) for part in parts])
        for name in ("count", "center", "m2")
    )
    count = counts.sum(axis=0)
    mean = (counts * means).sum(axis=0) / np.maximum(count, 1)
    merged: dict[str, Any] = {
        "count": count,
        "center": mean,
        "m2": spreads.sum(axis=0) + (counts * (means - mean) ** 2).sum(axis=0),
        "min": np.min([part.min for part in parts], axis=0),
        "max": np.max([part.max for part in parts], axis=0),
    }
    return Accumulator(**merged)


def _where(condition: Any, values: Any, other: float) -> Any:
    """`where` of NumPy for what lies on the host, float64 too, and of JAX for all else."""
    library = np if isinstance(values, (np.ndarray, np.generic)) else jnp
    return library.where(condition, values, other)
