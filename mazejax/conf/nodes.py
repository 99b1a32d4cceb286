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
from mazejax.networks.template import NetworkTemplate
from mazejax.runners.config import TEMPLATE, config_fields, to_config
from mazejax.runners.settings import RunSettings
from mazejax.wrappers.fields import field_types

DEFAULT_ALGORITHM = "ppo"


@functools.cache
def node(cls: type[Pytree]) -> type:
    """Mutable dataclass with the configuration fields of a class, types as OmegaConf knows them."""
    hints = field_types(cls)
    fields = [_node_field(hints[field.name], field) for field in config_fields(cls)]
    return dataclasses.make_dataclass(f"{cls.__name__}Config", [*_group_fields(cls), *fields])


def root_node() -> type:
    """Node of `mazejax train`."""
    quiet = [{f"override hydra/{logging}": "none"} for logging in ("job_logging", "hydra_logging")]
    groups = [{"wrappers": None}, {"algorithm": DEFAULT_ALGORITHM}, {"experiment": None}]
    defaults = ["_self_", *groups, *quiet]
    return dataclasses.make_dataclass(
        "TrainConfig",
        [
            ("defaults", list[Any], dataclasses.field(default_factory=lambda: defaults)),
            ("env", str | None, None),
            ("env_parameters", dict[str, Any], dataclasses.field(default_factory=dict)),
            ("wrappers", Any, None),  # or mapping, or list: these OmegaConf does not merge
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
    for name in registry.networks.names():
        template = node(registry.networks.get(name))
        config_store.store(group="algorithm/network", name=name, node=template)


def known_keys(algorithm: str, network: str | None = None) -> set[str]:
    """Every dotted key that `mazejax train` knows with this algorithm and template of networks.

    Those that end in a dot hold whatever keys one likes.
    """
    cls = registry.algorithms.get(algorithm)
    keys = {field.name for field in dataclasses.fields(root_node())} - {"defaults", "hydra"}
    keys |= {"experiment", "env_parameters.", "wrappers."} | _dotted(RunSettings, "run.")
    if "network" in field_types(cls):
        keys.add("algorithm/network")
    return keys | _dotted(cls, "algorithm.", registry.networks.get(network) if network else None)


def dotted(message: str, algorithm: str) -> str:
    """The message of an error with its leading field name as the command line spells it."""
    name = message.split(":")[0].split("[")[0].split(".")[0]
    for key in known_keys(algorithm):
        if key in (f"algorithm.{name}", f"run.{name}"):
            return message.replace(name, key, 1)
    return message


def _dotted(cls: type, prefix: str, network: type | None = None) -> set[str]:
    hints = field_types(cls) | ({} if network is None else {"network": network})
    keys: set[str] = set()
    for field in config_fields(cls):
        hint = hints[field.name]
        keys.add(prefix + field.name)
        if isinstance(hint, type) and issubclass(hint, Pytree):
            keys |= _dotted(hint, f"{prefix}{field.name}.")
        elif hint is Any or typing.get_origin(hint) is dict:
            keys.add(f"{prefix}{field.name}.")
    return keys


def _group_fields(cls: type) -> list[tuple[str, Any, Any]]:
    """What a node has beside the fields of its class: which template it is, or may choose."""
    if issubclass(cls, NetworkTemplate):
        return [(TEMPLATE, str, registry.networks.name_of(cls))]
    templates = [f for f in config_fields(cls) if isinstance(f.default, NetworkTemplate)]
    if not templates:
        return []
    chosen = [{f.name: registry.networks.name_of(type(f.default))} for f in templates]
    return [("defaults", list[Any], dataclasses.field(default_factory=lambda: ["_self_", *chosen]))]


def _node_field(hint: Any, field: dataclasses.Field) -> tuple[str, Any, dataclasses.Field]:
    if isinstance(field.default, NetworkTemplate):
        chosen_by_group: Any = dataclasses.field(default="???")
        return field.name, Any, chosen_by_group
    if isinstance(hint, type) and issubclass(hint, Pytree):
        inner: Any = node(hint)  # type: ignore[arg-type]  # mypy takes the class for an instance
        return field.name, inner, dataclasses.field(default_factory=inner)
    default: Any = to_config(field.default)
    if isinstance(default, dict):
        factory: Any = default.copy
        return field.name, dict[str, Any], dataclasses.field(default_factory=factory)
    if isinstance(default, list):
        listed = _listed(hint)
        copy: Any = default.copy
        return field.name, listed, dataclasses.field(default_factory=copy)
    return field.name, _plain(hint), dataclasses.field(default=default)


def _listed(hint: Any) -> Any:
    """Tuples, and tuples in them, as lists: OmegaConf knows no tuples of any length.

    Of texts a single one will do, and it knows no unions with lists either.
    """
    item = typing.get_args(hint)[0]
    if item is str:
        return Any
    return types.GenericAlias(list, _listed(item) if typing.get_origin(item) is tuple else item)


def _plain(hint: Any) -> Any:
    """The number or text in a union with arrays: what can be written in a config.

    Anything where it may be a list too.
    """
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint
    if any(typing.get_origin(option) is tuple for option in typing.get_args(hint)):
        return Any
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
