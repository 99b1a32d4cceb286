"""Episodes are recorded as they were, and stay readable after the reset."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import TimeLimit, VectorEnv
from mazejax.envs.check import check_env
from mazejax.envs.episode import play, random_policy
from mazejax.envs.probe import ExpensiveReset
from mazejax.errors import ConfigError
from mazejax.wrappers.base import find, find_state
from mazejax.wrappers.record import ActionRecording, GIFExport, SpacesRecording
from mazejax.wrappers.reward import RewardScaling
from tests.envs.convoy import CONVOY
from tests.wrappers.played import KEY, played

STEPS, NUM = 20, 3
ENVS = {
    "lengths": ExpensiveReset(iterations=3, longest=6),
    "convoy": CONVOY,
    "cartpole": mazejax.make("CartPole-v1", max_steps=5),
}


@functools.cache
def run(name, kind, strategy="auto", max_steps=8):
    """(env, recorder, moves [T, N, ...] on the host)."""
    env = TimeLimit(kind(ENVS[name], max_steps), 30)
    return env, find(env, kind), jax.device_get(played(VectorEnv(env, NUM, strategy), KEY, STEPS))


def finished(env, recorder, moves, t):
    """Recordings [N] in the state after step t."""
    tapes = find_state(env, type(recorder), moves[-1][2].state.envs)
    return jax.device_get(jax.vmap(recorder.finished)(jax.tree.map(lambda leaf: leaf[t], tapes)))


def episodes_of(moves, n):
    """(first, last) step of every episode of an env."""
    ends = np.flatnonzero(moves[-1][2].done[:, n])
    return list(zip([0, *ends[:-1] + 1], ends, strict=True))


def assert_rows(rows, seen, start, end, n):
    """Rows of a tape are what was seen of one env from one step to another."""
    seen = jax.tree.map(lambda leaf: leaf[start : end + 1, n], seen)
    rows = jax.tree.map(lambda leaf: leaf[: end + 1 - start], rows)
    jax.tree.map(np.testing.assert_array_equal, rows, seen)


def masked(active, leaf):
    return np.where(active.reshape(active.shape + (1,) * (leaf.ndim - active.ndim)), leaf, 0)


@pytest.mark.parametrize("strategy", ["always", "compact"])
@pytest.mark.parametrize("name", ENVS)
def test_every_action_of_an_episode_is_readable_until_the_next_one_ends(name, strategy):
    env, recorder, moves = run(name, ActionRecording, strategy)
    for n in range(NUM):
        episodes = episodes_of(moves, n)
        for (start, end), (_, following) in itertools.pairwise(episodes):
            for t in (end, following - 1) if following > end + 1 else (end,):
                recording = jax.tree.map(lambda x, n=n: x[n], finished(env, recorder, moves, t))
                length = end + 1 - start
                assert recording.ending.length == length
                earned = sum(step.reward[start : end + 1, n].sum() for _, _, step in moves)
                np.testing.assert_allclose(recording.ending.episode_return, earned, rtol=1e-6)
                for rows, (state, action, _) in zip(recording.rows, moves, strict=True):
                    active = jax.vmap(jax.vmap(env.actor_active))(state.envs)
                    taken = masked(np.asarray(active), action)[start : end + 1, n]
                    np.testing.assert_array_equal(rows[:length], taken)
    assert len(episodes) > 1


def test_nothing_is_finished_before_the_first_end_and_the_running_one_grows():
    env, recorder, moves = run("cartpole", ActionRecording)
    assert not finished(env, recorder, moves, 2).ending.length.any()
    tapes = find_state(env, ActionRecording, moves[-1][2].state.envs)
    running = jax.vmap(recorder.running)(jax.tree.map(lambda leaf: leaf[2], tapes))
    np.testing.assert_array_equal(running.ending.length, [3, 3, 3])
    np.testing.assert_array_equal(running.rows[0][:, :3].T, moves[0][1][:3])
    assert not running.ending.truncated.any()


@pytest.mark.parametrize("name", ENVS)
def test_spaces_are_recorded_with_the_final_observations(name):
    env, recorder, moves = run(name, SpacesRecording)
    for n in range(NUM):
        start, end = episodes_of(moves, n)[-1]
        recording = jax.tree.map(lambda x, n=n: x[n], finished(env, recorder, moves, end))
        for row, (state, _, step) in zip(recording.rows, moves, strict=True):
            obs = jax.vmap(jax.vmap(env.observe))(state.envs)
            assert_rows(row.obs, obs, start, end, n)
            np.testing.assert_array_equal(
                row.reward[: end + 1 - start], step.reward[start : end + 1, n]
            )
            active = jax.vmap(jax.vmap(env.actor_active))(state.envs)[start : end + 1, n]
            np.testing.assert_array_equal(row.active[: end + 1 - start], active)
        final_obs = moves[-1][2].info["final_obs"]
        final_obs = final_obs if len(env.actors) > 1 else (final_obs,)
        last = jax.tree.map(lambda seen, end=end, n=n: seen[end, n], final_obs)
        jax.tree.map(np.testing.assert_array_equal, recording.last, last)
        ending, step = recording.ending, moves[-1][2]
        assert bool(ending.terminated) == bool(step.terminated[end, n])
        assert bool(ending.truncated) == bool(step.truncated[end, n])


def test_states_to_be_drawn_are_recorded_once_a_flat_step():
    env, recorder, moves = run("convoy", GIFExport)
    start, end = episodes_of(moves, 0)[0]
    recording = jax.tree.map(lambda x: x[0], finished(env, recorder, moves, end))
    states = moves[0][0].envs.inner.core
    assert_rows(recording.rows[0], states, start, end, 0)
    assert recording.rows[1:] == ((), ())
    assert recording.last.fuel.shape == (3,)


def test_steps_beyond_the_tape_are_counted_and_leave_the_other_side_alone():
    env, recorder, moves = run("cartpole", ActionRecording, max_steps=3)
    recording = finished(env, recorder, moves, 9)
    np.testing.assert_array_equal(recording.ending.length, [5, 5, 5])
    np.testing.assert_array_equal(recording.rows[0].T, moves[0][1][5:8])
    assert recording.rows[0].shape == (NUM, 3)


def test_an_end_from_outside_is_a_truncation():
    env = TimeLimit(ActionRecording(ExpensiveReset(longest=9), 10), 1)
    ((_, _, step),) = played(VectorEnv(env, 16), KEY, 1)
    ending = find_state(env, ActionRecording, step.state.envs).memory.finished
    np.testing.assert_array_equal(ending.terminated, step.terminated)
    np.testing.assert_array_equal(ending.truncated, ~step.terminated)
    assert step.terminated.any() and ending.truncated.any()


def test_a_single_episode_has_its_recording_in_its_final_state():
    env = ActionRecording(CONVOY, 10)
    episode = jax.jit(lambda key: play(env, random_policy(env), key, 9))(KEY)
    recording = env.running(episode.final_state)
    length = int(episode.length)
    for rows, substep in zip(recording.rows, episode.substeps, strict=True):
        taken = masked(np.asarray(substep.active), np.asarray(substep.action))
        np.testing.assert_array_equal(rows[:length], taken[:length])
    again = CONVOY.replay(KEY, tuple(rows[:length] for rows in recording.rows))
    assert float(again.episode_return) == float(episode.episode_return)
    assert int(recording.ending.length) == int(again.length) == length


def test_recorders_may_stand_within_each_other():
    env = SpacesRecording(RewardScaling(ActionRecording(ENVS["cartpole"], 6), 2.0), 6)
    moves = jax.device_get(played(VectorEnv(env, 2), KEY, 7))
    state = jax.tree.map(lambda leaf: leaf[-1], moves[0][2].state.envs)
    inner = find_state(env, ActionRecording, state).memory.finished
    np.testing.assert_array_equal(state.memory.finished.episode_return, [10.0, 10.0])
    np.testing.assert_array_equal(inner.episode_return, [5.0, 5.0])


def test_a_reset_copies_no_tape():
    envs = VectorEnv(ActionRecording(ENVS["cartpole"], 1000), 4, "always")
    state = jax.eval_shape(envs.reset, KEY)[1]
    step = jax.jit(lambda s, a: envs.step(s, a).state, donate_argnums=0)
    lowered = step.lower(state, jax.ShapeDtypeStruct((4,), jnp.int32)).compile().as_text()
    assert not [line for line in lowered.splitlines() if "[4,2000]" in line and "select(" in line]


@pytest.mark.parametrize(
    "env",
    [
        ActionRecording(TimeLimit(ExpensiveReset(longest=9), 5), 4),
        GIFExport(SpacesRecording(mazejax.make("CartPole-v1"), 6), 6),
    ],
    ids=str,
)
def test_they_keep_the_contract_of_envs(env):
    assert not check_env(env, num_steps=15, num_envs=2).errors


@pytest.mark.parametrize("room", [0, -1, 2.5, True])
def test_a_tape_without_room_is_refused(room):
    with pytest.raises(ConfigError, match=r"GIFExport\.max_steps: must be a positive integer"):
        GIFExport(CONVOY, room)
