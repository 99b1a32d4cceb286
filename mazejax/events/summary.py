"""`Summary`: what the reducers of a level need of the values that they reduce.

One summary serves all reducers of one input, and keeps no more than they ask for. It is a
monoid: an empty one changes nothing, and two of them become one, so values may come one
by one in a loop or all at once.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple, Self

import jax.numpy as jnp
import numpy as np

from mazejax.base import Pytree
from mazejax.types import Array

_NEEDS: dict[str, tuple[str, ...]] = {
    "count": (),
    "sum": ("total",),
    "mean": ("total",),
    "std": ("mean", "m2"),
    "min": ("min",),
    "max": ("max",),
    "last": ("last",),
    "histogram": ("histogram",),
}


_MANY = 512  # values along an axis from which adding one by one beats comparing all with all bins


class Bins(NamedTuple):
    """Bins of a histogram: `num` of one width, of the values or of their asinh."""

    low: float
    high: float
    num: int
    stretched: bool = False
    """Whether widths grow with the values, for those of which no bounds are known."""

    def bin_of(self, values: Array) -> Array:
        """Bin of each value, int32; what lies outside is in the first or last one."""
        values = values.astype(jnp.float32)
        scaled = jnp.arcsinh(values) if self.stretched else values
        share = (scaled - self.low) / (self.high - self.low)
        return jnp.clip(jnp.floor(share * self.num), 0, self.num - 1).astype(jnp.int32)

    @property
    def edges(self) -> np.ndarray:
        """Bounds of the bins, ascending, float64 [num + 1]."""
        edges = np.linspace(self.low, self.high, self.num + 1)
        return np.sinh(edges) if self.stretched else edges


class Summary(Pytree):
    """Summaries of streams of values, one for each group, [*groups]; of vectors entry by entry."""

    count: Array
    """Values, int32 [*groups]."""
    parts: dict[str, Array]
    """What the reducers need, [*groups, ...]: `total` (int32 of integers, else float32), `mean`
    and `m2` (sum of squared differences from it), `min`, `max`, `last`, and `histogram`
    (int32 [*groups, ..., bins])."""

    @classmethod
    def of(
        cls, values: Array, where: Array, reducers: Iterable[str], bins: Bins | None = None
    ) -> Self:
        """Summary along the first axis of values [M, *groups, ...] where the mask [M, *groups].

        Values that are histograms already have their bins as last axis, and no `bins`.
        """
        values = jnp.asarray(values)
        exact = jnp.issubdtype(values.dtype, jnp.integer) or values.dtype == jnp.bool_
        values = values.astype(jnp.int32 if exact else jnp.float32)
        mask = beside(where, values)
        count = jnp.sum(where, axis=0, dtype=jnp.int32)
        needs = {need for reducer in reducers for need in _NEEDS[reducer]}
        parts: dict[str, Array] = {}
        if needs & {"total", "mean"}:
            parts["total"] = jnp.sum(jnp.where(mask, values, 0), axis=0, dtype=values.dtype)
        if "mean" in needs:
            parts["mean"] = _divided(parts["total"], count)
            rest = jnp.where(mask, values - parts["mean"][None], 0.0)
            parts["m2"] = jnp.sum(jnp.square(rest), axis=0)
        if "min" in needs:
            top = _largest(values.dtype)
            parts["min"] = jnp.min(jnp.where(mask, values, top), axis=0, initial=top)
        if "max" in needs:
            bottom = -_largest(values.dtype)
            parts["max"] = jnp.max(jnp.where(mask, values, bottom), axis=0, initial=bottom)
        if "last" in needs:
            parts["last"] = last_row(values, where)
        if "histogram" in needs:
            parts["histogram"] = histogram(values, mask, bins)
        return cls(count, {name: parts[name] for name in sorted(needs)})

    def merge(self, later: Self) -> Self:
        """Summary of both streams."""
        count = self.count + later.count
        parts: dict[str, Array] = {}
        for name, mine in self.parts.items():
            theirs = later.parts[name]
            if name in ("total", "histogram"):
                parts[name] = mine + theirs
            elif name == "min":
                parts[name] = jnp.minimum(mine, theirs)
            elif name == "max":
                parts[name] = jnp.maximum(mine, theirs)
            elif name == "last":
                parts[name] = jnp.where(beside(later.count > 0, mine), theirs, mine)
        if "mean" in self.parts:
            share = _divided(later.count, count)
            delta = later.parts["mean"] - self.parts["mean"]
            weight = beside(share * self.count, delta)
            parts["mean"] = self.parts["mean"] + delta * beside(share, delta)
            parts["m2"] = self.parts["m2"] + later.parts["m2"] + jnp.square(delta) * weight
        return type(self)(count, {name: parts[name] for name in self.parts})

    def value(self, reducer: str) -> Array:
        """What a reducer gives, [*groups, ...]; of no values 0."""
        if reducer == "count":
            return self.count
        if reducer == "mean":
            return _divided(self.parts["total"], self.count)
        if reducer == "std":
            return jnp.sqrt(_divided(self.parts["m2"], self.count))
        value = self.parts[{"sum": "total"}.get(reducer, reducer)]
        if reducer in ("sum", "histogram"):
            return value
        return jnp.where(beside(self.count > 0, value), value, 0)


def beside(groups: Array, values: Array) -> Array:
    """[*groups] with axes of size 1 for the other axes of the values [*groups, ...]."""
    return groups.reshape(*groups.shape, *[1] * (values.ndim - groups.ndim))


def last_row(values: Array, where: Array) -> Array:
    """The value of the last row [M, *groups, ...] where the mask [M, *groups]; 0 without any."""
    if values.shape[0] == 1:
        return values[0]
    rows = jnp.arange(1, values.shape[0] + 1).reshape(-1, *[1] * (where.ndim - 1))
    order = jnp.where(where, rows, 0)
    chosen = where & (order == jnp.max(order, axis=0)[None])
    mask = beside(chosen, values)
    return jnp.sum(jnp.where(mask, values, 0), axis=0, dtype=values.dtype)


def histogram(values: Array, mask: Array, bins: Bins | None) -> Array:
    """Values by bin along the first axis where the mask, of as many axes, holds, int32."""
    if bins is None:
        return jnp.sum(jnp.where(mask, values, 0), axis=0, dtype=jnp.int32)
    if values.shape[0] >= _MANY:
        return _scattered(values, jnp.broadcast_to(mask, values.shape), bins)
    numbers = jnp.arange(bins.num).reshape(*[1] * values.ndim, -1)
    hit = bins.bin_of(values)[..., None] == numbers
    return jnp.sum(hit & mask[..., None], axis=0, dtype=jnp.int32)


def _scattered(values: Array, mask: Array, bins: Bins) -> Array:
    """`histogram` by one addition for every value."""
    cells = values.shape[1:]
    size = math.prod(cells)
    places = jnp.arange(size, dtype=jnp.int32).reshape(1, *cells) * bins.num
    flat = jnp.where(mask, places + bins.bin_of(values), size * bins.num)
    counts = jnp.zeros(size * bins.num, jnp.int32).at[flat.reshape(-1)].add(1, mode="drop")
    return counts.reshape(*cells, bins.num)


def _divided(total: Array, count: Array) -> Array:
    return total.astype(jnp.float32) / beside(jnp.maximum(count, 1), total)


def _largest(dtype: Any) -> Any:
    return np.iinfo(np.int32).max if jnp.issubdtype(dtype, jnp.integer) else np.float32(np.inf)
