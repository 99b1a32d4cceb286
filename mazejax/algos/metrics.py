"""Metrics as bounded accumulators: count, mean, spread and extremes, never per-step arrays.

Accumulators merge exactly (Chan, Golub and LeVeque, 1979), in the compiled loop and on
the host alike. What did not happen has count 0 and is absent when read, not 0.
"""

from typing import Any, Self

import jax.numpy as jnp
import numpy as np

from mazejax.base import Pytree
from mazejax.types import Array


class Accumulator(Pytree):
    """Summary of a stream of numbers; the scalars may carry leading axes, one summary each."""

    count: Array
    """int32."""
    mean: Array
    """float32."""
    m2: Array
    """Sum of squared differences from the mean, float32."""
    min: Array
    """float32, inf when empty."""
    max: Array
    """float32, -inf when empty."""

    @classmethod
    def of(cls, values: Array, where: Array | None = None) -> Self:
        """Summary of all the values, any shape; with a mask of that shape, of the true ones."""
        values = jnp.asarray(values, jnp.float32)
        where = jnp.ones(values.shape, bool) if where is None else where
        count = jnp.sum(where, dtype=jnp.int32)
        rough = jnp.sum(jnp.where(where, values, 0.0)) / jnp.maximum(count, 1)
        # The rough mean of large numbers is off by rounding: what is left of it is taken out.
        rest = jnp.where(where, values - rough, 0.0)
        offset = jnp.sum(rest) / jnp.maximum(count, 1)
        return cls(
            count=count,
            mean=rough + offset,
            m2=jnp.maximum(jnp.sum(jnp.square(rest)) - count * jnp.square(offset), 0.0),
            min=jnp.min(values, initial=jnp.inf, where=where),
            max=jnp.max(values, initial=-jnp.inf, where=where),
        )

    def merge(self, other: Self) -> Self:
        """Summary of both streams."""
        count = self.count + other.count
        share = other.count / jnp.maximum(count, 1)
        delta = other.mean - self.mean
        return type(self)(
            count=count,
            mean=self.mean + delta * share,
            m2=self.m2 + other.m2 + jnp.square(delta) * self.count * share,
            min=jnp.minimum(self.min, other.min),
            max=jnp.maximum(self.max, other.max),
        )


Metrics = dict[str, Accumulator]
"""Name to accumulator; the names and their order are fixed for one algorithm."""


def merge_rows(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """One host summary of several host rows `{name: Accumulator of numpy scalars}`.

    Returns `{name: {count, mean, std, min, max}}` in float64, without the names whose
    count is 0.
    """
    merged: dict[str, dict[str, float]] = {}
    for name in rows[0] if rows else ():
        parts = [row[name] for row in rows if row[name].count > 0]
        if not parts:
            continue
        counts = np.array([part.count for part in parts], np.float64)
        means = np.array([part.mean for part in parts], np.float64)
        count = counts.sum()
        mean = (counts * means).sum() / count
        m2 = sum(float(part.m2) for part in parts) + (counts * (means - mean) ** 2).sum()
        merged[name] = {
            "count": count,
            "mean": mean,
            "std": float(np.sqrt(m2 / count)),
            "min": min(float(part.min) for part in parts),
            "max": max(float(part.max) for part in parts),
        }
    return merged
