"""Recordings become files: of actions, of what learners saw, and pictures."""

import functools

import jax
import numpy as np
import pytest

import mazejax
from mazejax import TimeLimit, VectorEnv
from mazejax.envs.reset_params import SuccessGatedCurriculum
from mazejax.errors import ConfigError, EnvError
from mazejax.runners import recordings
from mazejax.trajectories.episode_file import load_episode, read_episode
from mazejax.wrappers.record import ActionRecording, GIFExport, SpacesRecording
from mazejax.wrappers.repeat import StepSkip
from mazejax.wrappers.reward import ReturnNormalization
from tests.envs.convoy import CONVOY
from tests.wrappers.played import KEY, played

CARTPOLE = mazejax.make("CartPole-v1", max_steps=6)
NAMES = ["env00000-episode000000", "env00001-episode000000"]


@functools.cache
def ran(env, num_steps=8, **options):
    """(envs, moves, state) of two envs after some steps, on the host."""
    envs = VectorEnv(env, 2, **{name: dict(value) for name, value in options.items()})
    moves = played(envs, KEY, num_steps)
    return envs, moves, jax.tree.map(lambda leaf: leaf[-1], moves[-1][2].state)


@pytest.mark.parametrize("env", [CARTPOLE, CONVOY], ids=str)
def test_actions_are_written_as_episodes_that_play_again(tmp_path, env):
    envs, moves, state = ran(ActionRecording(env, 10))
    paths = recordings.save_actions(tmp_path / "episodes", envs, state)
    assert sorted(path.name for path in paths) == [f"{name}.episode" for name in NAMES]
    for n, path in enumerate(paths):
        episode = load_episode(path, env)
        end = np.flatnonzero(moves[-1][2].done[:, n])[0]
        assert int(episode.length) == end + 1
        for substep, (_, _, step) in zip(episode.substeps, moves, strict=True):
            np.testing.assert_allclose(substep.reward, step.reward[: end + 1, n], rtol=1e-6)
        key = envs.episode_keys(jax.tree.map(lambda leaf: leaf[0], moves[0][0]))[n]
        assert read_episode(path).key == key


def test_every_env_is_played_again_with_its_own_numbers(tmp_path):
    gravity = ("gravity", np.float32([5.0, 20.0]))
    envs, _, state = ran_batched(gravity)
    paths = recordings.save_actions(tmp_path, envs, state)
    numbers = [read_episode(path).header["numbers"]["env.core_env.gravity"] for path in paths]
    assert numbers == ["float32 5.0", "float32 20.0"]


def ran_batched(number):
    envs = VectorEnv(ActionRecording(CARTPOLE, 10), 2, batched=dict([number]))
    moves = played(envs, KEY, 8)
    return envs, moves, jax.tree.map(lambda leaf: leaf[-1], moves[-1][2].state)


def test_what_is_there_stays_and_later_episodes_get_other_names(tmp_path):
    envs, _, state = ran(ActionRecording(CARTPOLE, 10))
    first = recordings.save_actions(tmp_path, envs, state)
    before = [path.read_bytes() for path in first]
    assert recordings.save_actions(tmp_path, envs, state) == first
    assert [path.read_bytes() for path in first] == before
    later = recordings.save_actions(tmp_path, *ran(ActionRecording(CARTPOLE, 10), 14)[::2])
    assert [path.name for path in later] == [name[:-1] + "1.episode" for name in NAMES]


def test_nothing_is_written_before_an_episode_ends(tmp_path):
    envs, _, state = ran(ActionRecording(CARTPOLE, 10), 5)
    assert recordings.save_actions(tmp_path, envs, state) == []


def test_spaces_are_written_as_named_arrays(tmp_path):
    envs, moves, state = ran(TimeLimit(SpacesRecording(CONVOY, 10), 9))
    paths = recordings.save_spaces(tmp_path, envs, state)
    with np.load(paths[1]) as file:
        found = dict(file)
    assert found["step_keys"].tolist() == ["signal", "drive", "help"]
    end = np.flatnonzero(moves[-1][2].done[:, 1])[0]
    drives = moves[0][2].obs
    np.testing.assert_array_equal(found["1/obs/fuel"], drives["fuel"][: end + 1, 1])
    np.testing.assert_array_equal(found["1/reward"], moves[1][2].reward[: end + 1, 1])
    np.testing.assert_array_equal(
        found["1/final_obs/fuel"], moves[-1][2].info["final_obs"][1]["fuel"][end, 1]
    )
    assert found["0/obs"].shape == (end + 1, 3) and found["1/active"].dtype == bool
    assert bool(found["terminated"]) == bool(moves[-1][2].terminated[end, 1])


def test_gifs_show_every_flat_step_and_the_end(tmp_path):
    from PIL import Image

    envs, _, state = ran(GIFExport(CARTPOLE, 10))
    paths = recordings.save_gifs(tmp_path, envs, state, fps=10, width=60)
    with Image.open(paths[0]) as image:
        assert image.n_frames == 7 and image.size[0] == 60


@pytest.mark.parametrize(
    ("env", "error", "message"),
    [
        (ActionRecording(CARTPOLE, 3), ConfigError, r"max_steps: an episode has 6 flat steps"),
        (CARTPOLE, EnvError, r"has no ActionRecording in its stack"),
        (
            ActionRecording(ReturnNormalization(CARTPOLE), 10),
            EnvError,
            r"recorded 6 flat steps with return .* play again as 6",
        ),
        (StepSkip(ActionRecording(CONVOY, 10), 2), EnvError, r"around all wrappers that draw"),
    ],
)
def test_what_cannot_be_played_again_is_refused(tmp_path, env, error, message):
    envs, _, state = ran(env, 20)
    with pytest.raises(error, match=message):
        recordings.save_actions(tmp_path, envs, state)


def test_numbers_that_are_forgotten_are_refused(tmp_path):
    hook = SuccessGatedCurriculum("gravity", 9.0, 12.0, 100.0)
    envs = VectorEnv(ActionRecording(CARTPOLE, 10), 2, reset_params=hook)
    with pytest.raises(ConfigError, match=r"save_actions: reset_params chose the numbers"):
        recordings.save_actions(tmp_path, envs, envs.reset(KEY)[1])
