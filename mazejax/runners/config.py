"""Objects to plain data and back: what run directories hold and the command line composes.

The classes are the truth: names, defaults and checks come from their fields. Data is
JSON-like; reading it back refuses unknown names and wrong types with the dotted key.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from mazejax import registry
from mazejax.base import Pytree
from mazejax.errors import ConfigError, did_you_mean
from mazejax.networks.settings import settings_of
from mazejax.networks.template import NetworkTemplate

TEMPLATE = "template"
"""Among the settings of a network the key that names its template."""


def config_fields(cls: type) -> list[dataclasses.Field]:
    """Fields that are configuration: those with a default that a file can hold.

    The env has no default, and what says `metadata={"config": False}` is given as an object.
    """
    fields = dataclasses.fields(cls)
    return [f for f in fields if _has_default(f) and f.metadata.get("config", True)]


def field_types(cls: type) -> dict[str, Any]:
    """Types of the fields; where a default is an object of configuration, its class."""
    hints = typing.get_type_hints(cls)
    defaults = {
        f.name: type(f.default) for f in config_fields(cls) if isinstance(f.default, Pytree)
    }
    return hints | defaults


def to_config(value: Any) -> Any:
    """Plain data of a Pytree's configuration fields, or of a plain value."""
    if isinstance(value, Pytree):
        fields = {f.name: to_config(getattr(value, f.name)) for f in config_fields(type(value))}
        return {**_template(value), **fields}
    if isinstance(value, (tuple, list)):
        return [to_config(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): to_config(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "tolist"):
        return value.tolist()
    if callable(value):
        return to_config(settings_of(value))
    raise ConfigError(
        f"cannot be written as configuration: {value!r}; where it depends on spaces, give a "
        f"function of them, marked by mazejax.networks.for_spaces"
    )


def _template_of(name: Any, where: str) -> type:
    try:
        return registry.networks.get(name)
    except ConfigError as error:
        raise ConfigError(f"{where}{TEMPLATE}: {error}") from None


def _template(value: Pytree) -> dict[str, str]:
    """Which template of networks it is; nothing of anything else."""
    if not isinstance(value, NetworkTemplate):
        return {}
    name = registry.networks.name_of(type(value))
    if name is None:
        raise ConfigError(
            f"network: {type(value).__name__} has no name; enter it by "
            f"mazejax.registry.networks.register"
        )
    return {TEMPLATE: name}


def from_config(cls: type, data: dict[str, Any], where: str = "", **given: Any) -> Any:
    """Object of the class from plain data; `given` are the fields that are no configuration.

    Raises ConfigError naming the dotted key for an unknown name, a wrong type, or a
    value that the class itself refuses.
    """
    if issubclass(cls, NetworkTemplate) and TEMPLATE in data:
        cls = _template_of(data[TEMPLATE], where)
        data = {name: value for name, value in data.items() if name != TEMPLATE}
    fields = {field.name: field for field in config_fields(cls)}
    hints = field_types(cls)
    values = {}
    for name, value in data.items():
        if name not in fields:
            raise ConfigError(f"{where}{name}: unknown key; {did_you_mean(name, fields)}")
        values[name] = _convert(hints[name], value, f"{where}{name}")
    try:
        return cls(**given, **values)
    except ConfigError as error:
        raise ConfigError(_located(str(error), where, fields)) from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    if value is None:
        if type(None) in options or Any in options:
            return None
        raise ConfigError(f"{where}: must not be null")
    for option in options:
        if isinstance(option, type) and issubclass(option, Pytree):
            if not isinstance(value, dict):
                raise ConfigError(f"{where}: expected keys and values, got {value!r}")
            return from_config(option, value, f"{where}.")
    base = [typing.get_origin(option) or option for option in options]
    if tuple in base:
        return _to_tuple(options[base.index(tuple)], value, where)
    return _to_scalar(base, value, where)


def _to_tuple(hint: Any, value: Any, where: str) -> tuple:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{where}: expected a list, got {value!r}")
    item = typing.get_args(hint)[0] if typing.get_args(hint) else Any
    return tuple(_convert(item, element, f"{where}[{i}]") for i, element in enumerate(value))


def _to_scalar(options: list[Any], value: Any, where: str) -> Any:
    if Any in options or dict in options:
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


def _names(options: list[Any]) -> str:
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return " or ".join(words[option] for option in options if option in words)


def _located(message: str, where: str, fields: dict[str, Any]) -> str:
    """The message with the dotted key in front, if it starts with one of the fields."""
    name = message.split(":")[0].split("[")[0].split(".")[0]
    return where + message if name in fields else message


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _has_default(field: dataclasses.Field) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing
