"""Checks of what many blocks have: fields, and shapes of inputs.

Each raises ConfigError naming the field or the input.
"""

from collections.abc import Collection
from typing import Any

from mazejax.errors import ConfigError, did_you_mean
from mazejax.networks.initializers import initializer, is_finite_number
from mazejax.networks.layers import ACTIVATIONS
from mazejax.types import Array


def check_widths(block: Any, *fields: str, several: bool = False) -> None:
    """Each field is a tuple of positive integers, or where its default is one number, one.

    Where there may be several, such a field may be a tuple of them too.
    """
    for field in fields:
        value = getattr(block, field)
        if _takes_several(block, field):
            wanted, fits = "positive integers such as (64,)", isinstance(value, tuple)
        else:
            wanted, fits = "a positive integer", several or not isinstance(value, tuple)
        if not fits or not _are_integers(value, 1):
            wanted += " or a tuple of them" if several else ""
            raise ConfigError(f"{type(block).__name__}.{field}: must be {wanted}, got {value!r}")


def check_choice(block: Any, field: str, known: Collection[str], several: bool = False) -> None:
    """The field is one of the known names, or where there may be several, a tuple of them."""
    value = getattr(block, field)
    for name in value if several and isinstance(value, tuple) else (value,):
        if not isinstance(name, str) or name not in known:
            raise ConfigError(
                f"{type(block).__name__}.{field}: unknown {name!r}; "
                f"{did_you_mean(str(name), known)}"
            )


def check_activation(block: Any, field: str = "activation", several: bool = False) -> None:
    """The field names an activation function, or where there may be several, a tuple of them."""
    check_choice(block, field, ACTIVATIONS, several)


def check_initializer(block: Any, scale: float | None = None) -> None:
    """The field `kernel_init` names an initializer, and the scale is one."""
    where = type(block).__name__
    if not isinstance(block.kernel_init, str):
        raise ConfigError(f"{where}.kernel_init: expected a name, got {block.kernel_init!r}")
    try:
        initializer(block.kernel_init, scale)
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}") from None


def check_number(block: Any, field: str) -> None:
    """The field is a finite number."""
    value = getattr(block, field)
    if not is_finite_number(value):
        raise ConfigError(f"{type(block).__name__}.{field}: must be a finite number, got {value!r}")


def set_in_ndims(block: Any, *ndims: int) -> None:
    """Make these the block's `in_ndims`; for a block where they follow from checked fields."""
    object.__setattr__(block, "in_ndims", ndims)


def check_integers(block: Any, field: str, least: int | None = None) -> None:
    """The field is an integer none below the least, or where its default is a tuple, several."""
    value = getattr(block, field)
    several = _takes_several(block, field)
    if not _are_integers(value, least) or (isinstance(value, tuple) and not several):
        wanted = "integers" if several else "an integer"
        wanted += "" if least is None else f" of at least {least}"
        raise ConfigError(f"{type(block).__name__}.{field}: must be {wanted}, got {value!r}")


def check_axis(block: Any, field: str = "axis") -> None:
    """The field is an axis counted from the end."""
    value = getattr(block, field)
    if not isinstance(value, int) or value >= 0:
        raise ConfigError(
            f"{type(block).__name__}.{field}: must be negative, counted from the end, got {value!r}"
        )


def check_hashable(block: Any, field: str) -> None:
    """The field can be part of what programs are cached by."""
    try:
        hash(getattr(block, field))
    except TypeError as error:
        raise ConfigError(
            f"{type(block).__name__}.{field}: must be hashable, for programs are cached by it; in "
            f"what it holds give tuples for lists"
        ) from error


def check_shape(block: Any, index: int, x: Array, wanted: tuple[int, ...]) -> None:
    """Raise ConfigError unless the block's input of this index has the wanted shape."""
    if x.shape != wanted:
        raise ConfigError(
            f"{block.label}: {block.in_keys[index]!r} has shape {x.shape}, expected {wanted}"
        )


def check_probability(block: Any, field: str) -> None:
    """The field is a probability below 1, at which nothing would be kept."""
    value = getattr(block, field)
    if not (isinstance(value, (int, float)) and 0.0 <= value < 1.0):
        raise ConfigError(
            f"{type(block).__name__}.{field}: must be at least 0 and below 1, got {value!r}"
        )


def _takes_several(block: Any, field: str) -> bool:
    return isinstance(getattr(type(block), field, None), tuple)


def _are_integers(value: object, least: int | None) -> bool:
    """Whether it is an integer or a tuple of them, none below the least."""
    return all(
        isinstance(n, int) and not isinstance(n, bool) and (least is None or n >= least)
        for n in (value if isinstance(value, tuple) else (value,))
    )


def one_for_each_key(block: Any, outputs: Any, returned_by: str) -> tuple[Array, ...]:
    """An array or several as a tuple; ConfigError unless there is one for each output key."""
    outputs = tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)
    if len(outputs) != len(block.out_keys):
        raise ConfigError(
            f"{block.label}: the {returned_by} returned {len(outputs)} arrays, expected "
            f"{len(block.out_keys)}"
        )
    for key, x in zip(block.out_keys, outputs, strict=True):
        if not isinstance(x, (bool, int, float)) and not hasattr(x, "dtype"):
            raise ConfigError(
                f"{block.label}: the {returned_by} returned a {type(x).__name__} as {key!r}, "
                f"expected an array"
            )
    return outputs
