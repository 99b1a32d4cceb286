"""KPIs of foragers."""

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.envs.episode import play
from mazejax.envs.foraging.events import ForagingEvents
from mazejax.envs.foraging.make import make_foraging
from mazejax.envs.foraging.policies import GreedyForager

ENV = make_foraging(num_agents=4, min_agents=2, size=7, num_food=8, initial_energy=5)


def test_kpis_count_food_and_survivors():
    run = jax.jit(jax.vmap(lambda key: play(ENV, GreedyForager(), key, 40)))
    episodes = run(jax.random.split(random.key(6), 8))
    (substep,) = episodes.substeps
    counts = jax.vmap(lambda episode: episode.statistics())(episodes)
    every = jax.vmap(lambda episode: episode.kpis(ENV))(episodes)
    survived = []
    for env in range(8):
        core = jax.tree.map(lambda x, e=env: x[e], episodes.final_state.core)
        kpis = {name: values[env] for name, values in every.items()}
        present = int((substep.state.core.energy[env, 0] > 0).sum())
        alive = int((core.energy > 0).sum())
        np.testing.assert_allclose(kpis["survivors"], alive / present, rtol=1e-6)
        food = sum(int(word).bit_count() for word in core.food)
        np.testing.assert_allclose(kpis["food_share"], 1 - food / 8, rtol=1e-6)
        own = jax.tree.map(lambda x, e=env: x[e], counts)
        assert own.count(ForagingEvents.agent_dropped_out) == present - alive
        assert all(kpi.dtype == jnp.float32 for kpi in kpis.values())
        survived.append(alive / present)
    assert len(set(survived)) > 1
