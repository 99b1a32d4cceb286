"""Foragers see what is near, in all directions, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.envs.episode import play, random_policy
from mazejax.envs.foraging.conversions import LocalView, StayOrMove
from mazejax.envs.foraging.core import ForagingState
from mazejax.envs.foraging.make import make_foraging
from mazejax.errors import ConfigError

KEY = random.key(4)
ENV = make_foraging(num_agents=5, min_agents=3, size=7, num_food=9, initial_energy=6)
observe = jax.jit(jax.vmap(ENV.observation_conversion.maze_to_space, in_axes=(None, 0)))


def reference(state, agent, size, radius, most_energy):
    """Window, energy and mask of one agent, cell by cell."""
    side = 2 * radius + 1
    window, mask = np.zeros((3, side, side), bool), np.array([True] + [False] * 4)
    if state.energy[agent] == 0:
        return window, 0.0, mask
    r0, c0 = int(state.row[agent]), int(state.column[agent])
    others = {
        (int(state.row[a]), int(state.column[a]))
        for a in range(len(state.row))
        if a != agent and state.energy[a] > 0
    }
    for i, j in np.ndindex(side, side):
        r, c = r0 + i - radius, c0 + j - radius
        if not (0 <= r < size and 0 <= c < size):
            window[0, i, j] = True
            continue
        window[:, i, j] = (
            int(state.walls[r]) >> c & 1,
            int(state.food[r]) >> c & 1,
            (r, c) in others,
        )
    for action, (down, right) in enumerate(((-1, 0), (0, 1), (1, 0), (0, -1)), start=1):
        mask[action] = not window[0, radius + down, radius + right]
    return window, min(state.energy[agent] / most_energy, 1.0), mask


def test_observations_show_the_cells_around_each_agent():
    run = jax.jit(jax.vmap(lambda key: play(ENV, random_policy(ENV), key, 16)))
    episodes = jax.device_get(run(jax.random.split(KEY, 6)))
    (substep,) = episodes.substeps
    together = 0
    for env, t in np.ndindex(6, 16):
        if t >= episodes.length[env]:
            continue
        state = jax.tree.map(lambda x, at=(env, t): x[at], substep.state.core)
        obs = jax.tree.map(lambda x, at=(env, t): x[at], substep.obs)
        np.testing.assert_array_equal(substep.active[env, t], state.energy > 0)
        for agent in range(5):
            window, energy, mask = reference(state, agent, 7, 2, 20)
            np.testing.assert_array_equal(obs["window"][agent], window)
            np.testing.assert_allclose(obs["energy"][agent], [energy], rtol=1e-6)
            np.testing.assert_array_equal(obs["action_mask"][agent], mask)
            ENV.observation_space.validate(jax.tree.map(lambda x, a=agent: x[a], obs), "obs")
            together += window[2, 2, 2]
    assert together  # somebody stood on another's cell


def test_what_is_out_of_sight_changes_nothing():
    state = ForagingState(
        row=jnp.array([0, 0, 6, 3, 3], jnp.int8),
        column=jnp.array([0, 2, 6, 3, 4], jnp.int8),
        energy=jnp.array([5, 5, 5, 0, 5], jnp.int16),
        walls=jnp.zeros(7, jnp.uint32),
        food=jnp.array([0, 2, 0, 0, 0, 0, 16], jnp.uint32),
    )
    first = jax.tree.map(lambda x: np.asarray(x[0]), observe(state, jnp.arange(5)))
    assert np.argwhere(first["window"][1]).tolist() == [[3, 3]]
    assert np.argwhere(first["window"][2]).tolist() == [[2, 4]]
    far = state.replace(
        row=jnp.array([0, 0, 5, 1, 3], jnp.int8), food=jnp.array([0, 2, 0, 6, 0, 0, 3], jnp.uint32)
    )  # the fourth, which is near now, has dropped out
    again = jax.tree.map(lambda x: np.asarray(x[0]), observe(far, jnp.arange(5)))
    assert all((first[name] == again[name]).all() for name in first)


def test_reordered_agents_see_the_same():
    state = jax.device_get(jax.jit(ENV.reset_state)(KEY)).core
    order = np.array([3, 0, 4, 2, 1])
    mixed = state.replace(
        row=state.row[order], column=state.column[order], energy=state.energy[order]
    )
    one, two = observe(state, jnp.arange(5)), observe(mixed, jnp.arange(5))
    assert all((one[name][order] == two[name]).all() for name in one)


def test_a_radius_that_does_not_fit_a_word_is_refused():
    LocalView(size=12, energy_scale=20.0, radius=10)
    with pytest.raises(ConfigError, match="radius: got 11, expected from 1 to 10 for size 12"):
        LocalView(size=12, energy_scale=20.0, radius=11)


def test_actions_are_moves_both_ways():
    conversion = StayOrMove()
    assert conversion.space_to_maze(jnp.int32(3), None, 0) == 3
    assert conversion.maze_to_space(jnp.int32(2)) == 2 and conversion.noop_action() == 0
