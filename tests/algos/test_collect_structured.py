"""Rollouts of an env of several actors against a plain loop over single envs.

A planner acts, then three carriers at once, then two checkers in turn; every flat step
has ends in any of its sub-steps. All numbers are small integers in float32, so that every
comparison is of equality.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.algos import collect as collecting
from mazejax.algos.collect import Acted
from mazejax.base import static
from mazejax.envs import keys, structured
from mazejax.envs.conversion import ActionConversion, ObservationConversion
from mazejax.envs.core import CoreEnv, CoreReset, CoreStep
from mazejax.envs.maze_env import MazeEnv
from mazejax.envs.vector import VectorEnv
from mazejax.spaces import Box, Discrete
from mazejax.types import ActorID
from mazejax.wrappers.time import TimeLimit

N, T, AGENTS = 20, 10, 3
KEY = random.key(11)


class Crates(CoreEnv):
    """Everybody moves crates; terminates at 40 of them, and its own clock ends it at times."""

    truncated_every: int = static(default=13)

    actors = (
        ActorID("plan", 0),
        ActorID("carry", None),
        ActorID("check", 0),
        ActorID("check", 1),
    )
    agent_counts = {"plan": 1, "carry": AGENTS, "check": 2}  # noqa: RUF012

    def reset(self, key):
        tag = random.randint(random.stream(key, "tag"), (), 100)
        return CoreReset({"tag": tag, "crates": random.randint(key, (), 4)})

    def step(self, key, state, maze_action, actor):
        noise = random.randint(key, maze_action.shape, 2)
        active = self.actor_active(state, actor)
        moved = jnp.where(active, maze_action + noise, 0)
        crates = state["crates"] + jnp.sum(moved, dtype=jnp.int32)
        new = {"tag": state["tag"], "crates": crates}
        truncated = crates % self.truncated_every == self.truncated_every - 1
        return CoreStep(new, moved.astype(jnp.float32), crates >= 40, truncated)

    def actor_active(self, state, actor):
        if actor.agent_id is None:
            return jnp.arange(AGENTS) <= state["crates"] % 4
        return jnp.asarray(state["crates"] % 3 != actor.agent_id + 1)

    def actor_done(self, state, actor):
        shape = (AGENTS,) if actor.agent_id is None else ()
        return jnp.broadcast_to(state["crates"] >= 30, shape)


class CreditedCrates(Crates):
    """Its rewards are redistributed, not summing to those that were returned."""

    def actor_rewards(self, state, rewards):
        total = structured.flat_reward(rewards) + state["crates"]
        return (total, 2 * rewards[1], -rewards[2], rewards[0] + rewards[3])


class Everything(ObservationConversion):
    def space(self):
        return Box(-1.0, 1e6, (3,))

    def maze_to_space(self, state, agent):
        return jnp.stack([state["tag"], state["crates"], agent]).astype(jnp.float32)


class Amount(ActionConversion):
    def space(self):
        return Discrete(3)

    def space_to_maze(self, action, state, agent):
        return action


def make(core_env):
    step_keys = Crates.agent_counts
    conversions = dict.fromkeys(step_keys, Everything()), dict.fromkeys(step_keys, Amount())
    return TimeLimit(MazeEnv(core_env, *conversions), 4)


ENVS = {
    "own rewards": make(Crates()),
    "redistributed rewards": make(CreditedCrates()),
    "few ends": make(Crates(truncated_every=1000)),
}
NUMBERS = {"plan": 1000.0, "carry": 2000.0, "check": 3000.0}


def critic(step_key):
    """A known value function [...] of observations [..., 3] and memory [...]."""
    return lambda obs, memory: NUMBERS[step_key] * obs[..., 0] + 10 * obs[..., 1] + memory


def policy(step_key):
    """A policy whose memory adds up the crates that it saw, and 1 for every step."""

    def act(keys, obs, memory):
        draw = lambda key: random.randint(key, (), 3)  # noqa: E731
        for _ in range(keys.ndim):
            draw = jax.vmap(draw)
        action = draw(keys)
        value = critic(step_key)(obs, memory)
        # What learners see differs from what the env takes.
        return Acted(action + 10, action, -obs[..., 1], value, memory + obs[..., 1] + 1)

    return act


ACTORS = ENVS["own rewards"].actors
POLICIES = {actor: policy(actor.step_key) for actor in ACTORS}
CRITICS = {actor: critic(actor.step_key) for actor in ACTORS}
BEGIN = tuple(
    jnp.full((N, *axes), number, jnp.float32)
    for axes, number in (((), 5), ((AGENTS,), 6), ((), 7), ((), 8))
)
"""What memories begin with, by sub-step."""
SLOTS = (("plan", ()), ("carry", ()), ("check", (0,)), ("check", (1,)))
"""Where each sub-step is found in a rollout."""


@functools.cache
def rollouts(name):
    """Two rollouts of T flat steps in a row."""
    env = VectorEnv(ENVS[name], N)

    def run(key):
        state = collecting.start(env, key, BEGIN)
        state, *one = collecting.collect(env, POLICIES, CRITICS, state, T, BEGIN)
        state, *two = collecting.collect(env, POLICIES, CRITICS, state, T, BEGIN)
        return state, one, two

    return jax.device_get(jax.jit(run)(KEY))


@jax.jit
def substep(env, episode_key, state, memory):
    """One sub-step of one env by the documented derivation of keys, without VectorEnv."""
    actor, obs = env.actor_id(state), env.observe(state)
    moment = episode_key, env.time(state), env.substep(state)
    policy_key = keys.moment_key(*moment, "policy")
    if actor.agent_id is None:
        policy_key = jax.vmap(jax.random.fold_in, (None, 0))(policy_key, jnp.arange(AGENTS))
    acted = POLICIES[actor](policy_key, obs, memory)
    step = env.step(keys.moment_key(*moment, "env"), state, acted.env_action)
    return obs, acted, env.actor_active(state), step


@jax.jit
def seen_at_the_end(env, state, memories):
    """What each actor would think of a state at the end of a flat step."""
    return [
        CRITICS[actor](env.observe(env.at_substep(state, i)), memory)
        for i, (actor, memory) in enumerate(zip(ACTORS, memories, strict=True))
    ]


def flat_step(env, episode_key, state, memories):
    """(state, memories, what a rollout must hold of each sub-step, sum of rewards, done)."""
    parts, rewards, carried = [], [], []
    for memory in memories:
        obs, acted, active, step = substep(env, episode_key, state, memory)
        state = step.state
        carried.append(acted.carry)
        rewards.append(step.reward)
        part = {"obs": obs, "action": acted.action, "log_prob": acted.log_prob, "active": active}
        parts.append({**part, "value": acted.value, "actor_done": step.info["actor_done"]})
    credit = step.info.get("actor_rewards", rewards)
    finals = seen_at_the_end(env, state, carried)
    for part, reward, final_value in zip(parts, credit, finals, strict=True):
        part.update(reward=reward, final_value=final_value)
        part.update(terminated=step.terminated, truncated=step.truncated)
    total = sum(float(np.sum(reward)) for reward in rewards)
    return state, carried, jax.device_get(parts), total, bool(step.done)


def by_loop(env, row, num_steps):
    """Rows (sub-steps, return so far, length so far, done) of one env; memories at the end."""
    first = jax.jit(lambda key: env.reset_state(keys.reset_key(key)))
    episode, rows, done = -1, [], True
    for _ in range(num_steps):
        if done:
            episode, earned, length = episode + 1, 0.0, 0
            episode_key = keys.episode_key(random.as_key(KEY), row, episode)
            state, memories = first(episode_key), [leaf[row] for leaf in BEGIN]
        state, memories, parts, total, done = flat_step(env, episode_key, state, memories)
        earned, length = earned + total, length + 1
        rows.append((parts, earned, length, done))
    return rows, [leaf[row] for leaf in BEGIN] if done else memories


FIELDS = ("obs", "action", "reward", "log_prob", "value", "active", "actor_done")


@pytest.mark.parametrize("name", ENVS)
def test_a_structured_rollout_is_what_a_loop_over_single_envs_gives(name):
    state, one, two = rollouts(name)
    rollout, episodes = jax.tree.map(lambda a, b: np.concatenate([a, b]), one, two)
    for row in (0, 1, N - 1):
        rows, memories = by_loop(ENVS[name], row, 2 * T)
        for t, (parts, earned, length, done) in enumerate(rows):
            for (key, slot), part in zip(SLOTS, parts, strict=True):
                steps = rollout.transitions[key]
                for field in FIELDS:
                    got = getattr(steps, field)[(t, row, *slot)]
                    np.testing.assert_array_equal(got, part[field], f"{key} {field} at {t}")
                assert steps.terminated[t, row] == part["terminated"], f"{key} at {t}"
                assert steps.truncated[t, row] == part["truncated"], f"{key} at {t}"
            assert episodes.ended[t, row] == done
            assert episodes.returns[t, row] == earned and episodes.lengths[t, row] == length
        for i, memory in enumerate(memories):
            np.testing.assert_array_equal(state.carry[i][row], memory)
        assert state.episode_return[row] == (0 if done else earned)
        assert state.episode_length[row] == (0 if done else length)


@pytest.mark.parametrize("name", ENVS)
def test_next_values_are_those_of_what_each_actor_sees_next(name):
    _, one, two = rollouts(name)
    rollout = jax.tree.map(lambda a, b: np.concatenate([a, b]), one[0], two[0])
    seen = set()
    for row in (0, 1, N - 1):
        rows, _ = by_loop(ENVS[name], row, 2 * T)
        for t, (parts, *_) in enumerate(rows):
            cut = t in (T - 1, 2 * T - 1)
            for i, ((key, slot), part) in enumerate(zip(SLOTS, parts, strict=True)):
                if part["terminated"]:
                    continue
                # At a cut, what would be seen at once; else what was seen in the actor's turn.
                at_once = cut or part["truncated"]
                want = part["final_value"] if at_once else rows[t + 1][0][i]["value"]
                got = rollout.next_value[key][(t, row, *slot)]
                np.testing.assert_array_equal(got, want, f"{key} at {t}")
                seen.add((bool(part["truncated"]), cut))
    assert {(True, False), (False, True), (False, False)} <= seen


def test_ends_in_every_sub_step_are_seen_and_leave_the_later_actors_inactive():
    _, (rollout, _), _ = rollouts("own rewards")
    plan, carry, check = (rollout.transitions[key] for key in ("plan", "carry", "check"))
    done = plan.terminated | plan.truncated
    acts = np.stack([plan.active, carry.active.any(-1), *np.moveaxis(check.active, -1, 0)])
    # Some carrier is active unless the planner's sub-step ended the episode.
    by_plan, later = done & ~acts[1], done & acts[1]
    assert by_plan.any() and later.any() and acts[1][~done].all()
    assert not acts[2:, by_plan].any()
    for steps in (carry, check):
        assert not steps.reward[by_plan].any()


def test_shapes_tell_slots_and_types_stay_the_same():
    env = VectorEnv(ENVS["redistributed rewards"], N)
    before = jax.eval_shape(lambda: collecting.start(env, KEY, BEGIN))
    after, rollout, episodes = jax.eval_shape(
        lambda state: collecting.collect(env, POLICIES, CRITICS, state, T, BEGIN), before
    )
    assert jax.tree.structure(after) == jax.tree.structure(before)
    for one, other in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True):
        assert (one.shape, one.dtype, one.weak_type) == (other.shape, other.dtype, other.weak_type)
    slots = {"plan": (), "carry": (AGENTS,), "check": (2,)}
    for key, steps in rollout.transitions.items():
        shapes = {getattr(steps, name).shape for name in FIELDS if name != "obs"}
        assert shapes == {(T, N, *slots[key])} == {rollout.next_value[key].shape}
        assert steps.obs.shape == (T, N, *slots[key], 3)
        assert steps.terminated.shape == steps.truncated.shape == (T, N)
        assert steps.reward.dtype == steps.value.dtype == jnp.float32
    assert episodes.returns.shape == (T, N)


@pytest.mark.parametrize("auto_reset", ["always", "compact"])
def test_first_episodes_are_those_of_single_envs(auto_reset):
    name = "own rewards"
    env = VectorEnv(ENVS[name], N, auto_reset)
    episodes = jax.jit(lambda: collecting.run_episodes(env, POLICIES, KEY, 8, BEGIN))()
    assert episodes.ended.all(), "the time limit is 4"
    for row in (0, N - 1):
        rows, _ = by_loop(ENVS[name], row, 4)
        ends = [i for i, (*_, done) in enumerate(rows) if done]
        assert (episodes.returns[row], episodes.lengths[row]) == rows[ends[0]][1:3]
