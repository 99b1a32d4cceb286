"""Metrics of an update: accumulators by name, and how those of several updates become one.

What did not happen has count 0 and is absent when read, not 0.
"""

from typing import Any

import numpy as np

from mazejax.events.accumulator import Accumulator

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
        counts = np.array([part.count for part in parts], np.float64)
        means = np.array([part.mean for part in parts], np.float64)
        count = counts.sum()
        mean = (counts * means).sum() / count
        m2 = sum(float(part.m2) for part in parts) + (counts * (means - mean) ** 2).sum()
        merged[name] = {
            "count": count,
            "mean": mean,
            "std": float(np.sqrt(m2 / count)),
            "min": min(float(part.min) for part in parts),
            "max": max(float(part.max) for part in parts),
        }
    return merged
