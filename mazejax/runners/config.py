"""Objects to plain data and back: what run directories hold and the command line composes.

The classes are the truth: names, defaults and checks come from their fields. Data is
JSON-like; reading it back refuses unknown names and wrong types with the dotted key.
"""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from mazejax import registry
from mazejax.base import Pytree
from mazejax.errors import ConfigError, did_you_mean
from mazejax.networks.settings import settings_of
from mazejax.networks.template import NetworkTemplate
from mazejax.wrappers.fields import convert, field_types, located

TEMPLATE = "template"
"""Among the settings of a network the key that names its template."""


def config_fields(cls: type) -> list[dataclasses.Field]:
    """Fields that are configuration: those with a default that a file can hold.

    The env has no default, and what says `metadata={"config": False}` is given as an object.
    """
    fields = dataclasses.fields(cls)
    return [f for f in fields if _has_default(f) and f.metadata.get("config", True)]


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
    return {TEMPLATE: registry.networks.name_in_files(type(value))}


def from_config(cls: type, data: Mapping[str, Any], where: str = "", **given: Any) -> Any:
    """Object of the class from plain data; `given` are the fields that are no configuration.

    Raises ConfigError naming the dotted key for an unknown name, a wrong type, or a
    value that the class itself refuses.
    """
    if issubclass(cls, NetworkTemplate) and TEMPLATE in data:
        cls = _template_of(data[TEMPLATE], where)
        data = {name: value for name, value in data.items() if name != TEMPLATE}
    if cls is NetworkTemplate:
        known = ", ".join(registry.networks.names())
        raise ConfigError(f"{where}{TEMPLATE}: missing; it names one of {known}")
    fields = {field.name: field for field in config_fields(cls)}
    hints = field_types(cls)
    values = {}
    for name, value in data.items():
        if name not in fields:
            raise ConfigError(f"{where}{name}: unknown key; {did_you_mean(name, fields)}")
        values[name] = _converted(hints[name], value, f"{where}{name}")
    try:
        return cls(**given, **values)
    except ConfigError as error:
        raise ConfigError(located(str(error), where, fields)) from None


def _converted(hint: Any, value: Any, where: str) -> Any:
    """The plain value as a field of this annotation holds it, also objects by any key."""
    kind = typing.get_args(hint)[1] if typing.get_origin(hint) is dict else None
    if not isinstance(kind, type) or not issubclass(kind, Pytree):
        return convert(hint, value, where, from_config)
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected keys and values, got {value!r}")
    return {
        str(key): convert(kind, item, f"{where}.{key}", from_config) for key, item in value.items()
    }


def _has_default(field: dataclasses.Field) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing
