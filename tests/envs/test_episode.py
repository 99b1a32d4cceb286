"""Episodes that are played and replayed: as VectorEnv plays them, and frozen at the end.

The structured env counts in powers of two, so that its floats are exact and every program
gives the same bits. Those of CartPole and the like may differ in the last place between
programs, for compilers contract products and sums; what is discrete may not.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import random
from mazejax.envs import EventPolicy, episode, keys, play, random_policy
from mazejax.envs.cutting2d.events import InventoryEvents
from mazejax.envs.vector import VectorEnv
from mazejax.errors import ConfigError, EnvError, SpaceError
from mazejax.spaces import Discrete, masks
from tests.envs.convoy import CONVOY, ConvoyEvents

CARTPOLE = mazejax.make("CartPole-v1", max_steps=24)
ENVS = {"cartpole": CARTPOLE, "convoy": CONVOY}
REGISTERED = mazejax.registry.environments.names(namespaces=False)
REGISTERED = [name for name in REGISTERED if name.endswith(("-v0", "-v1"))]


NUM_EPISODES, T = 12, 30


@functools.cache
def player(name, num_steps):
    """Compiled: the episodes [E] of a random policy for keys [E]."""
    env = ENVS[name]
    policy = episode.random_policy(env)
    return jax.jit(jax.vmap(lambda key: episode.play(env, policy, key, num_steps)))


@functools.cache
def played(name, num_steps=T):
    return jax.device_get(player(name, num_steps)(jax.random.split(random.key(1), NUM_EPISODES)))


def row(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def assert_same(one, other, rtol=0.0, atol=0.0):
    """Equal structures, dtypes and shapes; equal bits, floats to the tolerance."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for mine, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        mine, theirs = (
            np.asarray(jax.random.key_data(leaf) if random.is_key(leaf) else leaf)
            for leaf in (mine, theirs)
        )
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        if mine.dtype.kind == "f":
            np.testing.assert_allclose(mine, theirs, rtol, atol)
        else:
            np.testing.assert_array_equal(mine, theirs)


ACROSS_PROGRAMS = {"convoy": {}, "cartpole": {"rtol": 1e-5, "atol": 1e-6}}


# --- played as VectorEnv plays --------------------------------------------------------


@functools.cache
def vector_run(name, num_envs=2, num_steps=60):
    """What VectorEnv saw, [T, N, ...]: sub-steps before their action, flags, episode keys."""
    env = ENVS[name]
    vector, policy = VectorEnv(env, num_envs), episode.random_policy(env)

    def one_flat_step(carry, _):
        obs, state = carry
        episode_keys, seen = vector.episode_keys(state), []
        for actor in env.actors:
            act = jax.vmap(functools.partial(policy, actor=actor))
            policy_keys = vector.keys(state, "policy")
            action = act(policy_keys, obs, jax.vmap(env.maze_state)(state.envs))
            step = vector.step(state, action)
            seen.append((obs, state.envs, vector.actor_active(state), action, step.reward))
            obs, state = step.obs, step.state
        return (obs, state), (tuple(seen), step.terminated, step.truncated, episode_keys)

    @jax.jit
    def run(key):
        return jax.lax.scan(one_flat_step, vector.reset(key), length=num_steps)[1]

    return jax.device_get(run(random.key(3)))


@pytest.mark.parametrize("name", ENVS)
def test_a_key_of_vector_env_gives_the_very_episode_that_it_played(name):
    seen, terminated, truncated, episode_keys = vector_run(name)
    done = terminated | truncated
    num_steps, num_envs = done.shape
    begins = np.concatenate([np.ones((1, num_envs), bool), done[:-1]])
    starts = np.argwhere(begins)[:NUM_EPISODES]
    ends = [np.append(t + np.flatnonzero(done[t:, n]), num_steps)[0] for t, n in starts]
    episodes = jax.device_get(player(name, T)(episode_keys[tuple(starts.T)]))
    for e, ((t, n), end) in enumerate(zip(starts, ends, strict=True)):
        one, length = row(episodes, e), end + 1 - t
        if end < num_steps:
            assert one.length == length
            assert (one.terminated, one.truncated) == (terminated[end, n], truncated[end, n])
        for substep, vector_substep in zip(one.substeps, seen, strict=True):
            mine = row(tuple(substep[:5]), slice(min(length, num_steps - t)))
            theirs = row(vector_substep, np.s_[t : t + length, n])
            assert_same(mine, theirs, **ACROSS_PROGRAMS[name])
    assert starts[-1][0] > 0 and len({n for _, n in starts}) == num_envs  # auto-resets in each


def test_a_key_of_another_implementation_seeds_one_of_ours():
    play = jax.jit(lambda key: episode.play(CARTPOLE, episode.random_policy(CARTPOLE), key, 3))
    key = jax.random.key(5)
    one, other = play(key), play(random.as_key(key))
    assert_same(one, other, **ACROSS_PROGRAMS["cartpole"])
    assert random.impl_name(one.key) == "counter"


# --- replay ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", REGISTERED)
def test_replays_of_registered_envs_are_the_episodes_that_were_played(name):
    env = mazejax.make(name)
    policy, replay = episode.random_policy(env), jax.jit(env.replay)
    original = jax.jit(lambda key: episode.play(env, policy, key, 100))(random.key(2))
    again = replay(original.key, original.actions)
    assert_same(original, again, rtol=1e-4, atol=1e-5)
    assert original.length > 2 and np.isfinite(original.episode_return)
    assert_same(again, replay(again.key, again.actions))  # one program: the same bits
    longer = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * 2), original.actions)
    first_steps = row(replay(again.key, longer).substeps, slice(100))
    assert_same(again.substeps, first_steps, rtol=1e-4, atol=1e-5)


def test_replays_of_a_structured_env_have_the_same_bits():
    original = played("convoy")
    again = jax.jit(jax.vmap(CONVOY.replay))(original.key, original.actions)
    assert_same(original, jax.device_get(again))


def test_replays_of_the_first_actions_are_the_first_steps():
    original = row(played("cartpole"), 0)
    assert original.length > 9
    again = jax.jit(CARTPOLE.replay)(original.key, original.actions[0][:9])
    assert int(again.length) == 9 and not again.terminated and not again.truncated
    close = functools.partial(assert_same, **ACROSS_PROGRAMS["cartpole"])
    close(again.substeps, row(original.substeps, slice(9)))
    close(again.final_state, row(original.substeps[0].state, 9))


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (lambda a: a[:2], r"TimeLimit<Convoy>\.replay: got actions of 2 sub-steps, expected 3"),
        (lambda a: a[0], "got actions of 1 sub-steps, expected 3"),
        (lambda a: (*a, a[0]), "got actions of 4 sub-steps, expected 3"),
    ],
)
def test_a_wrong_number_of_sub_steps_is_refused(actions, message):
    one = row(played("convoy"), 0)
    with pytest.raises(EnvError, match=message):
        CONVOY.replay(one.key, actions(one.actions))


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (lambda s, d, h: (s, d[:, :2], h), r"action: got shape \(30, 2\), expected \(30, 3\)"),
        (lambda s, d, h: (s, d, h[:7]), r"action: got shape \(7,\), expected \(30,\)"),
        (lambda s, d, h: (s, d[:, 0], h), r"action: got shape \(30,\), expected \(30, 3\)"),
        (lambda s, d, h: (s + 2, d, h), r"action\[0\]: got 2|action\[0\]: got 3"),
    ],
)
def test_actions_of_wrong_shapes_or_values_are_refused(actions, message):
    one = row(played("convoy"), 0)
    with pytest.raises(SpaceError, match=message):
        CONVOY.replay(one.key, actions(*one.actions))


def test_raw_words_are_no_key():
    with pytest.raises(ConfigError, match="expected a typed key"):
        episode.play(CARTPOLE, episode.random_policy(CARTPOLE), jnp.zeros(2, jnp.uint32), 3)


# --- what an episode holds ------------------------------------------------------------


def test_episodes_of_the_structured_env_end_in_every_way_and_cars_drop_out():
    episodes = played("convoy")
    assert (episodes.terminated & (episodes.length < 7)).any()
    assert (episodes.truncated & ~episodes.terminated & (episodes.length == 7)).any()
    signal, drive, _ = episodes.substeps
    before_end = np.arange(T) < episodes.length[:, None]
    last = np.arange(T) == episodes.length[:, None] - 1
    assert (last & ~drive.active.any(2) & episodes.terminated[:, None]).any()  # in the first
    assert (before_end[..., None] & ~drive.active & drive.active.any(2)[..., None]).any()
    np.testing.assert_array_equal(signal.active, before_end)
    assert (drive.reward[~drive.active] == 0.0).all()
    alone = [int(one.length) for one in (row(episodes, e) for e in range(NUM_EPISODES))]
    assert len(set(alone)) > 2


def test_events_of_the_reset_come_with_the_first_flat_step_and_credit_with_the_last_sub_step():
    episodes = played("convoy")
    infos = [substep.info for substep in episodes.substeps]
    fuelled = [info["events"][ConvoyEvents.fuelled] for info in infos]
    assert (fuelled[0].count == 0).all() and (fuelled[1].count == 0).all()
    within = np.arange(T) < episodes.length[:, None]
    np.testing.assert_array_equal(
        np.where(within, fuelled[2].count, 0), np.arange(T)[None].repeat(NUM_EPISODES, 0) == 0
    )
    start = episodes.substeps[0].state.core.fuel[:, 0]
    np.testing.assert_array_equal(fuelled[2].attributes["fuel"][:, 0, 0], start)
    assert "actor_rewards" not in infos[0] and "actor_rewards" not in infos[1]
    credit, rewards = infos[2]["actor_rewards"], [s.reward for s in episodes.substeps]
    np.testing.assert_allclose(
        np.where(within, credit[0], 0.0), rewards[1].sum(2) + rewards[2], rtol=1e-6
    )
    assert all("actor_done" in info for info in infos)


def test_after_the_end_nothing_changes():
    short, long = played("convoy", T), played("convoy", T + 9)
    for field in ("key", "length", "terminated", "truncated", "final_state", "final_obs"):
        assert_same(getattr(short, field), getattr(long, field))
    for substep in long.substeps:
        after = np.arange(T + 9) >= long.length[:, None]
        assert (substep.reward[after] == 0.0).all() and not substep.active[after].any()
    last = jax.vmap(lambda leaf, t: leaf[t])(long.substeps[2].state.core.fuel, long.length - 1)
    assert (long.final_state.core.fuel >= last).all() and (
        long.final_state.time == long.length
    ).all()
    got = jax.vmap(lambda one: one.episode_return)(long)
    flat = [substep.reward.reshape(NUM_EPISODES, -1) for substep in long.substeps]
    np.testing.assert_array_equal(got, np.concatenate(flat, axis=1).sum(1))


def test_an_episode_that_is_cut_short_has_not_ended():
    short, long = played("cartpole", 4), played("cartpole")
    assert (short.length == 4).all() and not (short.terminated | short.truncated).any()
    close = functools.partial(assert_same, **ACROSS_PROGRAMS["cartpole"])
    close(short.final_state, row(long.substeps[0].state, np.s_[:, 4]))
    close(short.final_obs, row(long.substeps[0].obs, np.s_[:, 4]))


def test_random_actions_are_allowed_by_the_masks_that_were_seen():
    drive = played("convoy").substeps[1]
    allowed = jax.vmap(jax.vmap(jax.vmap(functools.partial(masks.is_allowed, Discrete(3)))))
    assert np.asarray(allowed(drive.action, drive.obs["action_mask"])).all()
    assert len(np.unique(drive.action)) == 3


# --- states by value ------------------------------------------------------------------


@pytest.mark.parametrize("name", ENVS)
def test_a_copied_state_has_the_same_future_as_the_episode(name):
    env, original = ENVS[name], row(played(name), 0)
    middle, length = 2, int(original.length)
    assert length > middle + 1

    @jax.jit
    def go_on(state, key, actions):
        def one_flat_step(state, actions):
            rewards = []
            for index, action in enumerate(actions):
                step = env.step(keys.moment_key(key, env.time(state), index, "env"), state, action)
                rewards.append(step.reward)
                state = step.state
            return state, tuple(rewards)

        return jax.lax.scan(one_flat_step, state, actions)

    clone = row(original.substeps[0].state, middle)
    rest = row(original.actions, slice(middle, length))
    ends = [go_on(clone, original.key, rest) for _ in range(2)]
    assert_same(*ends)
    rewards = tuple(substep.reward[middle:length] for substep in original.substeps)
    assert_same(ends[0], (original.final_state, rewards), **ACROSS_PROGRAMS[name])


@pytest.mark.parametrize("name", ENVS)
def test_the_loop_in_plain_python_is_the_loop_in_scan(name):
    env, original = ENVS[name], row(played(name), 3)
    policy, key = episode.random_policy(env), original.key
    obs, state = env.reset(keys.reset_key(key))
    length = min(int(original.length), 10)
    for t in range(length):
        for index, substep in enumerate(original.substeps):
            actor = env.actor_id(state)
            assert actor == env.actors[index]
            policy_key, env_key = (
                keys.moment_key(key, env.time(state), index, purpose)
                for purpose in ("policy", "env")
            )
            action = policy(policy_key, obs, env.maze_state(state), actor)
            close = functools.partial(assert_same, **ACROSS_PROGRAMS[name])
            close((obs, state, action), row((substep.obs, substep.state, substep.action), t))
            obs, state, reward, terminated, truncated, _ = env.step(env_key, state, action)
            close(reward, substep.reward[t])
    assert bool(terminated | truncated) == (original.length <= 10)


def test_a_policy_may_ask_for_the_events_of_the_last_step():
    env = mazejax.make("Cutting2D-v0", structured=True, max_steps=6)
    told = []

    def act(key, obs, maze_state, actor, logs):
        cuts = sum(log.count(InventoryEvents.pieces_in_inventory) for log in logs)
        space = env.action_spaces[actor.step_key]
        chosen = jax.tree.map(lambda x: x * 0, space.sample(key))
        told.append(len(logs))
        # Rotates from the second flat step on, in which the first one's event is known.
        return chosen if actor.step_key == "selection" else {**chosen, "cut_rotation": cuts}

    episode = jax.jit(lambda key: play(env, EventPolicy(act), key, 6))(random.key(0))
    assert told == [2, 2]
    assert episode.substeps[1].action["cut_rotation"].tolist() == [0, 1, 1, 1, 1, 1]


def test_an_episode_has_statistics_and_kpis():
    env = mazejax.make("Cutting2D-v0", max_steps=6)
    episode = jax.jit(lambda key: play(env, random_policy(env), key, 9))(random.key(0))
    statistics = episode.statistics()
    assert int(statistics.num_steps) == 6
    pieces = int(statistics.count(InventoryEvents.piece_replenished))
    assert episode.kpis(env) == {"raw_piece_usage_per_step": pytest.approx(pieces / 6)}
    pole = mazejax.make("CartPole-v1")
    assert play(pole, random_policy(pole), random.key(0), 3).kpis(pole) == {}
