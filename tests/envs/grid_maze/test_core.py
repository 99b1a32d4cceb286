"""The maze's rules against a plain re-implementation, its contract and its checks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.base import jit
from mazejax.envs import cells, check, episode
from mazejax.envs.grid_maze.core import GridMaze
from mazejax.envs.grid_maze.drawing import AGENT, FLOOR, GOAL, WALL
from mazejax.envs.grid_maze.make import make_grid_maze
from mazejax.envs.vector import VectorEnv
from mazejax.errors import ConfigError
from mazejax.rendering.rasterizer import rasterize
from mazejax.types import SINGLE_ACTOR
from mazejax.wrappers.time import TimeLimit

ENV = make_grid_maze(size=7)
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
NUM_ENVS, NUM_STEPS = 32, 120


@pytest.fixture(scope="module")
def episodes():
    """Random walks [NUM_ENVS, NUM_STEPS], on the host."""
    walk = episode.random_policy(ENV)
    keys = jax.random.split(random.key(0), NUM_ENVS)
    played = jit(jax.vmap(lambda key: episode.play(ENV, walk, key, NUM_STEPS)))(keys)
    return jax.device_get(played)


def test_moves_rewards_and_ends_are_those_of_the_plain_rules(episodes):
    substep, arrived = episodes.substeps[0], 0
    for i in range(NUM_ENVS):
        state = jax.tree.map(lambda leaf, i=i: leaf[i], substep.state).core
        walls = np.asarray(cells.unpack(jnp.asarray(state.walls[0]), 7))
        place = (int(state.agent.row[0]), int(state.agent.column[0]))
        goal = (int(state.goal.row[0]), int(state.goal.column[0]))
        for t in range(int(episodes.length[i])):
            assert (state.agent.row[t], state.agent.column[t]) == place
            assert (state.goal.row[t], state.goal.column[t]) == goal
            np.testing.assert_array_equal(state.walls[t], state.walls[0])
            down, right = MOVES[substep.action[i, t]]
            target = (place[0] + down, place[1] + right)
            place = place if walls[target] else target
            want = np.float32(1.0) - np.float32(0.01) if place == goal else np.float32(-0.01)
            assert substep.reward[i, t] == want
        assert bool(episodes.terminated[i]) == (place == goal)
        assert not episodes.truncated[i]
        arrived += place == goal
    assert 5 < arrived < NUM_ENVS  # both ends of a walk are seen


def test_the_step_cost_can_differ_between_envs():
    costs = jnp.array([0.0, 0.25, 0.5])
    vector = VectorEnv(ENV, 3, batched={"step_cost": costs})
    state = jax.jit(vector.reset)(random.key(0))[1]
    step = jax.jit(vector.step)(state, jnp.zeros(3, jnp.int32))
    np.testing.assert_allclose(step.reward, step.terminated - costs)


def test_the_state_is_small_and_keeps_its_types():
    key = jax.eval_shape(lambda: random.key(0))
    env = GridMaze()
    state = jax.eval_shape(lambda k: env.reset(k).state, key)
    action = jax.ShapeDtypeStruct((), jnp.int32)
    step = jax.eval_shape(lambda k, s, a: env.step(k, s, a, SINGLE_ACTOR), key, state, action)
    assert sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) == 48
    assert step.state == state
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(step))


def test_reset_strategies_give_the_same_trajectories():
    def run(strategy):
        vector = VectorEnv(TimeLimit(ENV, 25), 8, auto_reset=strategy)

        def one_step(state, _):
            keys = vector.keys(state, "policy")
            step = vector.step(state, jax.vmap(ENV.action_space.sample)(keys))
            return step.state, (step.obs, step.reward, step.terminated, step.truncated)

        @jax.jit
        def walk(key):
            return jax.lax.scan(one_step, vector.reset(key)[1], length=80)[1]

        return jax.device_get(walk(random.key(3)))

    always, compact = run("always"), run("compact")
    assert always[2].sum() > 3 and always[3].sum() > 8
    jax.tree.map(np.testing.assert_array_equal, always, compact)


def test_resets_are_reckoned_to_be_expensive():
    assert VectorEnv(ENV, 4).strategy() == "compact"


@pytest.mark.parametrize("observation", ["symbolic", "pixels", "partial"])
def test_it_keeps_the_contract_of_environments(observation):
    env = TimeLimit(make_grid_maze(observation, size=5, cell_pixels=2), 30)
    report = check.check_env(env, num_steps=60)
    assert report.warnings == ()


@pytest.mark.parametrize("size", [3, 6, 33, True])
def test_other_sizes_are_refused(size):
    with pytest.raises(ConfigError, match=f"GridMaze.size: got {size}, expected an odd integer"):
        GridMaze(size=size)


def test_it_can_be_drawn():
    state = jax.jit(ENV.reset_state)(random.key(0))
    picture = rasterize(ENV.draw(state), width=70)
    walls = np.asarray(cells.unpack(state.core.walls, 7))
    assert picture.shape == (70, 70, 3)
    for row, column in np.ndindex(7, 7):
        corner = picture[10 * row, 10 * column]
        np.testing.assert_array_equal(corner, WALL if walls[row, column] else FLOOR)
    for cell, color in ((state.core.agent, AGENT), (state.core.goal, GOAL)):
        row, column = cell.at
        np.testing.assert_array_equal(picture[10 * row + 5, 10 * column + 5], color)
