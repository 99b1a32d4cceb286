"""Environments of gymnax: the contract for every one, and equality with gymnax's own steps."""

import copy
import functools
import pickle

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax.base
from mazejax import random
from mazejax.envs.bridges import gymnax as bridge
from mazejax.envs.vector import VectorEnv
from mazejax.errors import ConfigError, SpaceError

NAMES = bridge.environment_names()
KEY = random.key(0)

# Compiling matters here and running does not.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
quick_jit = functools.partial(jax.jit, compiler_options=QUICK)

OUTSIDE_THEIR_SPACE = {"GaussianBandit-misc", "MemoryChain-bsuite", "MetaMaze-misc"}


def signature(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype.name, leaf.weak_type), tree)


def test_all_environments_without_a_download_are_listed():
    assert set(NAMES) == set(gymnax.registered_envs) - {"MNISTBandit-bsuite"}
    assert len(NAMES) == 25


@pytest.mark.parametrize("name", NAMES)
def test_every_environment_keeps_the_contract(name):
    env = bridge.make(name)
    key = jax.eval_shape(lambda: KEY)
    obs, state = jax.eval_shape(env.reset, key)
    sample = jax.eval_shape(env.action_space.sample, key)
    step = jax.eval_shape(env.step, key, state, sample)
    assert signature(step.state) == signature(state)
    assert signature(step.obs) == signature(obs)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((state, step)))
    assert signature(step.reward) == ((), "float32", False)
    assert signature((step.terminated, step.truncated)) == (((), "bool", False),) * 2
    assert (obs.shape, obs.dtype) == (env.observation_space.shape, env.observation_space.dtype)
    assert env.name == name and name in repr(env)


@pytest.mark.parametrize("name", NAMES)
def test_every_environment_steps_under_jit(name):
    env = bridge.make(name)

    def one_step(carry, key):
        state, ended = carry
        step = env.step(key, state, env.action_space.sample(random.stream(key, "action")))
        new = (step.state, ended | step.done)
        return new, (step.obs, step.reward, env.time(step.state), ended)

    @quick_jit
    def episode(key):
        obs, state = env.reset(key)
        keys = jax.random.split(key, 60)
        return obs, jax.lax.scan(one_step, (state, jnp.array(False)), keys)[1]

    first, (obs, reward, time, ended) = jax.device_get(episode(KEY))
    lived = ~ended
    np.testing.assert_array_equal(time[lived], np.arange(1, lived.sum() + 1))
    assert np.isfinite(reward[lived]).all() and np.isfinite(obs[lived]).all()
    inside = [env.observation_space.contains(o) for o in (first, *obs[lived])]
    assert all(inside) or name in OUTSIDE_THEIR_SPACE


@pytest.mark.parametrize(
    "name",
    [
        "Breakout-MinAtar",
        "Catch-bsuite",  # declares integers and observes floats
        "FrozenLake-misc",
        "MemoryChain-bsuite",  # observes the state before
        "MountainCarContinuous-v0",
        "UmbrellaChain-bsuite",  # draws its observation
    ],
)
def test_trajectories_are_those_of_gymnax(name):
    env, (game, params) = bridge.make(name), gymnax.make(name)
    keys = jax.random.split(jax.random.key(1), 6)
    space = game.action_space(params)

    @quick_jit
    def ours(state, key, action):
        return env.step(key, state, action)

    @quick_jit
    def theirs(state, key, action, params):
        obs, state, reward, terminated, _ = game.step_env(key, state, action, params)
        return obs, state, reward, terminated, game.is_truncated(state, params)

    obs, state = env.reset(keys[0])
    wanted_obs, wanted = game.reset_env(keys[0], params)
    np.testing.assert_allclose(obs, wanted_obs, atol=1e-6)
    for key in keys[1:]:
        action = space.sample(key)
        step = ours(state, key, action)
        state = step.state
        wanted_obs, wanted, reward, terminated, truncated = theirs(wanted, key, action, params)
        np.testing.assert_allclose(step.obs, wanted_obs, atol=1e-6)
        np.testing.assert_allclose(step.reward, reward, atol=1e-6)
        assert (step.terminated, step.truncated) == (terminated, truncated)
        for one, other in zip(*map(jax.tree.leaves, (state.inner, wanted)), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_time_limit_truncates_and_does_not_terminate():
    env = bridge.make("MountainCar-v0", max_steps_in_episode=3)
    step = quick_jit(env.step)
    state, flags = env.reset_state(KEY), []
    for _ in range(3):
        result = step(KEY, state, jnp.int32(1))
        state = result.state
        flags.append((bool(result.terminated), bool(result.truncated)))
    assert flags == [(False, False), (False, False), (False, True)]


def test_vectorized_environments_begin_anew_and_show_the_final_observation():
    vector = VectorEnv(bridge.make("Catch-bsuite"), 3)
    step = quick_jit(vector.step)
    _, state = vector.reset(KEY)
    for _ in range(9):
        result = step(state, jnp.ones(3, jnp.int32))
        state = result.state
    assert result.terminated.all()
    # The ball is in the bottom row at the end, beside the paddle or on it, and at the top again.
    assert (result.info["final_obs"][:, 0].sum(-1) == 0).all()
    assert (result.obs[:, 0].sum(-1) == 1).all()
    np.testing.assert_array_equal(jax.vmap(vector.env.time)(state.envs), 0)


def test_equal_environments_are_one_value_and_compile_once():
    env = bridge.make("MountainCar-v0", gravity=0.001)
    for twin in (
        bridge.make("MountainCar-v0", gravity=0.001),
        copy.deepcopy(env),
        pickle.loads(pickle.dumps(env)),
    ):
        assert twin == env and hash(twin) == hash(env)
    assert bridge.make("MountainCar-v0") != env
    assert bridge.make("DeepSea-bsuite", size=5) != bridge.make("DeepSea-bsuite", size=6)
    traces = []

    @mazejax.base.jit
    def reset(env, key):
        traces.append(env)
        return env.reset(key)

    reset(env, KEY)
    reset(bridge.make("MountainCar-v0", gravity=0.001), KEY)
    assert len(traces) == 1


def test_params_may_differ_between_the_lanes_of_a_vmap():
    env = bridge.make("MountainCar-v0")
    state = env.reset_state(KEY)

    def gained(gravity):
        swept = env.replace(params=env.params.replace(gravity=gravity))
        return swept.step(KEY, state, jnp.int32(1)).state.inner.velocity

    velocity = quick_jit(jax.vmap(gained))(jnp.array([0.001, 0.002]))
    np.testing.assert_allclose(velocity[1], 2 * velocity[0], rtol=1e-6)


def test_keywords_reach_the_params_or_the_constructor():
    env = bridge.make("DeepSea-bsuite", size=5, unscaled_move_cost=0.5)
    assert env.observation_space.shape == (5, 5)
    assert env.params.max_steps_in_episode == 5 and env.params.unscaled_move_cost == 0.5
    assert bridge.make("FrozenLake-misc", map_name="8x8").observation_space.n == 64
    assert bridge.make("FourRooms-misc", goal_fixed=[1, 1]).reset(KEY)[0][2:].tolist() == [1, 1]
    assert bridge.make("Pendulum-v1", max_torque=3.0).action_space.high == 3.0


def test_an_environment_may_be_made_and_first_used_within_jit():
    bridge._game.cache_clear()
    make_and_reset = jax.jit(lambda key: bridge.make("FourRooms-misc").reset(key)[0])
    np.testing.assert_array_equal(make_and_reset(KEY), bridge.make("FourRooms-misc").reset(KEY)[0])


def test_wrong_names_and_keywords_are_errors_with_the_nearest_ones():
    with pytest.raises(ConfigError, match="no environment 'Breakout'; did you mean 'Breakout-M"):
        bridge.make("Breakout")
    with pytest.raises(ConfigError, match="no parameter 'gravty'; did you mean 'gravity'"):
        bridge.make("MountainCar-v0", gravty=1.0)
    with pytest.raises(ConfigError, match=r"action_mapping_key: got .*, expected a number"):
        bridge.make("DeepSea-bsuite", action_mapping_key=jax.random.key(0))


def test_an_environment_that_downloads_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match="MNISTBandit-bsuite is not offered: it downloads"):
        bridge.make("MNISTBandit-bsuite")


def test_actions_are_checked_outside_jit():
    env = bridge.make("MountainCar-v0")
    with pytest.raises(SpaceError, match="action"):
        env.step(KEY, env.reset_state(KEY), 3)
