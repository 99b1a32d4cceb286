"""Rewards change by the numbers, credits alike, and moments outlive episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import TimeLimit, VectorEnv
from mazejax.envs.check import check_env
from mazejax.envs.probe import ConstantReward, ExpensiveReset, RampReward
from mazejax.errors import ConfigError
from mazejax.spaces import Discrete
from mazejax.wrappers.base import find, find_state
from mazejax.wrappers.reward import ReturnNormalization, RewardClipping, RewardScaling
from tests.envs.convoy import CONVOY
from tests.wrappers.arm import make_arm
from tests.wrappers.played import KEY, played

RAMP = RampReward(length=3)


def rewards_of(env, num_envs=3, num_steps=12, **options):
    """(changed, original, done) [T, N, ...] by sub-step."""
    moves = jax.device_get(played(VectorEnv(env, num_envs, **options), KEY, num_steps))
    return [(step.reward, step.info["reward_original"], step.done) for _, _, step in moves]


def test_scaled_rewards_are_products_and_the_original_stays():
    ((changed, original, _),) = rewards_of(RewardScaling(RAMP, 0.5))
    np.testing.assert_array_equal(changed, 0.5 * original)
    assert set(original.ravel()) == {0.0, 1.0, 2.0, 3.0} and changed.dtype == np.float32


def test_clipped_rewards_stay_in_their_bounds():
    ((changed, original, _),) = rewards_of(RewardClipping(RAMP, 0.5, 2.0))
    np.testing.assert_array_equal(changed, np.clip(original, 0.5, 2.0))


def test_every_env_may_have_numbers_of_its_own():
    batched = {"scale": np.array([1.0, 2.0, 3.0]), "max_val": np.array([1.0, 2.0, 9.0])}
    env = RewardClipping(RewardScaling(RAMP), 0.0, 5.0)
    ((changed, original, _),) = rewards_of(env, batched=batched)
    np.testing.assert_array_equal(
        changed, np.minimum(original * batched["scale"][None], batched["max_val"][None])
    )


def test_the_innermost_reward_is_the_original():
    env = RewardScaling(RewardClipping(RAMP, 0.0, 1.0), 10.0)
    ((changed, original, _),) = rewards_of(env)
    np.testing.assert_array_equal(changed, 10 * np.minimum(original, 1))
    assert original.max() == 3.0


def test_rewards_of_agents_at_once_and_credits_are_changed_alike():
    moves = played(VectorEnv(RewardScaling(CONVOY, 2.0), 3), KEY, 12)
    credit = moves[-1][2].info["actor_rewards"]
    plain = played(VectorEnv(CONVOY, 3), KEY, 12)[-1][2].info["actor_rewards"]
    for changed, original in zip(credit, plain, strict=True):
        np.testing.assert_array_equal(changed, 2 * original)
    for _, _, step in moves:
        np.testing.assert_array_equal(step.reward, 2 * step.info["reward_original"])
    assert moves[1][2].reward.shape == (12, 3, 3) and np.asarray(moves[1][2].reward).any()


# --- normalization by returns ---------------------------------------------------------


def normalized(rewards, done, gamma, epsilon):
    """The definition, in float64: rewards [T] by sub-step, done [T]."""
    seen, running, out = [], 0.0, []
    for t in range(len(done)):
        running *= gamma
        for substep, reward in enumerate(rewards):
            running += reward[t].sum()
            if substep == len(rewards) - 1:
                seen.append(running)
            scale = 1.0 if len(set(seen)) < 2 else 1 / np.sqrt(np.var(seen) + epsilon)
            out.append(reward[t] * scale)
        running = 0.0 if done[t] else running
    return [np.array(out[i :: len(rewards)]) for i in range(len(rewards))]


@pytest.mark.parametrize("strategy", ["always", "compact"])
def test_rewards_are_divided_by_the_deviation_of_all_returns_of_their_env(strategy):
    env = ReturnNormalization(RAMP, 0.9, 1e-4)
    ((changed, original, done),) = rewards_of(env, num_steps=30, auto_reset=strategy)
    for n in range(3):
        expected = normalized([original[:, n]], done[:, n], 0.9, 1e-4)[0]
        np.testing.assert_allclose(changed[:, n], expected, rtol=2e-5)
    assert done.sum() == 30


def test_a_flat_step_of_a_schedule_has_one_return():
    substeps = rewards_of(ReturnNormalization(CONVOY, 0.9, 1e-2), num_steps=30)
    done = substeps[-1][2]
    for n in range(3):
        originals = [original[:, n] for _, original, _ in substeps]
        expected = normalized(originals, done[:, n], 0.9, 1e-2)
        for (changed, _, _), wanted in zip(substeps, expected, strict=True):
            np.testing.assert_allclose(changed[:, n], wanted, rtol=2e-5, atol=1e-6)
    assert done.any()


def test_rewards_stay_while_no_return_differs():
    ((changed, _, _),) = rewards_of(ReturnNormalization(ConstantReward(), 0.9))
    np.testing.assert_array_equal(changed, np.ones((12, 3)))


def test_moments_outlive_episodes_and_the_return_does_not():
    envs = VectorEnv(TimeLimit(ReturnNormalization(RAMP, 0.5), 2), 2)
    states = played(envs, KEY, 5)[0][0]
    moments = find_state(envs.env, ReturnNormalization, states.envs).memory
    np.testing.assert_array_equal(moments.count[:, 0], [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(moments.running_return[::2], np.zeros((3, 2)))
    assert find(envs.env, ReturnNormalization) is envs.env.env


def test_a_wrapper_outside_hands_on_what_is_carried_over():
    inside = ReturnNormalization(RAMP, 0.9)
    ((_, _, _),) = rewards_of(inside)
    outer = ReturnNormalization(inside, 0.9)
    assert outer.has_carry_over and TimeLimit(inside, 2).has_carry_over
    assert not TimeLimit(RAMP, 2).has_carry_over
    state = played(VectorEnv(outer, 2), KEY, 9)[0][2].state.envs
    assert state.memory.count[-1, 0] == state.inner.memory.count[-1, 0] == 9


def test_carrying_over_works_with_states_made_beforehand():
    envs = VectorEnv(ReturnNormalization(ExpensiveReset(longest=3)), 2, "pool", pool_size=4)
    state = played(envs, KEY, 20)[0][2].state
    np.testing.assert_array_equal(state.envs.memory.count[-1], [20, 20])


# --- contract -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "env",
    [
        RewardScaling(RewardClipping(TimeLimit(RAMP, 5)), 0.5),
        ReturnNormalization(TimeLimit(RAMP, 5)),
        ReturnNormalization(TimeLimit(make_arm(Discrete(2), Discrete(3), num_agents=2), 3)),
    ],
    ids=str,
)
def test_they_keep_the_contract_of_envs(env):
    report = check_env(env, num_steps=20, num_envs=3)
    assert not report.errors


def test_the_stack_is_told():
    env = RewardScaling(ReturnNormalization(mazejax.make("CartPole-v1")))
    assert str(env) == "RewardScaling<ReturnNormalization<TimeLimit<CartPole>>>"
    assert env.unwrapped == mazejax.make("CartPole-v1").unwrapped


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RewardScaling(RAMP, float("nan")), r"RewardScaling\.scale"),
        (lambda: RewardClipping(RAMP, 1.0, 0.0), r"RewardClipping\.min_val"),
        (lambda: ReturnNormalization(RAMP, 1.5), r"ReturnNormalization\.gamma"),
        (lambda: ReturnNormalization(RAMP, 0.5, 0.0), r"ReturnNormalization\.epsilon"),
    ],
)
def test_bad_numbers_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_numbers_may_be_traced():
    scales = jnp.array([1.0, 2.0])
    reward = jax.vmap(lambda s: RewardScaling(RAMP, s).reward(jnp.float32(3.0)))(scales)
    np.testing.assert_array_equal(reward, [3.0, 6.0])
