"""Blocks and modules as settings, as configuration files hold them.

A block is `{"block": "DenseBlock", "hidden": [64]}` by its registered name, any linen module
`{"class": "my_package.networks:Pointer", "width": 32}`, and a function
`{"function": "my_package.networks:make_policy"}`. Reading them calls linen modules alone.
"""

import dataclasses
import importlib
import operator
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import flax.linen as nn
from flax.core import FrozenDict

from mazejax import registry
from mazejax.errors import ConfigError, did_you_mean
from mazejax.networks.blocks.base import Block, Keys

F = TypeVar("F", bound=Callable)

_TRUSTED = ("jax", "flax", "mazejax")
"""Packages whose functions a file may name."""

_SCRIPT = "__main__"
"""What Python calls a program that is run by its file, whatever its file."""

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


def resolved(value: Any, where: str) -> Any:
    """Settings with the modules and functions that they name, hashable.

    Raises ConfigError that begins with `where` for what cannot be imported or made, or is
    not to be called because a file says so.
    """
    if isinstance(value, (list, tuple)):
        return tuple(resolved(item, where) for item in value)
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"function"} and isinstance(value["function"], str):
        return _function(value["function"], where)
    parts = {str(key): resolved(item, where) for key, item in value.items()}
    return _module(parts, where) if "class" in parts else FrozenDict(parts)


def settings_of(value: Any) -> dict[str, Any]:
    """Settings of a linen module or a function, for `resolved`; fields may hold such too.

    Only fields that differ from their defaults are told. Raises ConfigError for what is
    defined inside a function, where nobody can import it; warns of what is defined in a
    script, where only that script can.
    """
    if not isinstance(value, nn.Module):
        return {"function": _reference(value)}
    fields = {f.name: f.default for f in dataclasses.fields(value) if f.init and f.name != "parent"}
    told = {name: getattr(value, name) for name in fields}
    return {"class": _reference(type(value))} | {
        name: own for name, own in told.items() if own is not fields[name] and own != fields[name]
    }


def for_spaces(function: F) -> F:
    """Mark a function of (observation_space, action_space) that makes a network.

    Runs that are loaded call no other functions by name.
    """
    function.for_spaces = True  # type: ignore[attr-defined]
    return function


def _module(parts: dict[str, Any], where: str) -> nn.Module:
    name = parts.pop("class")
    kind = _imported(name, where)
    # A module of nnx as one of linen calls whatever its fields name.
    is_linen = isinstance(kind, type) and issubclass(kind, nn.Module)
    if not is_linen or kind.__module__.startswith("flax.nnx"):
        raise ConfigError(f"{where}: {name} is no class of linen modules")
    try:
        return kind(**parts)
    except TypeError as error:
        raise ConfigError(f"{where}: cannot make {name}: {error}") from error


def _function(name: str, where: str) -> Any:
    function = _imported(name, where)
    home = str(getattr(function, "__module__", "")).split(".")[0]
    known = home in _TRUSTED and callable(function) and not isinstance(function, type)
    if not known and not getattr(function, "for_spaces", False):
        raise ConfigError(
            f"{where}: {name} is no function of jax or flax, nor marked by "
            f"mazejax.networks.for_spaces; mark it, for a file may name no other"
        )
    return function


def _reference(thing: Any) -> str:
    name = getattr(thing, "__qualname__", "<lambda>")
    if "<" in name or getattr(thing, "__module__", None) is None:
        raise ConfigError(
            f"network: {name} cannot be imported from anywhere, so that no run could be resumed; "
            f"define it at the top of a module"
        )
    module = thing.__module__
    if module == _SCRIPT:
        module = _name_of_program()
    if module == _SCRIPT:
        file = Path(getattr(sys.modules[_SCRIPT], "__file__", None) or "a notebook")
        as_module = f"start it by python -m {file.stem}, or " if file.suffix == ".py" else ""
        warnings.warn(
            f"network: {name} is defined in {file.name}, from where no other program can import "
            f"it, so none can load the run; {as_module}move {name} into a module and import it",
            stacklevel=2,
        )
    return f"{module}:{name}"


def _name_of_program() -> str:
    """What others import the running program as: it has a name if it is run by `python -m`."""
    return getattr(sys.modules[_SCRIPT].__spec__, "name", _SCRIPT)


def _imported(name: Any, where: str) -> Any:
    module, colon, attribute = str(name).partition(":")
    if not colon:
        raise ConfigError(f"{where}: expected my_package.networks:Name, got {name!r}")
    try:
        # Not run a second time, under its own name.
        is_program = module == _name_of_program()
        home = sys.modules[_SCRIPT] if is_program else importlib.import_module(module)
        return operator.attrgetter(attribute)(home)
    except (ImportError, AttributeError) as error:
        advice = "; write there the module that has it" if module == _SCRIPT else ""
        raise ConfigError(f"{where}: cannot import {name}: {error}{advice}") from error
