"""Blocks and modules as settings, as configuration files hold them.

A block is `{"block": "DenseBlock", "hidden": [64]}` by its registered name, any linen module
`{"module": "my_package.networks:Pointer", "width": 32}`, and a function
`{"function": "my_package.networks:make_policy"}`.
"""

import dataclasses
import importlib
import operator
import sys
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from flax.core import FrozenDict

from mazejax import registry
from mazejax.errors import ConfigError, did_you_mean
from mazejax.networks.blocks.base import Block, Keys

Settings = Mapping[str, Any]
"""The name of a block and its fields."""


def make_block(settings: Settings, in_keys: Keys, out_keys: Keys, where: str) -> Block:
    """The block of the settings; ConfigError that begins with `where` for what makes none."""
    if "block" not in settings:
        raise ConfigError(f"{where}: names no block; write block: DenseBlock")
    fields = {name: value for name, value in settings.items() if name != "block"}
    try:
        kind = registry.blocks.get(settings["block"])
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            own = {field.name for field in dataclasses.fields(kind)}
            own -= {"in_keys", "out_keys", "parent", "name"}
            for name in fields:
                if name not in own:
                    raise ConfigError(f"{name}: unknown key; {did_you_mean(name, own)}")
        block = kind(in_keys, out_keys, **fields)
    except (ConfigError, TypeError) as error:
        raise ConfigError(f"{where}: {error}") from None
    if not isinstance(block, Block):
        raise ConfigError(f"{where}: {settings['block']!r} made a {type(block).__name__}, no Block")
    return block


def frozen(value: Any) -> Any:
    """Settings as they can be hashed: dicts as FrozenDicts, lists as tuples."""
    if isinstance(value, Mapping):
        return FrozenDict({str(key): frozen(item) for key, item in value.items()})
    return tuple(map(frozen, value)) if isinstance(value, (list, tuple)) else value


def resolved(value: Any, where: str) -> Any:
    """Settings with the modules and functions that they name, hashable.

    Raises ConfigError that begins with `where` for what cannot be imported or made.
    """
    if not isinstance(value, Mapping):
        return tuple(resolved(v, where) for v in value) if isinstance(value, list) else value
    parts = {str(key): resolved(item, where) for key, item in value.items()}
    if "function" in parts:
        return _imported(parts["function"], where)
    if "module" not in parts:
        return FrozenDict(parts)
    name = parts.pop("module")
    kind = _imported(name, where)
    # Nothing else is called with what a file says: a run that is loaded must not do harm.
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ConfigError(f"{where}: {name} is no class of linen modules")
    try:
        return kind(**parts)
    except TypeError as error:
        raise ConfigError(f"{where}: cannot make {name}: {error}") from error


def settings_of(value: Any) -> dict[str, Any]:
    """Settings of a linen module or a function, for `resolved`; fields may hold such too.

    Raises ConfigError for what is defined inside a function, where nobody can import it.
    """
    if not isinstance(value, nn.Module):
        return {"function": _reference(value)}
    fields = [f.name for f in dataclasses.fields(value) if f.init and f.name != "parent"]
    if value.name is None:
        fields.remove("name")
    return {"module": _reference(type(value))} | {name: getattr(value, name) for name in fields}


def _reference(thing: Any) -> str:
    name = getattr(thing, "__qualname__", "<lambda>")
    if "<" in name or getattr(thing, "__module__", None) is None:
        raise ConfigError(
            f"network: {name} cannot be imported from anywhere, so that no run could be resumed; "
            f"define it at the top of a module or notebook"
        )
    module = thing.__module__
    if module == "__main__":  # a program run by `python -m` has a name that others can import
        module = getattr(sys.modules["__main__"].__spec__, "name", module)
    return f"{module}:{name}"


def _imported(name: Any, where: str) -> Any:
    module, colon, attribute = str(name).partition(":")
    if not colon:
        raise ConfigError(f"{where}: expected my_package.networks:Name, got {name!r}")
    try:
        return operator.attrgetter(attribute)(importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{where}: cannot import {name}: {error}") from error
