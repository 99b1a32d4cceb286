"""Observations by name, which is how the settings of wrappers speak of them.

An observation that is no dict is called `observation`; it stays plain as long as a
single one comes of it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from mazejax.envs.base import Env
from mazejax.errors import ConfigError, did_you_mean
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.spaces.masks import check_mask_spaces

PLAIN = "observation"
"""Name of an observation that is no dict."""


def named(given: Any) -> dict[str, Any]:
    """The observations, or their spaces, by name."""
    return dict(given) if isinstance(given, Mapping) else {PLAIN: given}


def unnamed(given: Any, by_name: dict[str, Any]) -> Any:
    """What came of the given observation: plain if that was, and one came of it."""
    is_plain = not isinstance(given, Mapping) and len(by_name) == 1
    return next(iter(by_name.values())) if is_plain else by_name


def unnamed_space(given: Space, by_name: dict[str, Space]) -> Space:
    """The space of what came of observations of the given space."""
    left = unnamed(given, by_name)
    return Dict(left) if isinstance(left, dict) else left


def observation_names(env: Env) -> dict[str, tuple[str, ...]]:
    """Names of the observations, with the step keys that have them."""
    names: dict[str, tuple[str, ...]] = {}
    for step_key, space in env.observation_spaces.items():
        for name in named(space):
            names[name] = (*names.get(name, ()), step_key)
    return names


def check_name(name: Any, known: Iterable[str], where: str) -> None:
    """Raise ConfigError for an observation that there is not."""
    if name not in known:
        raise ConfigError(f"{where}: no observation {name!r}; {did_you_mean(str(name), known)}")


def check_masks(env: Env) -> None:
    """Raise SpaceError if what is named as a mask of actions does not fit them any more."""
    for step_key, space in env.action_spaces.items():
        where = f"{type(env).__name__}: observation"
        check_mask_spaces(env.observation_spaces[step_key], space, where)
