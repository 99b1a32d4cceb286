"""The tour from its parts."""

from mazejax.envs.landmark_tour.core import MANAGER, WORKER, LandmarkTour
from mazejax.envs.landmark_tour.make import make_landmark_tour
from mazejax.spaces.simple import Box, Discrete


def test_sizes_reach_all_parts():
    env = make_landmark_tour(size=6, num_landmarks=4, period=2, step_cost=0.5, progress_reward=1.0)
    assert env.core_env == LandmarkTour(0.5, 1.0, size=6, num_landmarks=4, period=2)
    assert env.actors == (MANAGER, WORKER)
    assert env.action_spaces == {"manager": Discrete(4), "worker": Discrete(4)}
    assert env.observation_spaces["worker"] == Box(-1.0, 1.0, (2,))
    assert env.observation_spaces["manager"]["landmarks"].shape == (4, 3)


def test_defaults_are_those_of_the_classes():
    assert make_landmark_tour().core_env == LandmarkTour()
