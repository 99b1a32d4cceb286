"""What events say of a run, as a table for a person: the newest value of every statistic.

In a terminal rows are grouped by topic, elsewhere every line holds its whole tag, so that
logs can be searched. Metrics of learners are left to the other writers.
"""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mazejax.events.distribution import Distribution
from mazejax.runners.writers import Distributions, Scalars

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MAX_GROUPS = 12
"""Groups of one statistic that are shown; of more it is said how many there are."""

_TAG = re.compile(r"(?P<topic>[a-z][a-z0-9_-]*_[A-Z]\w*)/(?P<path>.+)")  # train_StockEvents/...
_SHARES = (0.05, 0.5, 0.95)


class Row(NamedTuple):
    """One line of the table."""

    step: int
    topic: str
    path: str
    value: str


class ConsoleWriter:
    """Writer that keeps the newest statistics of events; `show` prints and forgets them.

    Statistics of events have tags such as `train_StockEvents/sold/best_episode/0/1`. The
    console is rich's own; by default it is standard output, above a live line if there is one.
    """

    def __init__(self, console: "Console | None" = None) -> None:
        self.nonfinite: dict[str, int] = {}
        self._console = console
        self._newest: dict[str, tuple[int, str]] = {}

    def write(
        self, step: int, scalars: Scalars, distributions: Distributions | None = None
    ) -> None:
        texts = {tag: _number(value) for tag, value in scalars.items() if _TAG.match(tag)}
        for tag, found in (distributions or {}).items():
            if _TAG.match(tag) and found.total > 0:
                texts[tag] = summarize(found)
        self._newest |= {tag: (int(step), text) for tag, text in texts.items()}

    def show(self) -> None:
        """Print what was written since the last time, if anything was."""
        from rich.console import Console

        rows = _rows(self._newest)
        self._newest = {}
        if not rows:
            return
        console = self._console or Console()
        if console.is_terminal:
            console.print(_table(rows, console.width))
        else:
            console.print(_lines(rows), markup=False, highlight=False, soft_wrap=True)

    def flush(self) -> None:
        """Nothing is kept back that `show` does not print."""

    def close(self) -> None:
        self.show()


def summarize(distribution: Distribution) -> str:
    """The distribution in some words: its number, mean and quantiles, or its largest shares.

    Of a vector all entries together, but of binary ones the share of ones by entry.
    """
    counts = np.atleast_2d(distribution.counts)
    number = f"n={counts.sum():g}"
    if distribution.plot == "binary_bars" and len(counts) > 1:
        ones = counts[:, -1] / np.maximum(counts.sum(axis=1), 1e-300)
        shown = " ".join(f"{share:.2g}" for share in ones[:8]) + " ..." * (len(ones) > 8)
        return f"{number}  ones {shown}"
    together = Distribution(counts.sum(axis=0), np.asarray(distribution.edges))
    centers = (together.edges[:-1] + together.edges[1:]) / 2
    shares = together.counts / together.total
    if distribution.plot == "relative_bars":
        most = [i for i in np.argsort(-shares, kind="stable")[:4] if shares[i] > 0]
        return f"{number}  " + ", ".join(f"{centers[i]:g}: {shares[i]:.0%}" for i in most)
    quantiles = " ".join(f"{float(together.quantile(share)):.3g}" for share in _SHARES)
    return f"{number}  mean={shares @ centers:.3g}  5/50/95%: {quantiles}"


def _number(value: float) -> str:
    """By six digits; whole numbers, which are counts mostly, by all of them."""
    value = float(value)
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e12 else f"{value:g}"


def _rows(newest: Mapping[str, tuple[int, str]]) -> list[Row]:
    """Rows by topic, in the order of writing; of many groups the first ones."""
    by_statistic: dict[tuple[str, str], list[Row]] = {}
    for tag, (step, value) in newest.items():
        topic, path = _parts(tag)
        statistic = "/".join(path.split("/")[:2])
        by_statistic.setdefault((topic, statistic), []).append(Row(step, topic, path, value))
    rows: list[Row] = []
    for (topic, statistic), each in by_statistic.items():
        rows += each[:MAX_GROUPS]
        if len(each) > MAX_GROUPS:
            left = f"{len(each) - MAX_GROUPS} more groups"
            rows.append(Row(each[0].step, topic, f"{statistic}/...", left))
    topics = list(dict.fromkeys(row.topic for row in rows))
    return sorted(rows, key=lambda row: topics.index(row.topic))


def _parts(tag: str) -> tuple[str, str]:
    match = _TAG.match(tag)
    return (match["topic"], match["path"]) if match else ("", tag)


def _table(rows: Iterable[Row], width: int) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("step", justify="right", style="dim", no_wrap=True)
    table.add_column("path", overflow="fold")
    # Values break between words, paths would break anywhere: they get 40 columns first.
    table.add_column("value", justify="right", overflow="fold", max_width=max(width - 54, 12))
    topic = ""
    for row in rows:
        if row.topic != topic:
            topic = row.topic
            table.add_row("", Text(topic, style="bold"), "")
        table.add_row(f"{row.step:,}", Text(f"  {row.path}"), Text(row.value))
    return table


def _lines(rows: list[Row]) -> str:
    """Aligned columns, every tag in one piece."""
    shown = [("step", "path", "value")]
    shown += [(str(row.step), f"{row.topic}/{row.path}", row.value) for row in rows]
    first, second = (max(len(line[i]) for line in shown) for i in (0, 1))
    return "\n".join(f"{s:>{first}}  {p:<{second}}  {v}" for s, p, v in shown)
