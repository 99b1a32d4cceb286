"""Statistics are those of what was observed, follow from the key, and come back from files."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.base import static
from mazejax.envs.base import Env, StateStep, flag
from mazejax.envs.episode import random_policy
from mazejax.envs.probe import ExpensiveReset
from mazejax.envs.vector import VectorEnv
from mazejax.errors import ConfigError, EnvError, FileError
from mazejax.files import write_npz
from mazejax.runners.observation_statistics import (
    estimate,
    is_missing,
    load_statistics,
    normalizers,
    save_statistics,
)
from mazejax.spaces import Box, Discrete
from mazejax.wrappers.base import find
from mazejax.wrappers.normalization import ObservationNormalization
from mazejax.wrappers.stacking import ObservationStack
from mazejax.wrappers.time import TimeLimit
from tests.wrappers.relay import RELAY

KEY = random.key(11)
FLAT = ExpensiveReset(iterations=2, longest=4)
SAMPLES, ENVS = 22, 4


@functools.lru_cache
def samples_of(env, policy=None, num_samples=SAMPLES, num_envs=ENVS):
    """{name: [what active actors observed]} of the same flat steps, by a loop on the host."""
    envs, act = VectorEnv(env, num_envs), policy or random_policy(env)

    @jax.jit
    def one_step(state, obs):
        actor = envs.actor_id(state)
        maze_states = jax.vmap(env.maze_state)(state.envs)
        keys = envs.keys(state, "policy")
        action = jax.vmap(lambda *row: act(*row, actor))(keys, obs, maze_states)
        active, step = envs.actor_active(state), envs.step(state, action)
        return active, step.state, step.obs

    obs, state = envs.reset(random.stream(KEY, "observation_statistics"))
    seen = {}
    for t in range(-(-num_samples // num_envs)):
        for _ in env.actors:
            now = jax.device_get(obs)
            active, state, obs = one_step(state, obs)
            for index in np.argwhere(active):
                if t * num_envs + index[0] < num_samples:
                    rows = jax.tree.map(lambda x, i=tuple(index): x[i], now)
                    for name, value in (
                        rows if isinstance(rows, dict) else {"observation": rows}
                    ).items():
                        seen.setdefault(name, []).append(value)
    return seen


# --- estimates ----------------------------------------------------------------------------


def test_mean_and_spread_are_those_of_what_was_observed():
    env = estimate(ObservationNormalization(FLAT), KEY, SAMPLES, num_envs=ENVS)
    samples = np.stack(samples_of(FLAT)["observation"]).astype(np.float64)
    assert samples.shape == (SAMPLES, 3)
    numbers = env.statistics["observation"]
    np.testing.assert_allclose(numbers["mean"], samples.mean(0), rtol=1e-5)
    np.testing.assert_allclose(numbers["std"], samples.std(0), rtol=1e-4)
    assert numbers["mean"].dtype == np.float32


def test_ranges_are_exact():
    env = ObservationNormalization(FLAT, "range_zero_one")
    numbers = estimate(env, KEY, SAMPLES, num_envs=ENVS).statistics["observation"]
    samples = np.stack(samples_of(FLAT)["observation"])
    np.testing.assert_array_equal(numbers["min"], samples.min(0))
    np.testing.assert_array_equal(numbers["max"], samples.max(0))


@pytest.mark.parametrize("axis", [None, (0, 2)])
def test_actors_share_statistics_over_the_axes_that_are_meant(axis):
    env = ObservationNormalization(
        RELAY,
        exclude=("signal",),
        manual_config={"pixels": {"strategy_config": {"axis": axis}}},
    )
    numbers = estimate(env, KEY, SAMPLES, num_envs=ENVS).statistics["pixels"]
    samples = np.stack(samples_of(RELAY)["pixels"]).astype(np.float64)
    mean = samples.mean(axis, keepdims=axis is not None)
    std = samples.std(axis, keepdims=axis is not None)
    shape = {None: (), (0, 2): (2, 1)}[axis]
    assert numbers["mean"].shape == shape
    np.testing.assert_allclose(numbers["mean"], mean.reshape(shape), rtol=1e-5)
    np.testing.assert_allclose(numbers["std"], std.reshape(shape), rtol=1e-4)


def test_agents_in_turn_and_at_once_count_alike():
    env = estimate(ObservationNormalization(RELAY), KEY, SAMPLES, num_envs=ENVS)
    samples = np.stack(samples_of(RELAY)["signal"]).astype(np.float64)
    assert samples.shape == (SAMPLES * 4, 3)
    numbers = env.statistics["signal"]
    np.testing.assert_allclose(numbers["mean"], samples.mean(0), rtol=1e-5)
    np.testing.assert_allclose(numbers["std"], samples.std(0), rtol=1e-4)


class Ramp(Env):
    """Shows a number that goes up by what is done, from a million on, beside a constant."""

    last: int = static(default=4)

    @property
    def observation_space(self):
        return Box(-np.inf, np.inf, (2,))

    @property
    def action_space(self):
        return Discrete(2)

    def reset_state(self, key):
        return jnp.zeros(2, jnp.int32)

    def step_state(self, key, state, action):
        new = state + jnp.stack([jnp.int32(1), action.astype(jnp.int32)])
        return StateStep(new, jnp.zeros((), jnp.float32), new[0] >= self.last, flag(), {})

    def observe(self, state):
        return jnp.stack([1e6 + state[1].astype(jnp.float32), jnp.float32(0.1)])

    def time(self, state):
        return state[0]


def go_on(key, obs, maze_state, actor):
    return jnp.int32(1)


def test_the_policy_decides_what_is_seen_and_ends_are_not_seen():
    env = estimate(ObservationNormalization(Ramp(), "range_zero_one"), KEY, 40, go_on, num_envs=2)
    numbers = env.statistics["observation"]
    np.testing.assert_array_equal(numbers["min"], np.float32([1e6, 0.1]))
    np.testing.assert_array_equal(numbers["max"], np.float32([1e6 + 3, 0.1]))


def test_what_never_changes_has_no_spread_and_large_numbers_keep_theirs():
    env = estimate(ObservationNormalization(Ramp()), KEY, 4000, go_on, num_envs=4)
    numbers = env.statistics["observation"]
    assert numbers["std"][1] == 0.0
    np.testing.assert_allclose(numbers["std"][0], np.std([0, 1, 2, 3]), rtol=5e-3)
    np.testing.assert_allclose(numbers["mean"][0], 1e6 + 1.5, atol=0.1)
    np.testing.assert_allclose(env.reset(KEY)[0][1], 0.0, atol=1e-6)


def test_equal_keys_give_equal_numbers_and_others_others():
    env = ObservationNormalization(FLAT)
    one, same = (estimate(env, KEY, SAMPLES, num_envs=ENVS) for _ in range(2))
    assert one == same and hash(one) == hash(same)
    assert one != estimate(env, random.key(12), SAMPLES, num_envs=ENVS)
    again = estimate(one, KEY, SAMPLES, num_envs=ENVS)
    assert again == one


def test_keys_may_be_vmapped():
    env = ObservationNormalization(FLAT)
    keys = jax.random.split(KEY, 2)

    def mean(key):
        return estimate(env, key, SAMPLES, num_envs=ENVS).statistics["observation"]["mean"]

    means = jax.vmap(mean)(keys)
    np.testing.assert_allclose(means[1], mean(keys[1]), rtol=1e-6)


def test_the_wrapper_is_found_below_others_and_above_others():
    inner = ObservationNormalization(ObservationStack(FLAT, [{"stack_steps": 2}]))
    env = estimate(TimeLimit(inner, 3), KEY, SAMPLES, num_envs=ENVS)
    assert isinstance(env, TimeLimit) and env.max_steps == 3
    samples = np.stack(samples_of(inner.env)["observation"]).astype(np.float64)
    numbers = find(env, ObservationNormalization).statistics["observation"]
    np.testing.assert_allclose(numbers["mean"], samples.mean(0), rtol=1e-5)
    obs = np.stack(samples_of(find(env, ObservationNormalization))["observation"])
    np.testing.assert_allclose(obs.mean(0)[1:], 0.0, atol=1e-4)
    assert np.isin(np.round(obs.std(0), 3), [0.0, 1.0]).all()


def test_several_wrappers_are_estimated_from_the_inside_out():
    two = ObservationNormalization(ObservationNormalization(FLAT), "range_zero_one")
    assert is_missing(two)
    env = estimate(two, KEY, SAMPLES, num_envs=ENVS)
    assert not is_missing(env) and len(normalizers(env)) == 2
    obs = np.stack(samples_of(env)["observation"])
    np.testing.assert_array_equal(obs.min(0), 0.0)
    np.testing.assert_allclose(obs.max(0), 1.0, rtol=1e-6)


def test_fixed_statistics_are_left_alone():
    env = ObservationNormalization(FLAT, default_statistics={"mean": 0.0, "std": 1.0})
    assert not is_missing(env) and estimate(env, KEY) is env


def test_what_cannot_be_estimated_is_an_error():
    class Broken(Ramp):
        def observe(self, state):
            return super().observe(state) * jnp.float32(np.nan)

    with pytest.raises(EnvError, match=r"has no ObservationNormalization in its stack"):
        estimate(FLAT, KEY)
    with pytest.raises(ConfigError, match=r"num_samples: must be a positive integer, got 0"):
        estimate(ObservationNormalization(FLAT), KEY, 0)
    with pytest.raises(EnvError, match=r"the mean of the observation 'observation' is not finite"):
        estimate(ObservationNormalization(Broken()), KEY, 4)


# --- files --------------------------------------------------------------------------------


def both():
    env = ObservationNormalization(RELAY, exclude=("pixels",))
    return TimeLimit(ObservationNormalization(env, "range_zero_one", exclude=("signal",)), 3)


def test_statistics_come_back_from_their_file(tmp_path):
    env = estimate(both(), KEY, SAMPLES, num_envs=ENVS)
    save_statistics(tmp_path / "statistics.npz", env)
    loaded = load_statistics(tmp_path / "statistics.npz", both())
    assert loaded == env and hash(loaded) == hash(env)
    assert [set(n.statistics) for n in normalizers(loaded)] == [{"signal"}, {"pixels"}]


def test_nothing_is_saved_before_it_is_estimated(tmp_path):
    with pytest.raises(EnvError, match=r"has no statistics to save yet; call estimate"):
        save_statistics(tmp_path / "statistics.npz", both())


def test_files_of_other_envs_say_what_does_not_fit(tmp_path):
    path = tmp_path / "statistics.npz"
    env = estimate(ObservationNormalization(FLAT), KEY, SAMPLES, num_envs=ENVS)
    save_statistics(path, env)
    with pytest.raises(FileError, match=r"holds 'observation/mean', which .* has not; known names"):
        load_statistics(path, ObservationNormalization(RELAY))
    with pytest.raises(FileError, match=r"'observation/mean' has shape \(3,\), .* needs \(\)"):
        load_statistics(
            path, ObservationNormalization(FLAT, default_strategy_config={"axis": None})
        )
    write_npz(path, {"observation/mean": np.zeros(3, np.float32)})
    with pytest.raises(FileError, match=r"holds no 'observation/std', which .* needs"):
        load_statistics(path, ObservationNormalization(FLAT))


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "statistics.npz"
    env = ObservationNormalization(FLAT)
    for data in (b"", b"PK\x03\x04 nothing", b"no archive"):
        path.write_bytes(data)
        with pytest.raises(FileError, match=r"holds no statistics of observations"):
            load_statistics(path, env)
    np.savez(path, **{"observation/mean": np.array([{}], object)}, allow_pickle=True)
    with pytest.raises(FileError, match=r"holds no statistics of observations"):
        load_statistics(path, env)
    write_npz(path, {"observation/mean": np.full(3, np.nan, np.float32)})
    with pytest.raises(FileError, match=r"observation/mean is damaged, expected finite float32"):
        load_statistics(path, env)
    with pytest.raises(FileError, match=r"does not exist"):
        load_statistics(tmp_path / "nowhere.npz", env)
