"""Blocks without weights that join, cut, repeat and multiply arrays.

Axes are counted from the end, for there may be any number of batch axes before them.
Pooling over axes is in `pooling`.
"""

import inspect
import math
import string
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mazejax.errors import ConfigError
from mazejax.networks.blocks.base import Block
from mazejax.networks.blocks.checks import (
    check_axis,
    check_hashable,
    check_integers,
    one_for_each_key,
    set_in_ndims,
)
from mazejax.types import Array


class FlattenBlock(Block):
    """The last axes as one: [..., D1, ..., Dn] to [..., D1 * ... * Dn]."""

    num_flatten_dims: int = 3
    """How many of the last axes; 3 for an image, 0 makes of a number an array of one."""

    def validate(self) -> None:
        """Raise ConfigError for a number of axes below 0."""
        check_integers(self, "num_flatten_dims", least=0)
        set_in_ndims(self, self.num_flatten_dims)

    def forward(self, x: Array) -> Array:
        """[..., product of the sizes]."""
        batch = x.ndim - self.num_flatten_dims
        return x.reshape(*x.shape[:batch], math.prod(x.shape[batch:]))


class ConcatenationBlock(Block):
    """Any number of inputs, one after the other: [..., D1], ..., [..., Dn] to [..., D1 + ... + Dn].

    They have as many axes and, but for `axis`, the same sizes.
    """

    axis: int = -1
    """Along which, counted from the end."""

    num_inputs = ()

    def validate(self) -> None:
        """Raise ConfigError for an axis that is not negative."""
        check_axis(self)
        set_in_ndims(self, -self.axis)

    def forward(self, *inputs: Array) -> Array:
        """The inputs along `axis`."""
        others = [x.shape[: x.ndim + self.axis] + _after(x, self.axis) for x in inputs]
        for key, x, other in zip(self.in_keys, inputs, others, strict=True):
            if x.ndim != inputs[0].ndim or other != others[0]:
                raise ConfigError(
                    f"{self.label}: {key!r} has shape {x.shape}, expected that of "
                    f"{self.in_keys[0]!r} but for axis {self.axis}, {inputs[0].shape}"
                )
        return jnp.concatenate(inputs, axis=self.axis)


class SliceBlock(Block):
    """One entry of an axis, which goes: [..., N, D] to [..., D]."""

    axis: int = -2
    """Which axis, counted from the end."""
    index: int = 0
    """Which entry; from the end if negative."""

    def validate(self) -> None:
        """Raise ConfigError for an axis that is not negative and an index that is no integer."""
        check_axis(self)
        check_integers(self, "index")
        set_in_ndims(self, -self.axis)

    def forward(self, x: Array) -> Array:
        """[..., D]."""
        _check_indices(self, x, (self.index,))
        return jax.lax.index_in_dim(x, self.index, axis=self.axis, keepdims=False)


class MultiIndexSlicingBlock(Block):
    """Some entries of an axis in this order: [..., N, D] to [..., len(indices), D]."""

    axis: int = -1
    """Which axis, counted from the end."""
    indices: tuple[int, ...] = (0,)
    """Which entries; from the end if negative, and one may be there more than once."""

    def validate(self) -> None:
        """Raise ConfigError for an axis that is not negative and indices that are no integers."""
        check_axis(self)
        check_integers(self, "indices")
        if not isinstance(self.indices, tuple) or not self.indices:
            raise ConfigError(
                f"{type(self).__name__}.indices: expected one or more, got {self.indices!r}"
            )
        set_in_ndims(self, -self.axis)

    def forward(self, x: Array) -> Array:
        """[..., len(indices), D]."""
        _check_indices(self, x, self.indices)
        indices = np.array(self.indices) % x.shape[self.axis]
        if (np.diff(indices) == 1).all():
            # A slice, whose gradient is a copy and no scatter.
            first, last = indices[0].item(), indices[-1].item()
            return jax.lax.slice_in_dim(x, first, last + 1, axis=self.axis)
        return jnp.take(
            x,
            indices,
            axis=self.axis,
            mode="clip",
            unique_indices=len({*indices.tolist()}) == indices.size,
            indices_are_sorted=bool((np.diff(indices) >= 0).all()),
        )


class RepeatToMatchBlock(Block):
    """The first input's axis of size 1 repeated to the size that the second's has.

    By default [..., 1, D] and [..., N, E] to [..., N, D]. Axes before the last two, and
    before `axis`, are batch, which both have alike.
    """

    axis: int = -2
    """Which axis of both, counted from the end."""

    num_inputs = (2,)

    def validate(self) -> None:
        """Raise ConfigError for an axis that is not negative."""
        check_axis(self)
        set_in_ndims(self, -self.axis)

    def forward(self, x: Array, other: Array) -> Array:
        """[..., N, D]."""
        if x.shape[self.axis] != 1:
            raise ConfigError(
                f"{self.label}: {self.in_keys[0]!r} has shape {x.shape}, expected size 1 along "
                f"axis {self.axis}"
            )
        own = max(2, -self.axis)
        batches = zip(x.shape[:-own], other.shape[:-own], strict=False)
        if any(n != m for n, m in batches):
            raise ConfigError(
                f"{self.label}: {self.in_keys[1]!r} has shape {other.shape}, expected the batch "
                f"axes {x.shape[:-own]} as of {self.in_keys[0]!r}, {x.shape}"
            )
        before = x.shape[: x.ndim + self.axis]
        shape = before + (other.shape[self.axis],) + _after(x, self.axis)
        return jnp.broadcast_to(x, shape)


class CorrelationBlock(Block):
    """The product of two inputs, or its sum over the last axis, which scores likeness.

    `in_ndims` tells batch axes, which both have alike, from an input's own. Of the own axes
    the last belong together: the input that has fewer gets axes of size 1 before its own,
    and one of size 1 goes with any. With `in_ndims=(2, 1)` the product of pieces [..., N, D]
    and an order [..., D] is y_nd = piece_nd * order_d, [..., N, D]; reduced it is the dot
    product y_n = sum_d piece_nd * order_d, [..., N]. Integers and bools count as float32.
    """

    in_ndims: tuple[int, ...] = (1, 1)  # type: ignore[misc]
    """How many of the last axes of each input are its own and no batch."""
    reduce: bool = False
    """Whether to sum over the last axis."""

    num_inputs = (2,)

    def validate(self) -> None:
        """Raise ConfigError for numbers of axes below 0, or other than two of them."""
        check_integers(self, "in_ndims", least=0)
        if not isinstance(self.in_ndims, tuple) or len(self.in_ndims) != 2:
            raise ConfigError(
                f"{type(self).__name__}.in_ndims: expected one number for each of two inputs, "
                f"got {self.in_ndims!r}"
            )
        if self.reduce and self.in_ndims == (0, 0):
            raise ConfigError(f"{type(self).__name__}.reduce: needs an input with an own axis")

    def forward(self, x: Array, y: Array) -> Array:
        """[..., N, D], or [..., N] if reduced."""
        # Bytes would wrap around, and bools would be joined by "or".
        x, y = (
            a if jnp.issubdtype(a.dtype, jnp.inexact) else a.astype(jnp.float32) for a in (x, y)
        )
        owns = [a.shape[a.ndim - n :] for a, n in zip((x, y), self.in_ndims, strict=True)]
        batch, *others = [a.shape[: a.ndim - n] for a, n in zip((x, y), self.in_ndims, strict=True)]
        pairs = zip(reversed(owns[0]), reversed(owns[1]), strict=False)
        if [batch] != others or any(n != m and 1 not in (n, m) for n, m in pairs):
            raise ConfigError(
                f"{self.label}: {self.in_keys[1]!r} has shape {y.shape}, which does not go with "
                f"{x.shape} of {self.in_keys[0]!r} if their own axes are the last {self.in_ndims}"
            )
        if self.reduce:
            return _sum_of_products((x, y), batch, owns)
        ndim = max(self.in_ndims)
        x, y = (
            a.reshape(*batch, *(1,) * (ndim - len(own)), *own)
            for a, own in zip((x, y), owns, strict=True)
        )
        return x * y


class FunctionalBlock(Block):
    """What a function of arrays returns: one array, or a tuple of as many as `out_keys`.

        FunctionalBlock(("a", "b"), ("sum", "difference"), lambda a, b: (a + b, a - b))

    The function gets the inputs in the order of `in_keys`, with all their batch axes, and
    must work for any number of those. Two functions are the same if Python says so: one
    that a module defines is found compiled again, a lambda written anew is not.
    """

    function: Callable[..., Any]
    """From arrays to an array or several; hashable, as all functions are."""

    num_inputs = ()
    num_outputs = ()

    def validate(self) -> None:
        """Raise ConfigError for what cannot be called or is not hashable."""
        if not callable(self.function):
            raise ConfigError(
                f"{type(self).__name__}.function: expected a function, got a "
                f"{type(self.function).__name__}"
            )
        check_hashable(self, "function")

    def forward(self, *inputs: Array) -> tuple[Array, ...]:
        """What the function returns, in the order of `out_keys`."""
        try:
            outputs = self.function(*inputs)
        except TypeError as error:
            if _takes(self.function, len(inputs)):
                raise
            raise ConfigError(
                f"{self.label}: the function does not take {len(inputs)} arrays, one for each of "
                f"in_keys: {error}"
            ) from error
        return one_for_each_key(self, outputs, "function")


def _takes(function: Callable[..., Any], number: int) -> bool:
    """Whether the function may be called with as many arguments, as far as it tells."""
    try:
        inspect.signature(function).bind(*range(number))
    except TypeError:
        return False
    except ValueError:
        # Of some that are written in C nothing is known.
        return True
    return True


def _sum_of_products(inputs: tuple[Array, ...], batch: tuple, owns: list[tuple]) -> Array:
    """The broadcast product of [*batch, *own] each, summed over the last axis.

    A matrix product and no sum of the product: XLA on the CPU computes the same numbers
    five times faster, and their gradient eight times.
    """
    sizes = np.broadcast_shapes(*owns)
    names = string.ascii_lowercase[: len(sizes)]
    terms, arrays = [], []
    for x, own in zip(inputs, owns, strict=True):
        # Axes of size 1 that stand for longer ones are left out: einsum repeats what is not there.
        first = len(sizes) - len(own)
        kept = [i for i, size in enumerate(own, start=first) if size == sizes[i]]
        terms.append("".join(names[i] for i in kept))
        arrays.append(x.reshape(*batch, *(sizes[i] for i in kept)))
    return jnp.einsum(f"...{terms[0]},...{terms[1]}->...{names[:-1]}", *arrays)


def _check_indices(block: Any, x: Array, indices: tuple[int, ...]) -> None:
    size = x.shape[block.axis]
    for index in indices:
        if not -size <= index < size:
            raise ConfigError(
                f"{block.label}: {block.in_keys[0]!r} has shape {x.shape}, which has no entry "
                f"{index} along axis {block.axis}"
            )


def _after(x: Array, axis: int) -> tuple[int, ...]:
    """Sizes of the axes after this one, which is counted from the end."""
    return x.shape[x.ndim + axis + 1 :]
