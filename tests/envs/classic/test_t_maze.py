"""The T-maze's rules, what can be seen, and what policies earn with and without memory."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import random
from mazejax.envs.check import check_env
from mazejax.envs.classic.t_maze import TMaze, TMazeObservation, TMazeState, UpDownLeftRight
from mazejax.envs.episode import play, replay
from mazejax.errors import ConfigError
from mazejax.types import SINGLE_ACTOR, Scene
from mazejax.wrappers import factories

KEY = random.key(0)
UP, DOWN, LEFT, RIGHT = range(4)
LENGTH = 3
ENV = factories.make_t_maze(length=LENGTH)


@functools.cache
def keys(length=LENGTH):
    """Two keys, of an episode with the cue up and of one with the cue down."""
    env, candidates = factories.make_t_maze(length=length), jax.random.split(KEY, 8)
    stay = jnp.array([LEFT])
    episodes = jax.jit(jax.vmap(lambda key: replay(env, key, stay)))(candidates)
    cues = episodes.substeps[0].obs[:, 0, 0].tolist()
    return candidates[jnp.array([cues.index(1), cues.index(-1)])]


@jax.jit
def both_episodes(keys, way):
    return jax.vmap(lambda key: replay(ENV, key, way))(keys)


def both(way):
    """The episodes of these actions with the cue up and with the cue down."""
    return both_episodes(keys(), way)


def test_walls_leave_the_agent_where_it_is_for_a_small_penalty():
    way = [UP, DOWN, LEFT, RIGHT, UP, DOWN, RIGHT, LEFT, RIGHT, RIGHT, RIGHT, LEFT]
    episodes = both(jnp.array(way))
    assert not (episodes.terminated | episodes.truncated).any()
    steps = episodes.substeps[0]
    for position, reward in zip(steps.state.core.position, steps.reward, strict=True):
        assert position.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 1, 2, 3, 3]
        penalty = [0.1, 0.1, 0.1, 0, 0.1, 0.1, 0, 0, 0, 0, 0.1, 0]
        np.testing.assert_allclose(reward, -np.array(penalty), rtol=1e-6)


@pytest.mark.parametrize("turn", [UP, DOWN])
def test_the_episode_ends_in_an_arm_and_pays_for_the_side_of_the_cue(turn):
    episodes = both(jnp.array([RIGHT] * LENGTH + [turn]))
    assert episodes.terminated.all() and not episodes.truncated.any()
    paid = [[0, 0, 0, 4 if cue == turn else -0.1] for cue in (UP, DOWN)]
    np.testing.assert_allclose(episodes.substeps[0].reward, paid, rtol=1e-6)
    final = episodes.final_state.core
    assert (final.position == LENGTH).all() and (final.side == (1 if turn == UP else -1)).all()
    np.testing.assert_array_equal(episodes.final_obs, 0)


def test_only_the_first_cell_shows_the_cue_and_nothing_shows_place_or_time():
    way = jnp.array([UP, RIGHT, DOWN, RIGHT, LEFT, LEFT, LEFT, RIGHT, RIGHT, RIGHT, LEFT, RIGHT])
    steps = both(way).substeps[0]
    position, obs = steps.state.core.position, steps.obs
    cue = np.array([[1], [-1]])
    np.testing.assert_array_equal(obs[..., 0], np.where(position == 0, cue, 0))
    np.testing.assert_array_equal(obs[..., 1], position == LENGTH)
    assert {0, 1, 2, LENGTH} == set(np.unique(position))


def test_both_cues_are_equally_likely():
    first = jax.vmap(lambda key: TMaze().reset(key).state)(jax.random.split(KEY, 4000))
    assert set(np.unique(first.cue)) == {-1, 1}
    assert abs(float(first.cue.mean())) < 4 / 4000**0.5
    assert not first.position.any() and not first.side.any()


@pytest.mark.parametrize("length", [1, 10])
@pytest.mark.parametrize("cue", [UP, DOWN])
def test_who_remembers_the_cue_earns_four(length, cue):
    env = factories.make_t_maze(length=length)
    way = jnp.array([RIGHT] * length + [cue])
    episode = jax.jit(lambda key: replay(env, key, way))(keys(length)[cue])
    assert episode.episode_return == 4 and episode.terminated
    assert episode.length == length + 1


def test_who_does_not_earns_no_more_than_half_of_that_less_half_of_the_penalty():
    """All 256 deterministic ways to act on what is seen now; chance mixes them (see TMaze)."""
    tables = jnp.array(list(itertools.product(range(4), repeat=4)))

    def episode_return(table, key):
        def act(key, obs, maze_state, actor):
            seen = jnp.where(obs[0] != 0, jnp.where(obs[0] > 0, 0, 1), 2 + obs[1].astype("i4"))
            return table[seen]

        return play(ENV, act, key, 5 * LENGTH).episode_return

    by_cue = jax.vmap(jax.vmap(episode_return, (None, 0)), (0, None))
    mean = np.asarray(jax.jit(by_cue)(tables, keys())).mean(axis=1)
    assert mean.max() == pytest.approx((4 - 0.1) / 2)
    best = {tuple(table) for table in np.asarray(tables)[mean > 1.949].tolist()}
    assert best == {(RIGHT, RIGHT, RIGHT, UP), (RIGHT, RIGHT, RIGHT, DOWN)}


@pytest.mark.parametrize("name", ["correct_reward", "wrong_reward", "wall_reward"])
def test_rewards_may_be_swept(name):
    at_junction = TMazeState(jnp.int32(LENGTH), jnp.int32(0), jnp.int32(1))
    actions = {"correct_reward": (0, 1), "wrong_reward": (0, -1), "wall_reward": (1, 0)}
    for other, action in actions.items():
        step = jax.vmap(
            lambda number, action=action: TMaze(length=LENGTH, **{name: number}).step(
                KEY, at_junction, jnp.array(action), SINGLE_ACTOR
            )
        )(jnp.array([5.0, 7.0]))
        same = getattr(TMaze, other)
        np.testing.assert_allclose(step.reward, [5, 7] if other == name else [same, same])


def test_directions_convert_both_ways():
    conversion = UpDownLeftRight()
    for action, way in enumerate([(0, 1), (0, -1), (-1, 0), (1, 0)]):
        maze_action = conversion.space_to_maze(jnp.int32(action), None, 0)
        assert tuple(maze_action.tolist()) == way
        assert conversion.maze_to_space(maze_action) == action


@pytest.mark.parametrize("length", [0, -3, 2.0, True, "10"])
def test_a_corridor_without_cells_is_an_error(length):
    with pytest.raises(ConfigError, match=r"TMaze.length: got .*, expected a positive integer"):
        factories.make_t_maze(length=length)


def test_numbers_go_by_name_and_the_time_limit_follows_the_length():
    env = mazejax.make("TMaze-v0")
    assert env.max_steps == 50 and env == factories.make_t_maze() and hash(env) == hash(env)
    env = mazejax.make("TMaze-v0", length=4, wall_reward=-1.0)
    assert env.max_steps == 20 and env.env.core_env == TMaze(length=4, wall_reward=-1.0)
    assert env.env.observation_conversion == TMazeObservation(length=4)
    assert factories.make_t_maze(max_steps=7, length=4).max_steps == 7
    with pytest.raises(ConfigError, match="TMaze has no number 'wall_rewards'; did you mean"):
        factories.make_t_maze(wall_rewards=1.0)


def test_it_keeps_the_contract_of_environments():
    # Random steps meet every reward only where the corridor is short.
    assert not check_env(factories.make_t_maze(length=1), num_steps=100).warnings


def test_it_can_be_drawn_at_first_and_later():
    first = ENV.reset_state(KEY)
    later = ENV.step_state(KEY, first, jnp.int32(RIGHT)).state
    assert isinstance(ENV.draw(first), Scene) and isinstance(ENV.draw(later), Scene)
    assert ENV.draw(first) != ENV.draw(later)
