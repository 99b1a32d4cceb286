"""The clock ends episodes, and says that it was the clock."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import TimeLimit, VectorEnv
from mazejax.envs.probe import DelayedReward, EndlessReward
from mazejax.errors import ConfigError

KEY = mazejax.random.key(0)


def flags(env, num_steps):
    """(terminated, truncated) of each step without auto-reset."""
    step = jax.jit(env.step)
    state, seen = env.reset(KEY)[1], []
    for _ in range(num_steps):
        result = step(KEY, state, 0)
        state = result.state
        seen.append((bool(result.terminated), bool(result.truncated)))
    return seen


def test_the_last_allowed_step_is_truncated_and_not_terminated():
    assert flags(TimeLimit(EndlessReward(), 3), 3) == [(False, False)] * 2 + [(False, True)]


def test_a_natural_end_in_the_last_allowed_step_sets_both_flags():
    assert flags(TimeLimit(DelayedReward(), 2), 2) == [(False, False), (True, True)]
    assert flags(TimeLimit(DelayedReward(), 3), 2) == [(False, False), (True, False)]


def test_the_clock_starts_anew_with_every_episode():
    envs = VectorEnv(TimeLimit(EndlessReward(), 3), 2)

    def one_step(state, _):
        step = envs.step(state, jnp.zeros(2, jnp.int32))
        return step.state, step.truncated

    truncated = jax.lax.scan(one_step, envs.reset(KEY)[1], None, length=9)[1]
    np.testing.assert_array_equal(truncated[:, 0], [False, False, True] * 3)


def test_every_env_may_have_a_limit_of_its_own():
    envs = VectorEnv(TimeLimit(EndlessReward()), 2, batched={"max_steps": np.array([1, 2])})
    step = envs.step(envs.reset(KEY)[1], jnp.zeros(2, jnp.int32))
    assert step.truncated.tolist() == [True, False]


def test_the_stack_prints_and_unwraps():
    env = mazejax.make("CartPole-v1")
    assert str(env) == "TimeLimit<CartPole>"
    assert env.unwrapped == env.env
    assert env.name == "CartPole"


@pytest.mark.parametrize("limit", [0, -1, np.array([3, 0])])
def test_a_limit_below_one_is_refused(limit):
    with pytest.raises(ConfigError, match=r"TimeLimit\.max_steps: must be at least 1"):
        TimeLimit(EndlessReward(), limit)
