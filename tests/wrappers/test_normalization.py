"""Observations are normalized by the statistics they were given, and only where it is meant."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import VectorEnv
from mazejax.envs.check import check_env
from mazejax.envs.probe import ExpensiveReset
from mazejax.errors import ConfigError, EnvError
from mazejax.runners.config import from_config, to_config
from mazejax.spaces import Box, Dict, Discrete
from mazejax.wrappers.normalization import ManualNormalization, ObservationNormalization
from mazejax.wrappers.normalization_strategies import (
    MeanZeroStdOne,
    NormalizationStrategy,
    RangeZeroOne,
    normalization_strategies,
)
from mazejax.wrappers.preprocessing import PreProcessing
from mazejax.wrappers.stacking import ObservationStack
from tests.wrappers.relay import KEY, RELAY, observed, recorded

FLAT = ExpensiveReset(iterations=2, longest=4)
MEAN = np.float32([0.5, 0.25, 0.0])
STD = np.float32([2.0, 0.0, 0.5])
SIGNAL = {"mean": np.float32([6.0, 0.5, 50.0]), "std": np.float32([3.0, 0.5, 25.0])}
PIXELS = {"mean": np.float32(100.0), "std": np.float32(50.0)}


def normalized(obs, mean, std):
    """By a loop; where nothing varies the difference alone."""
    obs, result = np.asarray(obs, np.float64), np.zeros(np.shape(obs), np.float64)
    mean, std = (np.broadcast_to(a, obs.shape) for a in (mean, std))
    for index in np.ndindex(*obs.shape):
        result[index] = (obs[index] - mean[index]) / (std[index] or 1.0)
    return result


def relay_normalized(**fields):
    env = ObservationNormalization(
        RELAY, manual_config={"pixels": {"strategy_config": {"axis": None}}}, **fields
    )
    return env.replace(statistics={"signal": SIGNAL, "pixels": PIXELS})


# --- strategies ---------------------------------------------------------------------------


def test_mean_zero_std_one_does_not_stretch_what_never_changed():
    x = np.float32([3.0, 4.0, 5.0])
    result = MeanZeroStdOne().apply(jnp.asarray(x), {"mean": MEAN, "std": STD})
    np.testing.assert_allclose(result, normalized(x, MEAN, STD), rtol=1e-6)
    assert result.dtype == np.float32


def test_range_zero_one_does_not_divide_by_zero():
    low, high = np.float32([0.0, -1.0, 2.0]), np.float32([4.0, 1.0, 2.0])
    result = RangeZeroOne().apply(jnp.float32([1.0, 2.0, 2.5]), {"min": low, "max": high})
    np.testing.assert_allclose(result, [0.25, 1.5, 0.5])


@pytest.mark.parametrize(
    ("clip_range", "wanted"),
    [((-1.0, 1.5), [-1, 1.5, 0.5]), ((None, 1.0), [-3, 1, 0.5]), ((-2, None), [-2, 3, 0.5])],
)
def test_what_comes_out_is_clipped(clip_range, wanted):
    strategy = MeanZeroStdOne(clip_range=clip_range)
    x = jnp.float32([-3.0, 3.0, 0.5])
    np.testing.assert_array_equal(strategy.apply(x, {"mean": 0.0, "std": 1.0}), wanted)


@pytest.mark.parametrize(
    ("axis", "shape"),
    [((0,), (2, 3)), (0, (2, 3)), ((0, 1), (1, 3)), ((0, -1), (2, 1)), ((0, 1, 2), (1, 1))]
    + [(None, ())],
)
def test_axes_of_the_stacked_samples_share_statistics(axis, shape):
    strategy = MeanZeroStdOne(axis=axis)
    assert strategy.statistics_shape((2, 3)) == shape
    samples = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    wanted = tuple(np.atleast_1d(axis)) if axis is not None else None
    mean, std = (f(samples, axis=wanted, keepdims=axis is not None) for f in (np.mean, np.std))
    statistics = {"mean": mean.reshape(shape), "std": std.reshape(shape)}
    result = strategy.apply(jnp.asarray(samples[0]), statistics)
    np.testing.assert_allclose(result, ((samples - mean) / std)[0], rtol=1e-5)


# --- the wrapper --------------------------------------------------------------------------


def test_statistics_go_by_name_for_all_actors_that_have_the_observation():
    env = relay_normalized()
    for (actor, bare), (_, obs) in zip(observed(RELAY)[0], observed(env)[0], strict=True):
        wanted = normalized(bare["signal"], SIGNAL["mean"], SIGNAL["std"])
        np.testing.assert_allclose(obs["signal"], wanted, rtol=1e-5)
        if actor.step_key == "look":
            assert obs["kind"] == bare["kind"]
            continue
        np.testing.assert_allclose(obs["pixels"], normalized(bare["pixels"], 100, 50), rtol=1e-5)
        np.testing.assert_array_equal(obs["action_mask"], bare["action_mask"])
        assert obs["action_mask"].dtype == bool


def test_the_last_observation_of_an_episode_is_normalized_too():
    env = relay_normalized()
    (bare, done, last), (obs, _, final_obs) = recorded(RELAY), recorded(env)
    assert done.any()
    for raw, got in ((bare, obs), (last, final_obs)):
        for i in range(3):
            wanted = normalized(raw[i]["signal"], SIGNAL["mean"], SIGNAL["std"])
            np.testing.assert_allclose(got[i]["signal"], wanted, rtol=1e-5)


def test_a_plain_observation_is_called_observation():
    fixed = {"mean": MEAN, "std": STD}
    env = ObservationNormalization(FLAT, manual_config={"observation": {"statistics": fixed}})
    for (_, bare), (_, obs) in zip(observed(FLAT)[0], observed(env)[0], strict=True):
        np.testing.assert_allclose(obs, normalized(bare, MEAN, STD), rtol=1e-5)
    assert not env.estimated


def test_what_is_excluded_stays_as_it_is():
    env = ObservationNormalization(RELAY, exclude=["pixels"])
    assert env.exclude == ("pixels",) and set(env.estimated) == {"signal"}
    space = env.observation_spaces["run"]
    assert space["pixels"] == RELAY.observation_spaces["run"]["pixels"]
    assert space["action_mask"] == RELAY.observation_spaces["run"]["action_mask"]
    assert env.observation_spaces["look"]["kind"] == Discrete(3)
    assert not ObservationNormalization(RELAY, exclude=["pixels", "signal"]).estimated


def test_manual_settings_come_before_the_defaults():
    env = ObservationNormalization(
        RELAY,
        default_statistics={"mean": 1.0, "std": 2.0},
        default_strategy_config={"clip_range": [-1, 1]},
        manual_config={
            "pixels": ManualNormalization(
                "range_zero_one", statistics={"min": [[0, 0], [1, 1]], "max": 255}
            )
        },
    )
    assert env.plan("signal").strategy == MeanZeroStdOne(clip_range=(-1, 1))
    assert env.plan("pixels").strategy == RangeZeroOne(clip_range=(-1, 1))
    assert not env.estimated
    (_, bare), (_, obs) = observed(RELAY)[0][2], observed(env)[0][2]
    low = np.array([[0, 0], [1, 1]])
    np.testing.assert_allclose(obs["pixels"], (bare["pixels"] - low) / (255 - low), rtol=1e-6)
    np.testing.assert_allclose(obs["signal"], np.clip((bare["signal"] - 1.0) / 2.0, -1, 1))


def test_default_statistics_are_for_the_default_strategy():
    env = ObservationNormalization(
        RELAY,
        default_statistics={"mean": 1.0, "std": 2.0},
        manual_config={"pixels": {"strategy": "range_zero_one"}},
    )
    assert set(env.estimated) == {"pixels"}


class Odd(type(RELAY.observation_conversion["run"])):
    """A mask of floats, and a signal of another shape."""

    def space(self):
        return Dict({"signal": Box(0.0, 1.0, (5,)), "action_mask": Box(0.0, 1.0, (3,))})


def test_what_is_named_as_a_mask_is_left_alone_and_shapes_must_agree():
    env = RELAY.replace(observation_conversion=RELAY.observation_conversion | {"run": Odd("run")})
    with pytest.raises(ConfigError, match=r"'signal': has the shapes .* use axis None, or exclude"):
        ObservationNormalization(env)
    env = ObservationNormalization(env, default_strategy_config={"axis": None})
    assert set(env.estimated) == {"signal"}
    assert env.observation_spaces["run"]["action_mask"] == Box(0.0, 1.0, (3,))


# --- spaces -------------------------------------------------------------------------------


def test_spaces_are_bounded_by_the_clip_range_and_by_fixed_statistics():
    def space_of(**fields):
        return ObservationNormalization(FLAT, **fields).observation_space

    fixed = {"mean": [0.5, 0.0, 0.0], "std": [0.5, 0.5, 0.0]}
    assert space_of() == Box(-np.inf, np.inf, (3,))
    assert space_of(default_strategy_config={"clip_range": [-3, None]}) == Box(-3.0, np.inf, (3,))
    assert space_of(default_statistics=fixed) == Box([-1.0, 0.0, 0.0], [1.0, 2.0, 1.0])
    assert space_of(
        default_statistics=fixed, default_strategy_config={"clip_range": [-0.5, 1.5]}
    ) == Box([-0.5, 0.0, 0.0], [1.0, 1.5, 1.0])
    assert space_of(
        default_strategy="range_zero_one", default_statistics={"min": 1.0, "max": 0.0}
    ) == Box(0.0, 1.0, (3,))


def test_spaces_do_not_depend_on_estimated_statistics():
    env = relay_normalized()
    assert env.observation_spaces == env.replace(statistics=None).observation_spaces
    assert env.observation_spaces["run"]["pixels"] == Box(-np.inf, np.inf, (2, 2))


# --- traced numbers and stacks of wrappers ------------------------------------------------


def test_statistics_may_be_vmapped():
    env = ObservationNormalization(FLAT)

    def first(mean):
        own = env.replace(statistics={"observation": {"mean": mean, "std": jnp.float32([1, 2, 4])}})
        return own.reset(KEY)[0]

    bare = FLAT.reset(KEY)[0]
    means = np.float32([[0, 0, 0], [1, 2, 3]])
    obs = jax.jit(jax.vmap(first))(means)
    np.testing.assert_allclose(obs, (bare[None] - means) / np.float32([[1, 2, 4]]), rtol=1e-6)

    statistics = {"observation": {"mean": means, "std": np.ones((2, 3), np.float32)}}
    several = env.replace(statistics=statistics)
    rows = jax.vmap(lambda own: VectorEnv(own, 2).reset(KEY)[0])(several)
    assert rows.shape == (2, 2, 3)
    np.testing.assert_allclose(rows[0] - rows[1], np.broadcast_to(means[1], (2, 3)), rtol=1e-5)


@functools.lru_cache
def full_stack():
    env = ObservationStack(
        RELAY,
        [{"observation": "signal", "stack_steps": 3, "tag": "s"}],
        "group_by_actor_id",
    )
    env = PreProcessing(
        env,
        [
            {
                "observation": "signal-s",
                "pre_processor": "flatten",
                "config": {"num_flatten_dims": 2},
            },
            {"observation": "kind", "pre_processor": "one_hot"},
        ],
    )
    env = ObservationNormalization(
        env, "range_zero_one", {"clip_range": [-2, 2], "axis": None}, exclude=["kind-one_hot"]
    )
    numbers = {"min": np.float32(1.0), "max": np.float32(20.0)}
    return env.replace(statistics={"signal-s-flatten": numbers, "pixels": numbers})


def test_recorded_states_pass_a_stack_of_wrappers_like_live_ones():
    env = full_stack()
    seen, states = observed(env)
    observe, previous = jax.jit(env.observe), None
    assert len(seen) >= 6
    for i, ((_, obs), state) in enumerate(zip(seen, states, strict=True)):
        previous = env.from_maze_state(env.maze_state(state), i // 3, i % 3, previous)
        jax.tree.map(np.testing.assert_array_equal, observe(previous), obs)


def test_the_contract_of_envs_is_kept():
    check_env(full_stack(), num_steps=10, num_envs=2)


# --- one's own strategy -------------------------------------------------------------------


class HalfRange(NormalizationStrategy):
    names = ("max",)
    factor: float = 2.0

    def estimate(self, summary):
        return {"max": summary.max * self.factor}

    def normalize(self, values, statistics):
        return values / statistics["max"]


def test_ones_own_strategy_is_used_as_a_class_and_by_name():
    env = ObservationNormalization(FLAT, HalfRange, {"factor": 4.0})
    assert env.plan("observation").strategy == HalfRange(factor=4.0)
    normalization_strategies.register("half_range", HalfRange, replace=True)
    named = ObservationNormalization(FLAT, "half_range", {"factor": 4.0})
    assert ObservationNormalization(FLAT, HalfRange, {"factor": 4.0}) == named
    obs = named.replace(statistics={"observation": {"max": 4.0}}).reset(KEY)[0]
    np.testing.assert_allclose(obs, FLAT.reset(KEY)[0] / 4.0)


# --- configuration and errors -------------------------------------------------------------


def test_plain_data_makes_the_same_wrapper_again():
    env = ObservationNormalization(
        RELAY,
        default_strategy="range_zero_one",
        default_strategy_config={"clip_range": [None, 1.0], "axis": [0]},
        default_statistics={"min": 0.0, "max": np.float32([1.0, 2.0, 3.0])},
        exclude=["pixels"],
        manual_config={"signal": {"statistics": {"min": 0, "max": 1}}},
    )
    config = to_config(env)
    assert config["default_strategy_config"] == {"clip_range": [None, 1.0], "axis": [0]}
    assert config["manual_config"]["signal"]["statistics"] == {"min": 0, "max": 1}
    assert "statistics" not in config
    again = from_config(ObservationNormalization, config, env=RELAY)
    assert again == env and hash(again) == hash(env)
    assert again.observation_spaces == env.observation_spaces


def test_an_unnormalized_env_says_what_to_call():
    env = ObservationNormalization(RELAY)
    with pytest.raises(
        EnvError, match=r"no statistics of the observation 'signal' yet; call .*est"
    ):
        VectorEnv(env, 2).reset(KEY)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"default_strategy": "mean_zero"}, r"normalization strategy 'mean_zero'; .* 'mean_zero_"),
        ({"default_strategy": None}, r"strategy: got None, expected a name or a class"),
        ({"default_strategy": RELAY}, r"strategy: got .* expected a name or a class"),
        ({"default_strategy_config": {"axes": 0}}, r"strategy_config.axes: unknown key; .* 'axis'"),
        ({"default_strategy_config": {"axis": [1]}}, r"axis: got \(1,\), expected 0, the samples"),
        ({"default_strategy_config": {"axis": [0, 2]}}, r"'signal': axis: got \(0, 2\)"),
        ({"default_strategy_config": {"clip_range": [1, 0]}}, r"clip_range: got \(1, 0\)"),
        (
            {"default_strategy_config": {"clip_range": [1]}},
            r"clip_range: got \(1,\), expected a low",
        ),
        ({"default_strategy_config": {"clip_range": ["a", 1]}}, r"clip_range: got \('a', 1\)"),
        ({"default_strategy_config": 3}, r"default_strategy_config: expected keys and values"),
        ({"default_statistics": {"mean": 0.0}}, r"got \['mean'\], expected \['mean', 'std'\]"),
        (
            {"default_statistics": {"mean": 0.0, "std": [1.0, 2.0]}},
            r"statistics.std: got shape \(2,\) for observations of shape",
        ),
        ({"exclude": ["signl"]}, r"exclude: no observation 'signl'; did you mean 'signal'"),
        ({"manual_config": {"signl": {}}}, r"manual_config: no observation 'signl'"),
        ({"manual_config": {"kind": {}}}, r"manual_config.kind: holds no numbers"),
        ({"manual_config": {"signal": {"stats": 1}}}, r"manual_config.signal.stats: unknown key"),
        ({"statistics": {"kind": {"mean": 0.0, "std": 1.0}}}, r"statistics.kind: expected"),
        ({"statistics": {"signal": {"mean": 0.0}}}, r"'signal': statistics: got \['mean'\]"),
    ],
)
def test_wrong_settings_are_errors_that_say_what_to_do(fields, message):
    with pytest.raises(ConfigError, match=message):
        ObservationNormalization(RELAY, **fields)
