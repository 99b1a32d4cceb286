"""Split and discretized actions reach the env as they should, and come back."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import TimeLimit, VectorEnv
from mazejax.envs.check import check_env
from mazejax.errors import ConfigError
from mazejax.runners.config import from_config, to_config
from mazejax.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from mazejax.wrappers.action import DiscretizeActions, SplitActions
from mazejax.wrappers.base import Wrapper
from mazejax.wrappers.reward import RewardScaling
from tests.wrappers.arm import JOINTS, make_arm
from tests.wrappers.played import KEY, played

SPLIT = {
    "force": {"lift": {"indices": [2]}, "turn": {"indices": [1, 0]}},
    "gears": {"front": {"indices": [1]}, "rear": {"indices": [2, 0]}},
    "lamps": {"left": {"indices": [0]}, "right": {"indices": [1, 2]}},
}
BINS = {"force": {"num_bins": [5, 2, 4]}}
ARM = make_arm()


def reached(env, action, substep=0):
    """What the innermost env was given."""
    _, state = env.reset(KEY)
    for _ in range(substep):
        space = env.action_spaces[env.actor_id(state).step_key]
        state = env.step(KEY, state, space.sample(KEY)).state
    return env.maze_state(env.step(KEY, state, action).state)[substep]


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


# --- split ----------------------------------------------------------------------------


def test_parts_have_the_spaces_of_their_entries():
    assert SplitActions(ARM, SPLIT).action_space == Dict(
        {
            "lift": Box([-1.0], [1.0]),
            "turn": Box([0.0, -2.0], [1.0, 2.0]),
            "front": Discrete(3, start=1),
            "rear": MultiDiscrete([4, 2]),
            "left": MultiBinary(1),
            "right": MultiBinary(2),
            "mode": Discrete(3),
        }
    )


def test_parts_reach_the_env_in_their_places_and_come_back():
    env = SplitActions(ARM, SPLIT)
    parts = {
        "lift": np.float32([0.25]),
        "turn": np.float32([0.5, -1.5]),
        "front": np.int32(2),
        "rear": np.int32([3, 1]),
        "left": np.int8([1]),
        "right": np.int8([0, 1]),
        "mode": np.int32(2),
    }
    whole = reached(env, parts)
    assert_same(
        whole,
        {
            "force": np.float32([-1.5, 0.5, 0.25]),
            "gears": np.int32([1, 2, 3]),
            "lamps": np.int8([1, 0, 1]),
            "mode": np.int32(2),
        },
    )
    assert_same(env.from_maze_action(whole, env.reset(KEY)[1]), parts)


def test_a_plain_action_is_called_action_and_becomes_a_dict():
    env = SplitActions(
        make_arm(Box(-1.0, 1.0, (2,))), {"action": {"a": {"indices": [0]}, "b": {"indices": [1]}}}
    )
    assert set(env.action_space) == {"a", "b"}
    action = {"a": np.float32([0.5]), "b": np.float32([-0.5])}
    np.testing.assert_array_equal(reached(env, action), [0.5, -0.5])
    assert_same(env.from_maze_action(np.float32([0.5, -0.5]), env.reset(KEY)[1]), action)


def test_masks_are_split_with_their_action():
    env = SplitActions(make_arm(with_mask=True), {"gears": SPLIT["gears"]})
    obs, _ = env.reset(KEY)
    mask = np.arange(9) % 4 != 3
    np.testing.assert_array_equal(obs["front_mask"], mask[2:5])
    np.testing.assert_array_equal(obs["rear_mask"], np.append(mask[5:9], mask[0:2]))
    assert "gears_mask" not in obs and set(env.observation_space) == set(obs)
    moves = played(VectorEnv(env, 4), KEY, 20)
    assert 2 not in np.asarray(moves[0][1]["front"]) and set(obs) == {
        "zero",
        "front_mask",
        "rear_mask",
    }


def test_masks_of_bits_are_split_with_their_bits():
    class Lights(Wrapper):
        @property
        def observation_spaces(self):
            return {"move0": Dict({"lamps_mask": Box(False, True, (3,), bool)})}

        def observe(self, state):
            return {"lamps_mask": jnp.array([True, False, False])}

    env = SplitActions(Lights(ARM), {"lamps": SPLIT["lamps"]})
    obs, _ = env.reset(KEY)
    whole = np.array([True, False, False])
    for part in ("left", "right"):
        want = whole[SPLIT["lamps"][part]["indices"]]
        np.testing.assert_array_equal(obs[f"{part}_mask"], want)
        assert env.observation_space[f"{part}_mask"].shape == want.shape
    for part in ("left", "right"):
        drawn = np.asarray(played(VectorEnv(env, 4), KEY, 20)[0][1][part])
        allowed = whole[SPLIT["lamps"][part]["indices"]]
        np.testing.assert_array_equal(drawn.reshape(-1, allowed.size).any(0), allowed)


def test_a_schedule_is_split_where_the_action_is_and_agents_at_once_each():
    env = SplitActions(make_arm(Discrete(2), JOINTS, num_agents=2), {"lamps": SPLIT["lamps"]})
    assert env.action_spaces["move0"] == Discrete(2)
    action = {
        "left": np.int8([[1], [0]]),
        "right": np.int8([[0, 0], [1, 0]]),
        "force": np.zeros((2, 3), np.float32),
        "gears": np.int32([[0, 1, 0]] * 2),
        "mode": np.int32([0, 2]),
    }
    _, state = env.reset(KEY)
    state = env.step(KEY, state, np.int32([0, 1])).state
    assert_same(env.maze_state(state)[0], np.int32([0, 1]))
    whole = env.maze_state(env.step(KEY, state, action).state)[1]
    np.testing.assert_array_equal(whole["lamps"], [[1, 0, 0], [0, 1, 0]])
    assert_same(env.from_maze_action(whole, state), action)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "expected settings by the name of an action"),
        ({"forze": {}}, "no action 'forze'; did you mean 'force'"),
        ({"mode": {"a": {"indices": [0]}}}, "expected Box or MultiDiscrete or MultiBinary"),
        ({"force": {"a": {"indices": [0, 1]}}}, "expected each of 0 to 2 exactly once"),
        ({"force": {"a": {"indices": [0, 1, 2, 2]}}}, "exactly once"),
        ({"force": {"mode": {"indices": [0, 1, 2]}}}, "'mode' is an action already"),
        ({"force": {"a": {"index": [0, 1, 2]}}}, "unknown key 'index'; did you mean 'indices'"),
        ({"force": {"a": {"indices": 0}}}, "expected a list of indices"),
        ({"force": {"a": {"indices": [True, 0]}}}, "expected integers"),
        ({"force": 3}, "expected parts by name"),
    ],
)
def test_a_wrong_split_is_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        SplitActions(ARM, config)


# --- bins -----------------------------------------------------------------------------


def test_bins_are_named_by_their_centres():
    config = {"action": {"num_bins": 5, "low": [-2.0], "high": 2}}
    env = DiscretizeActions(make_arm(Box(-3.0, 3.0, (1,))), config)
    assert env.action_space == Discrete(5)
    centres = [reached(env, np.int32(i))[0] for i in range(5)]
    np.testing.assert_array_equal(centres, np.float32([-1.6, -0.8, 0.0, 0.8, 1.6]))


def test_every_entry_has_bins_of_its_own_between_the_bounds_of_the_space():
    env = DiscretizeActions(ARM, BINS)
    assert env.action_space["force"] == MultiDiscrete([5, 2, 4])
    action = {**env.action_space.sample(KEY), "force": np.int32([0, 1, 2])}
    force = reached(env, action)["force"]
    np.testing.assert_allclose(force, [-1.6, 0.75, 0.25], rtol=1e-6)


def test_recorded_actions_come_back_as_the_nearest_bin_and_centres_as_themselves():
    env = DiscretizeActions(make_arm(Box(-2.0, 2.0, (1,))), {"action": {"num_bins": 5}})
    state = env.reset(KEY)[1]
    values = np.linspace(-2, 2, 97, dtype=np.float32)
    back = jax.vmap(lambda v: env.from_maze_action(v[None], state))(values)
    centres = np.float32([-1.6, -0.8, 0.0, 0.8, 1.6])
    distance = np.abs(values[:, None] - centres[None])
    np.testing.assert_allclose(distance[np.arange(97), back], distance.min(axis=1), atol=1e-6)
    back = jax.vmap(lambda v: env.from_maze_action(v[None], state))(centres)
    np.testing.assert_array_equal(back, np.arange(5))


@pytest.mark.parametrize("num", [1, 2, 3, 7, 100, 1000])
def test_bins_of_any_number_are_found_again(num):
    env = DiscretizeActions(
        make_arm(Box(-0.1, 0.7, (2, 2))), {"action": {"num_bins": num, "low": -0.1, "high": 0.7}}
    )
    index = np.arange(num, dtype=np.int32)[:, None, None] * np.ones((1, 2, 2), np.int32)
    centres = jax.vmap(lambda i: env.action(i, "move0"))(index)
    again = jax.vmap(lambda a: env.reverse_action(a, "move0"))(centres)
    np.testing.assert_array_equal(again, index)
    expected = (
        np.float32(-0.1) + (index + 0.5) * np.float64(np.float32(0.7) - np.float32(-0.1)) / num
    )
    np.testing.assert_allclose(centres, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("space", "config", "message"),
    [
        (Box(-1.0, 1.0, (1,)), {"num_bins": 0}, "expected positive integers"),
        (Box(-1.0, 1.0, (1,)), {"num_bins": 2.5}, "expected positive integers"),
        (Box(-1.0, 1.0, (1,)), {"low": 0}, "got no num_bins"),
        (Box(-1.0, 1.0, (1,)), {"num_bins": 2, "high": 3}, "leave the space"),
        (Box(-1.0, 1.0, (1,)), {"num_bins": 2, "low": 1}, "low < high"),
        (Box(-1.0, 1.0, (3,)), {"num_bins": [2, 3]}, "one for each entry"),
        (Box(-np.inf, 1.0, (1,)), {"num_bins": 2}, "finite bounds"),
        (Box(-1.0, 1.0, (1,)), {"bins": 2}, "unknown key 'bins'"),
        (Box(-1, 1, (1,), np.int8), {"num_bins": 2}, "expected Box of floats"),
        (Discrete(3), {"num_bins": 2}, "expected Box of floats"),
    ],
)
def test_wrong_bins_are_refused(space, config, message):
    with pytest.raises(ConfigError, match=message):
        DiscretizeActions(make_arm(space), {"action": config})


# --- together -------------------------------------------------------------------------


STACK = RewardScaling(
    SplitActions(DiscretizeActions(TimeLimit(ARM, 4), BINS), {"force": SPLIT["force"]}), 2.0
)


def test_actions_pass_a_stack_of_wrappers_both_ways():
    assert STACK.action_space["turn"] == MultiDiscrete([2, 5])
    action = STACK.action_space.sample(KEY)
    whole = reached(STACK, action)
    assert_same(STACK.from_maze_action(whole, STACK.reset(KEY)[1]), action)
    state = STACK.from_maze_state(ARM.maze_state(ARM.reset(KEY)[1]), 3)
    assert int(STACK.time(state)) == 3 and set(STACK.observe(state)) == {"zero"}


def test_the_noop_action_comes_in_parts_and_bins():
    noop = STACK.noop_action("move0")
    np.testing.assert_array_equal(noop["turn"], [0, 2])
    assert STACK.action_space.contains(jax.device_get(noop))


def test_settings_are_plain_data_both_ways():
    for env in (SplitActions(ARM, SPLIT), DiscretizeActions(ARM, BINS)):
        data = json.loads(json.dumps(to_config(env)))
        assert data in ({"split_config": SPLIT}, {"discretization_config": BINS})
        again = from_config(type(env), data, env=ARM)
        assert again == env and hash(again) == hash(env)
        assert env.replace() == env
    assert str(STACK) == "RewardScaling<SplitActions<DiscretizeActions<TimeLimit<Arm>>>>"


@pytest.mark.parametrize(
    "env",
    [
        STACK,
        DiscretizeActions(mazejax.make("Pendulum-v1"), {"action": {"num_bins": 3}}),
        SplitActions(TimeLimit(make_arm(JOINTS, JOINTS, num_agents=2), 3), SPLIT),
    ],
    ids=str,
)
def test_they_keep_the_contract_of_envs(env):
    assert not check_env(env, num_steps=10, num_envs=3).errors


def test_auto_reset_goes_on_around_them():
    moves = played(VectorEnv(STACK, 3), KEY, 9)
    assert jnp.asarray(moves[0][2].truncated).sum() == 6
    np.testing.assert_array_equal(moves[0][2].reward, np.full((9, 3), 2.0))
