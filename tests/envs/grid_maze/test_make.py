"""Mazes by name."""

import numpy as np
import pytest

from mazejax.envs.grid_maze.conversions import PartialObservation
from mazejax.envs.grid_maze.core import GridMaze
from mazejax.envs.grid_maze.make import make_grid_maze
from mazejax.errors import ConfigError
from mazejax.spaces.simple import Box, Discrete


@pytest.mark.parametrize(
    ("observation", "space"),
    [
        ("symbolic", Box(False, True, (7, 7, 3), bool)),
        ("pixels", Box(0, 255, (14, 14, 3), np.uint8)),
        ("partial", Box(False, True, (3, 3, 2), bool)),
    ],
)
def test_the_observation_is_chosen_by_name_and_sizes_reach_all_parts(observation, space):
    env = make_grid_maze(observation, size=7, cell_pixels=2, view=3, step_cost=0.5)
    assert env.observation_space == space
    assert env.action_space == Discrete(4)
    assert env.core_env == GridMaze(step_cost=0.5, size=7)


def test_defaults_are_those_of_the_classes():
    assert make_grid_maze("partial").observation_conversion == PartialObservation()
    assert make_grid_maze().core_env == GridMaze()


def test_an_unknown_observation_is_answered_with_the_known_ones():
    with pytest.raises(ConfigError, match="unknown 'pixel'; did you mean 'pixels'"):
        make_grid_maze("pixel")
