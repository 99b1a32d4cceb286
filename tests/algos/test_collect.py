"""Rollouts against a plain Python loop over single envs, with a value function known exactly.

All numbers of the env and of the policy here are small integers in float32, so that every
comparison is of equality: an observation of the wrong moment or a memory that was reset
too early changes a number visibly.
"""

import hypothesis
import hypothesis.extra.numpy as arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.algos import collect as collecting
from mazejax.algos.collect import Acted
from mazejax.base import Pytree
from mazejax.envs.base import Env, StateStep
from mazejax.envs.vector import VectorEnv
from mazejax.spaces.simple import Box, MultiBinary
from mazejax.types import SINGLE_ACTOR, Array

N, T = 20, 12
NEVER = 10**6


class TagState(Pytree):
    tag: Array
    noise: Array
    time: Array


class TaggedEnv(Env):
    """The action says whether the episode ends and how; the tag tells episodes apart."""

    @property
    def observation_space(self):
        return Box(0.0, 1e6, (3,))

    @property
    def action_space(self):
        return MultiBinary(2)

    def reset_state(self, key):
        tag = random.randint(key, (), 1000).astype(jnp.float32)
        return TagState(tag, jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32))

    def step_state(self, key, state, action):
        noise = random.randint(key, (), 8).astype(jnp.float32)
        new = TagState(state.tag, noise, state.time + 1)
        return StateStep(new, state.tag + noise, action[0] > 0, action[1] > 0, {})

    def observe(self, state):
        return jnp.stack([state.tag, state.noise, state.time.astype(jnp.float32)])

    def time(self, state):
        return state.time


class Ends(Pytree):
    """How often episodes end, out of 1000, and after how many steps they do surely."""

    termination: Array
    truncation: Array
    terminated_at: Array
    truncated_at: Array


def ends(termination=0, truncation=0, terminated_at=NEVER, truncated_at=NEVER):
    return Ends(*map(jnp.int32, (termination, truncation, terminated_at, truncated_at)))


PATTERNS = {
    "none": ends(),
    "terminations": ends(termination=200),
    "truncations": ends(truncation=200),
    "both kinds, at times both at once": ends(termination=300, truncation=300),
    "all truncated at once": ends(truncated_at=3),
    "all truncated in every step": ends(truncated_at=1),
    "all truncated and terminated at once": ends(terminated_at=3, truncated_at=3),
}
BEGIN = (jnp.full(N, 5.0, jnp.float32),)


def value_of(obs, memory):
    """The known value function, [R]: it sees the observation and the memory."""
    return 1000.0 * obs[..., 0] + 10.0 * obs[..., 2] + memory


CRITICS = {SINGLE_ACTOR: value_of}


def policies(ends):
    """An act whose memory, from 5 on, adds up the noise that it saw, and 1 for every step."""

    def act(keys, obs, carry):
        draws = jax.vmap(lambda key: random.randint(key, (2,), 1000))(keys)
        step = obs[:, 2].astype(jnp.int32) + 1
        terminated = (draws[:, 0] < ends.termination) | (step >= ends.terminated_at)
        truncated = (draws[:, 1] < ends.truncation) | (step >= ends.truncated_at)
        flags = jnp.stack([terminated, truncated], 1).astype(jnp.int8)
        # What learners see differs from what the env takes.
        return Acted(flags + 10, flags, -obs[:, 1], value_of(obs, carry), carry + obs[:, 1] + 1)

    return {SINGLE_ACTOR: act}


@jax.jit
def rollouts(key, ends):
    """Two rollouts of T steps in a row."""
    env, act = VectorEnv(TaggedEnv(), N), policies(ends)
    first = collecting.start(env, key, BEGIN)
    second, *rollout_1 = collecting.collect(env, act, CRITICS, first, T, BEGIN)
    third, *rollout_2 = collecting.collect(env, act, CRITICS, second, T, BEGIN)
    return first, (second, *rollout_1), (third, *rollout_2)


@jax.jit
def single_step(root, row, episode, state, memory, ends):
    """One step of one env by the documented derivation of keys, and nothing of VectorEnv."""
    env = TaggedEnv()
    key = jax.random.fold_in(jax.random.fold_in(root, row), episode)
    now = jax.random.fold_in(key, env.time(state))
    obs = env.observe(state)
    acted = policies(ends)[SINGLE_ACTOR](
        random.stream(now, "policy")[None], obs[None], memory[None]
    )
    acted = jax.tree.map(lambda leaf: leaf[0], acted)
    step = env.step(random.stream(now, "env"), state, acted.env_action)
    fresh = env.reset_state(first_key(root, row, episode + 1))
    final_value = value_of(step.obs, acted.carry)
    return obs, acted, step, fresh, final_value


def first_key(root, row, episode):
    return random.stream(jax.random.fold_in(jax.random.fold_in(root, row), episode), "reset")


def by_loop(key, row, ends, num_steps):
    """Rows of what the rollout must hold for one env, and its memory at the end."""
    root, episode, memory = random.as_key(key), np.uint32(0), np.float32(5)
    state = jax.jit(lambda: TaggedEnv().reset_state(first_key(root, row, 0)))()
    rows, episode_return, length = [], 0.0, 0
    for _ in range(num_steps):
        obs, acted, step, fresh, final_value = jax.device_get(
            single_step(root, np.int32(row), episode, state, memory, ends)
        )
        episode_return, length = episode_return + step.reward, length + 1
        rows.append(
            {
                "obs": obs,
                "action": acted.action,
                "reward": step.reward,
                "terminated": step.terminated,
                "truncated": step.truncated,
                "log_prob": acted.log_prob,
                "value": acted.value,
                "next_value": final_value,
                "ended": step.terminated | step.truncated,
                "return": episode_return,
                "length": length,
            }
        )
        state, memory = step.state, acted.carry
        if rows[-1]["ended"]:
            state, memory, episode = fresh, np.float32(5), episode + np.uint32(1)
            episode_return, length = 0.0, 0
    rows = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return rows, np.asarray(memory), np.float32(episode_return), np.int32(length)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_rollout_is_what_a_loop_over_single_envs_gives(pattern):
    ends, key = PATTERNS[pattern], random.key(7)
    _, one, two = jax.device_get(rollouts(key, ends))
    got = jax.tree.map(lambda a, b: np.concatenate([a, b]), one[1:], two[1:])
    rollout, episodes = got
    steps, next_value = rollout.transitions["0"], rollout.next_value["0"]
    for row in (0, 1, N - 1):
        want, memory, running_return, running_length = by_loop(key, row, ends, 2 * T)
        for name in ("obs", "action", "reward", "terminated", "truncated", "log_prob", "value"):
            np.testing.assert_array_equal(getattr(steps, name)[:, row], want[name], name)
        matters = ~want["terminated"]
        np.testing.assert_array_equal(
            next_value[matters, row], want["next_value"][matters], "next_value"
        )
        np.testing.assert_array_equal(episodes.ended[:, row], want["ended"])
        np.testing.assert_array_equal(episodes.returns[:, row], want["return"])
        np.testing.assert_array_equal(episodes.lengths[:, row], want["length"])
        assert two[0].carry[0][row] == memory
        assert two[0].episode_return[row] == running_return
        assert two[0].episode_length[row] == running_length


@pytest.mark.parametrize("pattern", PATTERNS)
def test_next_value_is_that_of_the_true_next_observation_for_every_pattern_of_ends(pattern):
    _, (state, rollout, _), _ = jax.device_get(rollouts(random.key(8), PATTERNS[pattern]))
    steps, next_value = rollout.transitions["0"], rollout.next_value["0"]
    # While an episode goes on, next_value is the value of the next row, or of what comes after.
    following = np.concatenate([steps.value[1:], value_of(state.obs, state.carry[0])[None]])
    goes_on = ~(steps.terminated | steps.truncated)
    np.testing.assert_array_equal(next_value[goes_on], following[goes_on])
    # Where it was truncated: the same tag, one step later, the memory one step older.
    memory = steps.value - 1000 * steps.obs[..., 0] - 10 * steps.obs[..., 2]
    final = 1000 * steps.obs[..., 0] + 10 * (steps.obs[..., 2] + 1) + memory + steps.obs[..., 1] + 1
    cut = steps.truncated & ~steps.terminated
    np.testing.assert_array_equal(next_value[cut], final[cut])
    if "all truncated at once" in pattern:
        assert cut.all(axis=1).any(), "more rows at once than a block holds"


def test_episodes_are_a_recount_of_the_rewards():
    for pattern in ("none", "both kinds, at times both at once"):
        _, one, two = jax.device_get(rollouts(random.key(9), PATTERNS[pattern]))
        rollout, episodes = jax.tree.map(lambda a, b: np.concatenate([a, b]), one[1:], two[1:])
        steps = rollout.transitions["0"]
        total, length = np.zeros(N), np.zeros(N, int)
        for t in range(2 * T):
            total, length = total + steps.reward[t], length + 1
            np.testing.assert_array_equal(episodes.returns[t], total)
            np.testing.assert_array_equal(episodes.lengths[t], length)
            done = steps.terminated[t] | steps.truncated[t]
            np.testing.assert_array_equal(episodes.ended[t], done)
            total, length = np.where(done, 0, total), np.where(done, 0, length)


def test_a_rollout_begins_with_the_first_episode_and_continues_where_the_last_ended():
    first, (second, rollout, _), (_, later, _) = rollouts(random.key(1), PATTERNS["truncations"])
    np.testing.assert_array_equal(rollout.transitions["0"].obs[0], first.obs)
    np.testing.assert_array_equal(later.transitions["0"].obs[0], second.obs)
    assert (first.episode_length == 0).all() and (first.episode_return == 0).all()
    np.testing.assert_array_equal(first.carry[0], BEGIN[0])


def test_all_reset_strategies_give_the_same_rollout():
    def rollout(auto_reset):
        env = VectorEnv(TaggedEnv(), N, auto_reset)
        state = collecting.start(env, random.key(3), BEGIN)
        act = policies(ends(termination=200, truncation=200))
        return collecting.collect(env, act, CRITICS, state, T, BEGIN)

    always, compact = (
        jax.jit(rollout, static_argnums=0)("always"),
        jax.jit(rollout, static_argnums=0)("compact"),
    )
    assert always == compact


def test_rollouts_of_several_seeds_at_once_are_those_of_each():
    keys = jax.random.split(random.key(4), 3)
    together = jax.jit(jax.vmap(lambda key: rollouts(key, PATTERNS["truncations"])[2]))(keys)
    for i in range(3):
        alone = rollouts(keys[i], PATTERNS["truncations"])[2]
        assert jax.tree.map(lambda leaf, i=i: leaf[i], together) == alone


def test_the_memory_of_a_policy_may_be_a_tree_or_nothing():
    env = VectorEnv(TaggedEnv(), 2)

    def act(keys, obs, carry):
        action = jnp.zeros((2, 2), jnp.int8).at[:, 1].set(obs[:, 2] == 1)
        memory = jax.tree.map(lambda leaf: leaf + 1, carry)
        return Acted(action, action, jnp.zeros(2), jnp.zeros(2), memory)

    def value(obs, carry):
        return jnp.zeros(obs.shape[0])

    begin = {"h": jnp.zeros((2, 3)), "c": (jnp.ones(2),)}
    for carry in ((begin,), ((),), None):
        state = collecting.start(env, random.key(0), carry)
        state, rollout, _ = collecting.collect(
            env, {SINGLE_ACTOR: act}, {SINGLE_ACTOR: value}, state, 3, carry
        )
        # Truncated after two steps, so the memory has one step since its beginning.
        assert rollout.transitions["0"].truncated[:, 0].tolist() == [False, True, False]
        wanted = ((),) if carry is None else carry
        assert wanted == ((),) or state.carry[0]["h"].tolist() == [[1, 1, 1]] * 2
        assert jax.tree.structure(state.carry) == jax.tree.structure(wanted)


# --- values of final observations ---------------------------------------------------------


@jax.jit
def values_where(where, obs, carry):
    return collecting.values_where(value_of, where, obs, carry)


@hypothesis.given(arrays.arrays(bool, 40))
def test_values_are_those_of_the_chosen_rows_and_zero_elsewhere(where):
    obs, carry = jnp.arange(120.0).reshape(40, 3), jnp.arange(40.0)
    expected = np.where(where, value_of(obs, carry), 0.0)
    np.testing.assert_array_equal(values_where(where, obs, carry), expected)


@pytest.mark.parametrize(("num_envs", "block"), [(1, 1), (5, 5), (40, 8), (320, 20)])
def test_values_cost_as_many_blocks_of_rows_as_were_truncated(num_envs, block):
    sizes = []

    def evaluate(obs, carry):
        jax.debug.callback(lambda rows=obs.shape[0]: sizes.append(rows))
        return obs

    @jax.jit
    def values(where):
        return collecting.values_where(evaluate, where, jnp.arange(1.0, num_envs + 1), ())

    for count in {0, 1, block, min(block + 1, num_envs), num_envs}:
        sizes.clear()
        where = jnp.arange(num_envs) >= num_envs - count
        assert (values(where) > 0).sum() == count
        jax.effects_barrier()
        assert sizes == [block] * -(-count // block)


# --- evaluation ---------------------------------------------------------------------------


@jax.jit
def first_episodes(key, ends, max_steps):
    env = VectorEnv(TaggedEnv(), N)
    return collecting.run_episodes(env, policies(ends), key, max_steps, BEGIN)


@pytest.mark.parametrize("max_steps", [4, 24])
def test_only_the_first_episode_of_every_env_counts_and_unfinished_ones_are_flagged(max_steps):
    pattern, key = ends(termination=60, truncation=120), random.key(5)
    episodes = first_episodes(key, pattern, max_steps)
    for row in range(N):
        want, *_ = by_loop(key, row, pattern, 24)
        last = want["ended"][:max_steps].argmax() if want["ended"][:max_steps].any() else -1
        assert episodes.ended[row] == (last >= 0)
        assert episodes.returns[row] == want["return"][:max_steps][last]
        assert episodes.lengths[row] == want["length"][:max_steps][last]
    assert not episodes.ended.all() or max_steps > 4


def test_evaluation_stops_when_all_episodes_ended():
    episodes = first_episodes(random.key(6), ends(truncated_at=3), 2**31 - 1)
    assert episodes.ended.all() and (episodes.lengths == 3).all()


def test_evaluation_for_no_steps_ends_nothing():
    episodes = first_episodes(random.key(6), ends(), 0)
    assert not episodes.ended.any() and (episodes.lengths == 0).all()


def test_the_state_of_collecting_keeps_its_types():
    def after_one_step(state):
        return collecting.step(env, policies(PATTERNS["truncations"]), state, BEGIN)[0]

    env = VectorEnv(TaggedEnv(), N)
    state = jax.eval_shape(lambda: collecting.start(env, random.key(0), BEGIN))
    after = jax.eval_shape(after_one_step, state)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    for one, other in zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True):
        assert (one.shape, one.dtype, one.weak_type) == (other.shape, other.dtype, other.weak_type)
