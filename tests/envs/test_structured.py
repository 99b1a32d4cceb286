"""Schedules: sub-steps, agents at once and in turn, ends within a flat step, credit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import random
from mazejax.envs import structured
from mazejax.envs.conversion import ActionConversion, ObservationConversion
from mazejax.envs.core import CoreEnv, CoreReset, CoreStep
from mazejax.envs.maze_env import MazeEnv
from mazejax.envs.reward import RewardAggregator
from mazejax.envs.vector import VectorEnv
from mazejax.errors import EnvError, SpaceError
from mazejax.events import Attribute, Event, EventLog, Topic
from mazejax.spaces import Box, Discrete
from mazejax.types import ActorID

KEY = random.key(0)


class WarehouseEvents(Topic):
    opened = Event("The day began.")
    moved = Event("Crates were moved.", {"crates": Attribute((), "int32")}, capacity=2)


class Warehouse(CoreEnv):
    """A planner and a checker act in turn, then three carriers at once; ends at ten crates."""

    actors = (ActorID("plan", 0), ActorID("check", 0), ActorID("carry", None))
    agent_counts = {"plan": 1, "check": 1, "carry": 3}  # noqa: RUF012

    def reset(self, key):
        log = EventLog.empty(WarehouseEvents.opened).fire(WarehouseEvents.opened)
        return CoreReset({"crates": random.randint(key, (), 2)}, log)

    def step(self, key, state, maze_action, actor):
        moved = jnp.sum(maze_action) if actor.agent_id is None else maze_action
        crates = state["crates"] + moved
        log = EventLog.empty(WarehouseEvents).fire(WarehouseEvents.moved, moved > 0, crates=moved)
        reward = maze_action.astype(jnp.float32)
        return CoreStep({"crates": crates}, reward, crates >= 10, jnp.zeros((), bool), log)

    def actor_active(self, state, actor):
        if actor.agent_id is None:
            return jnp.arange(3) <= state["crates"]
        return jnp.ones((), bool)

    def actor_done(self, state, actor):
        shape = (3,) if actor.agent_id is None else ()
        return jnp.broadcast_to(state["crates"] >= 8, shape)

    def actor_rewards(self, state, rewards):
        total = structured.flat_reward(rewards)
        return (total, *(jnp.zeros_like(reward) for reward in rewards[1:]))


class Crates(ObservationConversion):
    agents: int = mazejax.static(default=1)

    def space(self):
        return Box(-1.0, 100.0, (2,))

    def maze_to_space(self, state, agent):
        return jnp.stack([state["crates"], jnp.asarray(agent)]).astype(jnp.float32)


class Amount(ActionConversion):
    most: int = mazejax.static(default=2)

    def space(self):
        return Discrete(self.most + 1)

    def space_to_maze(self, action, state, agent):
        return action


def warehouse(**fields):
    keys = Warehouse.agent_counts
    actions = {"plan": Amount(), "check": Amount(1), "carry": Amount()}
    return MazeEnv(Warehouse(), dict.fromkeys(keys, Crates()), actions, **fields)


ENV = warehouse()
ALL = (jnp.int32(2), jnp.int32(1), jnp.array([2, 2, 2], jnp.int32))


def flat_step(env, state, actions=ALL):
    """Sub-steps of one flat step of one env."""
    steps = []
    for action in actions:
        steps.append(env.step(KEY, state, action))
        state = steps[-1].state
    return steps


# --- one env ------------------------------------------------------------------------


def test_the_schedule_decides_who_acts_and_what_is_observed():
    obs, state = ENV.reset(KEY)
    assert ENV.actor_id(state) == ("plan", 0) and obs.shape == (2,)
    step = ENV.step(KEY, state, jnp.int32(0))
    assert ENV.actor_id(step.state) == ("check", 0) and step.obs.shape == (2,)
    step = ENV.step(KEY, step.state, jnp.int32(0))
    assert ENV.actor_id(step.state) == ("carry", None)
    np.testing.assert_array_equal(step.obs[:, 1], [0, 1, 2])
    step = ENV.step(KEY, step.state, jnp.zeros(3, jnp.int32))
    assert ENV.actor_id(step.state) == ("plan", 0)
    assert step.reward.shape == (3,)
    assert jax.tree.structure(step.state.core) == jax.tree.structure(state.core)


def test_time_counts_flat_steps():
    _, state = ENV.reset(KEY)
    times = []
    for _ in range(2):
        for step in flat_step(ENV, state, (jnp.int32(0), jnp.int32(0), jnp.zeros(3, jnp.int32))):
            state = step.state
            times.append(int(ENV.time(state)))
    assert times == [0, 0, 1, 1, 1, 2]


def test_after_an_end_the_rest_of_the_flat_step_stands_still():
    _, state = ENV.reset(KEY)
    state = state.replace(core={"crates": jnp.int32(9)})
    first, second, third = flat_step(ENV, state)
    assert bool(first.terminated) and float(first.reward) == 2 and int(first.state.time) == 0
    for later in (second, third):
        assert bool(later.terminated) and not bool(later.truncated)
        assert not np.any(later.reward)
        assert int(later.state.core["crates"]) == 11
        assert int(later.info["events"].count(WarehouseEvents.moved)) == 0
    assert not bool(ENV.actor_active(first.state))
    assert not np.any(ENV.actor_active(second.state))
    assert int(third.state.time) == 1


def test_a_time_limit_counts_flat_steps_and_both_flags_may_be_true():
    env = mazejax.TimeLimit(ENV, 2)
    _, state = env.reset(KEY)
    flags = []
    for _ in range(2):
        for step in flat_step(env, state, (jnp.int32(0), jnp.int32(0), jnp.zeros(3, jnp.int32))):
            state = step.state
            flags.append(bool(step.truncated))
    assert flags == [False] * 5 + [True]
    _, state = env.reset(KEY)
    state = flat_step(env, state, (jnp.int32(0), jnp.int32(0), jnp.zeros(3, jnp.int32)))[-1].state
    last = flat_step(env, state.replace(core={"crates": jnp.int32(9)}))[-1]
    assert bool(last.terminated) and bool(last.truncated)


def test_credit_and_departures_are_told_in_info():
    _, state = ENV.reset(KEY)
    steps = flat_step(ENV, state.replace(core={"crates": jnp.int32(0)}))
    assert [sorted(step.info) for step in steps] == [
        ["actor_done", "events"],
        ["actor_done", "events"],
        ["actor_done", "actor_rewards", "events"],
    ]
    credit = steps[-1].info["actor_rewards"]
    assert float(credit[0]) == 9 and not np.any(credit[1]) and credit[2].shape == (3,)
    np.testing.assert_array_equal(steps[-1].info["actor_done"], [True] * 3)


def test_events_of_the_reset_count_for_the_first_flat_step():
    _, state = ENV.reset(KEY)
    opened = []
    for _ in range(2):
        for step in flat_step(ENV, state, (jnp.int32(0), jnp.int32(0), jnp.zeros(3, jnp.int32))):
            state = step.state
            opened.append(int(step.info["events"].count(WarehouseEvents.opened)))
    assert opened == [0, 0, 1, 0, 0, 0]


def test_events_of_the_reset_survive_an_end_in_the_first_sub_step():
    _, state = ENV.reset(KEY)
    steps = flat_step(ENV, state.replace(core={"crates": jnp.int32(9)}))
    assert int(steps[-1].info["events"].count(WarehouseEvents.opened)) == 1


def test_a_reward_aggregator_replaces_the_reward_by_what_happened():
    class Moves(RewardAggregator):
        price: float = 0.5

        def summarize(self, events, state):
            opened = events.count(WarehouseEvents.opened)
            return self.price * (events.count(WarehouseEvents.moved) + 10 * opened)

    env = warehouse(reward_aggregator=Moves())
    _, state = env.reset(KEY)
    assert [float(step.reward) for step in flat_step(env, state)] == [0.5, 0.5, 5.5]


def test_an_action_outside_its_space_raises_or_is_clipped_under_jit():
    _, state = ENV.reset(KEY)
    state = state.replace(core={"crates": jnp.int32(0)})
    with pytest.raises(SpaceError, match=r"action: got 7, expected from 0 to 2"):
        ENV.step(KEY, state, jnp.int32(7))
    clipped = jax.jit(ENV.step)(KEY, state, jnp.int32(7))
    assert int(clipped.state.core["crates"]) == 2
    state = flat_step(ENV, state)[1].state
    with pytest.raises(SpaceError, match=r"action\[1\]: got -1, expected from 0 to 2"):
        ENV.step(KEY, state, jnp.array([0, -1, 0], jnp.int32))
    with pytest.raises(SpaceError, match=r"action: got shape \(\), expected \(3,\)"):
        ENV.step(KEY, state, jnp.int32(1))


def test_spaces_go_by_step_key():
    assert ENV.action_spaces["check"] == Discrete(2)
    with pytest.raises(EnvError, match=r"ask for action_spaces\['plan'\] or"):
        _ = ENV.action_space
    limited = mazejax.TimeLimit(ENV, 2)
    assert limited.observation_spaces == ENV.observation_spaces
    assert limited.actors == Warehouse.actors and limited.agent_counts == Warehouse.agent_counts


# --- many envs ------------------------------------------------------------------------


def random_actions(vector, state):
    actor = vector.actor_id(state)
    space, keys = vector.action_spaces[actor.step_key], vector.keys(state, "policy")
    if actor.agent_id is not None:
        return jax.vmap(space.sample)(keys)
    agents = jnp.arange(vector.agent_counts[actor.step_key])
    each = jax.vmap(lambda key: jax.vmap(lambda a: jax.random.fold_in(key, a))(agents))(keys)
    return jax.vmap(jax.vmap(space.sample))(each)


@functools.cache
def walked(strategy, num_envs=6, num_steps=12, env=ENV):
    vector = VectorEnv(mazejax.TimeLimit(env, 3), num_envs, strategy)

    def one_flat_step(state, _):
        out = []
        for _ in vector.actors:
            step = vector.step(state, random_actions(vector, state))
            state = step.state
            out.append((step.obs, step.reward, step.terminated, step.truncated, step.info))
        return state, (tuple(out), state.envs, state.episode)

    state = vector.reset(KEY)[1]
    return jax.device_get(
        jax.jit(lambda state: jax.lax.scan(one_flat_step, state, length=num_steps)[1])(state)
    )


def test_the_same_loop_runs_compiled_and_in_plain_python():
    vector = VectorEnv(mazejax.TimeLimit(ENV, 3), 6, "always")
    state = vector.reset(KEY)[1]
    for time in range(4):
        for substep in range(3):
            step = vector.step(state, random_actions(vector, state))
            state = step.state
            compiled = jax.tree.map(lambda leaf, t=time: leaf[t], walked("always")[0][substep])
            for mine, theirs in zip(
                (step.obs, step.reward, step.terminated, step.truncated), compiled, strict=False
            ):
                np.testing.assert_array_equal(mine, theirs)


def test_strategies_agree_and_resets_come_only_after_the_last_sub_step():
    for strategy in ("compact", "auto"):
        jax.tree.map(np.testing.assert_array_equal, walked("always"), walked(strategy))
    substeps, envs, episode = walked("always")
    assert all("final_obs" not in substep[4] for substep in substeps[:-1])
    done = substeps[-1][2] | substeps[-1][3]
    assert done.any() and substeps[0][2].any()
    np.testing.assert_array_equal(np.diff(episode, axis=0), done[1:])
    assert (envs.time[done] == 0).all() and (envs.time[~done] > 0).all()


def test_sub_steps_draw_from_keys_of_their_own():
    vector = VectorEnv(ENV, 2)
    state = vector.reset(KEY)[1]
    words = []
    for _ in vector.actors:
        words.append(np.asarray(jax.random.key_data(vector.keys(state, "env"))).tolist())
        state = vector.step(state, random_actions(vector, state)).state
    assert len({str(word) for word in words}) == 3


# --- what is refused --------------------------------------------------------------------


def with_schedule(actors, counts=None):
    class Core(Warehouse):
        agent_counts = property(lambda self: counts or structured.count_agents(self.actors))

    Core.actors = actors
    return lambda: MazeEnv(Core(), Crates(), Amount())


PLAN = ActorID("plan", 0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (with_schedule(()), r"Core.actors: expected a tuple of at least one ActorID"),
        (with_schedule((("plan", 0),)), r"Core.actors: got \('plan', 0\), expected an ActorID"),
        (with_schedule((ActorID("plan", 1),)), r"'plan' has the agents \[1\], expected 0 to 1"),
        (with_schedule((PLAN,), {"paln": 1}), r"agent_counts: missing for step key 'plan'"),
        (with_schedule((PLAN,), {"plan": 1, "carry": 2}), r"unknown step key 'carry'"),
        (with_schedule((PLAN,), {"plan": 0}), r"agent_counts\['plan'\]: must be positive, got 0"),
        (
            with_schedule((ActorID("plan", None),) * 2, {"plan": 2}),
            r"'plan' stands 2 times, but its agents act at once",
        ),
        (
            lambda: MazeEnv(Warehouse(), Crates(), Amount()),
            r"observation_conversion: expected a dict with one for each of the step keys 'plan'",
        ),
        (
            lambda: MazeEnv(Warehouse(), {"plan": Crates(), "chekc": Crates()}, Amount()),
            r"unknown step key 'chekc'; did you mean 'check'",
        ),
        (
            lambda: MazeEnv(Warehouse(), {"plan": Crates()}, Amount()),
            r"observation_conversion: missing for step key 'check'",
        ),
    ],
)
def test_a_bad_schedule_is_refused_at_construction(build, message):
    with pytest.raises(EnvError, match=message):
        build()
