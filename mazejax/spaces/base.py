"""`Space`: what every space can do, and the checks that they share.

A space is an immutable description of one unbatched value: it compares, hashes and
prints by value, so it lives in static fields and keys compiled programs. Checks run
on the host with numpy; jax is imported by the methods that compute with arrays.
"""

import abc
import contextlib
import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from mazejax.errors import ConfigError, SpaceError

if TYPE_CHECKING:
    from mazejax.types import Array, Key, PyTree

_KINDS = {"b": "a bool", "i": "a signed integer", "u": "an unsigned integer", "f": "a float"}


class Space(abc.ABC):
    """Immutable description of one value: an array, or a dict of them.

    What `arguments` returns is all there is to an instance: printing, comparing,
    hashing and pickling go by it.
    """

    shape: Any
    """Shape of a value; of a Dict, a dict of shapes."""
    dtype: Any
    """numpy dtype of a value; of a Dict, a dict of dtypes."""
    flat_size: int
    """Length of a flattened value; a category counts as a one-hot vector."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__}.{name}: spaces are immutable; build a new one")

    @abc.abstractmethod
    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The shortest positional and keyword arguments that build an equal space.

        They are nested lists, tuples and dicts of numbers, strings and spaces.
        """

    @abc.abstractmethod
    def sample(self, key: "Key") -> "PyTree":
        """A random value that the space contains. Works under jit and vmap, with any typed key."""

    @abc.abstractmethod
    def validate(self, value: Any, where: str = "action") -> None:
        """Raise a SpaceError if the space does not contain the value; `where` names the value."""

    @abc.abstractmethod
    def clip(self, value: "PyTree") -> "PyTree":
        """The nearest value(s) that the space contains; any leading batch axes."""

    @abc.abstractmethod
    def flatten(self, value: "PyTree") -> "Array":
        """The value as one float32 vector [..., flat_size]; any leading batch axes."""

    @abc.abstractmethod
    def unflatten(self, vector: "Array") -> "PyTree":
        """The value(s) that flatten to the vector(s) [..., flat_size]."""

    def contains(self, value: Any) -> bool:
        """Whether one unbatched value has the kind of dtype, the shape and lies in the bounds.

        The width of the dtype is free. Floats are compared in the coarser of the two
        precisions, since a float32 cannot be more exact about a float64 bound. NaN is
        never contained.
        """
        try:
            self.validate(value)
        except SpaceError:
            return False
        return True

    @property
    def summary(self) -> str:
        """Kind and shape in a few words, without bounds: for tables."""
        return repr(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Space):
            return NotImplemented
        return self is other or self._token == other._token

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        positional, keywords = self.arguments()
        shown = [*map(literal, positional), *(f"{k}={literal(v)}" for k, v in keywords.items())]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __reduce__(self) -> tuple[Callable, tuple]:
        positional, keywords = self.arguments()
        return functools.partial(type(self), *positional, **keywords), ()

    @functools.cached_property
    def _token(self) -> tuple:
        return (type(self), _hashable(self.arguments()))

    @functools.cached_property
    def _hash(self) -> int:
        # Kept, because static fields are hashed at every call of a compiled function.
        return hash(self._token)


# --- checks of values ---------------------------------------------------------------


def checked_array(
    value: Any, where: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> np.ndarray:
    """The value as a numpy array of this shape and kind of dtype, else a SpaceError."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise SpaceError(
            f"{where}: got a ragged {type(value).__name__}, expected an array of shape {shape}; "
            f"give every row the same length"
        ) from None
    if array.dtype.kind != dtype.kind:
        got = type(value).__name__ if array.dtype.kind == "O" else f"dtype {array.dtype}"
        raise SpaceError(
            f"{where}: got {got}, expected {_KINDS[dtype.kind]} such as {dtype}; "
            f"convert it with numpy.asarray(value, {str(dtype)!r}) if that is what you mean"
        )
    if array.shape != shape:
        raise SpaceError(
            f"{where}: got shape {array.shape}, expected {shape}; {_shape_hint(array.shape, shape)}"
        )
    return array


def check_bounds(array: np.ndarray, where: str, low: np.ndarray, high: np.ndarray) -> None:
    """Raise a SpaceError that names the first entry outside [low, high] and by how much."""
    inside = (array >= low) & (array <= high)
    if inside.all():
        return
    index = tuple(np.argwhere(~inside)[0].tolist())
    place = where + (f"[{', '.join(map(str, index))}]" if index else "")
    entries = [np.broadcast_to(a, array.shape)[index] for a in (array, low, high)]
    got, lowest, highest = map(str, entries)  # numpy's shortest print of a float32
    if got == "nan":
        raise SpaceError(
            f"{place}: got nan, expected a number from {lowest} to {highest}; "
            f"find the 0/0 or inf - inf that made it"
        )
    number, least, most = (entry.item() for entry in entries)
    excess = f"{least - number:.3g} below" if number < least else f"{number - most:.3g} above"
    raise SpaceError(
        f"{place}: got {got}, expected from {lowest} to {highest} ({excess}); "
        f"clip it or widen the space"
    )


def batch_shape(value: "Array", shape: tuple[int, ...], space: Space) -> tuple[int, ...]:
    """Leading axes of an array [..., *shape], else a SpaceError."""
    batch = value.shape[: value.ndim - len(shape)]
    if batch + shape != value.shape:
        raise SpaceError(
            f"{type(space).__name__}: got an array of shape {value.shape}, expected "
            f"[..., {', '.join(map(str, shape))}]; only leading batch axes may be added"
        )
    return batch


def _shape_hint(got: tuple[int, ...], want: tuple[int, ...]) -> str:
    if got == (1, *want):
        return "did you forget to squeeze the batch axis?"
    if got[1:] == want and len(got) == len(want) + 1:
        return f"one value at a time: it looks like a batch of {got[0]}"
    if math.prod(got) == math.prod(want):
        return "the number of elements agrees: reshape it"
    return "is this the value of another space?"


# --- checks of constructor arguments ------------------------------------------------


def whole_number(value: Any, where: str) -> int:
    """The value as an int if it is one (a numpy integer too, but no bool), else a ConfigError."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    raise ConfigError(f"{where}: got {value!r}, expected a whole number; write an int")


def axes(shape: Any, where: str) -> tuple[int, ...]:
    """The shape as a tuple of positive ints, else a ConfigError."""
    try:
        sizes = tuple(whole_number(size, where) for size in shape)
    except TypeError:
        raise ConfigError(
            f"{where}: got {shape!r}, expected a tuple of sizes; write it like (3,)"
        ) from None
    if any(size <= 0 for size in sizes):
        raise ConfigError(
            f"{where}: got {sizes}, expected sizes of at least 1; drop the empty axis"
        )
    return sizes


def exact_numbers(value: ArrayLike, dtype: np.dtype[Any], where: str) -> np.ndarray:
    """The numbers in this dtype, floats rounded and integers as given, else a ConfigError."""
    try:
        given = np.asarray(value)
    except ValueError:
        given = np.asarray(None)
    if given.dtype.kind not in "biuf":
        raise ConfigError(f"{where}: got {value!r}, expected numbers; give a scalar or an array")
    numbers = converted(given, dtype)
    if dtype == np.uint64 and given.dtype.kind == "f":
        # numpy reads a list of integers below and above 2^63 as floats.
        with contextlib.suppress(OverflowError, ValueError), np.errstate(all="ignore"):
            numbers = np.asarray(value, dtype)
    if dtype.kind == "f":
        wrong = np.isnan(given) | (np.isinf(numbers) & np.isfinite(given))
    else:
        wrong = numbers != given
    if wrong.any():
        what = "numbers or infinity" if dtype.kind == "f" else "whole numbers"
        raise ConfigError(
            f"{where}: got {given[wrong][0]}, expected {what} that {dtype} can hold; "
            f"correct it or choose another dtype"
        )
    return numbers


def converted(array: Any, dtype: np.dtype[Any]) -> Any:
    """The numbers in this dtype, which floats may overflow to infinity, with one zero only.

    Compiled programs treat subnormal floats as 0, so here they are 0; -0.0 becomes 0.0.
    """
    with np.errstate(all="ignore"):
        numbers = np.asarray(array).astype(dtype)
    if dtype.kind != "f":
        return numbers
    limits = np.finfo(dtype)
    # float16 is exempt: it is computed in float32, where its subnormals are ordinary numbers.
    smallest = limits.tiny if dtype.itemsize > 2 else limits.smallest_subnormal
    return np.where(np.abs(numbers) < smallest, dtype.type(0), numbers)


def read_only(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The array in this shape; equal numbers are one number in memory, with strides of 0."""
    if (array == array.flat[0]).all():
        return np.broadcast_to(array.flat[0], shape)
    array = array.copy()
    array.flags.writeable = False
    return array


def compact(array: np.ndarray) -> Any:
    """A numpy scalar if `read_only` found all numbers equal, else the array."""
    return array if any(array.strides) else array[(0,) * array.ndim]


# --- printing and hashing of arguments ----------------------------------------------


def plain_numbers(array: Any) -> Any:
    """Nested lists of Python numbers, floats in the shortest form that gives them back."""
    if array.dtype.kind != "f":
        return array.tolist()
    if array.ndim:
        return [plain_numbers(entry) for entry in array]
    short = float(str(array))
    return short if array.dtype.type(short) == array else float(array)


def literal(value: Any) -> str:
    """Python expression for nested lists, tuples and dicts of numbers, strings and spaces."""
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    return repr(value)


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return frozenset((name, _hashable(entry)) for name, entry in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(map(_hashable, value))
    return value
