"""Statistics of events where env and policy meet: what is fired, and when an episode counts.

Envs fire their own events; what policies think and what rewards were before wrappers
changed them is fired here. An episode is added to the statistics of its epoch in the flat
step in which it ends.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mazejax.base import Pytree
from mazejax.envs.declared import declared_events, first_info
from mazejax.envs.structured import flat_reward
from mazejax.envs.vector import VectorEnv, VectorState
from mazejax.events.accumulator import Accumulator
from mazejax.events.builtin import BaseEnvEvents, PolicyEvents, RewardEvents
from mazejax.events.epoch import EpochStatistics, EventSummary
from mazejax.events.log import EventLog
from mazejax.events.plan import Source, plan_of
from mazejax.events.statistics import EpisodeStatistics
from mazejax.events.summary import histogram
from mazejax.events.topic import Event
from mazejax.types import ActorID, Array, PyTree

LEVELS = ("all", "env", "none")
"""Whose events are kept: those of env and policies, those of the env, or none."""


class SubStep(NamedTuple):
    """What statistics are told of a sub-step."""

    actor: ActorID
    info: dict[str, PyTree]
    value: Array
    """[N] or, of agents at once, [N, A]; as all below."""
    entropy: Array | None
    active: Array | None
    """None where everybody always is."""


class EpisodeEnd(Pytree):
    """Episodes as they stand after a flat step, before those that ended begin anew."""

    statistics: EpisodeStatistics
    """[N]."""
    state: VectorState
    """Last states."""


def to_keep(env: VectorEnv, level: str) -> tuple[Event, ...]:
    """The events that are kept of an env at one of the `LEVELS`."""
    if level == "none":
        return ()
    events = declared_events(env.env)
    if "reward_original" in first_info(env.env):
        events += (RewardEvents.reward_original,)
    return events + _of_policies(env) if level == "all" else events


def start(env: VectorEnv, events: tuple[Event, ...]) -> EpisodeStatistics:
    """Statistics [N] before the first flat step."""
    one = EpisodeStatistics.start(events)
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (env.num_envs, *x.shape)), one)


def start_epoch(env: VectorEnv, episodes: EpisodeStatistics, end: VectorState) -> EpochStatistics:
    """Statistics before any episode ended."""
    kpis = jax.eval_shape(env.kpis, end, episodes)
    return EpochStatistics.start(episodes, tuple(sorted(kpis)))


def add_flat_step(episodes: EpisodeStatistics, substeps: list[SubStep]) -> EpisodeStatistics:
    """The statistics [N] after a flat step."""
    logs = []
    for substep in substeps:
        log = substep.info.get("events")
        if isinstance(log, EventLog) and log.events:
            logs.append(log)
        logs += _thoughts(episodes.events, substep)
    if RewardEvents.reward_original in episodes.events:
        rewards = flat_reward([own.info["reward_original"] for own in substeps], batch_ndim=1)
        logs.append(_fired(RewardEvents.reward_original, rewards[:, None], None))
    return jax.vmap(lambda own, logs: own.add(*logs))(episodes, logs)


def add_episodes(
    env: VectorEnv, epoch: EpochStatistics, end: EpisodeEnd, ended: Array
) -> EpochStatistics:
    """The statistics of the epoch with the episodes [N] that ended, bool [N]."""

    def add(epoch: EpochStatistics) -> EpochStatistics:
        return epoch.add(end.statistics, env.kpis(end.state, end.statistics), ended)

    return jax.lax.cond(ended.any(), add, lambda epoch: epoch, epoch)


def of_rewards(ended: Array, returns: Array, lengths: Array) -> dict[str, EventSummary]:
    """Summaries of `BaseEnvEvents.reward` from returns and lengths where episodes `ended`.

    The three have one shape. What the event declares comes to just this, and needs nothing
    in the loop.
    """
    event = BaseEnvEvents.reward
    values = {"sum": returns, "count": lengths}
    return {
        f"{event.id}/{source.name}": EventSummary(
            event=event,
            source=source.name,
            moments=Accumulator.of(values[source.input], ended),
            total=_exact_sum(values[source.input], ended) if source.input == "count" else None,
            last=None,
            histogram=_binned(values[source.input], ended, source),
        )
        for source in plan_of(event).epoch
    }


def _exact_sum(values: Array, where: Array) -> Array:
    return jnp.sum(jnp.where(where, values, 0), dtype=jnp.int32)


def _binned(values: Array, where: Array, source: Source) -> Array | None:
    if "histogram" not in source.reducers:
        return None
    return histogram(values.reshape(-1), where.reshape(-1), source.bins)


def _of_policies(env: VectorEnv) -> tuple[Event, ...]:
    """Value and entropy for each step key, with room for all agents of a sub-step."""
    events = []
    for key, count in env.agent_counts.items():
        at_once = ActorID(key, None) in env.actors
        for event in PolicyEvents.events:
            labels = (key,) if len(env.agent_counts) > 1 else ()
            events.append(event.labelled(*labels, capacity=count if at_once else 1))
    return tuple(events)


def _thoughts(events: tuple[Event, ...], substep: SubStep) -> list[EventLog]:
    """What the policy of a sub-step thought, [N]."""
    given = ((PolicyEvents.value, substep.value), (PolicyEvents.entropy, substep.entropy))
    return [
        _fired(event, numbers.reshape(len(numbers), -1), substep.active)
        for base, numbers in given
        for event in events
        if numbers is not None and event.id in (base.id, f"{base.id}/{substep.actor.step_key}")
    ]


def _fired(event: Event, values: Array, active: Array | None) -> EventLog:
    """The event of each of the values [N, A] whose agent was active."""
    when = jnp.ones(values.shape, bool) if active is None else active.reshape(values.shape)
    empty = EventLog.empty(event)
    return jax.vmap(lambda own, when: empty.fire_each(event, when, value=own))(values, when)
