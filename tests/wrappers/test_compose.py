"""Stacks of wrappers from names and fields, and back."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import registry
from mazejax.base import Pytree, static
from mazejax.envs.cutting2d import make_cutting2d
from mazejax.envs.probe import EndlessReward
from mazejax.errors import ConfigError, EnvError
from mazejax.registry import Registry
from mazejax.spaces import Box
from mazejax.types import Array
from mazejax.wrappers import RewardScaling, TimeLimit, compose, wrap, wrappers_config
from mazejax.wrappers.base import ObservationWrapper, RewardWrapper


class Piece(Pytree):
    """What a wrapper may be told of one of its parts."""

    name: str = static(default="observation")
    weights: Array | tuple[float, ...] = static(default=(1.0,))


class Mixed(RewardWrapper):
    """A wrapper with fields of every kind."""

    offset: Array | float = 0.0
    mode: str = static(default="add")
    pieces: tuple[Piece, ...] = static(default=())
    limit: float | None = None

    def validate(self):
        if self.mode not in ("add", "sub"):
            raise ConfigError(f"Mixed.mode: unknown {self.mode!r}; write add")

    def reward(self, reward):
        return reward + jnp.sum(self.offset)


class Demanding(RewardWrapper):
    """A wrapper with a field that has no default."""

    bonus: float

    def reward(self, reward):
        return reward + self.bonus


class Picky(ObservationWrapper):
    """A wrapper that finds out what it does not fit when its spaces are asked for."""

    def map_observation_space(self, space, step_key):
        raise EnvError("Picky: fits no env")


def scaled_and_limited(env, scale, max_steps=3):
    return TimeLimit(RewardScaling(env, scale), max_steps)


def whatever(env, **options):
    return TimeLimit(env, **options)


@pytest.fixture
def table(monkeypatch):
    """The names of this file beside the built-in ones, as long as a test runs."""
    table = Registry("wrapper", "mazejax.no_such_group")
    table._factories |= registry.wrappers._factories
    monkeypatch.setattr(registry, "wrappers", table)
    for factory in (Mixed, Demanding, Picky, scaled_and_limited):
        table.register(factory.__name__, factory)
    return table


ENV = EndlessReward()


def test_the_first_is_innermost():
    wrapped = wrap(ENV, {"RewardScaling": {"scale": 0.5}, "TimeLimit": {"max_steps": 7}})
    assert wrapped == TimeLimit(RewardScaling(ENV, 0.5), 7)
    assert str(wrapped) == "TimeLimit<RewardScaling<EndlessReward>>"


def test_nothing_leaves_the_env_as_it_is():
    for nothing in (None, {}, []):
        assert wrap(ENV, nothing) is ENV
    assert wrap(ENV, {"TimeLimit": None}) == TimeLimit(ENV)


def test_a_list_may_hold_one_wrapper_twice_classes_and_functions():
    twice = wrap(ENV, [{"TimeLimit": {"max_steps": 9}}, {TimeLimit: {"max_steps": 5}}])
    assert twice == TimeLimit(TimeLimit(ENV, 9), 5)
    assert wrap(ENV, ["TimeLimit", TimeLimit]) == TimeLimit(TimeLimit(ENV))
    assert wrap(ENV, [lambda env: TimeLimit(env, 4)]) == TimeLimit(ENV, 4)
    assert wrap(ENV, {whatever: {"max_steps": 4}}) == TimeLimit(ENV, 4)


def test_a_function_is_a_wrapper_too(table):
    wrapped = wrap(ENV, {"scaled_and_limited": {"scale": 2.0}})
    assert wrapped == TimeLimit(RewardScaling(ENV, 2.0), 3)
    assert wrappers_config(wrapped) == [
        {"RewardScaling": {"scale": 2.0}}, {"TimeLimit": {"max_steps": 3}},
    ]  # fmt: skip


def test_plain_data_becomes_what_the_fields_hold(table):
    settings = {
        "offset": [1, 2.5],
        "pieces": [{"name": "image"}, {"weights": [1, 2]}],
        "limit": "inf",
    }
    wrapped = wrap(ENV, {"Mixed": settings})
    assert wrapped.offset.dtype == np.float32 and wrapped.offset.tolist() == [1.0, 2.5]
    assert wrapped.pieces == (Piece("image"), Piece(weights=(1.0, 2.0)))
    assert wrapped.limit == float("inf")


def test_objects_and_traced_numbers_are_taken_as_they_are():
    @jax.jit
    def reward(scale):
        env = wrap(ENV, {"RewardScaling": {"scale": scale}})
        return env.step(jax.random.key(0), env.reset(jax.random.key(0))[1], 0).reward

    assert reward(jnp.float32(3.0)) == 3.0
    assert jax.vmap(reward)(jnp.arange(3.0)).tolist() == [0.0, 1.0, 2.0]


CONFIGS = {
    "nothing": {},
    "numbers": {"RewardScaling": {"scale": 0.1}, "TimeLimit": {"max_steps": 5}},
    "twice": [{"TimeLimit": {"max_steps": 5}}, {"TimeLimit": {"max_steps": 4}}],
    "all kinds": {
        "Mixed": {
            "offset": np.array([0.1, 0.2], np.float32),
            "mode": "sub",
            "pieces": [{"weights": [0.5]}],
            "limit": -np.inf,
        }
    },
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_way_back_gives_an_equal_env_also_through_a_file(table, config):
    wrapped = wrap(ENV, config)
    told = wrappers_config(wrapped)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert wrap(wrapped.unwrapped, told) == wrapped
    inner = TimeLimit(ENV, 3)
    assert wrappers_config(wrap(inner, config), inside=inner) == told


def test_the_way_back_tells_every_field_and_all_of_the_stack():
    assert wrappers_config(mazejax.make("CartPole-v1")) == [{"TimeLimit": {"max_steps": 500}}]
    assert wrappers_config(wrap(ENV, {"RewardScaling": {}})) == [{"RewardScaling": {"scale": 1.0}}]


def test_numbers_of_the_configuration_are_those_that_come_back_from_it():
    env, stored = compose.as_configured(ENV, {"RewardScaling": {"scale": np.float32(0.1)}})
    assert wrap(ENV, json.loads(json.dumps(stored))) == env


def test_a_schedule_is_wrapped_like_any_env():
    env = make_cutting2d(structured=True, masked=True, max_pieces=8)
    wrapped = wrap(env, {"RewardScaling": {"scale": 2.0}, "TimeLimit": {"max_steps": 2}})
    assert wrapped.actors == env.actors
    state, step = wrapped.reset(jax.random.key(0))[1], jax.jit(wrapped.step)
    rewards = []
    for _ in range(4):
        space = wrapped.action_spaces[wrapped.actor_id(state).step_key]
        result = step(jax.random.key(1), state, space.sample(jax.random.key(2)))
        state = result.state
        rewards.append((float(result.reward), float(result.info["reward_original"])))
    assert all(reward == 2.0 * original for reward, original in rewards)
    assert result.truncated


WRONG = [
    # configuration, beginning of the message, what it must suggest
    ({"RewardScalin": {}}, "wrappers.RewardScalin: unknown wrapper", "'RewardScaling'"),
    ({"RewardScaling": {"scal": 1}}, "wrappers.RewardScaling.scal: unknown key", "'scale'"),
    ({"RewardScaling": {"scale": "x"}}, "wrappers.RewardScaling.scale: expected a number", "'x'"),
    ({"RewardScaling": {"scale": None}}, "wrappers.RewardScaling.scale: must not be null", ""),
    ({"RewardScaling": {"scale": [1]}}, "wrappers.RewardScaling.scale: expected a number", ""),
    ({"TimeLimit": {"max_steps": 0}}, "wrappers.TimeLimit.max_steps: must be at least 1", ""),
    ({"TimeLimit": {"max_steps": 2.5}}, "wrappers.TimeLimit.max_steps: expected a whole", "2.5"),
    ([{"TimeLimit": {"max_steps": 0}}], "wrappers[0].TimeLimit.max_steps: must be", ""),
    ({"Mixed": {"mode": "mul"}}, "wrappers.Mixed.mode: unknown 'mul'", "write add"),
    ({"Mixed": {"offset": [[1], [2, 3]]}}, "wrappers.Mixed.offset: expected numbers", ""),
    ({"Mixed": {"offset": ["a"]}}, "wrappers.Mixed.offset: expected numbers", ""),
    ({"Mixed": {"pieces": {"name": "a"}}}, "wrappers.Mixed.pieces: expected a list", ""),
    ({"Mixed": {"pieces": ["a"]}}, "wrappers.Mixed.pieces[0]: expected keys and values", ""),
    ({"Mixed": {"pieces": [{"nam": 1}]}}, "wrappers.Mixed.pieces[0].nam: unknown key", "'name'"),
    ({"Demanding": {}}, "wrappers.Demanding.bonus: missing", "has no default"),
    ({"Picky": {}}, "wrappers.Picky: Picky: fits no env", ""),
    ({"scaled_and_limited": {}}, "wrappers.scaled_and_limited: missing a", "'scale'"),
    ({"scaled_and_limited": {"scall": 1}}, "wrappers.scaled_and_limited.scall: unknown", "'scale'"),
    ({"TimeLimit": 100}, "wrappers.TimeLimit: expected fields with their values, got 100", ""),
    ("TimeLimit", "wrappers: expected wrappers with their fields", "TimeLimit"),
    ([3], "wrappers[0].3: got 3, expected a name", ""),
    ([[]], "wrappers[0].[]: got [], expected a name", ""),
    ([lambda env: 3], "wrappers[0].<lambda>: made 3, expected an env", ""),
]  # fmt: skip


@pytest.mark.parametrize(("config", "begin", "mend"), WRONG)
def test_a_wrong_configuration_is_one_line_with_its_key_and_a_mend(table, config, begin, mend):
    with pytest.raises((ConfigError, EnvError)) as error:
        wrap(ENV, config)
    said = str(error.value)
    assert said.startswith(begin) and mend in said and "\n" not in said


def test_what_no_file_could_hold_cannot_be_told(table):
    class Local(RewardWrapper):
        function: object = static(default=None)

        def reward(self, reward):
            return reward

    with pytest.raises(ConfigError, match=r"Local has no name, .*wrappers.register\('Local'"):
        wrappers_config(Local(ENV))
    table.register("Local", Local)
    assert wrappers_config(Local(ENV)) == [{"Local": {"function": None}}]
    with pytest.raises(ConfigError, match=r"wrappers.Local.function: cannot be written"):
        wrappers_config(Local(ENV, function=len))
    with pytest.raises(ConfigError, match="no longer the env that was wrapped"):
        compose.as_configured(ENV, [lambda env: TimeLimit(EndlessReward(continuous=True))])


def test_spaces_of_a_wrapped_env_are_asked_for_once_it_is_made(table):
    assert isinstance(wrap(ENV, {"Mixed": {}}).observation_space, Box)


EVERY = {
    # name: what is within it, and its fields as a file has them
    "ActionRecording": ({}, {"max_steps": 5}),
    "DictAction": ({}, {}),
    "DictObservation": ({}, {}),
    "DiscretizeActions": ({}, {"discretization_config": {"action": {"num_bins": 5, "low": [-1]}}}),
    "GIFExport": ({}, {"max_steps": 5}),
    "JointObservation": ({}, {}),
    "Monitoring": ({}, {"observation_logging": True}),
    "NoDictAction": ({"DictAction": {}}, {}),
    "NoDictObservation": ({"DictObservation": {}}, {}),
    "NoDictSpaces": ({"DictAction": {}}, {}),
    "ObservationNormalization": (
        {},
        {
            "default_strategy": "range_zero_one",
            "default_strategy_config": {"clip_range": [None, 3.0], "axis": [0]},
            "manual_config": {"observation": {"statistics": {"min": [0, 1, 2], "max": [3, 4, 5]}}},
        },
    ),
    "ObservationStack": ({}, {"stack_config": [{"observation": "observation", "stack_steps": 3}]}),
    "ObservationVisualization": ({}, {"observations": ["observation"], "plot": "histogram"}),
    "PreProcessing": (
        {},
        {
            "pre_processor_mapping": [
                {"observation": "observation", "pre_processor": "unsqueeze", "config": {"dim": -1}}
            ]
        },
    ),
    "RandomReset": ({}, {"min_skip_steps": 1, "max_skip_steps": 2}),
    "ReturnNormalization": ({}, {"gamma": 0.9, "epsilon": 1e-6}),
    "RewardClipping": ({}, {"min_val": -1, "max_val": float("inf")}),
    "RewardFromEvents": ({}, {"aggregator": {"aggregator": "CuttingRewardAggregator"}}),
    "RewardScaling": ({}, {"scale": 2}),
    "SortedSpaces": ({}, {}),
    "SpacesRecording": ({}, {"max_steps": 5}),
    "SplitActions": ({}, {"split_config": {"action": {"torque": {"indices": [0]}}}}),
    "StatisticsLogging": ({}, {}),
    "StepSkip": ({}, {"n_steps": 2, "skip_mode": "sticky"}),
    "StickyActions": ({}, {"probability": 0.5}),
    "TimeLimit": ({}, {"max_steps": 3}),
}


@pytest.mark.parametrize("name", registry.wrappers.names())
def test_every_wrapper_is_made_of_plain_data_and_told_as_such(name):
    within, fields = EVERY[name]
    env = wrap(mazejax.make("Pendulum-v1"), within)
    wrapped, stored = compose.as_configured(env, {name: fields})
    assert type(wrapped) is registry.wrappers.get(name)
    assert wrap(env, json.loads(json.dumps(stored, allow_nan=False))) == wrapped
    told = stored[0][name]
    assert told.keys() >= fields.keys() and told.keys() <= compose.field_names(type(wrapped))
    with pytest.raises(ConfigError, match=rf"^wrappers\.{name}\.no_such_field: unknown key"):
        wrap(env, {name: {"no_such_field": 1}})
