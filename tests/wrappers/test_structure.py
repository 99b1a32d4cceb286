"""Values are put into dicts and taken out of them, in both directions."""

import jax
import numpy as np
import pytest

import mazejax
from mazejax import TimeLimit, VectorEnv
from mazejax.envs.check import check_env
from mazejax.envs.probe import ActionReward, DelayedReward
from mazejax.errors import ConfigError
from mazejax.spaces import Box, Dict, Discrete, MultiDiscrete
from mazejax.wrappers.base import ObservationWrapper
from mazejax.wrappers.structure import (
    DictAction,
    DictObservation,
    NoDictAction,
    NoDictObservation,
    NoDictSpaces,
    SortedSpaces,
)
from tests.envs.convoy import CONVOY
from tests.wrappers.arm import JOINTS, make_arm
from tests.wrappers.played import KEY, played

PLAIN = TimeLimit(ActionReward(), 3)
NAMED = DictAction(DictObservation(PLAIN))
GEARS = Dict({"gears": JOINTS["gears"]})


class OnlyMask(ObservationWrapper):
    """Leaves nothing but the mask."""

    def observation(self, obs, step_key):
        return {"gears_mask": obs["gears_mask"]}

    def map_observation_space(self, space, step_key):
        return Dict({"gears_mask": space["gears_mask"]})


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_plain_spaces_are_put_under_their_names():
    assert NAMED.observation_space == Dict({"observation": PLAIN.observation_space})
    assert NAMED.action_space == Dict({"action": PLAIN.action_space})
    obs, state = NAMED.reset(KEY)
    assert_same(obs, {"observation": PLAIN.reset(KEY)[0]})
    step = NAMED.step(KEY, state, {"action": np.int32(1)})
    assert float(step.reward) == 1.0 and set(step.obs) == {"observation"}
    assert NAMED.from_maze_action(1, state) == {"action": 1}


def test_a_dict_of_one_entry_becomes_the_entry():
    for plain in (NoDictSpaces(NAMED), NoDictAction(NoDictObservation(NAMED))):
        assert plain.observation_space == PLAIN.observation_space
        assert plain.action_space == PLAIN.action_space
        assert_same(plain.reset(KEY), PLAIN.reset(KEY))
        state = plain.reset(KEY)[1]
        assert_same(plain.step(KEY, state, 0), PLAIN.step(KEY, state, 0))
        assert plain.from_maze_action(1, state) == 1


def test_what_has_the_form_already_stays():
    assert DictAction(NAMED).action_space == NAMED.action_space
    assert DictObservation(NAMED).observation_space == NAMED.observation_space
    assert NoDictSpaces(PLAIN).action_space == PLAIN.action_space
    state = PLAIN.reset(KEY)[1]
    assert float(NoDictSpaces(PLAIN).step(KEY, state, 1).reward) == 1.0
    assert float(DictAction(NAMED).step(KEY, state, {"action": np.int32(1)}).reward) == 1.0


def test_auto_reset_and_final_observations_are_in_the_form_too():
    ((_, _, step),) = played(VectorEnv(DictObservation(TimeLimit(DelayedReward(), 5)), 2), KEY, 4)
    final = step.info["final_obs"]["observation"]
    np.testing.assert_array_equal(step.terminated[:, 0], [False, True, False, True])
    np.testing.assert_array_equal(step.obs["observation"][:, 0, 0], [1, 0, 1, 0])
    np.testing.assert_array_equal(final[:, 0, 0], [1, 1, 1, 1])


def test_in_a_schedule_each_step_key_is_put_into_the_form():
    env = DictAction(DictObservation(CONVOY))
    assert set(env.observation_spaces["signal"]) == {"observation"}
    assert set(env.observation_spaces["drive"]) == {"fuel", "action_mask"}
    moves = played(VectorEnv(env, 2), KEY, 6)
    plain = played(VectorEnv(CONVOY, 2), KEY, 6)
    for (_, _, step), (_, _, other) in zip(moves, plain, strict=True):
        assert step.reward.shape == other.reward.shape
    assert moves[1][1]["action"].shape == (6, 2, 3)
    fuel = moves[0][2].obs["fuel"][..., 0, :]  # every car sees that of all
    assert (moves[1][1]["action"] <= fuel).all()


def test_the_mask_of_the_entry_becomes_that_of_the_plain_action():
    env = NoDictAction(make_arm(GEARS, with_mask=True))
    obs, _ = env.reset(KEY)
    assert set(obs) == set(env.observation_space) == {"zero", "action_mask"}
    masked = played(VectorEnv(env, 4), KEY, 20)[0][1]
    # Of the second gear, which counts from 1, the second of three is forbidden.
    assert 2 not in np.asarray(masked)[..., 1] and env.action_space == MultiDiscrete(
        [2, 3, 4], [0, 1, 0]
    )
    both = NoDictSpaces(OnlyMask(make_arm(GEARS, with_mask=True)))
    assert both.observation_space == Box(False, True, (9,), bool)
    assert both.reset(KEY)[0].shape == (9,)


def test_sorted_spaces_iterate_in_alphabetical_order():
    scrambled = Dict({"b": Discrete(2), "a": Dict({"z": Discrete(3), "y": Discrete(4)})})
    env = SortedSpaces(make_arm(scrambled))
    assert list(env.action_space) == ["a", "b"] and list(env.action_space["a"]) == ["y", "z"]
    assert env.action_space == scrambled
    assert_same(env.action_space.sample(KEY), scrambled.sample(KEY))
    cutting = SortedSpaces(mazejax.make("Cutting2D-v0", structured=True))
    assert all(list(s) == sorted(s) for s in cutting.observation_spaces.values())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NoDictAction(make_arm()), r"NoDictAction: action_space has 4 entries"),
        (lambda: NoDictSpaces(make_arm()), r"NoDictSpaces: action_space has 4 entries"),
        (
            lambda: NoDictObservation(CONVOY),
            r"NoDictObservation: observation_spaces\['drive'\] has 2 entries \('fuel', 'action",
        ),
    ],
)
def test_a_dict_of_several_entries_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    "env",
    [
        NAMED,
        NoDictSpaces(NAMED),
        SortedSpaces(
            NoDictAction(TimeLimit(make_arm(GEARS, Discrete(2), num_agents=2, with_mask=True), 3))
        ),
    ],
    ids=str,
)
def test_they_keep_the_contract_of_envs(env):
    assert not check_env(env, num_steps=10, num_envs=2).errors


def test_the_stack_is_told():
    assert str(NoDictSpaces(NAMED)) == (
        "NoDictSpaces<DictAction<DictObservation<TimeLimit<ActionReward>>>>"
    )
