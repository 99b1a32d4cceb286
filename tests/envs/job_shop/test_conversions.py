"""A dispatcher sees the features that a plain computation gives, within their space."""

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.envs.episode import play, random_policy
from mazejax.envs.job_shop.conversions import DispatchJob
from mazejax.envs.job_shop.instances import FixedInstance
from mazejax.envs.job_shop.make import make_job_shop

KEY = random.key(2)
JOBS, MACHINES = 4, 3
ENV = make_job_shop("random", num_jobs=JOBS, num_machines=MACHINES, max_duration=13)
episodes = jax.jit(jax.vmap(lambda key: play(ENV, random_policy(ENV), key, JOBS * MACHINES)))(
    jax.random.split(KEY, 6)
)


def features(state):
    """The rows, one number after the other."""
    rows = np.zeros((JOBS, 4 + MACHINES))
    for job in range(JOBS):
        k, bound = int(state.next_operation[job]), float(state.lower_bound)
        rows[job, 3] = k / MACHINES
        rows[job, 2] = state.durations[job, k:].sum() / bound
        rows[job, 1] = state.job_ready[job] / bound
        if k < MACHINES:
            machine = state.machines[job, k]
            ready = max(state.job_ready[job], state.machine_ready[machine])
            rows[job, :2] = state.durations[job, k] / 13, ready / bound
            rows[job, 4 + machine] = 1
    return rows


def test_observations_are_the_features_of_their_states():
    (substep,) = jax.device_get(episodes.substeps)
    for env, t in np.ndindex(6, JOBS * MACHINES):
        state = jax.tree.map(lambda x, i=(env, t): x[i], substep.state.core)
        obs = jax.tree.map(lambda x, i=(env, t): x[i], substep.obs)
        np.testing.assert_allclose(obs["jobs"], features(state), rtol=1e-6)
        np.testing.assert_allclose(
            obs["machine_ready"], state.machine_ready / float(state.lower_bound), rtol=1e-6
        )
        np.testing.assert_array_equal(obs["action_mask"], state.next_operation < MACHINES)
        ENV.observation_space.validate(obs, "obs")


def test_after_the_end_everything_is_allowed():
    assert episodes.terminated.all() and (episodes.length == JOBS * MACHINES).all()
    assert episodes.final_obs["action_mask"].all()
    for row in range(6):
        obs = jax.tree.map(lambda x, row=row: np.asarray(x[row]), episodes.final_obs)
        ENV.observation_space.validate(obs, "obs")
        np.testing.assert_array_equal(obs["jobs"][:, 3], 1)


def test_one_job_on_one_machine_stays_within_the_space():
    single = make_job_shop(FixedInstance(((0,),), ((7,),)))
    episode = play(single, random_policy(single), KEY, 1)
    single.observation_space.validate(jax.device_get(episode.final_obs), "obs")
    assert episode.episode_return == -7 and episode.terminated


def test_actions_are_jobs_both_ways():
    conversion = DispatchJob(3)
    assert conversion.space_to_maze(jnp.int32(2), None, 0) == 2
    assert conversion.maze_to_space(jnp.int32(1)) == 1
