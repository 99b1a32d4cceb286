"""Experiments: settings that solve the built-in environments, as YAML files beside this one.

`mazejax train experiment=cutting2d` trains one; a file holds only what differs from the
defaults, under the names of the command line.
"""

from pathlib import Path
from typing import Any

from mazejax.conf.nodes import DEFAULT_ALGORITHM
from mazejax.errors import ConfigError, did_you_mean

_FOLDER = Path(__file__).parent / "experiment"


def names() -> tuple[str, ...]:
    """All experiments, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load(name: str) -> dict[str, Any]:
    """The settings of an experiment; ConfigError for an unknown name."""
    if name not in names():
        raise ConfigError(f"experiment: unknown {name!r}; {did_you_mean(str(name), names())}")
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.load(_FOLDER / f"{name}.yaml"))  # type: ignore[return-value]


def choices(settings: dict[str, Any]) -> dict[str, str]:
    """What an experiment's settings choose of the groups, such as `algorithm`, by group."""
    entries = [item for entry in settings.get("defaults", ()) for item in entry.items()]
    return {group.removeprefix("override /"): str(name) for group, name in entries}


def algorithm_name(settings: dict[str, Any]) -> str:
    """The learner that an experiment's settings choose."""
    return choices(settings).get("algorithm", DEFAULT_ALGORITHM)
