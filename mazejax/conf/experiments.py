"""Experiments and stacks of wrappers: settings by name, as YAML files in folders beside this one.

`mazejax train experiment=cutting2d` trains what solves a built-in environment,
`wrappers=vector_obs` wraps one; a file holds only what differs from the defaults, under the
names of the command line.
"""

from pathlib import Path
from typing import Any

from mazejax.conf.nodes import DEFAULT_ALGORITHM
from mazejax.errors import ConfigError, did_you_mean

_FOLDER = Path(__file__).parent


def names(group: str = "experiment") -> tuple[str, ...]:
    """All experiments, or all stacks of `wrappers`, sorted."""
    return tuple(sorted(path.stem for path in (_FOLDER / group).glob("*.yaml")))


def load(name: str, group: str = "experiment") -> dict[str, Any]:
    """The settings of an experiment, or of a stack of `wrappers`; ConfigError for no such name."""
    known = names(group)
    if name not in known:
        raise ConfigError(f"{group}: unknown {name!r}; {did_you_mean(str(name), known)}")
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.load(_FOLDER / group / f"{name}.yaml"))  # type: ignore[return-value]


def choices(settings: dict[str, Any]) -> dict[str, str]:
    """What an experiment's settings choose of the groups, such as `algorithm`, by group."""
    entries = [item for entry in settings.get("defaults", ()) for item in entry.items()]
    return {group.removeprefix("override /"): str(name) for group, name in entries}


def algorithm_name(settings: dict[str, Any]) -> str:
    """The learner that an experiment's settings choose."""
    return choices(settings).get("algorithm", DEFAULT_ALGORITHM)
