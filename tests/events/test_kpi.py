"""KPIs, computed from the statistics of an episode and its last state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.errors import EnvError
from mazejax.events import (
    Attribute,
    EpisodeStatistics,
    Event,
    EventLog,
    KPICalculator,
    Topic,
    episode_stats,
    step_stats,
)


class FactoryEvents(Topic):
    made = Event(
        "A part was made.",
        {"seconds": Attribute()},
        capacity=2,
        statistics=(step_stats("sum", "seconds"), episode_stats("max", "seconds", "slowest")),
    )
    broken = Event("A part was broken.")


EMPTY = EventLog.empty(FactoryEvents)
MADE, BROKEN = FactoryEvents.events
START = EpisodeStatistics.start(EMPTY.events)


class ShareBroken(KPICalculator):
    worth: float = 2.0

    def calculate(self, episode, state):
        broken, steps = episode.count(BROKEN), episode.num_steps
        slowest = episode.value(MADE, "slowest")
        return {"loss_per_step": self.worth * broken / steps, "slowest": slowest, "last": state}


def one_step(episode, inputs):
    """A flat step of two sub-steps; `whens` [5]."""
    whens, seconds = inputs
    first = EMPTY.fire_each(MADE, whens[:3], seconds=seconds)
    second = EMPTY.fire_each(BROKEN, whens[3:])
    return episode.add(first, second), None


def test_kpis_follow_from_counts_values_and_the_last_state():
    rng = np.random.default_rng(0)
    whens, seconds = rng.random((20, 5)) < 0.7, rng.random((20, 3)).astype(np.float32)
    episode = jax.jit(lambda *xs: jax.lax.scan(one_step, START, xs)[0])(whens, seconds)
    assert int(episode.count(MADE)) == whens[:, :3].sum() > 2 * 20 - 5
    assert int(episode.count(BROKEN)) == whens[:, 3:].sum()
    assert int(episode.num_steps) == 20
    kpis = ShareBroken(worth=3.0).calculate(episode, jnp.float32(7.0))
    np.testing.assert_allclose(kpis["loss_per_step"], 3.0 * whens[:, 3:].sum() / 20, rtol=1e-6)
    kept = [seconds[t][whens[t, :3]][:2].sum() for t in range(20)]  # a capacity of two
    np.testing.assert_allclose(kpis["slowest"], max(kept), rtol=1e-6)
    assert kpis["last"] == 7.0
    lost = np.maximum(whens[:, :3].sum(axis=1) - 2, 0).sum()
    assert episode.lost.tolist() == [0, lost] and lost > 0  # by name: broken, made


def test_statistics_keep_strong_dtypes():
    after = START.add(EMPTY.fire(BROKEN), EMPTY)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(after))
    assert jax.tree.structure(START) == jax.tree.structure(after)
    kinds = [[leaf.dtype for leaf in jax.tree.leaves(tree)] for tree in (START, after)]
    assert kinds[0] == kinds[1]


def test_a_log_may_lack_events_but_not_bring_others():
    episode = START.add(EventLog.empty(BROKEN).fire(BROKEN))
    assert int(episode.count(BROKEN)) == 1 and int(episode.count(MADE)) == 0
    few = EpisodeStatistics.start((BROKEN,))
    with pytest.raises(EnvError, match=r"^event FactoryEvents\.made: not counted; did you mean"):
        few.add(EMPTY)
    with pytest.raises(EnvError, match=r"^event FactoryEvents\.made: unknown; did you mean"):
        few.count(MADE)
    with pytest.raises(EnvError, match=r"^event FactoryEvents\.made: no 'slow'; did you mean 'slo"):
        START.value(MADE, "slow")


def test_a_calculator_must_calculate():
    with pytest.raises(NotImplementedError):
        KPICalculator().calculate(START, None)
