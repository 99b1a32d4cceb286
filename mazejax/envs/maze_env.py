"""`MazeEnv`: a core env seen through its conversions.

It keeps the time and the place in the schedule, converts actions on the way in and
states on the way out, and is a plain `Env` to everything else.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mazejax.base import Pytree, static
from mazejax.envs.base import Env, StateStep
from mazejax.envs.conversion import ActionConversion, ObservationConversion
from mazejax.envs.core import CoreEnv, CoreStep
from mazejax.envs.reward import RewardAggregator, aggregated
from mazejax.envs.structured import check_schedule, check_step_keys, map_agents
from mazejax.errors import ConfigError, EnvError
from mazejax.events.kpi import KPICalculator
from mazejax.events.log import EventLog
from mazejax.spaces.base import Space
from mazejax.spaces.masks import check_mask_spaces
from mazejax.types import ActorID, Array, Key, PyTree, Scene


class EnvState(Pytree):
    """State of a `MazeEnv`. Of a flat env that fires no events in its reset: core and time."""

    core: PyTree
    """The core env's own state."""
    time: Array
    """Flat steps since the reset, int32."""
    pending_events: PyTree = ()
    """Events of the reset until the first flat step is over."""
    ended: tuple = ()
    """Within a flat step: (terminated, truncated) of its earlier sub-steps, bool each."""
    rewards: tuple = ()
    """Within a flat step, where credit is redistributed: rewards of its earlier sub-steps."""
    substep: int = static(default=0)
    """Sub-steps of the current flat step that are over: decides who acts next."""


class MazeEnv(Env):
    """A core env with its observation and action conversion, one of each per step key."""

    core_env: CoreEnv
    observation_conversion: ObservationConversion | dict[str, ObservationConversion]
    action_conversion: ActionConversion | dict[str, ActionConversion]
    reward_aggregator: RewardAggregator | None = None
    """Reward from the events, in the place of the core env's own."""

    def validate(self) -> None:
        """Raise for a bad schedule, conversions that do not fit it, or a number that is nan."""
        check_schedule(self.actors, self.agent_counts, self.name)
        for field in ("observation_conversion", "action_conversion"):
            given = getattr(self, field)
            if isinstance(given, dict):
                check_step_keys(given, self.actors, f"{self.name}: {field}")
            elif len(self.agent_counts) > 1:
                raise EnvError(
                    f"{self.name}: {field}: expected a dict with one for each of the step keys "
                    f"{', '.join(map(repr, self.agent_counts))}, got {type(given).__name__}"
                )
        for key, space in self.action_spaces.items():
            check_mask_spaces(self.observation_spaces[key], space, f"{self.name}: observation")
        for path, leaf in jax.tree_util.tree_leaves_with_path(self):
            if isinstance(leaf, (float, np.ndarray)) and np.isnan(leaf).any():
                name = jax.tree_util.keystr(path, simple=True, separator=".").split(".")[-1]
                raise ConfigError(f"{name}: must be a number, got nan, in {self.name}")

    @property
    def observation_spaces(self) -> dict[str, Space]:
        """Those of the observation conversions."""
        return {key: self._observation(key).space() for key in self.agent_counts}

    @property
    def action_spaces(self) -> dict[str, Space]:
        """Those of the action conversions."""
        return {key: self._action(key).space() for key in self.agent_counts}

    @property
    def actors(self) -> tuple[ActorID, ...]:
        """The core env's schedule."""
        return self.core_env.actors

    @property
    def agent_counts(self) -> dict[str, int]:
        """The core env's."""
        return self.core_env.agent_counts

    @property
    def has_inactive_actors(self) -> bool:
        """Whether the core env says who is active, or an end may come before the last sub-step."""
        return len(self.actors) > 1 or self.core_env.defines("actor_active")

    @property
    def has_actor_rewards(self) -> bool:
        """Whether the core env redistributes rewards."""
        return self.core_env.defines("actor_rewards")

    def substep(self, state: EnvState) -> int:
        """Place in the schedule."""
        return state.substep

    def reset_state(self, key: Key) -> EnvState:
        """The core env's first state at time 0."""
        state, events = self.core_env.reset(key)
        return EnvState(core=state, time=jnp.zeros((), jnp.int32), pending_events=_pending(events))

    def step_state(self, key: Key, state: EnvState, action: PyTree) -> StateStep:
        """Convert the action, step the core env, advance the schedule and, at its end, the time."""
        actor = self.actor_id(state)
        maze_action = self._to_maze(action, state.core, actor)
        step = self.core_env.step(key, state.core, maze_action, actor)
        if state.ended:
            step = _stand_still(step, state)
        is_last = state.substep == len(self.actors) - 1
        step = self._account(step, state, is_last)
        rewards = (*state.rewards, step.reward) if self.has_actor_rewards else ()
        new = EnvState(
            core=step.state,
            time=state.time + 1 if is_last else state.time,
            pending_events=_emptied(state.pending_events) if is_last else state.pending_events,
            ended=() if is_last else (step.terminated, step.truncated),
            rewards=() if is_last else rewards,
            substep=0 if is_last else state.substep + 1,
        )
        info = self._info(step, actor, rewards if is_last else ())
        return StateStep(new, step.reward, step.terminated, step.truncated, info)

    def observe(self, state: EnvState) -> PyTree:
        """The core state as the next actor's observation conversion shows it."""
        actor = self.actor_id(state)
        conversion = self._observation(actor.step_key)
        return map_agents(
            lambda agent: conversion.maze_to_space(state.core, agent),
            actor,
            self.agent_counts[actor.step_key],
        )

    def time(self, state: EnvState) -> Array:
        """Flat steps since the reset, int32."""
        return state.time

    def at_substep(self, state: EnvState, substep: int) -> EnvState:
        """The same core state at another place of the schedule."""
        return state.replace(substep=substep)

    def maze_state(self, state: EnvState) -> PyTree:
        """The core env's state."""
        return state.core

    def kpi_calculator(self) -> KPICalculator | None:
        """The core env's."""
        return self.core_env.kpi_calculator()

    def noop_action(self, step_key: str) -> PyTree:
        """That of the step key's action conversion."""
        return self._action(step_key).noop_action()

    def from_maze_state(
        self, maze_state: PyTree, time: Array | int, substep: int = 0, previous: PyTree = None
    ) -> EnvState:
        """The core state with its time and its place in the schedule; to be observed only."""
        return EnvState(core=maze_state, time=jnp.asarray(time, jnp.int32), substep=substep)

    def from_maze_action(self, maze_action: PyTree, state: EnvState) -> PyTree:
        """By the action conversion of the next actor; of agents at once, maze actions are [A]."""
        actor = self.actor_id(state)
        conversion = self._action(actor.step_key)

        def convert(agent: int, maze_action: PyTree) -> PyTree:
            return conversion.maze_to_space(maze_action)

        return map_agents(convert, actor, self.agent_counts[actor.step_key], maze_action)

    def actor_active(self, state: EnvState) -> Array:
        """Whether the next actor acts, bool [] or [A]: false for all once the episode ended."""
        active = self.core_env.actor_active(state.core, self.actor_id(state))
        if not state.ended:
            return active
        terminated, truncated = state.ended
        return active & ~(terminated | truncated)

    def draw(self, state: EnvState) -> Scene:
        """The core env's drawing of its state."""
        return self.core_env.draw(state.core)

    @property
    def name(self) -> str:
        """Name of the core env's class."""
        return type(self.core_env).__name__

    def _observation(self, step_key: str) -> ObservationConversion:
        given = self.observation_conversion
        return given[step_key] if isinstance(given, dict) else given

    def _action(self, step_key: str) -> ActionConversion:
        given = self.action_conversion
        return given[step_key] if isinstance(given, dict) else given

    def _to_maze(self, action: PyTree, core: PyTree, actor: ActorID) -> PyTree:
        conversion = self._action(actor.step_key)

        def convert(agent: int, action: PyTree) -> PyTree:
            if conversion.clip_actions:
                action = conversion.space().clip(action)
            return conversion.space_to_maze(action, core, agent)

        return map_agents(convert, actor, self.agent_counts[actor.step_key], action)

    def _account(self, step: CoreStep, state: EnvState, is_last: bool) -> CoreStep:
        """The step with the events of the reset, and with the aggregator's reward."""
        if is_last and isinstance(state.pending_events, EventLog):
            step = step._replace(events=state.pending_events.merge(step.events))
        if self.reward_aggregator is not None:
            reward, events = aggregated(self.reward_aggregator, step.events, step.state)
            step = step._replace(reward=reward, events=events)
        # Numbers of the env are Python floats: products with them are weakly typed.
        return step._replace(reward=jnp.asarray(step.reward, jnp.float32))

    def _info(self, step: CoreStep, actor: ActorID, rewards: tuple[Array, ...]) -> dict:
        info = {} if isinstance(step.events, tuple) and not step.events else {"events": step.events}
        if self.core_env.defines("actor_done"):
            info["actor_done"] = self.core_env.actor_done(step.state, actor)
        if rewards:
            info["actor_rewards"] = self.core_env.actor_rewards(step.state, rewards)
        return info


def _stand_still(step: CoreStep, state: EnvState) -> CoreStep:
    """The step of an episode that may have ended in an earlier sub-step: then nothing happens."""
    terminated, truncated = state.ended
    ended = terminated | truncated
    events = step.events
    return CoreStep(
        state=jax.tree.map(lambda old, new: jnp.where(ended, old, new), state.core, step.state),
        reward=jnp.where(ended, jnp.zeros_like(step.reward), step.reward),
        terminated=jnp.where(ended, terminated, step.terminated),
        truncated=jnp.where(ended, truncated, step.truncated),
        events=events.keep_where(~ended) if isinstance(events, EventLog) else events,
    )


def _pending(events: PyTree) -> PyTree:
    return events if isinstance(events, EventLog) else ()


def _emptied(events: PyTree) -> PyTree:
    return jax.tree.map(jnp.zeros_like, events)
