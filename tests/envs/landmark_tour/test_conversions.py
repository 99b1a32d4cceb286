"""Spaces of both levels."""

import jax.numpy as jnp
import pytest

from mazejax import random
from mazejax.envs.landmark_tour.conversions import (
    ChooseLandmark,
    ManagerObservation,
    WorkerObservation,
)
from mazejax.envs.landmark_tour.core import LandmarkTour
from mazejax.spaces.masks import check_mask_spaces


@pytest.mark.parametrize("seed", range(5))
def test_observations_lie_in_their_spaces(seed):
    state = LandmarkTour(size=4, num_landmarks=2).reset(random.key(seed)).state
    manager, worker = ManagerObservation(size=4, num_landmarks=2), WorkerObservation(size=4)
    manager.space().validate(manager.maze_to_space(state, 0))
    worker.space().validate(worker.maze_to_space(state, 0))


def test_the_mask_has_one_entry_for_every_landmark():
    space = ManagerObservation(num_landmarks=3).space()
    check_mask_spaces(space, ChooseLandmark(num_landmarks=3).space(), "manager")
    assert space["action_mask"].shape == (3,)


def test_choices_convert_both_ways():
    conversion = ChooseLandmark(num_landmarks=3)
    for action in range(3):
        maze_action = conversion.space_to_maze(jnp.int32(action), None, 0)
        assert int(conversion.maze_to_space(maze_action)) == action
