"""Observations equal what a plain loop draws."""

import jax
import numpy as np
import pytest

from mazejax import random
from mazejax.base import jit
from mazejax.envs import cells
from mazejax.envs.grid_maze.conversions import (
    FourDirections,
    PartialObservation,
    PixelObservation,
    SymbolicObservation,
)
from mazejax.envs.grid_maze.core import GridMaze
from mazejax.envs.grid_maze.drawing import AGENT, FLOOR, GOAL, WALL
from mazejax.errors import ConfigError

SIZE, NUM = 9, 40


@pytest.fixture(scope="module")
def states():
    keys = jax.random.split(random.key(0), NUM)
    return jit(jax.vmap(lambda key: GridMaze(size=SIZE).reset(key).state))(keys)


def observations(conversion, states):
    """The observations of all states, with (walls, agent, goal) of each."""
    obs = np.asarray(jit(jax.vmap(lambda s: conversion.maze_to_space(s, 0)))(states))
    walls = np.asarray(jax.vmap(lambda w: cells.unpack(w, SIZE))(states.walls))
    for i in range(NUM):
        agent = (int(states.agent.row[i]), int(states.agent.column[i]))
        goal = (int(states.goal.row[i]), int(states.goal.column[i]))
        assert conversion.space().contains(obs[i])
        yield obs[i], walls[i], agent, goal


def test_planes_show_walls_agent_and_goal(states):
    for obs, walls, agent, goal in observations(SymbolicObservation(size=SIZE), states):
        wanted = np.zeros((SIZE, SIZE, 3), bool)
        wanted[..., 0] = walls
        wanted[(*agent, 1)] = wanted[(*goal, 2)] = True
        np.testing.assert_array_equal(obs, wanted)


@pytest.mark.parametrize("k", [1, 3])
def test_pixels_are_blocks_of_one_colour_for_each_cell(states, k):
    conversion = PixelObservation(size=SIZE, cell_pixels=k)
    for obs, walls, agent, goal in observations(conversion, states):
        for row, column in np.ndindex(SIZE, SIZE):
            color = WALL if walls[row, column] else FLOOR
            color = GOAL if (row, column) == goal else color
            color = AGENT if (row, column) == agent else color
            block = obs[row * k : (row + 1) * k, column * k : (column + 1) * k]
            assert (block == np.array(color, np.uint8)).all()


@pytest.mark.parametrize("view", [1, 5, 7])
def test_the_window_shows_the_cells_around_the_agent(states, view):
    conversion = PartialObservation(size=SIZE, view=view)
    seen = 0
    for obs, walls, agent, goal in observations(conversion, states):
        for row, column in np.ndindex(view, view):
            place = (agent[0] + row - view // 2, agent[1] + column - view // 2)
            inside = all(0 <= p < SIZE for p in place)
            assert obs[row, column, 0] == (walls[place] if inside else True)
            assert obs[row, column, 1] == (place == goal)
            seen += place == goal
    assert (seen > 0) == (view > 1)


def test_directions_convert_both_ways():
    conversion = FourDirections()
    for action in range(conversion.space().n):
        maze_action = conversion.space_to_maze(action, None, 0)
        assert int(conversion.maze_to_space(maze_action)) == action


def test_sizes_that_make_no_picture_are_refused():
    with pytest.raises(ConfigError, match="cell_pixels: got 0, expected a positive integer"):
        PixelObservation(cell_pixels=0)
    with pytest.raises(ConfigError, match="view: got 4, expected an odd integer"):
        PartialObservation(view=4)
    with pytest.raises(ConfigError, match=r"view: got 65, expected an odd integer"):
        PartialObservation(view=65)
