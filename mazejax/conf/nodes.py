"""Hydra's structured config nodes, made from the fields of our classes.

The classes stay the only place where names and defaults are written. Nodes are plain
mutable dataclasses, because a frozen one becomes a read-only node that refuses every
override.
"""

import dataclasses
import functools
import types
import typing
from typing import Any

from mazejax import registry
from mazejax.base import Pytree
from mazejax.runners.config import config_fields, to_config
from mazejax.runners.settings import RunSettings

DEFAULT_ALGORITHM = "ppo"


@functools.cache
def node(cls: type[Pytree]) -> type:
    """Mutable dataclass with the configuration fields of a class, types as OmegaConf knows them."""
    hints = typing.get_type_hints(cls)
    return dataclasses.make_dataclass(
        f"{cls.__name__}Config",
        [_node_field(hints[field.name], field) for field in config_fields(cls)],
    )


def root_node() -> type:
    """Node of `mazejax train`."""
    quiet = [{f"override hydra/{logging}": "none"} for logging in ("job_logging", "hydra_logging")]
    defaults = ["_self_", {"algorithm": DEFAULT_ALGORITHM}, {"experiment": None}, *quiet]
    return dataclasses.make_dataclass(
        "TrainConfig",
        [
            ("defaults", list[Any], dataclasses.field(default_factory=lambda: defaults)),
            ("env", str | None, None),
            ("env_parameters", dict[str, Any], dataclasses.field(default_factory=dict)),
            ("algorithm", Any, dataclasses.field(default="???")),
            ("total_steps", int | None, None),
            ("seed", int, 0),
            ("directory", str | None, None),
            ("resume", str | None, None),
            ("run", node(RunSettings), dataclasses.field(default_factory=node(RunSettings))),
            ("hydra", Any, dataclasses.field(default_factory=_hydra_settings)),
        ],
    )


def store() -> None:
    """Put all nodes into Hydra's config store."""
    from hydra.core.config_store import ConfigStore

    config_store = ConfigStore.instance()
    config_store.store(name="train", node=root_node())
    for name in registry.algorithms.names():
        config_store.store(group="algorithm", name=name, node=node(registry.algorithms.get(name)))


def known_keys(algorithm: str) -> set[str]:
    """Every dotted key that `mazejax train` knows with this algorithm."""
    cls = registry.algorithms.get(algorithm)
    keys = {field.name for field in dataclasses.fields(root_node())} - {"defaults", "hydra"}
    return keys | {"experiment"} | _dotted(cls, "algorithm.") | _dotted(RunSettings, "run.")


def dotted(message: str, algorithm: str) -> str:
    """The message of an error with its leading field name as the command line spells it."""
    name = message.split(":")[0].split("[")[0]
    for key in known_keys(algorithm):
        if key in (f"algorithm.{name}", f"run.{name}"):
            return message.replace(name, key, 1)
    return message


def _dotted(cls: type, prefix: str) -> set[str]:
    hints = typing.get_type_hints(cls)
    keys: set[str] = set()
    for field in config_fields(cls):
        keys.add(prefix + field.name)
        if isinstance(hints[field.name], type) and issubclass(hints[field.name], Pytree):
            keys |= _dotted(hints[field.name], f"{prefix}{field.name}.")
    return keys


def _node_field(hint: Any, field: dataclasses.Field) -> tuple[str, Any, dataclasses.Field]:
    if isinstance(hint, type) and issubclass(hint, Pytree):
        inner: Any = node(hint)  # type: ignore[arg-type]  # mypy takes the class for an instance
        return field.name, inner, dataclasses.field(default_factory=inner)
    default: Any = to_config(field.default)
    if isinstance(default, list):
        listed = _listed(hint)
        copy: Any = default.copy
        return field.name, listed, dataclasses.field(default_factory=copy)
    return field.name, _plain(hint), dataclasses.field(default=default)


def _listed(hint: Any) -> Any:
    """Tuples, and tuples in them, as lists: OmegaConf knows no tuples of any length."""
    item = typing.get_args(hint)[0]
    return types.GenericAlias(list, _listed(item) if typing.get_origin(item) is tuple else item)


def _plain(hint: Any) -> Any:
    """The number or text in a union with arrays: what can be written in a config."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint
    options = [o for o in typing.get_args(hint) if o in (int, float, str, bool, type(None))]
    return typing.Union[tuple(options)]  # noqa: UP007  # built from a list


def _hydra_settings() -> dict[str, Any]:
    """Hydra itself stays out of sight: no change of folder, no files of its own."""
    return {
        "run": {"dir": "."},
        "sweep": {"dir": "multirun/${now:%Y%m%d-%H%M%S}", "subdir": "${hydra.job.num}"},
        "job": {"chdir": False},
        "output_subdir": None,
        "help": {"app_name": "mazejax train", "header": "mazejax train key=value ..."},
    }
