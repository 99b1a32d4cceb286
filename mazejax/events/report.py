"""Statistics as people and files read them: numbers and distributions by tag, on the host.

A tag is `PREFIX_Topic/event/output/group`, as in Maze, so it sorts by topic in TensorBoard
and tables. What did not happen has no tag.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from mazejax.events.accumulator import merge_on_host
from mazejax.events.distribution import Distribution
from mazejax.events.epoch import EventSummary
from mazejax.events.levels import OF_EPOCHS, Statistic
from mazejax.events.plan import Source, histogram_bins, plan_of
from mazejax.events.topic import Event

_SHARES = {"quantile_25": 0.25, "median": 0.5, "quantile_75": 0.75}


class Report(NamedTuple):
    """What is written of an epoch."""

    scalars: dict[str, float]
    distributions: dict[str, Distribution]
    prefix: str
    """With which all tags begin."""

    def value(self, event: Event, output: str, *groups: object) -> float:
        """A scalar by its event, output and groups, such as `value(sold, "best_episode", 0, 1)`.

        nan where it did not happen.
        """
        return self.scalars.get(tag_of(self.prefix, event, output, *groups), math.nan)


def tag_of(prefix: str, event: Event, output: str, *groups: object) -> str:
    """The tag of a statistic; the output `histogram` is left out."""
    parts = (f"{prefix}_{event.topic}", event.name, *([output] if output != "histogram" else []))
    return "/".join((*parts, *event.labels, *map(str, groups)))


def merge_summaries(rows: Iterable[Mapping[str, Any]]) -> dict[str, EventSummary]:
    """The event summaries of several rows of metrics as one row, in float64; others are left out.

    Rows hold NumPy arrays.
    """
    found: dict[str, list[EventSummary]] = {}
    for row in rows:
        for name, summary in row.items():
            if isinstance(summary, EventSummary):
                found.setdefault(name, []).append(summary)
    return {name: _merged(parts) for name, parts in found.items()}


def report(
    prefix: str, summaries: Mapping[str, EventSummary], totals: dict[str, float] | None = None
) -> Report:
    """All statistics of an epoch by tag.

    `totals` holds what is cumulative: it is added to, and all of it is reported, also where
    nothing happened.
    """
    scalars: dict[str, float] = {}
    distributions: dict[str, Distribution] = {}
    totals = {} if totals is None else totals
    for summary in summaries.values():
        for tag, line, value in _values(prefix, summary):
            if isinstance(value, Distribution):
                distributions[tag] = value
            elif line.cumulative:
                totals[tag] = totals.get(tag, 0.0) + value
            else:
                scalars[tag] = value
    scalars |= {tag: value for tag, value in totals.items() if tag.startswith(f"{prefix}_")}
    return Report(scalars, distributions, prefix)


def _values(
    prefix: str, summary: EventSummary
) -> Iterator[tuple[str, Statistic, float | Distribution]]:
    """(tag, statistic, value) of everything that is there."""
    event = summary.event
    source = next(s for s in plan_of(event).epoch if s.name == summary.source)
    for line in source.lines:
        for cell, labels in _cells(summary, source):
            tag = tag_of(prefix, event, str(line.output), *labels)
            if line.reducer == "histogram":
                drawn = _distribution(summary, source, cell)
                if drawn.total:
                    yield tag, line, drawn
                continue
            for index, value in _numbers(summary, source, line, cell):
                yield "/".join((tag, *map(str, index))), line, value


def _cells(summary: EventSummary, source: Source) -> Iterator[tuple[tuple[int, ...], list[str]]]:
    """Each combination of groups, as index and in words."""
    labels = [summary.event.attributes[group].labels for group in source.groups]
    for cell in itertools.product(*(range(len(names)) for names in labels)):
        yield cell, [names[i] for names, i in zip(labels, cell, strict=True)]


def _numbers(
    summary: EventSummary, source: Source, line: Statistic, cell: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], float]]:
    """The entries of a value that is there, each with its index."""
    if line.reducer in OF_EPOCHS:
        if summary.histogram is None or not summary.histogram[cell].sum():
            return
        found = _distribution(summary, source, cell).quantile(_SHARES[line.reducer])
        # What lies in one bin alone is known better by its extremes.
        value = np.clip(found, summary.moments.min[cell], summary.moments.max[cell])
    else:
        if not np.any(summary.moments.count[cell]):
            return
        value = np.asarray(_moment(summary, line.reducer)[cell])
    for index in np.ndindex(value.shape):
        yield index, float(value[index])


def _moment(summary: EventSummary, reducer: str) -> Any:
    moments = summary.moments
    if reducer == "sum":
        return moments.center * moments.count if summary.total is None else summary.total
    return summary.last if reducer == "last" else getattr(moments, reducer)


def _distribution(summary: EventSummary, source: Source, cell: tuple[int, ...]) -> Distribution:
    counts = np.asarray(summary.histogram, np.float64)[cell]
    counts = counts if counts.ndim == 1 else counts.reshape(-1, counts.shape[-1])
    edges = histogram_bins(summary.event, "epoch", source).edges
    return Distribution(counts, edges, summary.event.plot)


def _merged(parts: list[EventSummary]) -> EventSummary:
    """One summary of several."""
    last: Any = parts[0].last
    for part in parts[1:] if last is not None else ():
        last = np.where(part.moments.count > 0, part.last, last)  # type: ignore[arg-type]
    return EventSummary(
        event=parts[0].event,
        source=parts[0].source,
        moments=merge_on_host([part.moments for part in parts]),
        total=_sum([part.total for part in parts]),
        last=last,
        histogram=_sum([part.histogram for part in parts]),
    )


def _sum(parts: list[Any]) -> Any:
    return None if parts[0] is None else sum(np.asarray(part, np.float64) for part in parts)
