"""Few runs summarized honestly: the interquartile mean, and intervals by the bootstrap.

Means are ruled by outliers, medians waste most of the runs; the interquartile mean does
neither, and its interval says what so few seeds leave open. Agarwal et al., 2021, "Deep
reinforcement learning at the edge of the statistical precipice", arXiv:2108.13264.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mazejax.errors import ConfigError

RESAMPLES = 2000
"""Bootstrap samples, as many as Agarwal et al. use for intervals of one task."""

Statistic = Callable[[np.ndarray], np.ndarray]
"""Scores [..., runs, tasks] to one number each, [...]."""


class Interval(NamedTuple):
    """A statistic, and where it lies with the asked confidence."""

    value: float
    low: float
    high: float


def interquartile_mean(scores: Any) -> np.ndarray:
    """Mean of the middle half of the scores [..., runs, tasks], over both axes, [...] float64.

    A quarter of them, rounded down, is left out at either end: with fewer than four scores
    it is the mean. nan where a score is nan.
    """
    scores = np.asarray(scores, np.float64)
    ordered = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    count = ordered.shape[-1]
    cut = count // 4
    mean = np.mean(ordered[..., cut : count - cut], axis=-1)
    return np.where(np.isnan(ordered[..., -1]), np.nan, mean)  # nan is sorted to the end


def bootstrap(
    scores: Any,
    statistic: Statistic = interquartile_mean,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The statistic of the scores [runs] or [runs, tasks] with its percentile interval.

    Stratified: each sample draws runs with replacement within each task, since every task
    belongs to the benchmark and only the runs are chance. Equal arguments give equal
    numbers.
    """
    table = np.asarray(scores, np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or 0 in table.shape:
        raise ConfigError(
            f"bootstrap: got scores of shape {np.shape(scores)}, expected [runs] or [runs, tasks] "
            f"with one run at least"
        )
    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"bootstrap: confidence must be between 0 and 1, got {confidence}")
    value = float(statistic(table))
    if not np.isfinite(table).all():
        return Interval(value, np.nan, np.nan)
    runs, tasks = table.shape
    rows = np.random.default_rng(seed).integers(0, runs, (resamples, runs, tasks))
    samples = statistic(table[rows, np.arange(tasks)])
    low, high = np.quantile(samples, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return Interval(value, float(low), float(high))
