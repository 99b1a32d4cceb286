"""Counts of an episode, and the KPIs that are computed from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.errors import EnvError
from mazejax.events import Attribute, EpisodeCounts, Event, EventLog, KPICalculator, Topic


class FactoryEvents(Topic):
    made = Event("A part was made.", {"seconds": Attribute()}, capacity=2)
    broken = Event("A part was broken.")


EMPTY = EventLog.empty(FactoryEvents)
MADE, BROKEN = FactoryEvents.events


class ShareBroken(KPICalculator):
    worth: float = 2.0

    def calculate(self, episode, state):
        broken, steps = episode.count(BROKEN), episode.num_steps
        return {"loss_per_step": self.worth * broken / steps, "last": state}


def one_step(counts, whens):
    """A flat step of two sub-steps; `whens` [5]."""
    first = EMPTY.fire_each(MADE, whens[:3], seconds=jnp.zeros(3))
    second = EMPTY.fire_each(BROKEN, whens[3:])
    return counts.add(first, flat_steps=0).add(second), None


def test_counts_sum_up_all_firings_the_lost_ones_included():
    whens = np.random.default_rng(0).random((20, 5)) < 0.7
    counts = jax.jit(lambda w: jax.lax.scan(one_step, EpisodeCounts.zero(EMPTY), w)[0])(whens)
    assert int(counts.count(MADE)) == whens[:, :3].sum() > 2 * 20 - 5
    assert int(counts.count(BROKEN)) == whens[:, 3:].sum()
    assert int(counts.num_steps) == 20
    kpis = ShareBroken(worth=3.0).calculate(counts, jnp.float32(7.0))
    np.testing.assert_allclose(kpis["loss_per_step"], 3.0 * whens[:, 3:].sum() / 20, rtol=1e-6)
    assert kpis["last"] == 7.0


def test_counts_keep_strong_dtypes():
    before = EpisodeCounts.zero(EMPTY)
    after = before.add(EMPTY.fire(BROKEN)).add(EMPTY, flat_steps=0)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(after))
    assert [leaf.dtype for leaf in jax.tree.leaves(after)] == [jnp.int32] * 3
    assert jax.tree.structure(before) == jax.tree.structure(after)


def test_a_log_may_lack_events_but_not_bring_others():
    counts = EpisodeCounts.zero(EMPTY).add(EventLog.empty(BROKEN).fire(BROKEN))
    assert int(counts.count(BROKEN)) == 1 and int(counts.count(MADE)) == 0
    few = EpisodeCounts.zero(EventLog.empty(BROKEN))
    with pytest.raises(EnvError, match=r"^event FactoryEvents\.made: not counted; did you mean"):
        few.add(EMPTY)
    with pytest.raises(EnvError, match=r"^event FactoryEvents\.made: unknown; did you mean"):
        few.count(MADE)


def test_a_calculator_must_calculate():
    with pytest.raises(NotImplementedError):
        KPICalculator().calculate(EpisodeCounts.zero(EMPTY), None)
