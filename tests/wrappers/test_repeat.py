"""Actions are taken again: as often as asked, and never after an end."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import TimeLimit, VectorEnv, random
from mazejax.envs.base import flag
from mazejax.envs.check import check_env
from mazejax.envs.conversion import ObservationConversion
from mazejax.envs.core import CoreEnv, CoreReset, CoreStep
from mazejax.envs.maze_env import MazeEnv
from mazejax.envs.probe import EndlessReward, RampReward
from mazejax.errors import ConfigError, EnvError
from mazejax.events import Attribute, Event, EventLog, Topic
from mazejax.spaces import Box, Discrete
from mazejax.types import ActorID
from mazejax.wrappers.repeat import StepSkip, StickyActions
from mazejax.wrappers.reward import RewardScaling
from tests.envs.convoy import CONVOY, Choice, ConvoyEvents
from tests.wrappers.arm import JOINTS, make_arm
from tests.wrappers.played import KEY, played

RAMP = RampReward(length=10)


class Ticks(Topic):
    ticked = Event("Time went on.", {"time": Attribute((), "int32")}, capacity=2)
    bell = Event("It rang.")


class Clock(EndlessReward):
    """Fires as many events as its action says, and rings; the reward is the action."""

    @property
    def action_space(self):
        return Discrete(4)

    def step_state(self, key, state, action):
        step = super().step_state(key, state, action)
        events = EventLog.empty(Ticks).fire(Ticks.bell)
        events = events.fire_each(
            Ticks.ticked, jnp.arange(3) < action, time=jnp.full(3, state.time)
        )
        reward = jnp.asarray(action, jnp.float32)
        return step._replace(reward=reward, info={"events": events, "time": state.time})

    def noop_action(self, step_key):
        return jnp.int32(0)


def first_step(env, action):
    return jax.jit(env.step)(KEY, env.reset(KEY)[1], action)


# --- skipping -------------------------------------------------------------------------


def test_rewards_of_all_steps_add_up():
    moves = played(VectorEnv(StepSkip(RAMP, 3), 4), KEY, 8)
    ((states, _, step),) = moves
    signals = np.asarray(states.envs.inner.signal)
    left = np.minimum(3, 10 - np.asarray(states.envs.inner.time))
    expected = [
        [sum((signals[t, n] + k) % 4 for k in range(left[t, n])) for n in range(4)]
        for t in range(8)
    ]
    np.testing.assert_array_equal(step.reward, expected)
    np.testing.assert_array_equal(step.truncated[:, 0], [False, False, False, True] * 2)
    assert left.min() == 1


@pytest.mark.parametrize(
    ("env", "limit"),
    [
        (TimeLimit(StepSkip(EndlessReward(), 3), 4), 4),
        (StepSkip(TimeLimit(EndlessReward(), 4), 3), 2),
    ],
    ids=["around", "within"],
)
def test_limits_count_the_steps_of_their_own_side(env, limit):
    ((states, _, step),) = played(VectorEnv(env, 1), KEY, 2 * limit)
    np.testing.assert_array_equal(step.truncated[:, 0], ([False] * (limit - 1) + [True]) * 2)
    times = jax.vmap(jax.vmap(env.time))(states.envs)[:, 0]
    np.testing.assert_array_equal(times, [*range(limit)] * 2)
    assert float(step.reward[:limit].sum()) == {4: 12.0, 2: 4.0}[limit]


def test_noop_takes_the_action_once():
    sticky, noop = (first_step(StepSkip(Clock(), 3, mode), 2) for mode in ("sticky", "noop"))
    assert (float(sticky.reward), float(noop.reward)) == (6.0, 2.0)
    arm = make_arm()
    action = JOINTS.sample(KEY)
    last = arm.maze_state(first_step(StepSkip(arm, 2, "noop"), action).state.inner)[0]
    jax.tree.map(np.testing.assert_array_equal, last, arm.noop_action("move0"))


def test_all_events_of_all_steps_are_in_one_log():
    log = first_step(StepSkip(Clock(), 4), 2).info["events"]
    assert int(log.count(Ticks.bell)) == 4 and int(log.count(Ticks.ticked)) == 8
    ticks = log[Ticks.ticked]
    np.testing.assert_array_equal(ticks.attributes["time"][ticks.fired], [0, 0, 1, 1, 2, 2, 3, 3])
    assert int(ticks.lost) == 0 and ticks.capacity == 8
    lossy = first_step(StepSkip(Clock(), 4), 3).info["events"][Ticks.ticked]
    assert (int(lossy.count), int(lossy.lost), int(lossy.fired.sum())) == (12, 4, 8)
    few = first_step(StepSkip(Clock(), 4), 1).info["events"][Ticks.ticked]
    np.testing.assert_array_equal(few.attributes["time"][few.fired], [0, 1, 2, 3])


def test_nothing_happens_after_the_end():
    step = first_step(StepSkip(TimeLimit(Clock(), 2), 5), 1)
    assert bool(step.truncated) and float(step.reward) == 2.0
    assert int(step.info["events"].count(Ticks.bell)) == 2
    assert int(step.info["time"]) == 1 and int(step.state.inner.time) == 2
    twice = first_step(StepSkip(StepSkip(TimeLimit(Clock(), 5), 2), 2), 1).info["events"]
    np.testing.assert_array_equal(twice[Ticks.ticked].fired.sum(), 4)


def test_the_original_reward_is_summed_too():
    step = first_step(StepSkip(RewardScaling(Clock(), 0.5), 3), 2)
    assert (float(step.reward), float(step.info["reward_original"])) == (3.0, 6.0)


# --- skipping on schedules --------------------------------------------------------------


def by_hand(env, keys, state, actions, n_steps):
    """Rewards and events of a skipped flat step, by plain steps: (by sub-step, last step)."""
    step, rewards, counts = None, [0.0] * len(actions), 0
    for repeat in range(n_steps):
        for substep, action in enumerate(actions):
            own = keys[substep]
            if repeat:
                own = jax.random.fold_in(jax.random.fold_in(keys[-1], repeat), substep)
            step = compiled_step(env, own, state, action)
            rewards[substep] += np.asarray(step.reward)
            counts += int(step.info["events"].count(ConvoyEvents.stranded))
            state = step.state
        if bool(step.terminated | step.truncated):
            break
    return rewards, counts, step


@functools.partial(jax.jit, static_argnums=0)
def compiled_step(env, key, state, action):
    return env.step(key, state, action)


@pytest.mark.parametrize("seed", range(4))
def test_a_schedule_repeats_the_actions_of_all_its_sub_steps(seed):
    env, keys = StepSkip(CONVOY, 3), jax.random.split(random.key(seed), 3)
    actions = (np.int32(1), np.int32([1, 0, 2]), np.int32(seed % 2))
    _, state = env.reset(random.key(seed))
    rewards, counts, last = by_hand(CONVOY, keys, state.inner, actions, 3)
    steps = []
    for key, action in zip(keys, actions, strict=True):
        steps.append(compiled_step(env, key, state, action))
        state = steps[-1].state
    credit = steps[-1].info["actor_rewards"]
    jax.tree.map(np.testing.assert_array_equal, state.inner.core, last.state.core)
    flat = sum(float(step.reward.sum()) for step in steps)
    np.testing.assert_allclose(flat, sum(reward.sum() for reward in rewards), rtol=1e-6)
    np.testing.assert_allclose(credit[1], rewards[1], rtol=1e-6)
    np.testing.assert_allclose(credit[0], rewards[1].sum() + rewards[2], rtol=1e-6)
    total = sum(int(step.info["events"].count(ConvoyEvents.stranded)) for step in steps)
    assert total == counts and bool(steps[-1].terminated) == bool(last.terminated)
    assert int(env.time(state)) == 1 and env.substep(state) == 0


def test_the_events_of_the_reset_are_counted_once():
    moves = played(VectorEnv(StepSkip(CONVOY, 3), 4), KEY, 6)
    done = np.concatenate([np.ones((1, 4), bool), np.asarray(moves[-1][2].done)[:-1]])
    fuelled = sum(
        np.asarray(m[2].info["events"].firings["ConvoyEvents.fuelled"].count) for m in moves
    )
    np.testing.assert_array_equal(fuelled, done)


class Beats(CoreEnv):
    """Two sub-steps that fire the number of their beat."""

    @property
    def actors(self):
        return (ActorID("tick", 0), ActorID("tock", 0))

    def reset(self, key):
        return CoreReset(jnp.zeros((), jnp.int32))

    def step(self, key, state, maze_action, actor):
        events = EventLog.empty(Ticks.ticked).fire(Ticks.ticked, time=state)
        return CoreStep(state + 1, jnp.float32(1.0), flag(), flag(), events)


class Beat(ObservationConversion):
    def space(self):
        return Box(0, 1000, (1,), np.int32)

    def maze_to_space(self, state, agent):
        return state[None]


def test_the_events_of_a_schedule_come_in_the_order_of_its_sub_steps():
    names = ("tick", "tock")
    env = StepSkip(
        MazeEnv(Beats(), dict.fromkeys(names, Beat()), dict.fromkeys(names, Choice())), 3
    )
    logs, state = [], env.reset(KEY)[1]
    for _ in names:
        step = env.step(KEY, state, 0)
        state, ticks = step.state, step.info["events"][Ticks.ticked]
        logs.append(ticks.attributes["time"][ticks.fired].tolist())
    assert logs == [[0], [1, 2, 3, 4, 5]] and float(step.reward) == 5.0


def test_credit_is_given_where_agents_at_once_act_beside_others():
    arm = make_arm(Discrete(2), Discrete(2), num_agents=3)
    env = StepSkip(arm, 4)
    assert (
        env.has_actor_rewards
        and not StepSkip(make_arm(Discrete(2), Discrete(3)), 4).has_actor_rewards
    )
    moves = played(VectorEnv(env, 2), KEY, 3)
    first, second = (step.reward for _, _, step in moves)
    np.testing.assert_array_equal(first, np.ones((3, 2, 3)))
    np.testing.assert_array_equal(second, np.full((3, 2, 3), 4.0 + 3.0))
    for credit in moves[-1][2].info["actor_rewards"]:
        np.testing.assert_array_equal(credit, np.full((3, 2, 3), 4.0))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: StepSkip(RAMP, 0), ConfigError, r"StepSkip\.n_steps: must be a positive"),
        (lambda: StepSkip(RAMP, 2.0), ConfigError, r"StepSkip\.n_steps"),
        (lambda: StepSkip(RAMP, 2, "stick"), ConfigError, r"skip_mode: unknown 'stick'.*'sticky'"),
        (lambda: StepSkip(RAMP, 2, "noop"), EnvError, r"RampReward: has no noop action"),
        (
            lambda: StepSkip(mazejax.make("CartPole-v1"), 2, "noop"),
            EnvError,
            r"PushLeftOrRight defines no noop_action",
        ),
        (lambda: StickyActions(RAMP, 1.5), ConfigError, r"StickyActions\.probability: must be"),
    ],
)
def test_what_cannot_be_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


# --- sticky actions ---------------------------------------------------------------------


def test_actions_are_repeated_as_often_as_asked_and_never_at_first():
    envs = VectorEnv(StickyActions(TimeLimit(Clock(), 50), 0.25), 40)
    ((_, action, step),) = played(envs, KEY, 100)
    action, taken = np.asarray(action), np.asarray(step.reward)
    last = np.roll(taken, 1, axis=0)
    firsts = np.arange(100) % 50 == 0
    np.testing.assert_array_equal(taken[firsts], action[firsts])
    assert ((taken == action) | (taken == last))[~firsts].all()
    changed = (action != last) & ~firsts[:, None]
    share = ((taken != action) & changed).sum() / changed.sum()
    np.testing.assert_allclose(share, 0.25, atol=0.03)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_probabilities_0_and_1_are_exact_and_may_differ_between_envs(probability):
    other = 1.0 - probability
    envs = VectorEnv(
        StickyActions(Clock()), 2, batched={"probability": np.float32([probability, other])}
    )
    ((_, action, step),) = played(envs, KEY, 30)
    always, never = (0, 1) if probability else (1, 0)
    np.testing.assert_array_equal(step.reward[:, never], action[:, never])
    np.testing.assert_array_equal(step.reward[:, always], np.full(30, action[0, always]))


def test_agents_and_sub_steps_repeat_their_own_last_action():
    arm = make_arm(Discrete(50), Discrete(60), num_agents=3)
    moves = played(VectorEnv(StickyActions(arm, 0.5), 6), KEY, 40)
    for substep, (_, action, step) in enumerate(moves):
        taken = np.asarray(step.state.envs.inner.core[substep])
        repeated = taken != np.asarray(action)
        np.testing.assert_array_equal(taken[1:][repeated[1:]], taken[:-1][repeated[1:]])
        assert not repeated[0].any() and 0.4 < repeated[1:].mean() < 0.6
        assert (repeated[1:, :, 0] != repeated[1:, :, 1]).any()


def test_draws_of_the_wrapped_env_stay_the_same():
    plain = played(VectorEnv(CONVOY, 3), KEY, 6)
    sticky = played(VectorEnv(StickyActions(CONVOY, 0.0), 3), KEY, 6)
    for (_, _, one), (_, _, other) in zip(plain, sticky, strict=True):
        np.testing.assert_array_equal(one.reward, other.reward)


# --- contract -------------------------------------------------------------------------

TOGETHER = TimeLimit(make_arm(Discrete(2), JOINTS, num_agents=2), 3)


@pytest.mark.parametrize(
    "env",
    [
        StepSkip(TimeLimit(Clock(), 7), 3),
        StickyActions(StepSkip(TimeLimit(make_arm(), 5), 2, "noop")),
        StepSkip(StickyActions(TOGETHER), 2),
    ],
    ids=str,
)
def test_they_keep_the_contract_of_envs(env):
    assert not check_env(env, num_steps=10, num_envs=2).errors


def test_recorded_states_stand_at_the_agent_s_time():
    env = StepSkip(StickyActions(CONVOY), 3)
    _, state = env.reset(KEY)
    again = env.from_maze_state(env.maze_state(state), 2, substep=1)
    assert int(env.time(again)) == 2 and env.substep(again) == 1
    later = env.from_maze_state(env.maze_state(state), 3, previous=again)
    assert int(env.time(later)) == 3
    seen = env.observe(env.at_substep(state, 1))
    jax.tree.map(np.testing.assert_array_equal, env.observe(again), seen)
    assert str(env) == "StepSkip<StickyActions<TimeLimit<Convoy>>>"
