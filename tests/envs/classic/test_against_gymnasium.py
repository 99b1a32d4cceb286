"""Every classic env against Gymnasium's: one step from each of thousands of equal states."""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax.random
from mazejax.envs.classic import acrobot, cartpole, mountain_car, pendulum
from mazejax.envs.maze_env import EnvState
from mazejax.spaces import convert
from mazejax.wrappers import factories

NUM_STATES = 5000
PI = np.pi


class Case(NamedTuple):
    make: Callable[[], Any]
    state: type
    low: tuple[float, ...]
    high: tuple[float, ...]
    tolerance: float
    num_in_state: int


CASES = {
    "CartPole-v1": Case(
        factories.make_cartpole,
        cartpole.CartPoleState,
        (-2.4, -3.0, -0.209, -3.0),
        (2.4, 3.0, 0.209, 3.0),
        1e-6,
        4,
    ),
    "Pendulum-v1": Case(
        factories.make_pendulum,
        pendulum.PendulumState,
        (-PI, -8.0, 0.0),
        (PI, 8.0, 0.0),
        1e-5,
        2,
    ),
    "MountainCar-v0": Case(
        factories.make_mountain_car,
        mountain_car.MountainCarState,
        (-1.2, -0.07),
        (0.6, 0.07),
        1e-6,
        2,
    ),
    "MountainCarContinuous-v0": Case(
        factories.make_mountain_car_continuous,
        mountain_car.MountainCarState,
        (-1.2, -0.07),
        (0.6, 0.07),
        1e-6,
        2,
    ),
    "Acrobot-v1": Case(
        factories.make_acrobot,
        acrobot.AcrobotState,
        (-PI, -PI, -6.0, -8.0),
        (PI, PI, 6.0, 8.0),
        1e-5,
        4,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_step_from_equal_states_agrees(name):
    case = CASES[name]
    env = case.make()
    numbers = np.random.default_rng(0).uniform(case.low, case.high, (NUM_STATES, len(case.low)))
    numbers = numbers.astype(np.float32)
    keys = jax.random.split(jax.random.key(0), NUM_STATES)
    action = np.asarray(jax.vmap(env.action_space.sample)(keys))
    state = EnvState(case.state(*jnp.asarray(numbers.T)), jnp.zeros(NUM_STATES, jnp.int32))
    ours = jax.device_get(jax.jit(jax.vmap(env.step))(keys, state, action))

    theirs = gymnasium.make(name).unwrapped
    theirs.reset(seed=0)
    steps = []
    for row, act in zip(numbers[:, : case.num_in_state].astype(np.float64), action, strict=True):
        theirs.state = row
        theirs.steps_beyond_terminated = None  # CartPole's note of an end, which it reads later
        steps.append(theirs.step(act)[:3])
    obs, reward, terminated = (np.stack(column) for column in zip(*steps, strict=True))
    np.testing.assert_allclose(ours.obs, obs, rtol=0, atol=case.tolerance)
    np.testing.assert_allclose(ours.reward, reward, rtol=1e-6, atol=case.tolerance)
    np.testing.assert_array_equal(ours.terminated, terminated)
    assert not ours.truncated.any()
    if name != "Pendulum-v1":
        assert 20 < ours.terminated.sum() < NUM_STATES - 20


@pytest.mark.parametrize("name", CASES)
def test_ids_spaces_and_time_limits_are_gymnasiums(name):
    env, theirs = CASES[name].make(), gymnasium.make(name)
    assert env.max_steps == theirs.spec.max_episode_steps
    assert env.action_space == convert.from_gymnasium(theirs.action_space)
    ours, wanted = env.observation_space, convert.from_gymnasium(theirs.observation_space)
    assert ours.shape == wanted.shape and ours.dtype == wanted.dtype
    np.testing.assert_allclose(ours.high, np.where(wanted.high > 1e30, np.inf, wanted.high))
    np.testing.assert_allclose(ours.low, np.where(wanted.low < -1e30, -np.inf, wanted.low))


@pytest.mark.parametrize("name", CASES)
def test_first_observations_are_distributed_as_gymnasiums(name):
    env, theirs = CASES[name].make(), gymnasium.make(name).unwrapped
    keys = jax.random.split(mazejax.random.key(1), 4000)
    obs = np.asarray(jax.jit(jax.vmap(lambda key: env.reset(key)[0]))(keys))
    wanted = np.stack([theirs.reset(seed=i)[0] for i in range(1500)])
    width = np.maximum(np.ptp(wanted, axis=0), 1e-6)
    # Standard errors of mean and deviation are below 2% of the width here.
    np.testing.assert_allclose((obs.mean(0) - wanted.mean(0)) / width, 0, atol=0.05)
    np.testing.assert_allclose((obs.std(0) - wanted.std(0)) / width, 0, atol=0.03)
    np.testing.assert_allclose((obs.min(0) - wanted.min(0)) / width, 0, atol=0.02)
    np.testing.assert_allclose((obs.max(0) - wanted.max(0)) / width, 0, atol=0.02)


@pytest.mark.parametrize("name", CASES)
def test_states_keep_dtypes_and_strong_types_from_reset_to_step(name):
    env = CASES[name].make()
    key = jax.eval_shape(lambda: mazejax.random.key(0))
    state = jax.eval_shape(env.reset_state, key)
    action = jax.eval_shape(env.action_space.sample, key)
    step = jax.eval_shape(env.step, key, state, action)

    def signature(tree):
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype.name, leaf.weak_type), tree)

    assert signature(step.state) == signature(state)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((state, step)))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state.core)} == {"float32"}
    assert signature(step.reward) == ((), "float32", False)
    assert signature((step.terminated, step.truncated)) == (((), "bool", False),) * 2
