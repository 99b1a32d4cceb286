"""The interquartile mean and its bootstrap intervals, against SciPy and against the normal law."""

import numpy as np
import pytest
import scipy.stats

from mazejax.errors import ConfigError
from mazejax.runners.statistics import bootstrap, interquartile_mean

RNG = np.random.default_rng(7)


def median(scores):
    return np.median(scores, axis=(-2, -1))


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (4, 1), (7, 1), (8, 3), (50, 2)])
def test_the_interquartile_mean_is_scipys_trimmed_mean_over_runs_and_tasks(shape):
    scores = RNG.normal(size=shape) ** 3
    expected = scipy.stats.trim_mean(scores, 0.25, axis=None)
    np.testing.assert_allclose(interquartile_mean(scores), expected, rtol=1e-12)


def test_the_interquartile_mean_keeps_leading_axes_and_is_blind_to_outliers():
    scores = np.tile(np.arange(8.0)[:, None], (3, 1, 1))
    scores[1, 0], scores[2, 7] = -1e9, 1e9
    np.testing.assert_array_equal(interquartile_mean(scores), [3.5, 3.5, 3.5])


def test_a_score_that_is_nan_shows_even_where_it_would_be_cut_away():
    scores = np.arange(8.0)[:, None].copy()
    scores[3] = np.nan
    assert np.isnan(interquartile_mean(scores))
    assert np.isnan(bootstrap(scores)).all()


def test_an_interval_is_that_of_scipys_percentile_bootstrap():
    scores = RNG.gamma(2.0, size=20)
    mine = bootstrap(scores, resamples=20_000)
    theirs = scipy.stats.bootstrap(
        (scores,),
        lambda x, axis: scipy.stats.trim_mean(x, 0.25, axis=axis),
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    # Both are Monte Carlo estimates of quantiles: each off by about 0.01 of these.
    np.testing.assert_allclose(mine[1:], theirs, atol=0.03)
    assert mine.low < mine.value < mine.high


def test_runs_are_drawn_within_their_task():
    # Tasks of very different levels: if runs moved between them, the interval would be wide.
    scores = np.stack([RNG.normal(0.0, 0.1, 10), RNG.normal(100.0, 0.1, 10)], axis=1)
    interval = bootstrap(scores, lambda s: s.mean(axis=(-2, -1)))
    assert 49.8 < interval.low < interval.value < interval.high < 50.2


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    samples = np.random.default_rng(0).normal(size=(200, 30))
    found = [bootstrap(row, confidence=0.9, resamples=300) for row in samples]
    covered = np.mean([low <= 0.0 <= high for _, low, high in found])
    # 0.90 with a deviation of 0.02; percentile intervals of 30 runs are a little too narrow.
    assert 0.82 < covered < 0.96


def test_other_statistics_and_confidences_may_be_asked_for():
    scores = RNG.normal(size=15)
    narrow, wide = (bootstrap(scores, median, confidence=c) for c in (0.5, 0.99))
    assert narrow.value == wide.value == np.median(scores)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_equal_scores_give_equal_intervals_and_one_run_a_point():
    scores = RNG.normal(size=9)
    assert bootstrap(scores) == bootstrap(scores[:, None]) == bootstrap(list(scores))
    assert bootstrap(scores) != bootstrap(scores, seed=1)
    assert bootstrap([3.0]) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize("scores", [[], np.zeros((0, 2)), np.zeros((2, 2, 2)), 3.0])
def test_scores_of_no_runs_are_refused(scores):
    with pytest.raises(ConfigError, match=r"expected \[runs\] or \[runs, tasks\]"):
        bootstrap(scores)


def test_a_confidence_that_is_no_share_is_refused():
    with pytest.raises(ConfigError, match="confidence must be between 0 and 1, got 95"):
        bootstrap([1.0, 2.0], confidence=95)
