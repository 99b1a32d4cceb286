"""`RewardFromEvents`: another objective for the same problem, by name and numbers.

What an env earns is decided by a reward aggregator over its events; this puts one around
an env that is made already, from Python or from a file.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from mazejax import registry
from mazejax.envs.base import StateStep
from mazejax.envs.reward import aggregated
from mazejax.errors import ConfigError, EnvError
from mazejax.events.log import EventLog
from mazejax.types import Key, PyTree
from mazejax.wrappers.base import Wrapper
from mazejax.wrappers.settings import make

NAME = "aggregator"
"""Key of plain data under which the aggregator's registered name stands."""


class RewardFromEvents(Wrapper):
    """The reward that an aggregator gives for the wrapped env's events, in place of its own.

        RewardFromEvents(env, RewardSum({"price": Price(), "praise": Praise()}))
        {"aggregator": "RewardSum", "weights": {"praise": 0.25},
         "aggregators": {"price": {"aggregator": "Price", "each": -2.0}, ...}}

    are the same; names are those of `mazejax.registry.rewards`. The env's own reward stays
    in `info["reward_original"]`; the last sub-step of an episode's first flat step has the
    events of the reset too.
    """

    aggregator: Any
    """A `RewardAggregator`, or its name and fields; its numbers are leaves."""

    def __post_init__(self) -> None:
        made = as_aggregator(self.aggregator, "RewardFromEvents.aggregator")
        object.__setattr__(self, "aggregator", made)
        super().__post_init__()

    def validate(self) -> None:
        """Raise ConfigError around an env that credits its actors by itself."""
        if self.env.has_actor_rewards:
            raise ConfigError(
                f"RewardFromEvents: {self.env} redistributes its rewards among actors, which "
                f"would no longer be those; give its MazeEnv the reward_aggregator"
            )

    def step_state(self, key: Key, state: PyTree, action: PyTree) -> StateStep:
        """The wrapped env's step with the aggregator's reward."""
        step = self.env.step_state(key, state, action)
        events = step.info.get("events")
        if not isinstance(events, EventLog):
            raise EnvError(f"RewardFromEvents: {self.env} fires no events to take rewards from")
        core = self.maze_state(step.state)
        reward, events = aggregated(self.aggregator, events, core)
        reward = jnp.asarray(reward, jnp.float32)
        if reward.shape != step.reward.shape:
            raise EnvError(
                f"RewardFromEvents: {type(self.aggregator).__name__} gives a reward of shape "
                f"{reward.shape}, expected {step.reward.shape}, as the env has it"
            )
        info = {"reward_original": step.reward, **step.info, "events": events}
        return step._replace(reward=reward, info=info)


def as_aggregator(given: Any, where: str) -> Any:
    """The aggregator of plain data, or what is given already."""
    if not isinstance(given, Mapping):
        if isinstance(given, str):
            return _named(given, where)()
        return given
    fields = dict(given)
    if NAME not in fields:
        raise ConfigError(f"{where}: expected an aggregator's name under {NAME!r}, got {given!r}")
    cls = _named(fields.pop(NAME), where)
    if "aggregators" in fields:
        fields["aggregators"] = {
            name: as_aggregator(own, f"{where}.aggregators.{name}")
            for name, own in fields["aggregators"].items()
        }
    return make(cls, fields, where)


def _named(name: Any, where: str) -> Any:
    try:
        return registry.rewards.get(name)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
