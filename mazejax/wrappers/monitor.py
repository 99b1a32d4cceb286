"""Wrappers that say what agents do and see, as events, and that keep statistics themselves.

They change nothing: what they fire stands beside the env's own events in
`info["events"]`, so it becomes statistics, figures and files like those.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mazejax.base import Pytree, static
from mazejax.envs.base import StateStep
from mazejax.envs.declared import empty_log
from mazejax.envs.structured import flat_reward
from mazejax.errors import ConfigError, did_you_mean
from mazejax.events.builtin import (
    ActionEvents,
    BaseEnvEvents,
    ObservationEvents,
    ObservationVisualizationEvents,
    RewardEvents,
)
from mazejax.events.log import EventLog
from mazejax.events.statistics import EpisodeStatistics
from mazejax.events.topic import PLOTS, Attribute, Event
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box, Discrete, MultiBinary, MultiDiscrete
from mazejax.types import ActorID, Array, Key, PyTree
from mazejax.wrappers.base import StatefulWrapper, Wrapper, WrapperState
from mazejax.wrappers.observations import named

_WIDEST = 1e6  # beyond this, bins of one width tell nothing


class Monitoring(Wrapper):
    """Fires an event for each action, observation and reward, for histograms of them.

    Of agents that act at once each has a group of its own, of inactive ones nothing is
    fired. Observations are those that actions answer; all entries of one go into one
    histogram, which costs more the larger they are, and so they are off by default.
    """

    observation_logging: bool = static(default=False)
    """Whether observations are logged, as `observation_processed`."""
    action_logging: bool = static(default=True)
    """Whether actions are, by kind: `discrete_action` (a `MultiDiscrete` has one for each
    entry), `multi_binary_action`, `continuous_action`."""
    reward_logging: bool = static(default=True)
    """Whether rewards are, as `reward_processed`, by step key."""
    original: bool = static(default=False)
    """Whether observations are logged as `observation_original`: for a place inside of what
    changes them."""

    def step_state(self, key: Key, state: PyTree, action: PyTree) -> StateStep:
        """The wrapped env's step, with more events."""
        step = self.env.step_state(key, state, action)
        actor = self.actor_id(state)
        active = self.env.actor_active(self.inner(state))
        log = EventLog.empty(*self._events())
        if self.action_logging:
            space = self.action_spaces[actor.step_key]
            log = self._fire(log, actor, active, _actions(space, self._labels(actor)), action)
        if self.observation_logging:
            space = self.env.observation_spaces[actor.step_key]
            parts = _observations(space, self._labels(actor), self._observed)
            log = self._fire(log, actor, active, parts, self.env.observe(self.inner(state)))
        if self.reward_logging:
            parts = {_reward_event(self._labels(actor)): lambda reward: reward}
            # Also of who is not active: a game is lost in the turn of the other.
            log = self._fire(log, actor, jnp.ones_like(active), parts, step.reward)
        return with_events(step, log)

    @property
    def _observed(self) -> Event:
        events = ObservationEvents
        return events.observation_original if self.original else events.observation_processed

    def _labels(self, actor: ActorID) -> tuple[str, ...]:
        """Step key and agent, where there are several."""
        keys = (actor.step_key,) if len(self.agent_counts) > 1 else ()
        alone = self.agent_counts[actor.step_key] == 1 or actor.agent_id is None
        return keys if alone else (*keys, f"agent_{actor.agent_id}")

    def _events(self) -> list[Event]:
        """All that may be fired in any sub-step."""
        events: list[Event] = []
        for actor in dict.fromkeys(self.actors):
            labels, key = self._labels(actor), actor.step_key
            parts: dict[Event, Any] = {}
            if self.action_logging:
                parts |= _actions(self.action_spaces[key], labels)
            if self.observation_logging:
                parts |= _observations(self.observation_spaces[key], labels, self._observed)
            if self.reward_logging:
                parts |= {_reward_event(labels): None}
            events += [self._of_agents(event, actor) for event in parts]
        return events

    def _of_agents(self, event: Event, actor: ActorID) -> Event:
        """The event of an actor; of agents at once with a group for each of them."""
        if actor.agent_id is not None:
            return event
        count = self.agent_counts[actor.step_key]
        names = tuple(f"agent_{i}" for i in range(count))
        return event.labelled(
            *event.labels,
            attributes={**event.attributes, "agent": Attribute((), "int32", names)},
            capacity=count * event.capacity,
            group_by="agent",
        )

    def _fire(
        self, log: EventLog, actor: ActorID, active: Array, parts: Mapping[Event, Any], of: PyTree
    ) -> EventLog:
        """The log after each part of a value was fired, for every agent."""
        for event, part in parts.items():
            if actor.agent_id is not None:
                values = _rows(part(of), event)
                when = jnp.broadcast_to(active, values.shape[:1])
                log = log.fire_each(event, when, value=values)
                continue
            values = jax.vmap(lambda own, e=event, p=part: _rows(p(own), e))(of)
            count, rows = values.shape[:2]
            log = log.fire_each(
                self._of_agents(event, actor),
                jnp.repeat(active, rows),
                value=values.reshape(count * rows, *values.shape[2:]),
                agent=jnp.repeat(jnp.arange(count), rows),
            )
        return log


class ObservationVisualization(Wrapper):
    """Fires the named observations as vectors, to be drawn entry by entry."""

    observations: tuple[str, ...] = static(default=())
    """Their names; all without any. One that is no dict is called `observation`."""
    plot: str = static(default="violin")
    """How they are drawn: `histogram`, `relative_bars`, `binary_bars` or `violin`."""

    def validate(self) -> None:
        """Raise ConfigError for an observation that there is not, or an unknown plot."""
        names = self.observations
        names = (names,) if isinstance(names, str) else tuple(names)
        object.__setattr__(self, "observations", names)
        known = {name for s in self.env.observation_spaces.values() for name in named(s)}
        for name in self.observations:
            if name not in known:
                raise ConfigError(
                    f"ObservationVisualization.observations: no {name!r}; "
                    f"{did_you_mean(str(name), known)}"
                )
        if self.plot not in PLOTS:
            raise ConfigError(
                f"ObservationVisualization.plot: unknown {self.plot!r}; "
                f"{did_you_mean(str(self.plot), PLOTS)}"
            )

    def step_state(self, key: Key, state: PyTree, action: PyTree) -> StateStep:
        """The wrapped env's step, with more events."""
        step = self.env.step_state(key, state, action)
        actor = self.actor_id(state)
        active = self.env.actor_active(self.inner(state))
        log = EventLog.empty(*(event for key in self.agent_counts for event in self._events(key)))
        seen = named(self.env.observe(self.inner(state)))
        for event in self._events(actor.step_key):
            rows = seen[event.labels[-1]].reshape(event.capacity, -1).astype(jnp.float32)
            log = log.fire_each(event, jnp.broadcast_to(active, rows.shape[:1]), value=rows)
        return with_events(step, log)

    def _events(self, step_key: str) -> list[Event]:
        """One for each observation; agents at once are fired one by one."""
        at_once = ActorID(step_key, None) in self.actors
        events = []
        for name, space in named(self.env.observation_spaces[step_key]).items():
            if not self.observations or name in self.observations:
                keys = (step_key,) if len(self.agent_counts) > 1 else ()
                size = math.prod(space.shape)
                event = ObservationVisualizationEvents.observation_to_visualize.labelled(
                    *keys,
                    name,
                    attributes={"value": Attribute((size,), "float32", bounds=_bounds(space))},
                    capacity=self.agent_counts[step_key] if at_once else 1,
                    plot=self.plot,
                )
                events.append(event)
        return events


class Logged(Pytree):
    """What `StatisticsLogging` remembers."""

    running: EpisodeStatistics
    """Of the running episode."""
    finished: EpisodeStatistics
    """Of the episode before, in the same place; with 0 steps if there is none."""
    logs: tuple[EventLog, ...]
    """What was fired in the last flat step, by sub-step; of one under way as far as it came."""


class StatisticsLogging(StatefulWrapper):
    """Keeps the statistics of its own episode, for loops that are not mazejax's.

    `statistics(state)` are those so far, `last_episode(state)` those of the episode before
    an auto-reset, `last_events(state)` what was fired in the last flat step. The reward is
    the event `BaseEnvEvents.reward`.
    """

    def statistics(self, state: WrapperState) -> EpisodeStatistics:
        """Of the running episode, or of one that has just ended, without auto-reset."""
        return state.memory.running

    def last_episode(self, state: WrapperState) -> EpisodeStatistics:
        """Of the episode that ended before the running one began; 0 steps without any."""
        return state.memory.finished

    def last_events(self, state: WrapperState) -> tuple[EventLog, ...]:
        """Logs of the last flat step by sub-step, until the next one begins."""
        return state.memory.logs

    def first(self, key: Key, inner: PyTree) -> Logged:
        """Nothing has happened."""
        none = EpisodeStatistics.start(self._log().events)
        return Logged(none, none, (self._log(),) * len(self.actors))

    def next(self, memory: Logged, before: PyTree, action: PyTree, step: StateStep) -> Logged:
        """The memory with this sub-step; the flat step counts when it is over."""
        place, last = self.env.substep(before), len(self.actors) - 1
        log = self._log().fire(BaseEnvEvents.reward, value=flat_reward([step.reward]))
        events = step.info.get("events")
        if isinstance(events, EventLog):
            log = log.replace(firings={**log.firings, **events.firings})
        logs = [own if i < place else self._log() for i, own in enumerate(memory.logs)]
        logs[place] = log
        running = memory.running.add(*logs) if place == last else memory.running
        return memory.replace(running=running, logs=tuple(logs))

    @property
    def has_carry_over(self) -> bool:
        """The statistics of the last episode outlive it."""
        return True

    def carry_over(self, ended: WrapperState, fresh: WrapperState) -> WrapperState:
        """A fresh memory that knows the episode before."""
        memory = fresh.memory.replace(finished=ended.memory.running)
        return super().carry_over(ended, fresh).replace(memory=memory)

    def _log(self) -> EventLog:
        """A log of nothing, as the env fires into it."""
        log = EventLog.empty(BaseEnvEvents.reward)
        own = empty_log(self.env)
        return log if own is None else log.union(own)


def with_events(step: StateStep, log: EventLog) -> StateStep:
    """The step with these events beside its own."""
    own = step.info.get("events")
    events = own.union(log) if isinstance(own, EventLog) else log
    return step._replace(info={**step.info, "events": events})


def _actions(space: Space, labels: tuple[str, ...]) -> dict[Event, Any]:
    """Events of the parts of an action, each with what takes the part out of it."""
    parts: dict[Event, Any] = {}
    heads = space.items() if isinstance(space, Dict) else [("action", space)]
    for name, head in heads:
        for event, part in _of_head(head, (*labels, name)).items():
            parts[event] = _at(name, part) if isinstance(space, Dict) else part
    return parts


def _at(name: str, part: Any) -> Any:
    return lambda action: part(action[name])


def _of_head(head: Space, labels: tuple[str, ...]) -> dict[Event, Any]:
    """Events of one head of an action."""
    if isinstance(head, Dict):
        return _actions(head, labels)
    if isinstance(head, Discrete):
        return {_choice(labels, head.n): lambda action: action - head.start}
    if not isinstance(head, MultiDiscrete):
        return {_vector(head, labels): lambda action: action.reshape(-1)}
    starts = np.ravel(np.broadcast_to(head.start, head.shape))
    return {
        _choice((*labels[:-1], f"{labels[-1]}_{i}"), int(categories)): (
            lambda action, i=i: action.reshape(-1)[i] - int(starts[i])
        )
        for i, categories in enumerate(np.ravel(head.nvec))
    }


def _choice(labels: tuple[str, ...], categories: int) -> Event:
    value = Attribute((), "int32", categories=categories)
    return ActionEvents.discrete_action.labelled(*labels, attributes={"value": value})


def _vector(space: Space, labels: tuple[str, ...]) -> Event:
    size = (math.prod(space.shape),)
    if isinstance(space, MultiBinary):
        value = Attribute(size, "bool")
        return ActionEvents.multi_binary_action.labelled(*labels, attributes={"value": value})
    value = Attribute(size, "float32", bounds=_bounds(space))
    return ActionEvents.continuous_action.labelled(*labels, attributes={"value": value})


def _observations(space: Space, labels: tuple[str, ...], event: Event) -> dict[Event, Any]:
    """An event for each observation, each with what takes it out of them."""
    parts: dict[Event, Any] = {}
    for name, own in named(space).items():
        if isinstance(own, Dict):
            raise ConfigError(f"Monitoring: observation {name!r} is a Dict in a Dict; flatten it")
        value = Attribute((), "float32", bounds=_bounds(own))
        size = math.prod(own.shape)
        labelled = event.labelled(*labels, name, attributes={"value": value}, capacity=size)
        parts[labelled] = lambda obs, n=name: named(obs)[n].reshape(-1)
    return parts


def _reward_event(labels: tuple[str, ...]) -> Event:
    return RewardEvents.reward_processed.labelled(*labels)


def _rows(value: Any, event: Event) -> Array:
    """What is fired, one row for each firing, in the dtype of the attribute."""
    attribute = event.attributes["value"]
    rows = jnp.asarray(value).reshape(event.capacity, *attribute.shape)
    return rows.astype(attribute.dtype)


def _bounds(space: Space) -> tuple[float, float] | None:
    """Between which numbers values lie, None where that is not known or too wide to help."""
    if isinstance(space, Discrete):
        return space.start - 0.5, space.start + space.n - 0.5
    if not isinstance(space, Box):
        return None
    low, high = (float(f(x)) for f, x in ((np.min, space.low), (np.max, space.high)))
    return (low, high) if 0.0 < high - low <= _WIDEST else None
