"""`step_stats`, `episode_stats`, `epoch_stats`: what becomes of an event on each level.

A step reduces the firings of a flat step, an episode what its steps gave, an epoch what
the episodes that ended gave. Each line names what it reduces and what comes out, so several
outputs may come of one input; what did not happen is absent on every level.
"""

from collections.abc import Iterable
from typing import NamedTuple

from mazejax.errors import ConfigError, did_you_mean

LEVELS = ("step", "episode", "epoch")

IN_THE_LOOP = ("count", "sum", "mean", "std", "min", "max", "last", "histogram")
"""Reducers of every level; each is a monoid, so that it is computed in the compiled loop."""

OF_EPOCHS = ("median", "quantile_25", "quantile_75")
"""Reducers of epochs alone; they are read from histograms."""

_MISSING = ("skip", "zero")


class Statistic(NamedTuple):
    """One reduction of an event on one level."""

    level: str
    """`step`, `episode` or `epoch`."""
    reducer: str
    """One of `IN_THE_LOOP`; in an epoch also of `OF_EPOCHS`."""
    input: str | None = None
    """What is reduced: of a step an attribute, else an output of the level before. None is the
    only one there is; of a step whose event has several or none, the firing itself."""
    output: str | None = None
    """Name of what comes out; None is the input's name, in an epoch the reducer's."""
    group_by: tuple[str, ...] | None = None
    """Groups that stay apart; None keeps those of the input."""
    cumulative: bool = False
    """Whether epochs add up."""
    missing: str = "skip"
    """`zero` counts what did not happen in an episode as 0, `skip` as absent."""


def step_stats(
    reducer: str,
    input: str | None = None,
    output: str | None = None,
    group_by: str | tuple[str, ...] | None = None,
) -> Statistic:
    """The reduction of what was fired in a flat step, over all its sub-steps.

    The state of something, fired once in every step, is its `last`.
    """
    return _statistic("step", reducer, input, output, group_by)


def episode_stats(
    reducer: str,
    input: str | None = None,
    output: str | None = None,
    group_by: str | tuple[str, ...] | None = None,
    missing: str = "skip",
) -> Statistic:
    """The reduction of what the steps of an episode gave, those that gave something."""
    return _statistic("episode", reducer, input, output, group_by, missing=missing)


def epoch_stats(
    reducer: str,
    input: str | None = None,
    output: str | None = None,
    group_by: str | tuple[str, ...] | None = None,
    cumulative: bool = False,
) -> Statistic:
    """The reduction of what the episodes gave that ended in an epoch.

    `cumulative` sums (`sum`, `count`) go on over the epochs of a run.
    """
    return _statistic("epoch", reducer, input, output, group_by, cumulative)


def by_default(quantities: Iterable[str]) -> tuple[Statistic, ...]:
    """Statistics of an event that declares none: how often, and the mean of each quantity."""
    lines = list(TOTALS)
    for name in quantities:
        lines += [
            step_stats("mean", name),
            episode_stats("mean", name),
            epoch_stats("mean", name, f"mean_{name}"),
        ]
    return tuple(lines)


def resolved(
    statistics: tuple[Statistic, ...],
    attributes: tuple[str, ...],
    groups: tuple[str, ...],
    where: str,
) -> tuple[Statistic, ...]:
    """The statistics with every input, output and group spelled out.

    Raises ConfigError for an input that nothing gives, a group that the input does not have
    and two outputs of one name.
    """
    # An event that is fired when an episode or an epoch is over begins on that level.
    levels = {line.level for line in statistics}
    if "step" in levels and "epoch" in levels and "episode" not in levels:
        raise ConfigError(f"{where}: epochs reduce episodes, not steps; add episode_stats")
    given: dict[str, tuple[str, ...]] = dict.fromkeys((*attributes, "firing"), groups)
    only = attributes[0] if len(attributes) == 1 else "firing"
    complete: list[Statistic] = []
    for level in LEVELS:
        lines = [line for line in statistics if line.level == level]
        outputs: dict[str, tuple[str, ...]] = {}
        for line in lines:
            line = _complete(line, given, only, f"{where}: {level}_stats({line.reducer!r})")
            if line.output in outputs:
                raise ConfigError(
                    f"{where}: {level}_stats: two outputs are named {line.output!r}; rename one"
                )
            outputs[str(line.output)] = line.group_by or ()
            complete.append(line)
        if lines:
            given, only = outputs, next(iter(outputs)) if len(outputs) == 1 else ""
    return tuple(complete)


def _complete(
    line: Statistic, given: dict[str, tuple[str, ...]], only: str, where: str
) -> Statistic:
    source = line.input
    if source is None:
        source = "firing" if line.level == "step" and line.reducer == "count" else only
    if source not in given:
        wanted = did_you_mean(source, given) if source else f"name one of {', '.join(given)}"
        raise ConfigError(f"{where}: input {source!r} is given by nothing before; {wanted}")
    if source == "firing" and line.reducer != "count":
        raise ConfigError(f"{where}: needs an attribute as input; only `count` counts firings")
    groups = given[source] if line.group_by is None else line.group_by
    for group in groups:
        if group not in given[source]:
            raise ConfigError(
                f"{where}: group_by {group!r}: {source!r} is not grouped by it; "
                f"{did_you_mean(group, given[source])}"
            )
    named = line.reducer if line.level == "epoch" or source == "firing" else source
    return line._replace(input=source, output=line.output or named, group_by=groups)


def _statistic(
    level: str,
    reducer: str,
    input: str | None,
    output: str | None,
    group_by: str | tuple[str, ...] | None,
    cumulative: bool = False,
    missing: str = "skip",
) -> Statistic:
    known = (*IN_THE_LOOP, *OF_EPOCHS) if level == "epoch" else IN_THE_LOOP
    if reducer not in known:
        raise ConfigError(f"{level}_stats: unknown reducer {reducer!r}; {_suggest(reducer, known)}")
    if missing not in _MISSING:
        raise ConfigError(f"{level}_stats: missing: {did_you_mean(str(missing), _MISSING)}")
    if missing == "zero" and reducer not in ("sum", "count"):
        raise ConfigError(f"{level}_stats: missing: only sums and counts of nothing are zero")
    if cumulative and reducer not in ("sum", "count"):
        raise ConfigError(f"{level}_stats: cumulative: only sums and counts go on over epochs")
    groups = (group_by,) if isinstance(group_by, str) else group_by
    return Statistic(level, reducer, input, output, groups, cumulative, missing)


def _suggest(reducer: str, known: tuple[str, ...]) -> str:
    if callable(reducer):
        return f"give its name: {', '.join(known)}; they are computed in the compiled loop"
    return did_you_mean(str(reducer), known)


TOTALS = (
    step_stats("count"),
    episode_stats("sum", "count"),
    epoch_stats("mean", "count", "mean_episode_total"),
    epoch_stats("sum", "count", "total"),
)
"""How often an event was fired: in the mean episode in which it was, and in all of them."""
