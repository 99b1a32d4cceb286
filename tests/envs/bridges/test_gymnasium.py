"""Gymnasium's vector envs behind our contract: final observations, dtypes, spaces, modes."""

import os
import signal
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from mazejax.envs.bridges.gymnasium import HostVectorEnv
from mazejax.errors import ConfigError, EnvError, SpaceError
from mazejax.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete


class Count(gymnasium.Env):
    """Observes 100 after a reset and then the steps of the episode; ends by its own number."""

    observation_space = spaces.Box(0.0, 200.0, (1,))
    action_space = spaces.Discrete(2)

    def __init__(self, last):
        self.last = last

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.array([100.0]), {}

    def step(self, action):
        self.time += 1
        return np.array([self.time]), self.time / 10, self.time >= self.last, False, {}


class Everything(gymnasium.Env):
    """Observations and actions of every kind; it refuses what its own spaces do not contain."""

    observation_space = spaces.Dict(
        {
            "wide": spaces.Box(-1.0, 1.0, (2,), np.float64),
            "image": spaces.Box(0, 255, (2, 2), np.uint8),
            "inner": spaces.Dict({"kind": spaces.Discrete(3, start=5)}),
            "on": spaces.MultiBinary(3),
        }
    )
    action_space = spaces.Dict(
        {
            "gear": spaces.Discrete(3, start=5),
            "joints": spaces.MultiDiscrete([2, 4]),
            "lights": spaces.MultiBinary((2, 2)),
            "speed": spaces.Box(-0.1, 0.1, (2,), np.float64),
        }
    )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observed(5, 0.25), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        assert type(action["gear"]) is np.int64 and action["speed"].dtype == np.float64
        return self.observed(int(action["gear"]), action["speed"][0]), 1.0, True, False, {}

    def observed(self, kind, number):
        return {
            "wide": np.array([number, -number]),
            "image": np.full((2, 2), kind, np.uint8),
            "inner": {"kind": kind},
            "on": np.array([1, 0, 1], np.int8),
        }


def count_envs(*lasts, limit=3, **options):
    def limited(last):
        return lambda: gymnasium.wrappers.TimeLimit(Count(last), limit)

    options = {"autoreset_mode": AutoresetMode.SAME_STEP, **options}
    return SyncVectorEnv([limited(last) for last in lasts], **options)


# --- steps --------------------------------------------------------------------------------------


@pytest.mark.parametrize("copy", [True, False])
def test_final_observations_are_those_before_the_reset_and_flags_say_why_it_ended(copy):
    # The first terminates after 2 steps, the second is cut after 3, the third does both at once.
    with HostVectorEnv(count_envs(2, 9, 3, copy=copy)) as envs:
        obs = envs.reset(seed=0)
        assert obs.dtype == np.float32 and obs.tolist() == [[100.0]] * 3
        seen = []
        for _ in range(4):
            step = envs.step(np.zeros(3, np.int32))
            seen.append((step.obs.copy(), step.final_obs.copy(), *step[1:4]))
    obs, final_obs, reward, terminated, truncated = (np.stack(x) for x in zip(*seen, strict=True))
    np.testing.assert_array_equal(obs[..., 0], [[1, 1, 1], [100, 2, 2], [1, 100, 100], [100, 1, 1]])
    np.testing.assert_array_equal(final_obs[..., 0], [[1, 1, 1], [2, 2, 2], [1, 3, 3], [2, 1, 1]])
    np.testing.assert_array_equal(
        reward, np.float32([[0.1, 0.1, 0.1], [0.2, 0.2, 0.2], [0.1, 0.3, 0.3], [0.2, 0.1, 0.1]])
    )
    assert np.argwhere(terminated).tolist() == [[1, 0], [2, 2], [3, 0]]
    assert np.argwhere(truncated).tolist() == [[2, 1], [2, 2]]
    assert {array.dtype.name for array in (obs, final_obs, reward)} == {"float32"}
    assert terminated.dtype == truncated.dtype == bool


def test_dicts_of_every_kind_go_there_and_back_in_the_dtypes_of_each_side():
    envs = HostVectorEnv(SyncVectorEnv([Everything] * 2, autoreset_mode="SameStep"))
    assert envs.action_space == Dict(
        {
            "gear": Discrete(3, start=5),
            "joints": MultiDiscrete([2, 4]),
            "lights": MultiBinary((2, 2)),
            "speed": Box(-0.1, 0.1, (2,), np.float64),
        }
    )
    first = envs.reset()
    action = {
        "gear": np.array([5, 7], np.int32),
        "joints": np.array([[1, 3], [0, 0]], np.int32),
        "lights": np.ones((2, 2, 2), np.int8),
        # A float32 of 0.1 lies above a float64 of 0.1: what a policy clips in float32.
        "speed": np.array([[0.1, 0.1], [-0.1, 0.0]], np.float32),
    }
    step = envs.step(action)
    assert step.terminated.all()
    for obs in (first, step.obs, step.final_obs):
        dtypes = {"wide": obs["wide"], "image": obs["image"], "kind": obs["inner"]["kind"]}
        assert {name: str(x.dtype) for name, x in dtypes.items()} == {
            "wide": "float64",
            "image": "uint8",
            "kind": "int32",
        }
        assert obs["on"].tolist() == [[1, 0, 1]] * 2 and type(obs) is dict
        assert type(obs["inner"]) is dict
    assert first["inner"]["kind"].tolist() == step.obs["inner"]["kind"].tolist() == [5, 5]
    assert step.final_obs["inner"]["kind"].tolist() == [5, 7]
    assert step.final_obs["image"][:, 0, 0].tolist() == [5, 7]
    np.testing.assert_array_equal(step.final_obs["wide"], [[0.1, -0.1], [-0.1, 0.1]])


def test_processes_step_as_a_loop_does_and_seeds_are_gymnasiums():
    actions = np.random.default_rng(0).integers(0, 2, (30, 2), np.int32)
    runs = []
    for mode in ("sync", "async"):
        with HostVectorEnv.make("CartPole-v1", 2, mode) as envs:
            obs = envs.reset(seed=3)
            steps = [envs.step(action) for action in actions]
        runs.append([obs, *(array for step in steps for array in step[:5])])
        assert any(step.terminated.any() for step in steps)
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, other)
    theirs = gymnasium.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync")
    np.testing.assert_array_equal(theirs.reset(seed=3)[0], runs[0][0])


# --- spaces and names ---------------------------------------------------------------------------


def test_names_are_gymnasiums_or_those_of_the_class():
    assert HostVectorEnv(count_envs(2)).name == "SyncVectorEnv"
    envs = HostVectorEnv.make("CartPole-v1", 2)
    assert envs.name == str(envs.spec) == "CartPole-v1"
    assert repr(envs) == "HostVectorEnv(SyncVectorEnv(CartPole-v1, num_envs=2))"
    assert envs.spec.spaces == (envs.observation_space, envs.action_space)


def test_wrappers_of_gymnasium_are_taken_as_they_come():
    def shifted(env):
        space = spaces.Box(4.0, 6.0, (1,))
        return gymnasium.wrappers.TransformObservation(env, lambda obs: obs[:1] + 5, space)

    inner = HostVectorEnv.make("Pendulum-v1", 2, max_episode_steps=2, wrappers=[shifted])
    envs = HostVectorEnv(gymnasium.wrappers.vector.RecordEpisodeStatistics(inner.envs))
    assert envs.name == "Pendulum-v1" and envs.observation_space == Box(4.0, 6.0, (1,))
    assert (envs.reset(seed=0) >= 4).all()
    envs.step(np.zeros((2, 1), np.float32))
    step = envs.step(np.zeros((2, 1), np.float32))
    assert step.truncated.all() and (step.final_obs >= 4).all()
    assert step.info["episode"]["l"].tolist() == [2, 2]


def test_an_unsupported_space_is_named():
    class Speaking(Count):
        observation_space = spaces.Dict({"says": spaces.Text(5)})

    with pytest.raises(SpaceError, match=r"observation_space\['says'\]: got Text"):
        HostVectorEnv(SyncVectorEnv([lambda: Speaking(2)], autoreset_mode="SameStep"))


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
def test_other_autoreset_modes_are_refused_with_the_way_to_make_the_right_one(mode):
    with pytest.raises(EnvError) as error:
        HostVectorEnv(count_envs(2, autoreset_mode=mode))
    assert str(error.value) == (
        f"SyncVectorEnv(num_envs=1): got autoreset mode {mode.value}, expected SameStep; use "
        f"HostVectorEnv.make(..., vectorization_mode='sync'), or give gymnasium.make_vec "
        f"vectorization_mode='sync' and vector_kwargs={{'autoreset_mode': 'SameStep'}}"
    )


def test_the_mode_of_one_vector_env_is_not_mistaken_for_that_of_another():
    # Gymnasium keeps the modes of both in one dict, the metadata of the env's class.
    right, wrong = count_envs(2), count_envs(2, autoreset_mode=AutoresetMode.NEXT_STEP)
    assert right.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    HostVectorEnv(right)
    count_envs(2)
    with pytest.raises(EnvError, match="got autoreset mode NextStep"):
        HostVectorEnv(wrong)


def test_an_own_vectorization_is_taken_only_if_it_resets_in_the_same_step():
    with pytest.raises(EnvError, match=r"CartPoleVectorEnv.* got autoreset mode NextStep"):
        HostVectorEnv.make("CartPole-v1", 2, "vector_entry_point")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("CartPol-v1", 2), r"make\('CartPol-v1'\): Environment `CartPol` doesn't exist"),
        (("CartPole-v1", 2, "asink"), "vectorization_mode: unknown 'asink'; did you mean 'async'"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(arguments, message):
    with pytest.raises(ConfigError, match=message):
        HostVectorEnv.make(*arguments)


def test_a_single_env_is_refused():
    with pytest.raises(ConfigError, match=r"HostVectorEnv: got .*Count.*, expected a gymnasium"):
        HostVectorEnv(Count(2))


def test_actions_of_other_shapes_and_envs_that_break_their_word_meet_a_sentence():
    envs = HostVectorEnv(count_envs(2, 9))
    envs.reset()
    with pytest.raises(SpaceError, match=r"action: got shape \(3,\), expected \(2,\)"):
        envs.step(np.zeros(3, np.int32))
    step = envs.envs.step
    envs.envs.step = lambda action: (*step(action)[:4], {})
    envs.step(np.zeros(2, np.int32))
    with pytest.raises(EnvError, match="SyncVectorEnv: an episode ended, but info has no 'final_"):
        envs.step(np.zeros(2, np.int32))
    envs.observation_space = Box(0.0, 200.0, (2,))
    with pytest.raises(SpaceError, match=r"SyncVectorEnv: obs: got shape \(2, 1\), expected \(2, "):
        envs.reset()


def test_leaving_the_context_closes_the_envs_even_by_an_error():
    envs = count_envs(2)
    with pytest.raises(ZeroDivisionError), HostVectorEnv(envs):
        _ = 1 / 0
    assert envs.closed


def test_the_envs_and_their_workers_import_no_jax():
    code = (
        "import sys\n"
        "from mazejax.envs.bridges.gymnasium import HostVectorEnv\n"
        "assert 'gymnasium' not in sys.modules\n"
        "with HostVectorEnv.make('CartPole-v1', 2) as envs:\n"
        "    envs.step(envs.reset(0)[:, 0] > 0)\n"
        "assert 'jax' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_processes_are_started_anew_and_live_on_after_ctrl_c():
    with HostVectorEnv.make("CartPole-v1", 1, "async") as envs:
        assert isinstance(envs.envs, AsyncVectorEnv) and envs.envs.context == "spawn"
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        envs.reset()
        os.kill(envs.envs.processes[0].pid, signal.SIGINT)
        assert envs.step(np.zeros(1, np.int32)).reward == 1
