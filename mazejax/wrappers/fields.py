"""Plain data for the fields of a class: what a file holds, as the annotations want it.

Lists become tuples or arrays, mappings objects of the annotated class, and a text where
there may be several a tuple of one; a wrong type is an error with the dotted key in front.
Ranges and choices are the class's own business.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from mazejax.base import Pytree
from mazejax.errors import ConfigError

Make = Callable[[type, Mapping[str, Any], str], Any]
"""(class, data, dotted key with a dot behind) -> object of the class."""


def field_types(cls: type) -> dict[str, Any]:
    """Types of the fields; where a default is an object of configuration, its class."""
    fields = dataclasses.fields(cls)
    defaults = {f.name: type(f.default) for f in fields if isinstance(f.default, Pytree)}
    return typing.get_type_hints(cls) | defaults


def convert(hint: Any, value: Any, where: str, make: Make) -> Any:
    """The plain value as a field of this annotation holds it; `make` makes objects of mappings.

    Raises ConfigError that begins with `where` for a value of another type.
    """
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    if value is None:
        if type(None) in options or Any in options:
            return None
        raise ConfigError(f"{where}: must not be null")
    for option in options:
        if isinstance(option, type) and issubclass(option, Pytree):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{where}: expected keys and values, got {value!r}")
            return make(option, value, f"{where}.")
    base = [typing.get_origin(option) or option for option in options]
    is_text = str in base and isinstance(value, str)
    if tuple in base and not is_text and not _takes_mapping(base, value):
        return _to_tuple(options[base.index(tuple)], value, where, make)
    return _to_scalar(base, value, where)


def takes_arrays(hint: Any) -> bool:
    """Whether a field of this annotation may hold an array, and no tuple."""
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    base = [typing.get_origin(option) or option for option in options]
    return jax.Array in base and tuple not in base


def to_array(value: list | tuple, where: str) -> np.ndarray:
    """Nested lists of numbers as an array of 32 bits; ConfigError for anything else."""
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise ConfigError(f"{where}: expected numbers, got {value!r}")
    narrow = {"f": np.float32, "i": np.int32, "u": np.int32}.get(array.dtype.kind, array.dtype)
    return array.astype(narrow)


def located(message: str, where: str, names: Iterable[str]) -> str:
    """The message with the dotted key in front, if it starts with one of the names."""
    name = message.split(":")[0].split("[")[0].split(".")[0]
    return where + message if name in names else message


def _to_tuple(hint: Any, value: Any, where: str, make: Make) -> tuple:
    item = typing.get_args(hint)[0] if typing.get_args(hint) else Any
    if item is str and isinstance(value, str):
        return (value,)
    if not isinstance(value, (list, tuple)):
        wanted = "a text or a list of them" if item is str else "a list"
        raise ConfigError(f"{where}: expected {wanted}, got {value!r}")
    return tuple(convert(item, element, f"{where}[{i}]", make) for i, element in enumerate(value))


def _to_scalar(options: list[Any], value: Any, where: str) -> Any:
    if Any in options or _takes_mapping(options, value) or typing.Literal in options:
        return value
    if bool in options and isinstance(value, bool):
        return value
    if isinstance(value, bool):
        raise ConfigError(f"{where}: expected {_names(options)}, got {value!r}")
    if int in options and isinstance(value, int):
        return value
    if float in options and isinstance(value, (int, float)):
        return float(value)
    if int in options and isinstance(value, float) and value.is_integer():
        return int(value)
    if str in options and isinstance(value, str):
        return value
    hint = " (write 1e-3, not a word)" if float in options and isinstance(value, str) else ""
    raise ConfigError(f"{where}: expected {_names(options)}, got {value!r}{hint}")


def _takes_mapping(options: list[Any], value: Any) -> bool:
    wanted = any(isinstance(o, type) and issubclass(o, Mapping) for o in options)
    return wanted and isinstance(value, Mapping)


def _names(options: list[Any]) -> str:
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    named = [words[option] for option in options if option in words]
    return " or ".join(named) or ("numbers" if jax.Array in options else "keys and values")


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)
