"""The raw event log of episodes: every firing with its time and its episode, as tables.

How the episodes are played stands in `event_playing`, how tables become files in
`event_files`.
"""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from mazejax import random
from mazejax.envs.base import Env
from mazejax.envs.episode import Policy
from mazejax.errors import EnvError, did_you_mean
from mazejax.events.builtin import BaseEnvEvents
from mazejax.events.epoch import EventSummary
from mazejax.events.log import Firings
from mazejax.events.report import Report, merge_summaries, report
from mazejax.events.topic import Event
from mazejax.runners.evaluation import check_sizes
from mazejax.runners.event_files import EpisodeTable, EventFiles, EventTable, episode_ids
from mazejax.runners.event_playing import (
    Fired,
    Played,
    RememberingPolicy,
    as_remembering,
    first_key,
    play_batches,
)
from mazejax.types import Key
from mazejax.wrappers.repeat import JoinedFirings


@dataclasses.dataclass(frozen=True, repr=False)
class RecordedEvents:
    """What was fired in recorded episodes: `recorded[CuttingEvents.valid_cut]` is a table."""

    episodes: EpisodeTable
    """Outcomes, [E]."""
    tables: dict[str, EventTable]
    """By `Topic.event`, all that the env declares."""
    lost: dict[str, int]
    """By `Topic.event`: firings beyond its capacity, which are in no table."""
    summaries: dict[str, EventSummary]
    """Statistics of the episodes that ended, by name."""

    def report(self) -> Report:
        """The same statistics that training and evaluation report, by tag."""
        return report("rollout", self.summaries)

    def __getitem__(self, event: Event | str) -> EventTable:
        """The firings of an event; EnvError if the env declares no such event."""
        name = event.id if isinstance(event, Event) else event
        if name not in self.tables:
            raise EnvError(f"event {name}: not recorded; {did_you_mean(str(name), self.tables)}")
        return self.tables[name]

    def __repr__(self) -> str:
        lines = [f"{len(self.episodes.length)} episodes"]
        for name, table in self.tables.items():
            lost = f", {self.lost[name]:,} lost" if self.lost[name] else ""
            lines.append(f"  {name}: {len(table.env_time):,} firings{lost}")
        return "\n".join(lines)


def record_events(
    env: Env,
    policy: Policy | RememberingPolicy,
    key: Key,
    num_episodes: int = 50,
    max_steps: int = 100_000,
    directory: str | os.PathLike | None = None,
) -> RecordedEvents:
    """All events of that many episodes; in a `directory` also as TSV, as they are played.

    The episodes are those of `VectorEnv(env, num_episodes).reset(key)`, so that the key
    of an evaluation gives its episodes. Events of the reset are of time 0. One that does
    not end within `max_steps` flat steps counts as far as it came. Raises EnvError if
    the env fires no events. KPIs are firings of `BaseEnvEvents.kpi` in the last step.
    """
    check_sizes(num_episodes, max_steps)
    player = as_remembering(policy, env)
    root = random.as_key(key)
    batches = []
    writer = None if directory is None else EventFiles(directory)
    if writer is not None:
        indices = np.arange(num_episodes, dtype=np.uint32)
        writer.check_new(episode_ids(jax.vmap(lambda index: first_key(root, index))(indices)))
    try:
        for played in play_batches(env, player, root, num_episodes, max_steps, keep=_rows_by_event):
            batch = _recorded(played)
            batches.append(batch)
            if writer is not None:
                writer.append(batch.episodes, batch.tables)
    finally:
        if writer is not None:
            writer.close()
    return _joined(batches)


class _Rows(NamedTuple):
    """Firings of one event in some steps of B episodes, not yet in order."""

    place: np.ndarray
    """[R, 4]: episode, step, sub-step and slot of each."""
    time: np.ndarray
    attributes: dict[str, np.ndarray]
    lost: np.ndarray
    """Firings without a slot by episode, [B]."""


def _rows_by_event(fired: Fired) -> dict[str, list[_Rows]]:
    """All that was fired, in one part for every sub-step that may fire the event."""
    found: dict[str, list[_Rows]] = {}
    for substep, log in enumerate(fired.logs):
        if log is None:
            continue
        events = {event.id: event for event in log.events}
        for name, firings in log.firings.items():
            episode, step, slot = _slots(firings)
            count = np.sum(np.asarray(firings.count), axis=1)
            rows = _Rows(
                place=np.stack([episode, step, np.full_like(step, substep), slot], axis=1),
                time=np.asarray(fired.time)[episode, step],
                attributes=_attributes(firings, events.get(name), (episode, step, slot)),
                lost=count - np.bincount(episode, minlength=len(count)),
            )
            found.setdefault(name, []).append(rows)
    return found


def _recorded(played: Played) -> RecordedEvents:
    """Tables of one batch of B episodes."""
    end, ids = played.end, episode_ids(played.end.key)
    by_event = {name: [part[name] for part in played.fired] for name in played.fired[0]}
    tables = {name: _table(ids, parts) for name, parts in by_event.items()}
    lost = {
        name: np.sum([rows.lost for part in parts for rows in part], axis=0, dtype=np.int64)
        for name, parts in by_event.items()
    }
    length, terminated, truncated, returns = jax.device_get(
        (end.length, end.terminated, end.truncated, end.episode_return)
    )
    all_lost = np.sum([*lost.values()], axis=0)
    if played.kpis:
        tables[BaseEnvEvents.kpi.id] = _kpi_table(ids, length, played.kpis)
        lost[BaseEnvEvents.kpi.id] = np.zeros_like(all_lost)
    episodes = EpisodeTable(ids, length, terminated, truncated, returns, all_lost)
    total = {name: int(own.sum()) for name, own in lost.items()}
    return RecordedEvents(episodes, tables, total, merge_summaries([played.summaries]))


def _table(ids: np.ndarray, parts: Sequence[list[_Rows]]) -> EventTable:
    """Firings of one event, from parts that follow each other in time, in order."""
    place, time, attributes = jax.tree.map(
        lambda *each: np.concatenate(each),
        *((rows.place, rows.time, rows.attributes) for part in parts for rows in part),
    )
    part = np.repeat(np.arange(len(parts)), [sum(len(r.place) for r in part) for part in parts])
    episode, *later = place.T
    order = np.lexsort([*later[::-1], part, episode])  # the last of the keys counts most
    ordered = {name: values[order] for name, values in attributes.items()}
    return EventTable(ids[episode[order]], time[order], ordered)


def _kpi_table(ids: np.ndarray, length: np.ndarray, kpis: dict[str, np.ndarray]) -> EventTable:
    """A row for every KPI of every episode, in its last flat step."""
    values = np.stack(list(kpis.values()), axis=1)
    said = {"name": np.tile(list(kpis), len(ids)), "value": values.reshape(-1)}
    return EventTable(np.repeat(ids, len(kpis)), np.repeat(length - 1, len(kpis)), said)


def _attributes(firings: Firings, event: Event | None, place: tuple) -> dict[str, np.ndarray]:
    """What the firings at [R] places say; of categories that are called something the names."""
    said: dict[str, np.ndarray] = {}
    for name, every in firings.attributes.items():
        said[name] = values = np.asarray(every)[place]
        labels = None if event is None else event.attributes[name].categories
        if isinstance(labels, tuple):
            known = (values >= 0) & (values < len(labels))
            names = np.array(labels)[np.where(known, values, 0)]
            said[name] = np.where(known, names, values.astype(str))
    return said


def _slots(firings: Firings) -> tuple[np.ndarray, ...]:
    """(episode, step, slot) of every firing that is kept, [R] each, of counts [B, K]."""
    if isinstance(firings, JoinedFirings):
        return np.nonzero(np.asarray(firings.slots))
    count = np.asarray(firings.count)
    if firings.attributes:
        width = next(iter(firings.attributes.values())).shape[2]
    else:  # every firing is kept, for there is nothing to keep
        width = int(count.max(initial=0))
    return np.nonzero(np.arange(width)[None, None] < count[..., None])


def _joined(batches: Iterable[RecordedEvents]) -> RecordedEvents:
    """One of all batches, in their order."""
    parts = list(batches)
    return RecordedEvents(
        jax.tree.map(lambda *each: np.concatenate(each), *(part.episodes for part in parts)),
        jax.tree.map(lambda *each: np.concatenate(each), *(part.tables for part in parts)),
        jax.tree.map(lambda *each: sum(each), *(part.lost for part in parts)),
        merge_summaries([part.summaries for part in parts]),
    )
