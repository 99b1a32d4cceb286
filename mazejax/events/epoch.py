"""`EpochStatistics`: what the episodes come to that ended in an epoch, over all envs.

An episode counts once, when it ends: then its outputs, its KPIs and what it lost are added
to accumulators whose size does not depend on how many there are. All numbers of all events
lie in one vector, so that a loop over few envs is not slowed by many small operations.
"""

import math
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp

from mazejax.base import Pytree, static
from mazejax.events.accumulator import Accumulator
from mazejax.events.builtin import kpi_event, lost_event
from mazejax.events.plan import Source, plan_of
from mazejax.events.statistics import EpisodeStatistics, project
from mazejax.events.summary import beside, histogram, last_row
from mazejax.events.topic import Event
from mazejax.types import Array


class EventSummary(Pytree):
    """What epochs reduce of one input of an event, [*groups, ...]."""

    event: Event = static()
    source: str = static()
    """Name of the input among those of the event."""
    moments: Accumulator
    """[*groups, ...]; of histograms over episodes empty."""
    total: Array | None
    """Exact sum of integers, int32 [*groups, ...], where a sum is asked for."""
    last: Array | None
    """float32 [*groups, ...], where it is asked for."""
    histogram: Array | None
    """int32 [*groups, ..., bins], where it is asked for."""

    def merge(self, later: Self) -> Self:
        """The summary of both."""

        def both(mine: Array | None, theirs: Array | None) -> Array | None:
            return None if mine is None or theirs is None else mine + theirs

        last = self.last
        if last is not None and later.last is not None:
            last = jnp.where(later.moments.count > 0, later.last, last)
        return self.replace(
            moments=self.moments.merge(later.moments),
            total=both(self.total, later.total),
            last=last,
            histogram=both(self.histogram, later.histogram),
        )


class Entry(NamedTuple):
    """An input of epochs: where its numbers stand in the vector of all."""

    event: Event
    source: Source
    shape: tuple[int, ...]
    """[*groups, ...]."""
    begin: int
    """First of its places in the vector."""
    is_whole: bool
    """Whether it is a sum of integers, to be exact."""

    @property
    def end(self) -> int:
        """The place after its last."""
        return self.begin + math.prod(self.shape)

    @property
    def is_histogram(self) -> bool:
        """Whether the input is a histogram already: it has no place in the vector."""
        return self.source.bins is None

    @property
    def name(self) -> str:
        """`Topic.event` and the input, as metrics are named."""
        return f"{self.event.id}/{self.source.name}"


class EpochStatistics(Pytree):
    """Accumulated statistics of the episodes that ended so far in an epoch."""

    entries: tuple[Entry, ...] = static()
    moments: Accumulator
    """[K] for the numbers of all entries."""
    totals: Array
    """Exact sums of integers, int32 [K]."""
    last: Array
    """float32 [K]."""
    histograms: dict[str, Array]
    """int32 [*groups, ..., bins], by entry."""

    @classmethod
    def start(cls, episodes: EpisodeStatistics, kpis: tuple[str, ...] = ()) -> Self:
        """The statistics before any episode ended; `episodes` [N] may be shapes alone."""
        ended = jax.ShapeDtypeStruct(episodes.num_steps.shape, bool)
        found: list[Entry] = []

        def histograms(episodes: EpisodeStatistics, ended: Array) -> dict[str, Array]:
            values = {name: jnp.zeros(ended.shape, jnp.float32) for name in kpis}
            given = _given(episodes, values, ended)
            found.extend(_entries(given))
            return _histograms(tuple(found), given)

        shapes = jax.eval_shape(histograms, episodes, ended)
        size = max((entry.end for entry in found), default=0)
        return cls(
            entries=tuple(found),
            moments=Accumulator.empty((size,)),
            totals=jnp.zeros(size, jnp.int32),
            last=jnp.zeros(size, jnp.float32),
            histograms=jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes),
        )

    def add(self, episodes: EpisodeStatistics, kpis: dict[str, Array], ended: Array) -> Self:
        """The statistics with the episodes [N] that ended, [N] bool, and their KPIs, [N] each."""
        given = _given(episodes, kpis, ended)
        values, where, whole = _vector(self.entries, given)
        now = Accumulator.of(values, where, axis=0)
        totals, last = self.totals, self.last
        if any(entry.is_whole for entry in self.entries):
            totals = totals + jnp.sum(jnp.where(where, whole, 0), axis=0, dtype=jnp.int32)
        if any("last" in entry.source.reducers for entry in self.entries):
            last = jnp.where(now.count > 0, last_row(values, where), last)
        added = _histograms(self.entries, given)
        return self.replace(
            moments=self.moments.merge(now),
            totals=totals,
            last=last,
            histograms={name: own + added[name] for name, own in self.histograms.items()},
        )

    def summaries(self) -> dict[str, EventSummary]:
        """A summary by name for each input."""
        return {entry.name: self._summary(entry) for entry in self.entries}

    def _summary(self, entry: Entry) -> EventSummary:
        if entry.is_histogram:
            return EventSummary(
                event=entry.event,
                source=entry.source.name,
                moments=Accumulator.empty(),
                total=None,
                last=None,
                histogram=self.histograms[entry.name],
            )

        def own(vector: Array) -> Array:
            return vector[entry.begin : entry.end].reshape(entry.shape)

        return EventSummary(
            event=entry.event,
            source=entry.source.name,
            moments=jax.tree.map(own, self.moments),
            total=own(self.totals) if entry.is_whole else None,
            last=own(self.last) if "last" in entry.source.reducers else None,
            histogram=self.histograms.get(entry.name),
        )


Given = list[tuple[Event, Source, Array, Array]]
"""Values [N, *groups, ...] of each input, and which of them count, bool [N, *groups]."""


def _given(episodes: EpisodeStatistics, kpis: dict[str, Array], ended: Array) -> Given:
    """What the episodes [N] give to an epoch."""
    given: Given = []
    for event in episodes.events:
        sources = plan_of(event).epoch
        outputs = jax.vmap(lambda own, event=event: own.outputs(event))(episodes) if sources else {}
        for source in sources:
            value, present = outputs[source.input]
            where = present & beside(ended, present)
            given.append((event, source, *project((value, where), source)))
    if kpis:
        event = kpi_event(tuple(kpis))
        values = jnp.stack(list(kpis.values()), axis=1)
        given += _single(event, values, jnp.broadcast_to(ended[:, None], values.shape))
    losing = tuple(event for event in episodes.events if event.attributes)
    if losing:
        lost = episodes.lost[:, _places(episodes.events, losing)]
        given += _single(lost_event(losing), lost, (lost > 0) & ended[:, None])
    return given


def _single(event: Event, values: Array, where: Array) -> Given:
    source = plan_of(event).epoch[0]
    return [(event, source, values, where)]


def _places(events: tuple[Event, ...], some: tuple[Event, ...]) -> Array:
    """Where some of the events stand among all."""
    return jnp.array([events.index(event) for event in some])


def _entries(given: Given) -> list[Entry]:
    entries: list[Entry] = []
    begin = 0
    for event, source, values, _ in given:
        is_whole = jnp.issubdtype(values.dtype, jnp.integer) and "sum" in source.reducers
        entry = Entry(event, source, values.shape[1:], begin, bool(is_whole))
        entries.append(entry if not entry.is_histogram else entry._replace(shape=(0,)))
        begin = entries[-1].end
    return entries


def _vector(entries: tuple[Entry, ...], given: Given) -> tuple[Array, Array, Array]:
    """All numbers [M, K] float32, which of them count, and those that are sums of integers."""
    rows = max((values.shape[0] for _, _, values, _ in given), default=1)
    values, where, whole = [], [], []
    for entry, (_, _, own, counts) in zip(entries, given, strict=True):
        if entry.is_histogram:
            continue
        spread = jnp.broadcast_to(beside(counts, own), own.shape)
        flat = own.reshape(own.shape[0], -1)
        values.append(_padded(flat.astype(jnp.float32), rows))
        where.append(_padded(spread.reshape(flat.shape), rows))
        exact = flat if entry.is_whole else jnp.zeros(flat.shape, jnp.int32)
        whole.append(_padded(exact, rows))
    if not values:
        nothing = jnp.zeros((rows, 0))
        return nothing, nothing.astype(bool), nothing.astype(jnp.int32)
    return tuple(jnp.concatenate(parts, axis=1) for parts in (values, where, whole))  # type: ignore[return-value]


def _padded(rows: Array, number: int) -> Array:
    """As many rows as asked for, those that are added zero."""
    return jnp.pad(rows, ((0, number - rows.shape[0]), (0, 0)))


def _histograms(entries: tuple[Entry, ...], given: Given) -> dict[str, Array]:
    """Histograms of the inputs that need one."""
    found: dict[str, Array] = {}
    for entry, (_, source, values, where) in zip(entries, given, strict=True):
        if "histogram" in source.reducers:
            found[entry.name] = histogram(values, beside(where, values), source.bins)
    return found
