import gymnasium
import gymnax
import jax
import numpy as np
import pytest
from gymnasium import spaces as gymnasium_spaces
from gymnax.environments import spaces as gymnax_spaces

from mazejax import random
from mazejax.errors import ConfigError, SpaceError
from mazejax.spaces import (
    Box,
    Dict,
    Discrete,
    MultiBinary,
    MultiDiscrete,
    from_gymnasium,
    from_gymnax,
    to_gymnasium,
    to_gymnax,
)

BOTH = [
    Box(0.0, 1.0, (84, 84, 3)),
    Box([-1.0, -np.inf], [np.inf, 0.1]),
    Box(0, 255, (2, 2), np.uint8),
    Box(-1, 1, (3,), np.int64),
    Box([0.1, -1e300], 1e300, dtype=np.float64),
    Box(False, True, (2,), bool),
    Box(-1.0, 1.0, ()),
    Discrete(3),
    Dict({"b": Discrete(3), "a": Dict({"c": Box(-1.0, 1.0, (2,))})}),
]
GYMNASIUM_ONLY = [
    Discrete(3, start=-1),
    MultiDiscrete([3, 2]),
    MultiDiscrete([[3, 2], [2, 2]], start=[[1, 2], [3, 4]]),
    MultiBinary(3),
    MultiBinary((2, 3)),
]


@pytest.mark.parametrize("space", BOTH + GYMNASIUM_ONLY, ids=repr)
def test_spaces_come_back_equal_from_gymnasium(space):
    assert from_gymnasium(to_gymnasium(space)) == space


@pytest.mark.parametrize("space", BOTH, ids=repr)
def test_spaces_come_back_equal_from_gymnax(space):
    assert from_gymnax(to_gymnax(space)) == space


@pytest.mark.parametrize(
    "space",
    [
        gymnasium_spaces.Box(-1.0, 1.0, (3,)),
        gymnasium_spaces.Box(np.float32([-1, -2]), np.float32([2, np.inf])),
        gymnasium_spaces.Box(0, 255, (4, 4), np.uint8),
        gymnasium_spaces.Box(-np.inf, np.inf, (2,), np.int32),
        gymnasium_spaces.Discrete(4, start=2),
        gymnasium_spaces.MultiDiscrete([2, 3], start=[1, 0]),
        gymnasium_spaces.MultiBinary(4),
        gymnasium_spaces.MultiBinary([2, 2]),
        gymnasium_spaces.Dict(
            {"b": gymnasium_spaces.Discrete(2), "a": gymnasium_spaces.Discrete(3)}
        ),
    ],
    ids=repr,
)
def test_gymnasium_spaces_come_back_equal(space):
    assert to_gymnasium(from_gymnasium(space)) == space


@pytest.mark.parametrize("space", BOTH[2:4] + BOTH[5:] + GYMNASIUM_ONLY, ids=repr)
def test_gymnasium_contains_our_samples_and_we_its(space):
    theirs = to_gymnasium(space)
    theirs.seed(0)
    space.validate(theirs.sample())
    ours = jax.tree.map(np.asarray, space.sample(random.key(0)))
    assert theirs.contains(ours)


def test_the_order_of_keys_survives():
    space = Dict({"b": Discrete(2), "a": Discrete(3)})
    assert list(to_gymnasium(space)) == ["b", "a"]
    assert list(from_gymnasium(to_gymnasium(space))) == ["b", "a"]
    assert list(from_gymnax(to_gymnax(space))) == ["b", "a"]


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_both_libraries_agree_on_their_environments(name):
    theirs = gymnasium.make(name)
    env, params = gymnax.make(name)
    assert from_gymnasium(theirs.action_space) == from_gymnax(env.action_space(params))
    assert from_gymnax(env.observation_space(params)).shape == theirs.observation_space.shape


@pytest.mark.parametrize("name", ["Breakout-MinAtar", "Catch-bsuite", "FourRooms-misc"])
def test_spaces_of_gymnax_environments_convert(name):
    env, params = gymnax.make(name)
    space = from_gymnax(env.observation_space(params))
    obs, _ = env.reset(jax.random.key(0), params)
    assert space.shape == obs.shape
    assert from_gymnax(to_gymnax(space)) == space


@pytest.mark.parametrize(
    ("convert", "space", "message"),
    [
        (
            from_gymnasium,
            gymnasium_spaces.Dict(a=gymnasium_spaces.Tuple([gymnasium_spaces.Discrete(2)])),
            "space['a']: got Tuple(Discrete(2)) of gymnasium, "
            "expected Box, Discrete, MultiDiscrete, MultiBinary and Dict; ",
        ),
        (
            from_gymnax,
            gymnax_spaces.Tuple([gymnax_spaces.Discrete(2)]),
            "space: got Tuple((Discrete(2, dtype=int32),)) of gymnax, expected Box, Discrete",
        ),
        (to_gymnax, Dict({"a": MultiBinary(2)}), "space['a']: got MultiBinary(2) of mazejax"),
        (to_gymnax, MultiDiscrete([2, 3]), "space: got MultiDiscrete([2, 3]) of mazejax"),
        (to_gymnax, Discrete(3, start=1), "space: got Discrete(3, start=1) of mazejax"),
        (to_gymnasium, gymnasium_spaces.Discrete(2), "space: got Discrete(2) of gymnasium"),
    ],
)
def test_a_space_without_counterpart_is_refused(convert, space, message):
    with pytest.raises(SpaceError) as error:
        convert(space)
    assert str(error.value).startswith(message)


def test_categories_that_int32_cannot_hold_are_refused():
    with pytest.raises(ConfigError, match="Discrete n: got 1099511627776"):
        from_gymnasium(gymnasium_spaces.Discrete(2**40))
