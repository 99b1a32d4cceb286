"""Stacks hold the last observations of the right actor in the right episode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax.envs.check import check_env
from mazejax.envs.maze_env import MazeEnv
from mazejax.envs.probe import EndlessReward, ExpensiveReset
from mazejax.envs.vector import VectorEnv
from mazejax.errors import ConfigError, SpaceError
from mazejax.runners.config import from_config, to_config
from mazejax.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from mazejax.wrappers.base import WrapperState
from mazejax.wrappers.stacking import ObservationStack, StackedObservation, _stacked_space
from tests.wrappers.relay import KEY, RELAY, observed, recorded, row

FLAT = ExpensiveReset(iterations=2, longest=4)
CONFIG = [
    {"observation": "signal", "stack_steps": 4, "tag": "past"},
    {"observation": "signal", "stack_steps": 3, "tag": "change", "delta": True},
    {"observation": "pixels", "stack_steps": 2},
]


def stacked(history, steps, delta=False):
    """[steps, *shape] of a list of observations: the newest last, zeros in front."""
    rows = [np.asarray(obs) for obs in history[-steps:]]
    if delta:
        rows = [rows[i + 1] - rows[i] for i in range(len(rows) - 1)] + rows[-1:]
    padding = [np.zeros_like(rows[0])] * (steps - len(rows))
    return np.stack(padding + rows)


# --- flat envs ----------------------------------------------------------------------------


def test_the_newest_is_last_with_zeros_before_the_first():
    env = ObservationStack(FLAT, [{"stack_steps": 3}])
    (bare, _), (seen, _) = observed(FLAT), observed(env)
    history = []
    for (_, obs), (_, stack) in zip(bare, seen, strict=True):
        history.append(obs)
        np.testing.assert_array_equal(stack, stacked(history, 3))
        assert stack.dtype == np.float32
    assert len(history) > 2
    assert env.observation_space == Box(0.0, 1.0, (3, 3))


def test_stacks_start_anew_with_every_episode_and_end_with_its_last_observation():
    env = ObservationStack(FLAT, [{"stack_steps": 3}])
    (bare,), ended, last = recorded(FLAT, 3, 12)
    (stacks,), done, final_obs = recorded(env, 3, 12)
    np.testing.assert_array_equal(done, ended)
    assert done.sum() > 3
    for n in range(3):
        history = []
        for t in range(12):
            history.append(bare[t, n])
            np.testing.assert_array_equal(stacks[t, n], stacked(history, 3))
            np.testing.assert_array_equal(final_obs[t, n], stacked([*history, last[t, n]], 3))
            history = [] if done[t, n] else history


def test_changes_are_those_between_observations_and_the_current_one_is_last():
    env = ObservationStack(FLAT, [{"stack_steps": 3, "delta": True}])
    history = []
    for (_, obs), (_, stack) in zip(observed(FLAT)[0], observed(env)[0], strict=True):
        history.append(obs)
        np.testing.assert_allclose(stack, stacked(history, 3, delta=True), atol=1e-7)
    assert not np.any(stacked(history[:1], 3, delta=True)[:2])


def test_a_tag_names_the_stack_and_the_original_may_stay():
    env = ObservationStack(FLAT, [{"stack_steps": 2, "tag": "s", "keep_original": True}])
    (_, obs), *_ = observed(env)[0]
    assert obs.keys() == {"observation", "observation-s"} == set(env.observation_space)
    np.testing.assert_array_equal(obs["observation-s"][-1], obs["observation"])
    alone = ObservationStack(FLAT, [{"stack_steps": 2, "tag": "s"}])
    assert alone.observation_space == Box(0.0, 1.0, (2, 3))


def test_one_step_is_the_observation_with_an_axis():
    env = ObservationStack(
        FLAT, [{"stack_steps": 1}, {"stack_steps": 1, "tag": "d", "delta": True}]
    )
    for (_, obs), (_, stacks) in zip(observed(FLAT)[0], observed(env)[0], strict=True):
        np.testing.assert_array_equal(stacks["observation"], obs[None])
        np.testing.assert_array_equal(stacks["observation-d"], obs[None])


# --- actors -------------------------------------------------------------------------------


@pytest.mark.parametrize("stack_mode", ["flatten_history", "group_by_actor_id"])
def test_actors_in_turn_share_a_history_or_have_their_own(stack_mode):
    env = ObservationStack(RELAY, CONFIG, stack_mode)
    histories = {}
    for (actor, obs), (_, stacks) in zip(observed(RELAY)[0], observed(env)[0], strict=True):
        at_once = actor.agent_id is None
        key = actor if at_once or stack_mode == "group_by_actor_id" else "turns"
        history = histories.setdefault(key, [])
        history.append(obs)
        for agent in range(2) if at_once else [()]:
            own = [row(obs, agent) for obs in history] if at_once else history
            stack = row(stacks, agent) if at_once else stacks
            signals = [obs["signal"] for obs in own]
            np.testing.assert_array_equal(stack["signal-past"], stacked(signals, 4))
            np.testing.assert_array_equal(stack["signal-change"], stacked(signals, 3, True))
            if at_once:
                pixels = stacked([obs["pixels"] for obs in own], 2)
                np.testing.assert_array_equal(stack["pixels"], pixels)
                assert stack["pixels"].dtype == np.uint8
            else:
                assert "signal" not in stack and stack["kind"] == own[-1]["kind"]
    assert len(histories) == (2 if stack_mode == "flatten_history" else 3)


def test_every_actor_sees_the_end_on_top_of_its_own_history():
    env = ObservationStack(RELAY, CONFIG, "group_by_actor_id")
    bare, done, last = recorded(RELAY)
    _, _, final_obs = recorded(env)
    for n in range(3):
        begin = 0
        for t in range(9):
            for i in range(3):
                seen = [bare[i]["signal"][s, n] for s in range(begin, t + 1)]
                seen.append(last[i]["signal"][t, n])
                for agent in (0, 1) if i == 2 else (...,):
                    wanted = stacked([signal[agent] for signal in seen], 4)
                    got = final_obs[i]["signal-past"][t, n]
                    np.testing.assert_array_equal(got[agent] if i == 2 else got, wanted)
            begin = t + 1 if done[t, n] else begin


def test_recorded_states_are_stacked_like_live_ones():
    inner = ObservationStack(RELAY, CONFIG, "group_by_actor_id")
    env = ObservationStack(inner, [{"observation": "signal-past", "stack_steps": 2}])
    seen, states = observed(env)

    @jax.jit
    def observe(state):
        return env.observe(state)

    previous = None
    for i, ((_, obs), state) in enumerate(zip(seen, states, strict=True)):
        maze_state = env.maze_state(state)
        previous = env.from_maze_state(maze_state, i // 3, i % 3, previous)
        jax.tree.map(np.testing.assert_array_equal, observe(previous), obs)


# --- spaces and numbers -------------------------------------------------------------------


def test_spaces_make_room_for_the_zeros():
    def space_of(space, **fields):
        return _stacked_space(StackedObservation(stack_steps=2, **fields), space)

    assert space_of(Box(2.0, 5.0, (1,))) == Box([[0.0], [2.0]], [[5.0], [5.0]])
    assert space_of(Box(-5, -2, (), np.int8)) == Box([-5, -5], [0, -2], dtype=np.int8)
    assert space_of(Box(False, True, (2,), bool)) == Box(False, True, (2, 2), bool)
    assert space_of(Discrete(3)) == MultiDiscrete([3, 3])
    assert space_of(Discrete(3, start=2)) == MultiDiscrete([5, 5])
    assert space_of(MultiDiscrete([2, 3], start=[-4, -1])) == MultiDiscrete(
        [[5, 3], [5, 3]], start=[[-4, -1], [-4, -1]]
    )
    assert space_of(MultiBinary(3)) == MultiBinary((2, 3))


def test_changes_lie_between_the_bounds_differences():
    def space_of(space):
        return _stacked_space(StackedObservation(stack_steps=2, delta=True), space)

    assert space_of(Box(2.0, 5.0, (1,))) == Box([[-3.0], [2.0]], [[3.0], [5.0]])
    assert space_of(Box(0, 255, (), np.uint8)) == Box([-255.0, 0.0], [255.0, 255.0])
    largest = float(np.finfo(np.float32).max)
    assert space_of(Box(-largest, largest, ())) == Box([-np.inf, -largest], [np.inf, largest])


def test_the_contract_of_envs_is_kept():
    check_env(ObservationStack(FLAT, [{"delta": True}]), num_steps=20, num_envs=3)


def test_numbers_of_the_env_may_be_vmapped():
    def first_two(gravity):
        cartpole = mazejax.make("CartPole-v1", gravity=gravity)
        env = ObservationStack(cartpole, [{"stack_steps": 2}])
        _, state = env.reset(KEY)
        return env.step(KEY, state, jnp.int32(1)).obs

    stacks = jax.jit(jax.vmap(first_two))(jnp.array([1.0, 9.0]))
    assert stacks.shape == (2, 2, 4)
    np.testing.assert_array_equal(stacks[0, 0], stacks[1, 0])
    assert np.any(stacks[0, 1] != stacks[1, 1])


def test_the_draws_of_the_wrapped_env_do_not_change():
    env = ObservationStack(FLAT, [{"stack_steps": 2, "keep_original": True, "tag": "s"}])
    for (_, obs), (_, stacks) in zip(observed(FLAT)[0], observed(env)[0], strict=True):
        np.testing.assert_array_equal(stacks["observation"], obs)


# --- configuration ------------------------------------------------------------------------


def test_equal_settings_make_equal_wrappers_and_plain_data_makes_them_again():
    env = ObservationStack(RELAY, CONFIG)
    same = ObservationStack(RELAY, tuple(StackedObservation(**entry) for entry in CONFIG))
    assert env == same and hash(env) == hash(same)
    config = to_config(env)
    assert config["stack_config"][0] == {
        "observation": "signal",
        "keep_original": False,
        "tag": "past",
        "delta": False,
        "stack_steps": 4,
    }
    assert from_config(ObservationStack, config, env=RELAY) == env


@pytest.mark.parametrize(
    ("env", "entries", "message"),
    [
        (FLAT, [], r"stack_config: expected a list of at least one entry"),
        (FLAT, [{"observation": "signl"}], r"no observation 'signl'; known names: observation"),
        (RELAY, [{"observation": "signl"}], r"\[0\].observation: .* did you mean 'signal'"),
        (FLAT, [{"stack_stepz": 2}], r"\[0\].stack_stepz: unknown key; did you mean 'stack_steps'"),
        (FLAT, [{"stack_steps": 0}], r"\[0\]: stack_steps: must be a whole number of at least 1"),
        (FLAT, [{"keep_original": True}], r"'observation' cannot stay .* give the stack a tag"),
        (FLAT, [{}, {}], r"two observations would be called 'observation'"),
        (RELAY, [{"observation": "kind", "delta": True}], r"'kind' is a Discrete of int32"),
        (RELAY, [{"observation": "action_mask", "delta": True}], r"is a Box of bool"),
    ],
)
def test_wrong_settings_are_errors_that_say_what_to_do(env, entries, message):
    with pytest.raises(ConfigError, match=message):
        ObservationStack(env, entries)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ConfigError, match=r"unknown mode 'flat_history'; did you mean 'flatten_h"):
        ObservationStack(FLAT, [{}], "flat_history")


def test_a_mask_of_actions_is_not_replaced_by_its_stack():
    with pytest.raises(SpaceError, match=r"ObservationStack: observation\['action_mask'\]"):
        ObservationStack(RELAY, [{"observation": "action_mask"}])


def test_observations_of_one_history_have_one_shape():
    class Wide(type(RELAY.observation_conversion["run"])):
        def space(self):
            return Dict({"signal": Box(0.0, 1.0, (5,))})

    class Turns(type(RELAY.core_env)):
        @property
        def actors(self):
            return tuple(mazejax.types.ActorID(name, 0) for name in ("look", "run"))

        @property
        def agent_counts(self):
            return {"look": 1, "run": 1}

    views = RELAY.observation_conversion | {"run": Wide("run")}
    env = MazeEnv(Turns(), views, RELAY.action_conversion)
    with pytest.raises(ConfigError, match=r"stack them apart with 'group_by_actor_id'"):
        ObservationStack(env, [{"observation": "signal"}])
    ObservationStack(env, [{"observation": "signal"}], "group_by_actor_id")


def test_parts_of_a_dict_within_are_not_stacked():
    class Nested(type(RELAY.observation_conversion["look"])):
        def space(self):
            return Dict({"signal": Dict({"x": Box(0.0, 1.0, (5,))})})

    views = {"look": Nested("look"), "run": Nested("run")}
    with pytest.raises(ConfigError, match=r"'signal' is a dict, expected arrays"):
        ObservationStack(RELAY.replace(observation_conversion=views), [{"observation": "signal"}])


def test_the_memory_is_the_past_alone():
    env = ObservationStack(EndlessReward(), [{"stack_steps": 3}])
    state = VectorEnv(env, 5).reset(KEY)[1].envs
    assert isinstance(state, WrapperState)
    assert state.memory["observation"].past.shape == (5, 2, 1)
