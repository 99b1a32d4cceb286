"""Checks of the fields that many blocks have; each raises ConfigError naming the field."""

from collections.abc import Collection
from typing import Any

from mazejax.errors import ConfigError, did_you_mean
from mazejax.networks.layers import ACTIVATIONS


def check_widths(block: Any, *fields: str) -> None:
    """Each field is a tuple of positive integers, or where its default is one number, one."""
    for field in fields:
        value = getattr(block, field)
        widths = value if isinstance(value, tuple) else (value,)
        needs_tuple = isinstance(getattr(type(block), field, None), tuple)
        if (needs_tuple and not isinstance(value, tuple)) or not all(
            isinstance(w, int) and not isinstance(w, bool) and w > 0 for w in widths
        ):
            raise ConfigError(
                f"{type(block).__name__}.{field}: must be positive integers, got {value!r}"
            )


def check_choice(block: Any, field: str, known: Collection[str]) -> None:
    """The field is one of the known names."""
    value = getattr(block, field)
    if value not in known:
        raise ConfigError(
            f"{type(block).__name__}.{field}: unknown {value!r}; {did_you_mean(str(value), known)}"
        )


def check_activation(block: Any, field: str = "activation") -> None:
    """The field names an activation function."""
    check_choice(block, field, ACTIVATIONS)


def set_in_ndims(block: Any, *ndims: int) -> None:
    """Make these the block's `in_ndims`; for a block where they follow from checked fields."""
    object.__setattr__(block, "in_ndims", ndims)


def check_integers(block: Any, field: str, least: int | None = None) -> None:
    """The field is an integer, or a tuple of them, none below the least."""
    value = getattr(block, field)
    numbers = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(n, int) and not isinstance(n, bool) for n in numbers) or (
        least is not None and min(numbers, default=least) < least
    ):
        wanted = "integers" if least is None else f"integers of at least {least}"
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
