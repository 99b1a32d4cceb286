"""The clock ends episodes, and says that it was the clock; episodes begin where chance says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import TimeLimit, VectorEnv
from mazejax.envs.check import check_env
from mazejax.envs.probe import ConstantReward, DelayedReward, EndlessReward, RampReward
from mazejax.errors import ConfigError
from mazejax.wrappers.time import RandomReset
from tests.envs.convoy import CONVOY
from tests.wrappers.played import played

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


# --- random beginnings ------------------------------------------------------------------

RAMP = RampReward(length=1000)


def first_states(env, num=64, **options):
    """First states [N] of vectorized envs."""
    return VectorEnv(env, num, **options).reset(KEY)[1].envs


def test_every_number_of_steps_from_the_least_to_the_most_is_skipped():
    states = first_states(RandomReset(RAMP, 2, 5), 4000)
    counts = np.bincount(states.memory)
    assert counts[:2].sum() == 0 and len(counts) == 6
    np.testing.assert_allclose(counts[2:], 1000, atol=120)
    np.testing.assert_array_equal(states.inner.time, states.memory)


def test_skipped_steps_change_the_state_and_not_the_draws_of_the_reset():
    plain, skipped = first_states(RAMP), first_states(RandomReset(RAMP, 3, 3))
    np.testing.assert_array_equal(skipped.inner.signal, (plain.signal + 3) % 4)


def test_time_starts_at_0_after_the_skipped_steps():
    env = RandomReset(RAMP, 4, 4)
    _, state = env.reset(KEY)
    assert int(env.time(state)) == 0 and int(env.env.time(state.inner)) == 4
    assert int(env.time(env.step(KEY, state, 0).state)) == 1


@pytest.mark.parametrize(
    ("env", "length"),
    [
        (TimeLimit(RandomReset(EndlessReward(), 2, 2), 5), 5),
        (RandomReset(TimeLimit(EndlessReward(), 5), 2, 2), 3),
    ],
    ids=["around", "within"],
)
def test_a_limit_counts_the_agent_s_steps_around_it_and_all_within_it(env, length):
    assert [ended for _, ended in flags(env, length)] == [False] * (length - 1) + [True]


@pytest.mark.parametrize("env", [TimeLimit(EndlessReward(), 3), DelayedReward(), ConstantReward()])
def test_an_episode_begins_before_the_step_that_would_end_it(env):
    last = {"EndlessReward": 2, "DelayedReward": 1, "ConstantReward": 0}[env.name]
    states = first_states(RandomReset(env, 7, 9))
    np.testing.assert_array_equal(states.memory, np.full(64, last))
    assert flags(RandomReset(env, 7, 9), 1)[0] != (False, False)


def test_only_allowed_actions_are_taken_and_whole_flat_steps():
    convoy = RandomReset(CONVOY, 1, 2)
    states = first_states(convoy)
    assert convoy.substep(states) == 0
    assert (states.inner.core.fuel >= 0).all() and (states.memory <= 2).all()
    plain = first_states(CONVOY)
    assert (states.inner.core.distance > 0).any() and not plain.core.distance.any()


@pytest.mark.parametrize("strategy", ["always", "compact"])
def test_every_episode_begins_by_chance_and_both_strategies_agree(strategy):
    env = TimeLimit(RandomReset(RAMP, 0, 6), 2)
    ((states, _, _),) = played(VectorEnv(env, 5, strategy), KEY, 20)
    skipped = np.asarray(states.envs.memory)[::2]
    assert len(np.unique(skipped)) == 7
    assert states.root.shape == (20,)
    np.testing.assert_array_equal(
        skipped, played(VectorEnv(env, 5), KEY, 20)[0][0].envs.memory[::2]
    )


def test_the_numbers_may_differ_between_envs():
    envs = VectorEnv(
        RandomReset(RAMP, 0, 4),
        3,
        batched={"min_skip_steps": np.array([0, 1, 4]), "max_skip_steps": np.array([0, 1, 4])},
    )
    np.testing.assert_array_equal(envs.reset(KEY)[1].envs.memory, [0, 1, 4])


def test_a_recorded_state_stands_at_its_time():
    env = TimeLimit(RandomReset(CONVOY, 0, 3), 5)
    state = CONVOY.reset(KEY)[1]
    again = env.from_maze_state(CONVOY.maze_state(state), 3, substep=1)
    assert int(env.time(again)) == 3 and env.substep(again) == 1
    seen = CONVOY.observe(CONVOY.at_substep(state, 1))
    jax.tree.map(np.testing.assert_array_equal, env.observe(again), seen)


@pytest.mark.parametrize("env", [RandomReset(TimeLimit(RAMP, 9), 1, 4)], ids=str)
def test_it_keeps_the_contract_of_envs(env):
    assert not check_env(env, num_steps=20, num_envs=3).errors


@pytest.mark.parametrize("numbers", [(-1, 2), (3, 2), (0.5, 2), (0, 2.0)])
def test_numbers_that_are_no_span_are_refused(numbers):
    with pytest.raises(ConfigError, match=r"RandomReset\.m"):
        RandomReset(RAMP, *numbers)
