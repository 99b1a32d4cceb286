"""Settings of wrappers as plain data, frozen: lists and dicts that static fields may hold.

Constructors take what a configuration file holds; what they keep compares and hashes by
value and reads as the same plain data again.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from mazejax.base import Pytree
from mazejax.errors import ConfigError, did_you_mean

P = TypeVar("P", bound=Pytree)


class FrozenDict(Mapping[str, Any]):
    """A dict that never changes, equal and hashed by its items and their types."""

    def __init__(self, items: Mapping[str, Any] | None = None) -> None:
        self._items = {str(name): frozen(value) for name, value in (items or {}).items()}
        # As text, in which 1, 1.0 and True differ.
        self._token = repr(sorted(self._items.items()))

    def __getitem__(self, name: str) -> Any:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrozenDict) and self._token == other._token

    def __hash__(self) -> int:
        return hash(self._token)

    def __repr__(self) -> str:
        return repr(self._items)


def frozen(value: Any) -> Any:
    """The value with tuples for lists and arrays, and frozen dicts for dicts."""
    if isinstance(value, (np.ndarray, np.generic)):
        return frozen(value.tolist())
    if isinstance(value, (list, tuple)):
        return tuple(map(frozen, value))
    return FrozenDict(value) if isinstance(value, Mapping) else value


def is_plain(value: Any) -> bool:
    """Whether the frozen value is plain data all through."""
    if isinstance(value, tuple):
        return all(map(is_plain, value))
    if isinstance(value, FrozenDict):
        return all(map(is_plain, value.values()))
    return value is None or isinstance(value, (bool, int, float, str))


def as_dict(value: Any, where: str) -> FrozenDict:
    """The mapping frozen, None as an empty one; else a ConfigError."""
    if value is None or isinstance(value, Mapping):
        return FrozenDict(value)
    raise ConfigError(f"{where}: expected keys and values, got {value!r}")


def as_entry(cls: type[P], value: Any, where: str) -> P:
    """The object of the class, made from keys and values where it is not one already."""
    if isinstance(value, cls):
        return value
    return make(cls, as_dict(value, where), where)


def as_entries(cls: type[P], values: Any, where: str) -> tuple[P, ...]:
    """Objects of the class, made from a list of keys and values."""
    if not isinstance(values, (list, tuple)) or not values:
        raise ConfigError(f"{where}: expected a list of at least one entry, got {values!r}")
    return tuple(as_entry(cls, value, f"{where}[{i}]") for i, value in enumerate(values))


def make(cls: Any, values: Mapping[str, Any], where: str) -> Any:
    """The object of the class with these fields; ConfigErrors begin with `where`."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for name in values:
        if name not in fields:
            raise ConfigError(f"{where}.{name}: unknown key; {did_you_mean(name, fields)}")
    for name, field in fields.items():
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ConfigError(f"{where}.{name}: missing; {cls.__name__} needs it")
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
