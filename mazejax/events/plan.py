"""Plans: what has to be kept of an event to compute its statistics, from its declaration alone.

Reductions of one input share a summary; bins of histograms follow from what is known of
the attribute at the beginning of the chain. All of it is static.
"""

import functools
from typing import NamedTuple

import numpy as np

from mazejax.events.levels import LEVELS, OF_EPOCHS, Statistic
from mazejax.events.summary import Bins
from mazejax.events.topic import Attribute, Event

NUM_BINS = 64
"""Bins of values of which no categories are known."""

NUM_BINS_OF_COUNTS = 256
"""Bins of counts and of sums that are not negative, so that medians are good to a few percent."""

_LARGEST = float(np.arcsinh(1e6))  # what lies beyond is in the outermost bin


class Source(NamedTuple):
    """One input of a level, with all that is reduced of it."""

    input: str
    groups: tuple[str, ...]
    """Groups that stay apart."""
    given: tuple[str, ...]
    """Groups of the input."""
    lines: tuple[Statistic, ...]
    bins: Bins | None
    """Of histograms; None where the input is one already."""

    @property
    def name(self) -> str:
        """Names the source among those of its event and level."""
        return self.input if self.groups == self.given else "/".join((self.input, *self.groups))

    @property
    def reducers(self) -> tuple[str, ...]:
        """What a summary has to serve; quantiles are read from a histogram."""
        reducers = {line.reducer for line in self.lines}
        binned = {"histogram"} if reducers & {*OF_EPOCHS, "histogram"} else set()
        return tuple(sorted(reducers - {*OF_EPOCHS} | binned))


class Plan(NamedTuple):
    """The sources of each level."""

    step: tuple[Source, ...]
    episode: tuple[Source, ...]
    epoch: tuple[Source, ...]


@functools.lru_cache(maxsize=4096)
def plan_of(event: Event) -> Plan:
    """The plan of an event."""
    return Plan(*(_sources(event, level) for level in LEVELS))


def is_counted(event: Event, source: Source) -> bool:
    """Whether the source of an episode is nothing but how often the event was fired."""
    steps = plan_of(event).step
    if not steps:
        return source.input == "firing" and not source.groups
    line = next(line for s in steps for line in s.lines if line.output == source.input)
    sums = all(own.reducer == "sum" for own in source.lines)
    return line.input == "firing" and not line.group_by and sums


def histogram_bins(event: Event, level: str, source: Source) -> Bins:
    """Bins of the histogram that the source is, or that is made of it."""
    while source.bins is None:
        level, line = _made_by(event, level, source.input)
        source = next(s for s in getattr(plan_of(event), level) if line in s.lines)
    return source.bins


def _sources(event: Event, level: str) -> tuple[Source, ...]:
    found: dict[tuple[str, tuple[str, ...]], list[Statistic]] = {}
    for line in event.statistics:
        if line.level == level:
            found.setdefault((str(line.input), line.group_by or ()), []).append(line)
    return tuple(
        Source(
            input_, groups, _groups(event, level, input_), tuple(lines), _bins(event, level, input_)
        )
        for (input_, groups), lines in found.items()
    )


def _before(event: Event, level: str) -> str | None:
    """The level that gives this one its inputs; None where attributes do."""
    earlier = LEVELS[: LEVELS.index(level)]
    declared = {line.level for line in event.statistics}
    return next((name for name in reversed(earlier) if name in declared), None)


def _made_by(event: Event, level: str, input_: str) -> tuple[str, Statistic]:
    before = str(_before(event, level))
    lines = (line for line in event.statistics if line.level == before)
    return before, next(line for line in lines if line.output == input_)


def _groups(event: Event, level: str, input_: str) -> tuple[str, ...]:
    if _before(event, level) is None:
        return event.group_by
    return _made_by(event, level, input_)[1].group_by or ()


def _bins(event: Event, level: str, input_: str) -> Bins | None:
    if _before(event, level) is None:
        return _bins_of(event.attributes[input_]) if input_ != "firing" else _stretched(True)
    before, line = _made_by(event, level, input_)
    if line.reducer == "histogram":
        return None
    if line.reducer in ("count", "std"):
        return _stretched(True)
    inner = _bins(event, before, str(line.input))
    if line.reducer == "sum":
        return _stretched(inner is not None and inner.low >= -0.5)
    return inner


def _bins_of(attribute: Attribute) -> Bins:
    if attribute.num_categories is not None:
        return Bins(-0.5, attribute.num_categories - 0.5, attribute.num_categories)
    if attribute.dtype == "bool":
        return Bins(-0.5, 1.5, 2)
    if attribute.bounds is not None:
        low, high = map(float, attribute.bounds)
        return Bins(low, high, NUM_BINS)
    return _stretched(np.dtype(attribute.dtype).kind == "u")


def _stretched(positive: bool) -> Bins:
    if positive:
        return Bins(0.0, _LARGEST, NUM_BINS_OF_COUNTS, stretched=True)
    return Bins(-_LARGEST, _LARGEST, NUM_BINS, stretched=True)
