"""Checks of structure and shape alone, for values that may be traced or carry batch axes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mazejax.errors import SpaceError
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict


def check_shapes(space: Space, value: Any, where: str, batch_shape: tuple[int, ...] = ()) -> None:
    """Raise a SpaceError unless the value has the space's keys and shapes below the batch axes."""
    if isinstance(space, Dict):
        if not isinstance(value, Mapping) or value.keys() != space.keys():
            got = sorted(value) if isinstance(value, Mapping) else type(value).__name__
            raise SpaceError(f"{where}: got {got}, expected a dict with the keys {sorted(space)}")
        for key, part in space.items():
            check_shapes(part, value[key], f"{where}[{key!r}]", batch_shape)
        return
    got, wanted = np.shape(value), (*batch_shape, *space.shape)
    if got != wanted:
        raise SpaceError(f"{where}: got shape {got}, expected {wanted}{_hint(got, wanted)}")


def batch_shape_of(space: Space, value: Any) -> tuple[int, ...]:
    """Leading axes of a value that the space's shape does not explain."""
    while isinstance(space, Dict):
        key = next(iter(space))
        if not isinstance(value, Mapping) or key not in value:
            return ()
        space, value = space[key], value[key]
    shape = np.shape(value)
    return shape[: max(len(shape) - len(space.shape), 0)]


def _hint(got: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    if got == (1, *wanted):
        return "; did you forget to squeeze the batch axis?"
    if (1, *got) == wanted or got == wanted[1:]:
        return f"; give it a leading axis of {wanted[0]}"
    return ""
