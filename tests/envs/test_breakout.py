"""Breakout beside gymnax's own, state by state, and what its observation means."""

import functools

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import random
from mazejax.envs.base import select
from mazejax.envs.breakout import (
    BALL,
    BRICK,
    PADDLE,
    TRAIL,
    Breakout,
    BreakoutObservation,
    BreakoutState,
    Pieces,
    StayLeftRight,
)
from mazejax.envs.check import check_env
from mazejax.envs.maze_env import EnvState
from mazejax.envs.vector import VectorEnv
from mazejax.errors import ConfigError
from mazejax.networks.observations import KEY as OBSERVATION
from mazejax.networks.observations import arrays_by_key
from mazejax.types import SINGLE_ACTOR, Scene
from mazejax.wrappers import factories

KEY = random.key(0)
ENV = factories.make_breakout()
GAME, PARAMS = gymnax.make("Breakout-MinAtar")
NUM_ENVS = 32
NUM_STEPS = 1100


def as_gymnax(state):
    """gymnax's state that stands for ours."""
    core, pieces = state.core, state.core.pieces
    bits = (core.bricks >> jnp.arange(30, dtype=jnp.uint32)) & 1
    # gymnax's directions: 0 up left, 1 up right, 2 down right, 3 down left.
    direction = jnp.where(pieces.is_down == 1, 3 - pieces.is_right, pieces.is_right)
    return gymnax.environments.minatar.breakout.EnvState(
        ball_y=pieces.ball_row,
        ball_x=pieces.ball_column,
        ball_dir=direction,
        pos=pieces.paddle,
        brick_map=jnp.zeros((10, 10)).at[1:4].set(bits.reshape(3, 10).astype(jnp.float32)),
        strike=pieces.struck == 1,
        last_y=pieces.trail_row,
        last_x=pieces.trail_column,
        time=state.time,
        terminal=jnp.zeros((), bool),
    )


def to_the_ball(key, state):
    """An action that mostly follows the ball, so that episodes last and bricks run out."""
    pieces = state.core.pieces
    column = pieces.ball_column + 2 * pieces.is_right - 1
    follow = jnp.where(column > pieces.paddle, 2, jnp.where(column < pieces.paddle, 1, 0))
    chance, move = random.randint(random.stream(key, "a"), (), 100), random.randint(key, (), 3)
    return jnp.where(chance < 4, move, follow)


@functools.cache
def side_by_side(policy):
    """Outcomes [T, N] of our env and of gymnax's, which goes on by itself from our first states."""

    def one_step(carry, key):
        state, twin = carry
        action = jax.vmap(policy)(jax.random.split(key, NUM_ENVS), state)
        step = jax.vmap(ENV.step, (None, 0, 0))(key, state, action)
        with jax.numpy_rank_promotion("allow"):
            obs, moved, reward, terminated, _ = jax.vmap(GAME.step_env, (None, 0, 0, None))(
                jax.random.key(0), twin, action, PARAMS
            )
        truncated = jax.vmap(GAME.is_truncated, (0, None))(moved, PARAMS)
        ours = (step.obs, step.reward, step.terminated, step.truncated)
        theirs = (obs, reward, terminated, truncated)
        fresh = jax.vmap(ENV.reset_state)(jax.random.split(random.stream(key, "new"), NUM_ENVS))
        new = select(step.done, fresh, step.state)
        begun = jax.tree.map(
            lambda x, y: jnp.asarray(x, y.dtype), jax.vmap(as_gymnax)(fresh), moved
        )
        twin = select(step.done, begun, moved)
        return (new, twin), (ours, theirs, jax.vmap(as_gymnax)(new), twin)

    @jax.jit
    def run(key):
        state = jax.vmap(ENV.reset_state)(jax.random.split(key, NUM_ENVS))
        twin = jax.tree.map(jnp.asarray, jax.vmap(as_gymnax)(state))
        return jax.lax.scan(one_step, (state, twin), jax.random.split(key, NUM_STEPS))[1]

    return jax.device_get(run(KEY))


def random_action(key, state):
    return random.randint(key, (), 3)


@pytest.mark.parametrize("policy", [random_action, to_the_ball])
def test_observations_rewards_ends_and_states_are_those_of_gymnax(policy):
    ours, theirs, states, twins = side_by_side(policy)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(jax.tree.leaves(states), jax.tree.leaves(twins), strict=True):
        np.testing.assert_array_equal(one, other)
    _, reward, terminated, truncated = ours
    assert reward.sum() > 100 and terminated.sum() > 10
    if policy is to_the_ball:  # all that the rules provide for has happened
        assert truncated.sum() > 0
        bricks = states.brick_map.sum((-1, -2))
        assert ((bricks[:-1] == 0) & (bricks[1:] == 30) & ~(terminated | truncated)[1:]).any()


def test_first_states_are_gymnaxs_two_and_equally_likely():
    obs, _ = jax.jit(jax.vmap(ENV.reset))(jax.random.split(KEY, 1000))
    starts = jax.random.split(jax.random.key(0), 64)
    wanted, _ = jax.jit(jax.vmap(GAME.reset_env, (0, None)))(starts, PARAMS)
    assert {o.tobytes() for o in np.asarray(obs)} == {
        o.astype(np.uint8).tobytes() for o in np.asarray(wanted)
    }
    assert abs(obs[:, 3, 0, BALL].mean() - 0.5) < 0.06
    again, _ = jax.vmap(ENV.reset)(jax.random.split(KEY, 1000))
    np.testing.assert_array_equal(obs, again)


def test_an_observation_shows_every_brick_and_piece_in_its_cell():
    space = ENV.observation_space
    observe = jax.jit(BreakoutObservation().maze_to_space)
    for bit in range(30):
        row, column = divmod(7 * bit % 100, 10)
        pieces = Pieces(row, column, column, row, bit % 10, bit % 2, 1, 0)
        packed = Pieces(*map(jnp.int32, pieces)).pack()
        obs = observe(BreakoutState(jnp.uint32(1 << bit), packed), 0)
        assert space.contains(np.asarray(obs)) and obs.dtype == jnp.uint8
        wanted = np.zeros((10, 10, 4), np.uint8)
        wanted[9, bit % 10, PADDLE] = wanted[row, column, BALL] = wanted[column, row, TRAIL] = 1
        wanted[1 + bit // 10, bit % 10, BRICK] = 1
        np.testing.assert_array_equal(obs, wanted)


def test_networks_see_zeros_and_ones():
    obs, _ = ENV.reset(KEY)
    seen = arrays_by_key(ENV.observation_space, ENV.action_space, obs)[OBSERVATION]
    assert seen.dtype == jnp.float32 and seen.shape == (10, 10, 4)
    np.testing.assert_array_equal(seen, obs)
    np.testing.assert_array_equal(ENV.observation_space.flatten(obs), obs.reshape(400))


def test_pieces_survive_their_packing():
    for pieces in (Pieces(9, 8, 7, 6, 5, 1, 0, 1), Pieces(0, 9, 0, 9, 9, 0, 1, 0)):
        assert Pieces.unpack(Pieces(*map(jnp.int32, pieces)).pack()) == pieces


def test_many_at_once_are_as_each_alone():
    envs, action = VectorEnv(ENV, 3), jnp.arange(3, dtype=jnp.int32)
    step_all, step_one = jax.jit(envs.step), jax.jit(ENV.step)
    state = envs.reset(KEY)[1]
    for _ in range(12):
        step = step_all(state, action)
        for i in range(3):
            row = jax.tree.map(lambda leaf, i=i: leaf[i], state.envs)
            alone = step_one(KEY, row, action[i])
            np.testing.assert_array_equal(step.info["final_obs"][i], alone.obs)
            assert (step.reward[i], step.terminated[i]) == (alone.reward, alone.terminated)
        state = step.state


def test_the_time_limit_truncates_and_does_not_terminate():
    assert ENV.max_steps == 1000 and mazejax.make("Breakout-v0") == ENV
    core = Breakout().reset(KEY).state
    step = ENV.step(KEY, EnvState(core, jnp.int32(999)), jnp.int32(0))
    assert step.truncated and not step.terminated
    short = mazejax.make("Breakout-v0", max_steps=1)
    assert short.step(KEY, short.reset_state(KEY), jnp.int32(0)).truncated
    with pytest.raises(ConfigError, match="no parameter 'max_step'; did you mean 'max_steps'"):
        mazejax.make("Breakout-v0", max_step=1)


def test_actions_convert_both_ways():
    conversion = StayLeftRight()
    for action, move in enumerate((0, -1, 1)):
        maze_action = conversion.space_to_maze(jnp.int32(action), None, 0)
        assert maze_action == move and conversion.maze_to_space(maze_action) == action
    assert conversion.space_to_maze(conversion.noop_action(), None, 0) == 0


def test_numbers_of_the_state_keep_their_types():
    first = Breakout().reset(KEY).state
    later = Breakout().step(KEY, first, jnp.int32(1), SINGLE_ACTOR).state
    assert jax.tree.map(jnp.result_type, first) == jax.tree.map(jnp.result_type, later)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(first)) == 8


def test_it_keeps_the_contract_of_environments():
    assert not check_env(factories.make_breakout(max_steps=50), num_steps=100).warnings


def test_it_can_be_drawn_at_first_and_later():
    first = ENV.reset_state(KEY)
    later = ENV.step_state(KEY, first, jnp.int32(2)).state
    assert isinstance(ENV.draw(first), Scene) and ENV.draw(first) != ENV.draw(later)
    assert len(ENV.draw(first).shapes) == 33
