"""Exact references for running statistics: the whole stream at once, in float64."""

import jax
import numpy as np

from mazejax.networks.normalization import RunningStatistics


def mean_of(statistics):
    return np.asarray(statistics.mean, np.float64) + np.asarray(statistics.mean_low, np.float64)


def assert_statistics(statistics, rows, rtol=1e-5):
    """They are those of rows [R, *shape], to so many standard deviations and variances."""
    rows = np.asarray(rows, np.float64)
    deviation = rows.std(axis=0)
    # Large constants leave what float32 cannot tell from nothing.
    least = np.finfo(np.float32).eps ** 2 * abs(rows).max()
    off = np.abs(mean_of(statistics) - rows.mean(axis=0))
    assert statistics.count == len(rows)
    assert (off <= rtol * deviation + least).all()
    off = np.abs(np.asarray(statistics.variance, np.float64) - deviation**2)
    assert (off <= rtol * deviation**2 + least**2).all()


def by_path(tree):
    """Leaves of observations, or the statistics of those that have some, by their path."""
    found = jax.tree_util.tree_leaves_with_path(
        tree, is_leaf=lambda node: isinstance(node, RunningStatistics)
    )
    return {"/".join(entry.key for entry in path): leaf for path, leaf in found}
