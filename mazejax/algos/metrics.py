"""Metrics of an update: accumulators by name, and how those of several updates become one.

What did not happen has count 0 and is absent when read, not 0.
"""

from typing import Any

from mazejax.events.accumulator import Accumulator, merge_on_host

Metrics = dict[str, Any]
"""Name to `Accumulator`, and of events to `EventSummary`; fixed for one algorithm."""


def merge_rows(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """One host summary of several host rows `{name: Accumulator of numpy scalars}`.

    Returns `{name: {count, mean, std, min, max}}` in float64, without the names whose
    count is 0, and without events: `events.report` merges those.
    """
    merged: dict[str, dict[str, float]] = {}
    for name in rows[0] if rows else ():
        if not isinstance(rows[0][name], Accumulator):
            continue
        parts = [row[name] for row in rows if row[name].count > 0]
        if not parts:
            continue
        whole = merge_on_host(parts)
        merged[name] = {
            "count": float(whole.count),
            "mean": float(whole.mean),
            "std": float(whole.std),
            "min": float(whole.min),
            "max": float(whole.max),
        }
    return merged
