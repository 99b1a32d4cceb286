"""The landmark tour put together from its parts.

The numbers' defaults stand in the classes; a time limit is added where environments are
registered.
"""

from mazejax.envs.grid_maze.conversions import FourDirections
from mazejax.envs.landmark_tour.conversions import (
    ChooseLandmark,
    ManagerObservation,
    WorkerObservation,
)
from mazejax.envs.landmark_tour.core import LandmarkTour
from mazejax.envs.maze_env import MazeEnv


def make_landmark_tour(
    size: int = LandmarkTour.size,
    num_landmarks: int = LandmarkTour.num_landmarks,
    period: int = LandmarkTour.period,
    step_cost: float = LandmarkTour.step_cost,
    progress_reward: float = LandmarkTour.progress_reward,
) -> MazeEnv:
    """A tour of landmarks with a manager and a worker; arguments are fields of `LandmarkTour`.

    Without a time limit. The longest shortest tour has less than 2 R (size - 1) steps.
    """
    return MazeEnv(
        LandmarkTour(
            step_cost=step_cost,
            progress_reward=progress_reward,
            size=size,
            num_landmarks=num_landmarks,
            period=period,
        ),
        {
            "manager": ManagerObservation(size=size, num_landmarks=num_landmarks),
            "worker": WorkerObservation(size=size),
        },
        {"manager": ChooseLandmark(num_landmarks=num_landmarks), "worker": FourDirections()},
    )
