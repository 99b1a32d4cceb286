"""`EpisodeStatistics`: what an episode's events come to, kept while it runs.

Every flat step is reduced by itself and added to a summary that is as small as the
declared statistics allow, so memory does not depend on the length of an episode. All is
for one env and pure: `vmap` it over envs.
"""

import math
from typing import Self

import jax.numpy as jnp

from mazejax.base import Pytree, static
from mazejax.errors import EnvError, did_you_mean
from mazejax.events.log import EventLog, Firings
from mazejax.events.plan import Source, is_counted, plan_of
from mazejax.events.summary import Summary, beside
from mazejax.events.topic import Event
from mazejax.types import Array

Given = tuple[Array, Array]
"""Values [M, *groups, ...], and which of them there are, bool [M, *groups]."""


class EpisodeStatistics(Pytree):
    """Statistics of one episode so far."""

    events: tuple[Event, ...] = static()
    """Events that are kept."""
    counts: Array
    """How often each was fired, int32 [events]."""
    lost: Array
    """How many firings of each lost their attributes, int32 [events]."""
    num_steps: Array
    """Flat steps, int32 []."""
    summaries: dict[str, Summary]
    """What the reducers of the episode need, by `Topic.event` and source."""

    @classmethod
    def start(cls, events: tuple[Event, ...]) -> Self:
        """The statistics before an episode in which these events may be fired."""
        for event in events:
            if plan_of(event).epoch and not plan_of(event).episode:
                raise EnvError(
                    f"event {event.id}: has epoch_stats alone, so nothing is kept of what steps "
                    f"fire; add episode_stats"
                )
        none = jnp.zeros(len(events), jnp.int32)
        logs = (EventLog.empty(*events),)
        return cls(events, none, none, jnp.zeros((), jnp.int32), _summaries(events, logs))

    def add(self, *logs: EventLog) -> Self:
        """The statistics after one more flat step, from the logs of its sub-steps.

        Logs may lack events; EnvError if they have others.
        """
        known = {event.id for event in self.events}
        for log in logs:
            for name in log.firings:
                if name not in known:
                    raise EnvError(f"event {name}: not counted; {did_you_mean(name, known)}")
        each = [_of_event(event, logs) for event in self.events]
        counts = [sum((f.count for f in firings), jnp.zeros((), jnp.int32)) for firings in each]
        lost = [_lost(*pair) for pair in zip(self.events, each, strict=True)]
        added = _summaries(self.events, logs)
        return self.replace(
            counts=self.counts + jnp.stack(counts) if counts else self.counts,
            lost=self.lost + jnp.stack(lost) if lost else self.lost,
            num_steps=self.num_steps + 1,
            summaries={name: own.merge(added[name]) for name, own in self.summaries.items()},
        )

    def count(self, event: Event) -> Array:
        """How often the event was fired, int32 []."""
        return self.counts[self._place(event)]

    def value(self, event: Event, output: str) -> Array:
        """What `episode_stats` of this output gives so far, [*groups, ...]; 0 where absent."""
        self._place(event)
        outputs = self.outputs(event)
        if output not in outputs:
            raise EnvError(f"event {event.id}: no {output!r}; {did_you_mean(output, outputs)}")
        value, present = outputs[output]
        return jnp.where(beside(present, value), value, 0)

    def outputs(self, event: Event) -> dict[str, Given]:
        """All outputs of an event: values [*groups, ...], and which of them there are [*groups]."""
        found: dict[str, Given] = {}
        for source in plan_of(event).episode:
            summary = None if is_counted(event, source) else self.summaries[_name(event, source)]
            count = self.count(event) if summary is None else summary.count
            for line in source.lines:
                value = count if summary is None else summary.value(line.reducer)
                always = line.missing == "zero"
                found[str(line.output)] = value, jnp.ones_like(count, bool) if always else count > 0
        return found

    def _place(self, event: Event) -> int:
        if event not in self.events:
            known = [own.id for own in self.events]
            raise EnvError(f"event {event.id}: unknown; {did_you_mean(event.id, known)}")
        return self.events.index(event)


def project(given: Given, source: Source) -> Given:
    """The values with only the groups of the source apart; those of the others stand in M."""
    values, where = given
    dropped = [1 + i for i, group in enumerate(source.given) if group not in source.groups]
    if not dropped:
        return given
    values, where = (jnp.moveaxis(x, dropped, range(1, 1 + len(dropped))) for x in (values, where))
    rows = math.prod(where.shape[: 1 + len(dropped)])
    return tuple(x.reshape(rows, *x.shape[1 + len(dropped) :]) for x in (values, where))  # type: ignore[return-value]


def _summaries(events: tuple[Event, ...], logs: tuple[EventLog, ...]) -> dict[str, Summary]:
    """What a flat step adds to the summaries of an episode."""
    found: dict[str, Summary] = {}
    for event in events:
        plan = plan_of(event)
        sources = [source for source in plan.episode if not is_counted(event, source)]
        if not sources:
            continue
        given = _fired(event, _of_event(event, logs))
        if plan.step:
            given = _stepped(plan.step, given)
        for source in sources:
            values, where = project(given[source.input], source)
            found[_name(event, source)] = Summary.of(values, where, _reducers(source), source.bins)
    return found


def _stepped(sources: tuple[Source, ...], given: dict[str, Given]) -> dict[str, Given]:
    """The outputs of a flat step, [1, *groups, ...]."""
    outputs: dict[str, Given] = {}
    for source in sources:
        values, where = project(given[source.input], source)
        summary = Summary.of(values, where, _reducers(source), source.bins)
        for line in source.lines:
            reducer = "sum" if source.input == "firing" else line.reducer
            outputs[str(line.output)] = summary.value(reducer)[None], (summary.count > 0)[None]
    return outputs


def _reducers(source: Source) -> tuple[str, ...]:
    # Firings come as numbers of them.
    return ("sum",) if source.input == "firing" else source.reducers


def _of_event(event: Event, logs: tuple[EventLog, ...]) -> list[Firings]:
    return [log.firings[event.id] for log in logs if event.id in log.firings]


def _fired(event: Event, each: list[Firings]) -> dict[str, Given]:
    """The attributes of all that was fired [M, *groups, ...], and under `firing` how often."""
    if not each:
        each = [EventLog.empty(event).firings[event.id]]
    number = sum((f.count for f in each), jnp.zeros((), jnp.int32))
    if not event.attributes:
        return {"firing": (number[None], number[None] > 0)}
    fired = jnp.concatenate([f.fired for f in each])
    said = {name: jnp.concatenate([f.attributes[name] for f in each]) for name in event.attributes}
    where = fired
    for axis, group in enumerate(event.group_by, start=1):
        cells = jnp.arange(event.num_groups[axis - 1])
        mine = said[group][:, None] == cells[None]
        where = where[..., None] & mine.reshape(len(mine), *[1] * (axis - 1), -1)
    groups = where.shape[1:]
    given = {
        name: (_spread(values, groups), where)
        for name, values in said.items()
        if name not in event.group_by
    }
    if groups:
        return {**given, "firing": (where.astype(jnp.int32), where)}
    return {**given, "firing": (number[None], number[None] > 0)}


def _lost(event: Event, each: list[Firings]) -> Array:
    """Firings without a slot, and those whose group there is not."""
    lost = sum((f.lost for f in each), jnp.zeros((), jnp.int32))
    if not event.group_by or not each:
        return lost
    fired = jnp.concatenate([f.fired for f in each])
    inside = fired
    for group, number in zip(event.group_by, event.num_groups, strict=True):
        said = jnp.concatenate([f.attributes[group] for f in each])
        inside = inside & (said >= 0) & (said < number)
    return lost + jnp.sum(fired & ~inside, dtype=jnp.int32)


def _spread(values: Array, groups: tuple[int, ...]) -> Array:
    """Values [M, ...] beside the groups, [M, *groups, ...]."""
    rows, shape = values.shape[0], values.shape[1:]
    aside = values.reshape(rows, *[1] * len(groups), *shape)
    return jnp.broadcast_to(aside, (rows, *groups, *shape))


def _name(event: Event, source: Source) -> str:
    return f"{event.id}: {source.name}"
