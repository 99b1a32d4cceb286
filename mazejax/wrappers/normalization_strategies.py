"""Strategies of normalization: statistics of an observation, and what is made of it by them.

Statistics are taken over axes of the samples stacked as [samples, *shape]; what is left
keeps its place with size 1 where an axis was taken, so that it fits the observation.
"""

import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mazejax.base import Pytree, static
from mazejax.errors import ConfigError
from mazejax.registry import Registry
from mazejax.spaces.simple import Box
from mazejax.types import Array
from mazejax.wrappers.settings import FrozenDict

Statistics = dict[str, Array]
"""Numbers by name, each [*shape] of the observation with 1 in place of some axes, or []."""


class Summary(NamedTuple):
    """What is known of the samples, over the axes of the strategy."""

    mean: Array
    std: Array
    """Of the population; 0 where all are equal."""
    min: Array
    max: Array


class NormalizationStrategy(Pytree):
    """One way to normalize; a subclass says by which statistics, and how.

    It is used by name after `normalization_strategies.register`.
    """

    names: ClassVar[tuple[str, ...]] = ()
    """Names of the statistics."""

    clip_range: tuple[float | None, float | None] | None = static(default=None)
    """Lowest and highest number that comes out, None where there is no limit."""
    axis: tuple[int, ...] | int | None = static(default=(0,))
    """Axes of the stacked samples [samples, *shape] that share statistics: (0,) has some for
    every number, None one for all of them."""

    def validate(self) -> None:
        """Raise ConfigError for a clip range that is none, or axes without the samples."""
        ends = (None, None) if self.clip_range is None else tuple(self.clip_range)
        numbers = [end for end in ends if isinstance(end, (int, float))]
        if len(ends) != 2 or len(numbers) + ends.count(None) != 2 or sorted({*numbers}) != numbers:
            raise ConfigError(
                f"clip_range: got {self.clip_range}, expected a lower and a higher number, or "
                f"None where there is no limit"
            )
        if self.axis is not None and 0 not in np.atleast_1d(self.axis):
            raise ConfigError(f"axis: got {self.axis}, expected 0, the samples, among them")

    def estimate(self, summary: Summary) -> Statistics:
        """The statistics that follow from the samples."""
        raise NotImplementedError

    def normalize(self, values: Array, statistics: Statistics) -> Array:
        """Normalized values [*shape], float32, before they are clipped; monotone in each."""
        raise NotImplementedError

    def apply(self, values: Array, statistics: Statistics) -> Array:
        """Normalized and clipped values [*shape], float32."""
        fitting = {name: _expanded(number, values.ndim) for name, number in statistics.items()}
        normalized = self.normalize(values.astype(jnp.float32), fitting)
        low, high = self._clip()
        return normalized if low is high is None else jnp.clip(normalized, low, high)

    def space(self, box: Box, fixed: FrozenDict | None) -> Box:
        """Space of normalized values.

        It is bounded by what they are clipped to, and where the statistics are `fixed` by
        the bounds that the box has.
        """
        if fixed is not None:
            return _mapped(self, box, fixed)
        low, high = self._clip()
        return Box(-np.inf if low is None else low, np.inf if high is None else high, box.shape)

    def statistics_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of statistics of observations [*shape]; ConfigError for an axis there is not."""
        if self.axis is None:
            return ()
        num = len(shape) + 1
        axes = [int(axis) for axis in np.atleast_1d(self.axis)]
        for axis in axes:
            if not -num <= axis < num:
                raise ConfigError(
                    f"axis: got {self.axis}, expected axes of samples stacked as [samples, "
                    f"{', '.join(map(str, shape))}]"
                )
        shared = {axis % num for axis in axes}
        return tuple(1 if i + 1 in shared else size for i, size in enumerate(shape))

    def _clip(self) -> tuple[float | None, float | None]:
        return (None, None) if self.clip_range is None else self.clip_range


class MeanZeroStdOne(NormalizationStrategy):
    """Minus the mean, over the standard deviation; what never changed is not stretched."""

    names: ClassVar[tuple[str, ...]] = ("mean", "std")

    def estimate(self, summary: Summary) -> Statistics:
        """Mean and standard deviation of the population."""
        return {"mean": summary.mean, "std": summary.std}

    def normalize(self, values: Array, statistics: Statistics) -> Array:
        """(values - mean) / std."""
        std = statistics["std"]
        return (values - statistics["mean"]) / jnp.where(std == 0, 1.0, std)


class RangeZeroOne(NormalizationStrategy):
    """From 0 at the lowest number to 1 at the highest; what never changed is not stretched."""

    names: ClassVar[tuple[str, ...]] = ("min", "max")

    def estimate(self, summary: Summary) -> Statistics:
        """The extremes."""
        return {"min": summary.min, "max": summary.max}

    def normalize(self, values: Array, statistics: Statistics) -> Array:
        """(values - min) / (max - min)."""
        width = statistics["max"] - statistics["min"]
        return (values - statistics["min"]) / jnp.where(width == 0, 1.0, width)


normalization_strategies = Registry("normalization strategy", entry_points="mazejax.normalization")
"""Strategies by name; what `strategy: NAME` looks up."""

normalization_strategies.register("mean_zero_std_one", MeanZeroStdOne)
normalization_strategies.register("range_zero_one", RangeZeroOne)


def check_statistics(
    strategy: NormalizationStrategy, statistics: Any, shape: tuple[int, ...], where: str
) -> None:
    """Raise ConfigError unless the statistics are those of the strategy and fit [*shape]."""
    wanted, got = sorted(strategy.names), sorted(statistics)
    if got != wanted:
        raise ConfigError(f"{where}: got {got}, expected {wanted}")
    for name, number in statistics.items():
        # Statistics of vmapped envs may have axes in front.
        size = np.shape(number)[-len(shape) :] if shape else ()
        try:
            fits = np.broadcast_shapes(size, shape) == shape
        except ValueError:
            fits = False
        if not fits:
            raise ConfigError(
                f"{where}.{name}: got shape {np.shape(number)} for observations of shape {shape}; "
                f"give one number, or one for each entry"
            )


def as_arrays(statistics: Any) -> dict[str, Any]:
    """The statistics as arrays, float32; of JAX where they were, else of NumPy."""
    return {
        name: number.astype(jnp.float32)
        if isinstance(number, jax.Array)
        else np.asarray(number, np.float32)
        for name, number in statistics.items()
    }


@functools.lru_cache(maxsize=256)
def _mapped(strategy: NormalizationStrategy, box: Box, fixed: FrozenDict) -> Box:
    """Space of what fixed statistics make of the values of a box."""
    # Also while a program is traced: bounds are numbers.
    with jax.ensure_compile_time_eval(), np.errstate(all="ignore"):
        bounds = (jnp.asarray(bound.astype(np.float32)) for bound in (box.low, box.high))
        ends = [np.asarray(strategy.apply(bound, as_arrays(fixed))) for bound in bounds]
    return Box(np.minimum(*ends), np.maximum(*ends), box.shape)


def _expanded(number: Any, ndim: int) -> Array:
    number = jnp.asarray(number, jnp.float32)
    return (
        number if number.ndim == 0 else number.reshape((1,) * (ndim - number.ndim) + number.shape)
    )
