"""Running mean and variance of observations, kept beside the weights of a network.

Statistics travel by value with the variables that need them, so that evaluation, saving
and deployment see the same numbers as training. They merge exactly (Chan, Golub and
LeVeque, 1979), over time and over devices; when they grow is left to the learners.
"""

from collections.abc import Callable
from typing import Any, Self

import jax
import jax.numpy as jnp

from mazejax.base import Pytree
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box
from mazejax.types import Array, PyTree

CLIP = 10.0
"""Largest absolute value of a normalized number, as in OpenAI baselines."""

# As in OpenAI baselines: what never changes becomes 0.
_EPSILON = 1e-8


class RunningStatistics(Pytree):
    """Mean and variance of a stream of arrays, entry by entry; of none yet: 0 and 1."""

    count: Array
    """Arrays seen, float32: beyond 2^24 batches' worth the oldest fade, which does no harm."""
    mean: Array
    """float32 [*shape]."""
    mean_low: Array
    """What is to be added to the mean, float32 [*shape]: a mean of a million alone hardly moves."""
    variance: Array
    """float32 [*shape]."""

    @classmethod
    def start(cls, shape: tuple[int, ...] = ()) -> Self:
        """Of nothing seen: normalizing changes nothing but what is clipped."""
        zero = jnp.zeros(shape, jnp.float32)
        return cls(jnp.zeros((), jnp.float32), zero, zero, jnp.ones(shape, jnp.float32))

    def add(self, values: Array, where: Array | None = None, axis_name: str | None = None) -> Self:
        """With values [..., *shape] counted in; with a mask [...] those where it is true.

        Inside `shard_map` the name of the mesh axis counts the values of all devices.
        """
        batch = values.shape[: values.ndim - self.mean.ndim]
        where = jnp.ones(batch, bool) if where is None else where
        mask = where.reshape(where.shape + (1,) * self.mean.ndim)
        count = _total(jnp.sum(where, dtype=jnp.int32), axis_name).astype(jnp.float32)

        def averaged(values: Array) -> Array:
            total = _total(jnp.sum(values, tuple(range(len(batch)))), axis_name)
            return total / jnp.maximum(count, 1.0)

        # From the old mean on: large numbers with a small spread keep their digits.
        values = jnp.where(mask, self._centred(values), 0.0)
        offset = averaged(values)
        rest = jnp.where(mask, values - self._like(offset, values), 0.0)
        lost = averaged(rest)
        variance = jnp.maximum(averaged(jnp.square(rest)) - jnp.square(lost), 0.0)
        return self._joined(count, offset, lost, variance)

    def merge(self, other: Self) -> Self:
        """Of both streams; of many streams each, side by side along leading axes, too."""
        offset, low = other.mean - self.mean, other.mean_low - self.mean_low
        return self._joined(other.count, offset, low, other.variance)

    def normalize(self, values: Array) -> Array:
        """Values [..., *shape] minus the mean over the standard deviation, clipped, float32."""
        return jnp.clip(self._centred(values) * self._like(self.scale, values), -CLIP, CLIP)

    @property
    def scale(self) -> Array:
        """One over the standard deviation, float32 [*shape]."""
        return jax.lax.rsqrt(self.variance + _EPSILON)

    def _joined(self, count: Array, offset: Array, low: Array, variance: Array) -> Self:
        """With `count` arrays more, whose mean is `offset + low` from ours, and their variance."""
        total = self.count + count
        share = count / jnp.maximum(total, 1.0)
        share = share.reshape(share.shape + (1,) * (self.mean.ndim - share.ndim))
        # Compensated summation (Kahan, 1965): what a step loses is kept for the next.
        step = offset * share + self.mean_low
        mean = self.mean + step
        # Squared last: where nothing was known, 0 is left of however large an offset.
        between = (offset + low) * ((offset + low) * (share * (1.0 - share)))
        return type(self)(
            count=total,
            mean=mean,
            mean_low=step - (mean - self.mean) + low * share,
            variance=self.variance * (1.0 - share) + variance * share + between,
        )

    def _centred(self, values: Array) -> Array:
        centred = values.astype(jnp.float32) - self._like(self.mean, values)
        return centred - self._like(self.mean_low, values)

    def _like(self, numbers: Array, values: Array) -> Array:
        return jnp.expand_dims(numbers, tuple(range(values.ndim - numbers.ndim)))


def start_statistics(space: Space) -> PyTree:
    """Statistics of nothing seen, nested as observations are; None for what is not normalized.

    Normalized is every Box but those of bool (masks, bitmaps); categories and bits stay.
    """
    return _map(lambda box: RunningStatistics.start(box.shape), space)


def add_observations(
    space: Space,
    statistics: PyTree,
    obs: PyTree,
    where: Array | None = None,
    axis_name: str | None = None,
) -> PyTree:
    """The statistics with observations [..., *obs] counted in, where the mask [...] is true."""
    return _map(lambda _, s, values: s.add(values, where, axis_name), space, statistics, obs)


def normalize_observations(space: Space, statistics: PyTree, obs: PyTree) -> PyTree:
    """Observations [..., *obs] with every Box normalized, float32."""

    def normalized(space: Space, statistics: PyTree, obs: PyTree) -> PyTree:
        if isinstance(space, Dict):
            return {
                name: normalized(part, statistics[name], obs[name]) for name, part in space.items()
            }
        return obs if statistics is None else statistics.normalize(obs)

    return normalized(space, statistics, obs)


def _map(function: Callable, space: Space, *trees: Any) -> PyTree:
    """`function` of each normalized Box and what the trees have for it, nested as the space."""
    if isinstance(space, Dict):
        return {
            name: _map(function, part, *(t[name] for t in trees)) for name, part in space.items()
        }
    if not isinstance(space, Box) or space.dtype.kind == "b":
        return None
    return function(space, *trees)


def _total(value: Array, axis_name: str | None) -> Array:
    return value if axis_name is None else jax.lax.psum(value, axis_name)
