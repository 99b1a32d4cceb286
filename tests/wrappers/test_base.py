"""Wrappers pass on what they do not change, remember what they should, and can be found."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import TimeLimit, VectorEnv
from mazejax.envs.base import Env
from mazejax.envs.check import check_env
from mazejax.envs.probe import ExpensiveReset, RampReward
from mazejax.errors import EnvError
from mazejax.spaces import Box, Dict, MultiDiscrete
from mazejax.wrappers.action import DiscretizeActions, SplitActions
from mazejax.wrappers.base import (
    ActionWrapper,
    ObservationWrapper,
    RewardWrapper,
    StatefulWrapper,
    Wrapper,
    find,
    find_state,
)
from mazejax.wrappers.compose import wrap, wrappers_config
from mazejax.wrappers.record import ActionRecording, GIFExport, SpacesRecording
from mazejax.wrappers.repeat import StepSkip, StickyActions
from mazejax.wrappers.reward import ReturnNormalization, RewardClipping, RewardScaling
from mazejax.wrappers.structure import (
    DictAction,
    DictObservation,
    NoDictAction,
    NoDictObservation,
    SortedSpaces,
)
from mazejax.wrappers.time import RandomReset
from tests.envs.convoy import CONVOY
from tests.wrappers.arm import JOINTS, make_arm
from tests.wrappers.played import KEY, played

FORCE = make_arm(Dict({"force": JOINTS["force"]}))


class Doubled(ObservationWrapper):
    def observation(self, obs, step_key):
        return jax.tree.map(lambda x: 2 * x if x.dtype != bool else x, obs)

    def map_observation_space(self, space, step_key):
        return space


class Counting(StatefulWrapper):
    """Counts the states of an episode."""

    def first(self, key, inner):
        return jnp.ones((), jnp.int32)

    def next(self, memory, before, action, step):
        return memory + 1

    def recall(self, memory, inner):
        return self.first(KEY, inner) if memory is None else memory + 1


class Record(StatefulWrapper):
    """Counts the episodes of its place, and holds the time of the last state before."""

    factor: float = 1.0

    def first(self, key, inner):
        return (jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    def next(self, memory, before, action, step):
        return memory

    @property
    def has_carry_over(self):
        return True

    def carry_over(self, ended, fresh):
        number = ended.memory[0] + jnp.asarray(self.factor, jnp.int32)
        memory = (number, self.env.time(ended.inner))
        return super().carry_over(ended, fresh).replace(memory=memory)


STACK = RewardScaling(
    StickyActions(
        NoDictAction(
            DiscretizeActions(TimeLimit(DictObservation(FORCE), 5), {"force": {"num_bins": 4}})
        ),
        0.0,
    ),
    2.0,
)


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_bare_wrapper_changes_nothing():
    plain, wrapped = (played(VectorEnv(env, 2), KEY, 6) for env in (CONVOY, Wrapper(CONVOY)))
    for moves, others in zip(plain, wrapped, strict=True):
        one, other = (step._replace(state=step.state.envs) for *_, step in (moves, others))
        assert_same(one, other)
    env = Wrapper(CONVOY)
    assert env.actors == CONVOY.actors and env.agent_counts == CONVOY.agent_counts
    assert env.has_actor_rewards and env.has_inactive_actors and not env.has_carry_over
    assert (env.name, str(env)) == ("Convoy", "Wrapper<TimeLimit<Convoy>>")
    assert env.unwrapped is CONVOY.unwrapped


def test_wrappers_are_found_with_their_states():
    env = Counting(STACK)
    assert find(env, StickyActions) is STACK.env and find(env, type(FORCE)) is FORCE
    assert find(env, Counting) is env
    _, state = env.reset(KEY)
    assert find_state(env, Counting, state) is state
    assert find_state(env, StickyActions, state) is state.inner
    assert_same(find_state(env, type(FORCE), state).core, env.maze_state(state))
    with pytest.raises(EnvError, match=r"has no StepSkip in its stack"):
        find(env, StepSkip)
    with pytest.raises(EnvError, match=r"has no StepSkip in its stack"):
        find_state(env, StepSkip, state)


def test_recorded_states_and_actions_pass_a_stack_both_ways():
    state = STACK.reset(KEY)[1]
    assert STACK.action_space == MultiDiscrete([4, 4, 4])
    for _ in range(3):
        action = STACK.action_space.sample(KEY)
        step = STACK.step(KEY, state, action)
        maze_state, time = STACK.maze_state(step.state), STACK.time(step.state)
        again = STACK.from_maze_state(maze_state, time, previous=state)
        assert_same(STACK.observe(again), step.obs)
        assert int(STACK.time(again)) == int(time)
        assert_same(STACK.from_maze_action(maze_state[0], state), action)
        state = step.state


def test_a_memory_goes_on_from_the_recorded_state_before():
    env = Doubled(Counting(CONVOY))
    _, state = env.reset(KEY)
    maze_state = env.maze_state(state)
    begun = env.from_maze_state(maze_state, 0)
    second = env.from_maze_state(maze_state, 0, substep=1, previous=begun)
    third = env.from_maze_state(maze_state, 0, substep=2, previous=second)
    assert [int(s.memory) for s in (begun, second, third)] == [1, 2, 3]
    assert env.actor_id(third) == CONVOY.actors[2]
    np.testing.assert_array_equal(env.observe(third), 2 * state.inner.core.fuel)


def test_observations_are_changed_in_every_sub_step_and_at_the_end():
    moves = played(VectorEnv(Doubled(CONVOY), 2), KEY, 8)
    plain = played(VectorEnv(CONVOY, 2), KEY, 8)
    for (_, _, step), (_, _, other) in zip(moves, plain, strict=True):
        double = jax.tree.map(lambda x: 2 * x if x.dtype != bool else x, other.obs)
        assert_same(step.obs, double)
    last, plain_last = (m[-1][2].info["final_obs"] for m in (moves, plain))
    np.testing.assert_array_equal(last[0], 2 * plain_last[0])


def test_noop_actions_come_through_the_stack():
    np.testing.assert_array_equal(STACK.noop_action("move0"), [1, 0, 1])
    with pytest.raises(EnvError, match=r"RampReward: has no noop action for step key '0'"):
        TimeLimit(RampReward(), 3).noop_action("0")
    with pytest.raises(EnvError, match=r"Irreversible defines no reverse_action"):
        Irreversible(FORCE).noop_action("move0")


class Irreversible(ActionWrapper):
    def action(self, action, step_key):
        return action

    def map_action_space(self, space, step_key):
        return space


class Squared(RewardWrapper):
    def reward(self, reward):
        return reward**2


def test_actions_outside_the_space_are_clipped_before_they_are_changed():
    env = DiscretizeActions(make_arm(Box(-1.0, 1.0, (1,))), {"action": {"num_bins": 2}})
    step = jax.jit(env.step_state)(KEY, env.reset_state(KEY), jnp.int32(7))
    np.testing.assert_array_equal(env.maze_state(step.state)[0], [0.5])


def test_a_reward_keeps_its_original_through_several_wrappers():
    ((_, _, step),) = played(VectorEnv(Squared(Squared(RampReward(length=3))), 2), KEY, 6)
    np.testing.assert_array_equal(step.reward, step.info["reward_original"] ** 4)


# --- what outlives episodes -----------------------------------------------------------

LENGTHS = ExpensiveReset(iterations=2, longest=4)


@pytest.mark.parametrize("strategy", ["always", "compact", "pool"])
def test_what_is_carried_over_comes_from_the_last_state_before_the_reset(strategy):
    env = TimeLimit(Record(LENGTHS), 9)
    ((states, _, step),) = jax.device_get(played(VectorEnv(env, 20, strategy), KEY, 15))
    number, length = step.state.envs.memory
    done = np.asarray(step.done)
    np.testing.assert_array_equal(number, np.cumsum(done, axis=0))
    lengths = np.asarray(states.envs.inner.length)
    np.testing.assert_array_equal(length[done], lengths[done])
    assert done.any(axis=1).all() and not done.all(axis=1).any()


def test_strategies_carry_over_alike():
    one, other = (
        played(VectorEnv(Record(LENGTHS), 5, strategy), KEY, 12)[0][2].state.envs
        for strategy in ("always", "compact")
    )
    assert_same(one, other)


def test_every_env_carries_over_with_its_own_numbers():
    envs = VectorEnv(Record(LENGTHS), 3, batched={"factor": np.float32([1.0, 2.0, 5.0])})
    ((_, _, step),) = played(envs, KEY, 12)
    ends = np.cumsum(step.done, axis=0)
    np.testing.assert_array_equal(step.state.envs.memory[0], ends * np.array([[1, 2, 5]]))


def test_envs_that_carry_nothing_over_are_not_asked():
    class Refuses(Wrapper):
        def carry_over(self, ended, fresh):
            raise AssertionError

    step = played(VectorEnv(Refuses(LENGTHS), 3), KEY, 5)[0][2]
    assert step.done.any()
    fresh, ended = LENGTHS.reset_state(KEY), LENGTHS.reset_state(mazejax.random.key(9))
    assert Env.carry_over(LENGTHS, ended, fresh) is fresh
    assert Counting(LENGTHS).carry_over(ended, fresh) is fresh


def test_the_reset_strategy_goes_by_what_is_not_carried_over():
    class Tape(Record):
        def first(self, key, inner):
            return (jnp.zeros(100_000), jnp.zeros((), jnp.int32))

        def carry_over(self, ended, fresh):
            memory = (ended.memory[0], fresh.memory[1])
            return Record.carry_over(self, ended, fresh).replace(memory=memory)

    cartpole = mazejax.make("CartPole-v1")
    assert VectorEnv(cartpole, 4).strategy() == VectorEnv(Tape(cartpole), 4).strategy()


@pytest.mark.parametrize("env", [STACK, Record(Counting(TimeLimit(LENGTHS, 3)))], ids=str)
def test_stacks_keep_the_contract_of_envs(env):
    assert not check_env(env, num_steps=6, num_envs=2).errors


def test_numbers_of_any_layer_may_differ_between_envs():
    batched = {"scale": np.float32([1, 2]), "max_steps": np.array([2, 3])}
    ((_, _, step),) = played(VectorEnv(STACK, 2, batched=batched), KEY, 6)
    np.testing.assert_array_equal(step.reward, np.float32([[1, 2]] * 6))
    np.testing.assert_array_equal(step.truncated[:, 0], [False, True] * 3)
    np.testing.assert_array_equal(step.truncated[:, 1], [False, False, True] * 2)


def test_a_stack_in_another_order_is_another_env():
    one = StepSkip(RewardScaling(SplitActions(make_arm(), {"lamps": SPLIT}), 0.5), 2)
    assert str(one) == "StepSkip<RewardScaling<SplitActions<Arm>>>"
    other = RewardScaling(StepSkip(SplitActions(make_arm(), {"lamps": SPLIT}), 2), 0.5)
    assert one != other and one.action_space == other.action_space
    rewards = [played(VectorEnv(env, 2), KEY, 2)[0][2].reward for env in (one, other)]
    assert_same(*rewards)


SPLIT = {"left": {"indices": [0]}, "right": {"indices": [1, 2]}}


@pytest.mark.parametrize(
    "make",
    [
        lambda env: RewardScaling(RewardClipping(ReturnNormalization(env, 0.9), -2.0, 2.0), 0.5),
        lambda env: StickyActions(StepSkip(RandomReset(TimeLimit(env, 9), 1, 3), 2), 0.1),
        lambda env: SplitActions(env, {"lamps": SPLIT}),
        lambda env: DiscretizeActions(env, {"force": {"num_bins": [2, 3, 4], "low": [-1, 0, 0]}}),
        lambda env: SortedSpaces(DictAction(NoDictObservation(DictObservation(env)))),
        lambda env: GIFExport(SpacesRecording(ActionRecording(env, 5), 6), 7),
    ],
)
def test_stacks_are_plain_data_both_ways(make):
    inside = make_arm()
    env = make(inside)
    config = json.loads(json.dumps(wrappers_config(env)))
    assert wrap(inside, config) == env and str(wrap(inside, config)) == str(env)
