"""Checks of the fields that many blocks have; each raises ConfigError naming the field."""

from collections.abc import Collection
from typing import Any

from mazejax.errors import ConfigError, did_you_mean
from mazejax.networks.layers import ACTIVATIONS


def check_widths(block: Any, *fields: str) -> None:
    """Each field is a positive integer, or a tuple of them."""
    for field in fields:
        value = getattr(block, field)
        widths = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(w, int) and not isinstance(w, bool) and w > 0 for w in widths):
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
