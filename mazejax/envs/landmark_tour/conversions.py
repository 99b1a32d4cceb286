"""What manager and worker see, and what they decide.

The manager sees the whole problem and the worker only its part of it: an offset, the
same wherever on the grid and whatever is left to visit. Neither could do the other's task.
"""

import jax.numpy as jnp
import numpy as np

from mazejax.base import static
from mazejax.envs.cells import Cell
from mazejax.envs.conversion import ActionConversion, ObservationConversion
from mazejax.envs.landmark_tour.core import LandmarkTour, TourState, subgoal_cell
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box, Discrete
from mazejax.types import Array


class ManagerObservation(ObservationConversion):
    """All landmarks as seen from the worker, and which of them may be chosen."""

    size: int = static(default=LandmarkTour.size)
    num_landmarks: int = static(default=LandmarkTour.num_landmarks)

    def space(self) -> Dict:
        """`landmarks`, and the mask of the action."""
        return Dict(
            {
                "landmarks": Box(-1.0, 1.0, (self.num_landmarks, 3)),
                "action_mask": Box(False, True, (self.num_landmarks,), bool),
            }
        )

    def maze_to_space(self, state: TourState, agent: int) -> dict[str, Array]:
        """`landmarks` [R, 3] float32: rows down, columns right as shares of the grid, visited.

        `action_mask` [R] bool: the landmarks that are left; all of them when none is.
        """
        down, right = _offset(state.worker, state.landmarks, self.size)
        visited = state.visited.astype(jnp.float32)
        return {
            "landmarks": jnp.stack([down, right, visited], axis=-1),
            "action_mask": ~state.visited | state.visited.all(),
        }


class WorkerObservation(ObservationConversion):
    """The way to the subgoal: rows down and columns right, as shares of the grid."""

    size: int = static(default=LandmarkTour.size)

    def space(self) -> Box:
        """Two shares."""
        return Box(-1.0, 1.0, (2,))

    def maze_to_space(self, state: TourState, agent: int) -> Array:
        """[2] float32."""
        return jnp.stack(_offset(state.worker, subgoal_cell(state), self.size))


class ChooseLandmark(ActionConversion):
    """The landmark to visit next, by its index."""

    num_landmarks: int = static(default=LandmarkTour.num_landmarks)

    def space(self) -> Discrete:
        """One action for every landmark."""
        return Discrete(self.num_landmarks)

    def space_to_maze(self, action: Array, state: TourState, agent: int) -> Array:
        """The index, int32 []."""
        return jnp.asarray(action, jnp.int32)

    def maze_to_space(self, maze_action: Array) -> Array:
        """The index."""
        return jnp.asarray(maze_action, jnp.int32)


def _offset(origin: Cell, target: Cell, size: int) -> tuple[Array, Array]:
    """Rows down and columns right to the target, float32 [...] in (-1, 1)."""
    share = np.float32(1.0 / size)
    return (
        (target.row - origin.row).astype(jnp.float32) * share,
        (target.column - origin.column).astype(jnp.float32) * share,
    )
