"""Wrappers that put observations and actions into a Dict, or take them out of one.

Values stay as they are; only the nesting changes, so all cost nothing in a compiled step.
In a schedule each step key has its own spaces: what has the wanted form already stays.
"""

from collections.abc import Mapping
from typing import Any

from mazejax.envs.structured import map_agents
from mazejax.errors import ConfigError
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.types import Array, PyTree
from mazejax.wrappers.base import ActionWrapper, ObservationWrapper, Wrapper

OBSERVATION, ACTION = "observation", "action"
"""Names under which plain spaces are put."""


class DictObservation(ObservationWrapper):
    """Observations that are no Dict become `{"observation": obs}`; a Dict stays."""

    def observation(self, obs: PyTree, step_key: str) -> PyTree:
        """The observation in a dict."""
        space = self.env.observation_spaces[step_key]
        return obs if isinstance(space, Dict) else {OBSERVATION: obs}

    def map_observation_space(self, space: Space, step_key: str) -> Space:
        """A Dict."""
        return space if isinstance(space, Dict) else Dict({OBSERVATION: space})


class DictAction(ActionWrapper):
    """Actions that are no Dict are taken as `{"action": action}`; a Dict stays.

    The mask `action_mask` goes with either.
    """

    def action(self, action: PyTree, step_key: str) -> PyTree:
        """The action out of its dict."""
        space = self.env.action_spaces[step_key]
        return action if isinstance(space, Dict) else action[ACTION]

    def reverse_action(self, action: PyTree, step_key: str) -> PyTree:
        """The action in a dict."""
        space = self.env.action_spaces[step_key]
        return action if isinstance(space, Dict) else {ACTION: action}

    def map_action_space(self, space: Space, step_key: str) -> Space:
        """A Dict."""
        return space if isinstance(space, Dict) else Dict({ACTION: space})


class NoDictObservation(ObservationWrapper):
    """Observations that are a Dict of one entry become that entry; what is no Dict stays.

    Raises ConfigError for a Dict of several entries.
    """

    def validate(self) -> None:
        """Raise ConfigError unless every Dict has a single entry."""
        super().validate()
        _check_single(self, "observation", self.env.observation_spaces)

    def observation(self, obs: PyTree, step_key: str) -> PyTree:
        """The entry."""
        return _only(obs) if isinstance(obs, Mapping) else obs

    def map_observation_space(self, space: Space, step_key: str) -> Space:
        """The entry's."""
        return _only(space) if isinstance(space, Dict) else space


class NoDictAction(ActionWrapper):
    """Actions that are a Dict of one entry are taken plain; what is no Dict stays.

    A mask `NAME_mask` of the entry becomes the `action_mask` of the plain action. Raises
    ConfigError for a Dict of several entries.
    """

    def validate(self) -> None:
        """Raise ConfigError unless every Dict has a single entry."""
        super().validate()
        _check_single(self, "action", self.env.action_spaces)
        for step_key, space in self.env.action_spaces.items():
            seen = self.env.observation_spaces[step_key]
            old, new = _mask_name(space), f"{ACTION}_mask"
            if old != new and isinstance(seen, Dict) and old in seen and new in seen:
                raise ConfigError(
                    f"{self}: the mask {old!r} would become {new!r}, which is there already; "
                    f"rename the observation"
                )

    def action(self, action: PyTree, step_key: str) -> PyTree:
        """The action as the entry of a dict."""
        space = self.env.action_spaces[step_key]
        return {next(iter(space)): action} if isinstance(space, Dict) else action

    def reverse_action(self, action: PyTree, step_key: str) -> PyTree:
        """The entry."""
        space = self.env.action_spaces[step_key]
        return _only(action) if isinstance(space, Dict) else action

    def map_action_space(self, space: Space, step_key: str) -> Space:
        """The entry's."""
        return _only(space) if isinstance(space, Dict) else space

    @property
    def observation_spaces(self) -> dict[str, Space]:
        """The wrapped env's, with the mask renamed."""
        spaces = super().observation_spaces
        return {key: self._rename_mask(space, key) for key, space in spaces.items()}

    def observe(self, state: PyTree) -> PyTree:
        """The wrapped env's observation, with the mask renamed."""
        actor = self.actor_id(state)

        def change(agent: int | Array, obs: PyTree) -> PyTree:
            return self._rename_mask(obs, actor.step_key)

        obs = super().observe(state)
        return map_agents(change, actor, self.agent_counts[actor.step_key], obs)

    def _rename_mask(self, obs: Any, step_key: str) -> Any:
        """An observation, or its space, in which the mask is that of a plain action."""
        old = _mask_name(self.env.action_spaces[step_key])
        if not isinstance(obs, Mapping) or old not in obs:
            return obs
        named = {f"{ACTION}_mask" if name == old else name: part for name, part in obs.items()}
        return Dict(named) if isinstance(obs, Dict) else named


class NoDictSpaces(NoDictAction, NoDictObservation):
    """`NoDictObservation` and `NoDictAction` at once."""


class SortedSpaces(Wrapper):
    """Dict spaces list their entries in alphabetical order, nested ones too.

    JAX sorts the keys of dicts, and so do `flatten` and all networks here: a space equals
    its sorted one and values are the same. Only what iterates over a space or prints it
    sees a difference, such as a library to which spaces are handed on.
    """

    @property
    def observation_spaces(self) -> dict[str, Space]:
        """The wrapped env's, sorted."""
        return {key: _sorted(space) for key, space in self.env.observation_spaces.items()}

    @property
    def action_spaces(self) -> dict[str, Space]:
        """The wrapped env's, sorted."""
        return {key: _sorted(space) for key, space in self.env.action_spaces.items()}


def _sorted(space: Space) -> Space:
    if not isinstance(space, Dict):
        return space
    return Dict({name: _sorted(space[name]) for name in sorted(space)})


def _only(values: Mapping[str, Any]) -> Any:
    return next(iter(values.values()))


def _mask_name(space: Space) -> str:
    """Name of the mask of the only action."""
    return f"{next(iter(space)) if isinstance(space, Dict) else ACTION}_mask"


def _check_single(wrapper: Wrapper, kind: str, spaces: dict[str, Space]) -> None:
    for step_key, space in spaces.items():
        if isinstance(space, Dict) and len(space) > 1:
            where = f"{kind}_spaces[{step_key!r}]" if len(spaces) > 1 else f"{kind}_space"
            names = ", ".join(map(repr, space))
            raise ConfigError(
                f"{type(wrapper).__name__}: {where} has {len(space)} entries ({names}), expected "
                f"one; keep the Dict, or leave entries out first"
            )
