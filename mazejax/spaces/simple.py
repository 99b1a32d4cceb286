"""The spaces of single arrays: Box, Discrete, MultiDiscrete, MultiBinary.

Constructors turn what they are given into exact numpy bounds or raise a ConfigError
that names the field. What computes with arrays takes any leading batch axes, and
trusts that the values lie in the space; `validate` is for the host.
"""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from mazejax.errors import ConfigError, SpaceError
from mazejax.spaces.base import (
    Space,
    axes,
    batch_shape,
    check_bounds,
    checked_array,
    compact,
    converted,
    exact_numbers,
    plain_numbers,
    read_only,
    whole_number,
)

if TYPE_CHECKING:
    from mazejax.types import Array, Key


class Box(Space):
    """Arrays of one shape and dtype within bounds, both of which belong to the space.

    `low` and `high` are scalars or arrays; without `shape`, theirs is taken, so that
    scalars alone mean shape (). Float bounds may be infinite. A 64-bit dtype computes as
    its 32-bit one unless JAX has 64-bit types enabled, and integers are then drawn from
    the part of the space that 32 bits can hold.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    low: np.ndarray
    """[*shape], read-only."""
    high: np.ndarray
    """[*shape], read-only."""

    def __init__(
        self,
        low: ArrayLike,
        high: ArrayLike,
        shape: tuple[int, ...] | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        dtype = _box_dtype(dtype)
        lowest = exact_numbers(low, dtype, "Box low")
        highest = exact_numbers(high, dtype, "Box high")
        shape = axes(lowest.shape or highest.shape if shape is None else shape, "Box shape")
        for name, bound in (("low", lowest), ("high", highest)):
            if bound.shape not in ((), shape):
                raise ConfigError(
                    f"Box {name}: got shape {bound.shape}, expected {shape}; "
                    f"give a scalar or one number for each entry"
                )
        lowest, highest = read_only(lowest, shape), read_only(highest, shape)
        _check_order(lowest, highest)
        super().__init__(
            shape=shape, dtype=dtype, low=lowest, high=highest, flat_size=math.prod(shape)
        )

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        low, high = compact(self.low), compact(self.high)
        keywords: dict[str, Any] = {"low": plain_numbers(low), "high": plain_numbers(high)}
        if low.ndim == high.ndim == 0:
            keywords["shape"] = self.shape
        if self.dtype != np.float32:
            keywords["dtype"] = str(self.dtype)
        return (), keywords

    @property
    def summary(self) -> str:
        return f"Box{[*self.shape]}"

    def validate(self, value: Any, where: str = "action") -> None:
        array = checked_array(value, where, self.shape, self.dtype)
        low, high = self.low, self.high
        if self.dtype.kind == "f" and array.dtype != self.dtype:
            coarser = min(array.dtype, self.dtype, key=lambda dtype: dtype.itemsize)
            array, low, high = (converted(a, coarser) for a in (array, low, high))
        check_bounds(array, where, low, high)

    def sample(self, key: "Key") -> "Array":
        """A random value: uniform between finite bounds, else a shifted exponential or a normal.

        Integers reach every value with the same probability. Uniform floats are multiples
        of 2^-24 of the larger bound (rounded up to a power of two), and reach both bounds.
        """
        from mazejax.spaces import draws

        low, high = self._computed_bounds()
        if self.dtype.kind == "f":
            return draws.draw_floats(key, low, high, self.shape)
        if self.dtype.kind == "b":
            return draws.draw_integers(key, low.astype("i4"), high.astype("i4"), self.shape) != 0
        return draws.draw_integers(key, low, high, self.shape)

    def clip(self, value: "Array") -> "Array":
        """The nearest value(s) that the space contains, [..., *shape] of the space's dtype.

        Floats are rounded to the nearest integer where the space holds integers.
        """
        import jax.numpy as jnp

        value = jnp.asarray(value)
        batch_shape(value, self.shape, self)
        low, high = self._computed_bounds()
        if self.dtype.kind != "f" and value.dtype != low.dtype:
            if jnp.issubdtype(value.dtype, jnp.floating):
                value = jnp.round(value.astype(jnp.promote_types(value.dtype, jnp.float32)))
            # Before the conversion, for what the integer type cannot hold converts to anything.
            value = _clip(value, *_bounds_within(low, high, value.dtype))
        return _clip(value.astype(low.dtype), low, high)

    def flatten(self, value: "Array") -> "Array":
        import jax.numpy as jnp

        value = jnp.asarray(value)
        batch = batch_shape(value, self.shape, self)
        return value.reshape(*batch, self.flat_size).astype(jnp.float32)

    def unflatten(self, vector: "Array") -> "Array":
        """The value(s) that flatten to the vector(s) [..., flat_size].

        Exact as far as float32 tells values apart (integers up to 2^24, float32, float16);
        others come back as the nearest that the space contains.
        """
        return self.clip(vector.reshape(*vector.shape[:-1], *self.shape))

    def _computed_bounds(self) -> tuple[Any, Any]:
        """The bounds, a scalar or [*shape] each, in the dtype that JAX computes with."""
        import jax

        low, high = compact(self.low), compact(self.high)
        dtype = np.dtype(jax.dtypes.canonicalize_dtype(self.dtype))
        if dtype == self.dtype:
            return low, high
        limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        if (low > limits.max).any() or (high < limits.min).any():
            raise SpaceError(
                f"Box: no {dtype} lies in bounds from {self.low.min()!s} to {self.high.max()!s}; "
                f"enable 64-bit types with jax.config.update('jax_enable_x64', True)"
            )
        if dtype.kind == "f":
            return converted(low, dtype), converted(high, dtype)
        return _bounds_within(low, high, dtype)


class Discrete(Space):
    """One of n categories: the integers from `start` to `start + n - 1`, int32."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    n: int
    start: int

    def __init__(self, n: int, start: int = 0) -> None:
        n, start = whole_number(n, "Discrete n"), whole_number(start, "Discrete start")
        _check_categories(np.asarray(n), np.asarray(start), "Discrete")
        super().__init__(shape=(), dtype=np.dtype(np.int32), n=n, start=start, flat_size=n)

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (self.n,), {"start": self.start} if self.start else {}

    def validate(self, value: Any, where: str = "action") -> None:
        array = checked_array(value, where, self.shape, self.dtype)
        check_bounds(array, where, np.asarray(self.start), np.asarray(self.start + self.n - 1))

    def sample(self, key: "Key") -> "Array":
        """A category, int32 []; all are equally likely."""
        from mazejax import random

        return random.randint(key, (), self.n) + np.int32(self.start)

    def clip(self, value: "Array") -> "Array":
        import jax.numpy as jnp

        return jnp.clip(jnp.asarray(value), self.start, self.start + self.n - 1)

    def flatten(self, value: "Array") -> "Array":
        """One-hot vectors float32 [..., n] of the categories [...]."""
        import jax

        return jax.nn.one_hot(
            jax.numpy.asarray(value) - np.int32(self.start), self.n, dtype=np.float32
        )

    def unflatten(self, vector: "Array") -> "Array":
        """The categories int32 [...] with the largest entry of the vectors [..., n]."""
        return vector.argmax(-1).astype(self.dtype) + np.int32(self.start)


class MultiDiscrete(Space):
    """An array of categories, int32; entry i is one of `nvec[i]`, counted from `start[i]`."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    nvec: np.ndarray
    """[*shape] int64, read-only: the number of categories of each entry."""
    start: np.ndarray
    """[*shape] int64, read-only: the smallest category of each entry."""

    def __init__(self, nvec: ArrayLike, start: ArrayLike = 0) -> None:
        num = exact_numbers(nvec, np.dtype(np.int64), "MultiDiscrete nvec")
        first = exact_numbers(start, np.dtype(np.int64), "MultiDiscrete start")
        if num.ndim == 0 or first.shape not in ((), num.shape):
            raise ConfigError(
                f"MultiDiscrete nvec: got shape {num.shape} with a start of shape {first.shape}, "
                f"expected equal shapes of at least one axis; use Discrete for a single category"
            )
        _check_categories(num, first, "MultiDiscrete")
        shape = axes(num.shape, "MultiDiscrete nvec")
        super().__init__(
            shape=shape,
            dtype=np.dtype(np.int32),
            nvec=read_only(num, shape),
            start=read_only(first, shape),
            flat_size=int(num.sum()),
        )

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        start = {"start": compact(self.start).tolist()} if self.start.any() else {}
        return (self.nvec.tolist(),), start

    def validate(self, value: Any, where: str = "action") -> None:
        array = checked_array(value, where, self.shape, self.dtype)
        check_bounds(array, where, self.start, self.start + self.nvec - 1)

    def sample(self, key: "Key") -> "Array":
        """Categories, int32 [*shape]; all of an entry are equally likely."""
        from mazejax.spaces import draws

        first, num = compact(self.start), compact(self.nvec)
        low, high = first.astype(np.int32), (first + num - 1).astype(np.int32)
        return draws.draw_integers(key, low, high, self.shape)

    def clip(self, value: "Array") -> "Array":
        import jax.numpy as jnp

        value, first = jnp.asarray(value), compact(self.start).astype(np.int32)
        batch_shape(value, self.shape, self)
        return _clip(value, first, first + (compact(self.nvec) - 1).astype(np.int32))

    def flatten(self, value: "Array") -> "Array":
        """One one-hot vector after the other, float32 [..., sum(nvec)]."""
        import jax
        import jax.numpy as jnp

        value = jnp.asarray(value)
        batch = batch_shape(value, self.shape, self)
        index = value - _like(compact(self.start).astype(np.int32), value.shape)
        index = index.reshape(*batch, self.nvec.size)
        if compact(self.nvec).ndim == 0:
            return jax.nn.one_hot(index, self.nvec.flat[0], dtype=np.float32).reshape(
                *batch, self.flat_size
            )
        one_hots = [
            jax.nn.one_hot(index[..., i], n, dtype=np.float32) for i, n in enumerate(self.nvec.flat)
        ]
        return jnp.concatenate(one_hots, axis=-1)

    def unflatten(self, vector: "Array") -> "Array":
        """The categories int32 [..., *shape] with the largest entry of each one-hot vector."""
        import jax.numpy as jnp

        batch = vector.shape[:-1]
        if compact(self.nvec).ndim == 0:
            index = vector.reshape(*batch, self.nvec.size, self.nvec.flat[0]).argmax(-1)
        else:
            one_hots = jnp.split(vector, np.cumsum(self.nvec)[:-1], axis=-1)
            index = jnp.stack([one_hot.argmax(-1) for one_hot in one_hots], axis=-1)
        index = index.reshape(*batch, *self.shape).astype(self.dtype)
        return index + _like(compact(self.start).astype(np.int32), index.shape)


class MultiBinary(Space):
    """An array of switches, each 0 or 1, int8; `n` is their number or their shape."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __init__(self, n: int | tuple[int, ...]) -> None:
        shape = axes((n,) if np.ndim(n) == 0 else n, "MultiBinary n")
        super().__init__(shape=shape, dtype=np.dtype(np.int8), flat_size=math.prod(shape))

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (self.shape[0] if len(self.shape) == 1 else self.shape,), {}

    def validate(self, value: Any, where: str = "action") -> None:
        array = checked_array(value, where, self.shape, self.dtype)
        check_bounds(array, where, np.asarray(0), np.asarray(1))

    def sample(self, key: "Key") -> "Array":
        """Switches, int8 [*shape]; on and off are equally likely."""
        from mazejax import random

        return random.randint(key, self.shape, 2).astype(self.dtype)

    def clip(self, value: "Array") -> "Array":
        import jax.numpy as jnp

        return jnp.clip(jnp.asarray(value), 0, 1)

    def flatten(self, value: "Array") -> "Array":
        import jax.numpy as jnp

        value = jnp.asarray(value)
        batch = batch_shape(value, self.shape, self)
        return value.reshape(*batch, self.flat_size).astype(jnp.float32)

    def unflatten(self, vector: "Array") -> "Array":
        return (vector > 0.5).reshape(*vector.shape[:-1], *self.shape).astype(self.dtype)


# --- constructor arguments ----------------------------------------------------------


def _box_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        known = np.dtype(dtype)
    except TypeError:
        known = np.dtype(object)
    if known.kind not in "biuf" or known.itemsize > 8:
        raise ConfigError(
            f"Box dtype: got {dtype!r}, expected bool, an integer, or float16 to float64; "
            f"name it, such as 'uint8' or numpy.float32"
        )
    return known


def _check_order(low: np.ndarray, high: np.ndarray) -> None:
    wrong = np.argwhere((low > high) | (low == np.inf) | (high == -np.inf))
    if len(wrong):
        index = tuple(wrong[0].tolist())
        raise ConfigError(
            f"Box low: got {low[index]!s} with high {high[index]!s} at entry {index}, expected "
            f"low <= high, low < inf and high > -inf; exchange or correct them"
        )


def _check_categories(num: np.ndarray, start: np.ndarray, where: str) -> None:
    field = "n" if num.ndim == 0 else "nvec"
    if (num < 1).any() or (num > 2**31).any():
        raise ConfigError(
            f"{where} {field}: got {num.tolist()}, expected numbers from 1 to 2^31; correct it"
        )
    if (start < -(2**31)).any() or (start > 2**31 - num).any():
        raise ConfigError(
            f"{where} start: got {start.tolist()} with {field} {num.tolist()}, expected "
            f"categories that int32 can hold; move start towards 0"
        )


# --- bounds: a scalar for all entries or an array [*shape] --------------------------


def _like(bound: Any, shape: tuple[int, ...]) -> Any:
    import jax.numpy as jnp

    return bound if np.ndim(bound) == 0 else jnp.broadcast_to(bound, shape)


def _clip(value: "Array", low: Any, high: Any) -> "Array":
    import jax.numpy as jnp

    low, high = _like(low, value.shape), _like(high, value.shape)
    if value.dtype == bool:  # which not every backend of XLA can clamp
        return (value | low) & high
    return jnp.clip(value, low, high)


def _bounds_within(low: Any, high: Any, dtype: Any) -> tuple[Any, Any]:
    """The bounds of integers in another dtype, rounded inwards where it has no such number."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return low != 0, high != 0
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        low, high = (np.clip(a.astype(object), limits.min, limits.max) for a in (low, high))
        return np.asarray(low, dtype), np.asarray(high, dtype)
    near_low, near_high = low.astype(dtype), high.astype(dtype)
    # As Python numbers, which compare exactly.
    too_low = near_low.astype(object) < low.astype(object)
    too_high = near_high.astype(object) > high.astype(object)
    return (
        np.where(too_low, np.nextafter(near_low, np.inf), near_low).astype(dtype),
        np.where(too_high, np.nextafter(near_high, -np.inf), near_high).astype(dtype),
    )
