"""KPIs of foragers."""

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.envs.episode import play
from mazejax.envs.foraging.events import ForagingEvents
from mazejax.envs.foraging.make import make_foraging
from mazejax.envs.foraging.policies import GreedyForager
from mazejax.events.kpi import EpisodeCounts

ENV = make_foraging(num_agents=4, min_agents=2, size=7, num_food=8, initial_energy=5)


def test_kpis_count_food_and_survivors():
    run = jax.jit(jax.vmap(lambda key: play(ENV, GreedyForager(), key, 40)))
    episodes = run(jax.random.split(random.key(6), 8))
    (substep,) = episodes.substeps
    survived = []
    for env in range(8):
        counts = EpisodeCounts.zero(jax.tree.map(lambda x, e=env: x[e, 0], substep.info["events"]))
        for t in range(int(episodes.length[env])):
            counts = counts.add(jax.tree.map(lambda x, at=(env, t): x[at], substep.info["events"]))
        core = jax.tree.map(lambda x, e=env: x[e], episodes.final_state.core)
        kpis = ENV.core_env.kpi_calculator().calculate(counts, core)
        present = int((substep.state.core.energy[env, 0] > 0).sum())
        alive = int((core.energy > 0).sum())
        np.testing.assert_allclose(kpis["survivors"], alive / present, rtol=1e-6)
        food = sum(int(word).bit_count() for word in core.food)
        np.testing.assert_allclose(kpis["food_share"], 1 - food / 8, rtol=1e-6)
        assert counts.count(ForagingEvents.agent_dropped_out) == present - alive
        assert all(kpi.dtype == jnp.float32 for kpi in kpis.values())
        survived.append(alive / present)
    assert len(set(survived)) > 1
