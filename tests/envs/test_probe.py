"""The probes do what their docstrings say, and their values are those of their dynamics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.envs import probe
from mazejax.errors import ConfigError
from mazejax.spaces.simple import Box, Discrete

GAMMA = 0.9
KEY = random.key(0)
STARTS = (probe.ObservationReward(), probe.ObservationActionReward())


def best_action(env, obs):
    """The best action of the probes whose actions matter; any action elsewhere."""
    wanted = 1.0 if isinstance(env, probe.ActionReward) else float(obs[0])
    return jnp.array([wanted / 2]) if env.continuous else jnp.int32(wanted > 0)


def one_backup(env, obs, state):
    """(obs, reward + gamma * value of the next observation) under the best action."""
    step = env.step(KEY, state, best_action(env, obs))
    future = 0.0 if bool(step.terminated) else float(env.value(step.obs, GAMMA))
    return step, float(step.reward) + GAMMA * future


def both_signs(env):
    """Resets that observe -1 and 1, by key."""
    resets = [env.reset(random.key(seed)) for seed in range(8)]
    return {float(obs[0]): (obs, state) for obs, state in resets}


PROBES = [
    probe.ConstantReward,
    probe.ObservationReward,
    probe.DelayedReward,
    probe.ActionReward,
    probe.ObservationActionReward,
    probe.EndlessReward,
    probe.WildReset,
    probe.RampReward,
]


@pytest.mark.parametrize("continuous", [False, True], ids=["discrete", "continuous"])
@pytest.mark.parametrize("probe_class", PROBES)
def test_the_value_solves_the_bellman_equation_on_every_step(probe_class, continuous):
    env = probe_class(continuous=continuous)
    assert env.action_space == (Box(-1.0, 1.0, (1,)) if continuous else Discrete(2))
    for seed in range(3):
        obs, state = env.reset(random.key(seed))
        for _ in range(5):
            assert env.observation_space.contains(jax.device_get(obs))
            step, backed_up = one_backup(env, obs, state)
            np.testing.assert_allclose(float(env.value(obs, GAMMA)), backed_up, rtol=1e-5)
            if bool(step.done):
                break
            obs, state = step.obs, step.state


@pytest.mark.parametrize("probe_class", PROBES)
def test_values_are_batched_over_observations(probe_class):
    env = probe_class()
    size = env.observation_space.shape[0]
    obs = jnp.zeros((2, 3, size)).at[..., 0].set(1.0)
    values = env.value(obs, GAMMA)
    assert values.shape == (2, 3) and values.dtype == jnp.float32
    np.testing.assert_allclose(values, float(env.value(obs[0, 0], GAMMA)), rtol=1e-6)


def test_known_values():
    zero, one = jnp.zeros(1), jnp.ones(1)
    assert float(probe.ConstantReward().value(zero, GAMMA)) == 1.0
    assert float(probe.ObservationReward().value(-one, GAMMA)) == -1.0
    assert float(probe.DelayedReward().value(zero, GAMMA)) == np.float32(GAMMA)
    assert float(probe.DelayedReward().value(one, GAMMA)) == 1.0
    assert float(probe.EndlessReward().value(zero, 0.75)) == 4.0
    assert float(probe.WildReset().value(one, GAMMA)) == 10.0
    assert float(probe.WildReset().value(zero, GAMMA)) == 0.0
    one_round = 0.0 + GAMMA + 2 * GAMMA**2 + 3 * GAMMA**3
    ramp = probe.RampReward().value(jnp.eye(4)[0], GAMMA)
    np.testing.assert_allclose(ramp, one_round / (1 - GAMMA**4), rtol=1e-6)


def test_one_step_probes_terminate_at_once_and_the_rest_as_they_say():
    for probe_class, lengths in (
        (probe.ConstantReward, 1),
        (probe.ObservationReward, 1),
        (probe.ActionReward, 1),
        (probe.ObservationActionReward, 1),
        (probe.DelayedReward, 2),
        (probe.EndlessReward, None),
        (probe.WildReset, 4),
        (probe.RampReward, 2),
    ):
        env, ends = probe_class(), []
        state = env.reset(KEY)[1]
        for _ in range(5):
            step = env.step(KEY, state, jnp.int32(0))
            ends.append(bool(step.done))
            state = step.state
        assert (ends.index(True) + 1 if any(ends) else None) == lengths
        clock = probe_class in (probe.WildReset, probe.RampReward)
        assert bool(step.truncated) == clock
        assert bool(step.terminated) == (lengths is not None and not clock)
        assert int(env.time(state)) == 5


@pytest.mark.parametrize("env", STARTS, ids=lambda env: env.name)
def test_signs_come_from_the_key_with_equal_probability(env):
    obs = jax.jit(jax.vmap(lambda key: env.reset(key)[0]))(jax.random.split(KEY, 1000))
    assert set(np.unique(obs)) == {-1.0, 1.0}
    assert abs(float(obs.mean())) < 0.1


def test_actions_earn_what_they_should():
    def earned(env, reset, action):
        return float(env.step(KEY, reset[1], action).reward)

    env = probe.ActionReward()
    assert [earned(env, env.reset(KEY), jnp.int32(a)) for a in (0, 1)] == [-1.0, 1.0]
    env = probe.ActionReward(continuous=True)
    for action, reward in ((0.5, 1.0), (0.0, 0.75), (-1.0, -1.25)):
        assert earned(env, env.reset(KEY), jnp.array([action])) == reward
    env = probe.ObservationActionReward()
    for sign, reset in both_signs(env).items():
        assert [sign * earned(env, reset, jnp.int32(a)) for a in (0, 1)] == [-1.0, 1.0]
    env = probe.ObservationActionReward(continuous=True)
    for sign, reset in both_signs(env).items():
        for action, reward in ((0.5 * sign, 1.0), (-0.5 * sign, 0.0)):
            assert earned(env, reset, jnp.array([action])) == reward


def test_wild_reset_would_mislead_a_bootstrap_from_the_reset_observation():
    env = probe.WildReset(first_reward=50.0, length=2)
    obs, state = env.reset(KEY)
    first = env.step(KEY, state, jnp.int32(0))
    last = env.step(KEY, first.state, jnp.int32(0))
    assert [float(first.reward), float(last.reward)] == [50.0, 0.0]
    assert bool(last.truncated) and not bool(last.terminated)
    assert float(env.value(obs, GAMMA)) - float(env.value(last.obs, GAMMA)) == 50.0


def test_ramp_would_mislead_a_bootstrap_from_the_observation_that_was_acted_on():
    env = probe.RampReward()
    true = np.asarray(env.value(jnp.eye(4), GAMMA))
    # Fixed point where half of all steps, the truncated ones, bootstrap from their own phase.
    following = np.roll(np.eye(4), 1, axis=1)
    wrong = np.linalg.solve(np.eye(4) - GAMMA * (0.5 * following + 0.5 * np.eye(4)), np.arange(4.0))
    assert np.abs(wrong - true).max() > 0.5


def test_expensive_reset_ends_when_its_drawn_length_is_over():
    env = probe.ExpensiveReset(iterations=2, longest=6)
    states = jax.jit(jax.vmap(env.reset_state))(jax.random.split(KEY, 600))
    lengths, counts = np.unique(states.length, return_counts=True)
    assert list(lengths) == [1, 2, 3, 4, 5, 6] and counts.min() > 60
    assert len(np.unique(states.drawn[:, 0])) == 600

    def one_step(state, _):
        step = env.step(KEY, state, jnp.int32(0))
        return step.state, (step.terminated, step.obs)

    for seed in range(4):
        obs, state = env.reset(random.key(seed))
        ended, later = jax.lax.scan(one_step, state, length=6)[1]
        assert int(jnp.argmax(ended)) + 1 == int(state.length)
        assert float(obs[2]) == 0.0 and float(later[int(state.length) - 1, 2]) == 1.0
        np.testing.assert_array_equal(later[:, :2], jnp.tile(obs[:2], (6, 1)))


def test_every_iteration_of_an_expensive_reset_counts():
    drawn = {
        tuple(np.asarray(probe.ExpensiveReset(iterations=n).reset_state(KEY).drawn).tolist())
        for n in (1, 2, 63, 64)
    }
    assert len(drawn) == 4


def test_sizes_without_sense_are_config_errors():
    with pytest.raises(ConfigError, match=r"WildReset.length: got 1, expected at least 2"):
        probe.WildReset(length=1)
    with pytest.raises(ConfigError, match=r"ExpensiveReset.iterations: got 0"):
        probe.ExpensiveReset(iterations=0)
    with pytest.raises(ConfigError, match=r"ExpensiveReset.longest: got -1"):
        probe.ExpensiveReset(longest=-1)
