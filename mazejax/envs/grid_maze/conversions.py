"""What the agent of a maze sees, and how it moves.

Three observations of one state: planes for convolutions, a picture, and a window around
the agent, which asks for memory. All are computed from the bits of the walls by
elementwise operations.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from mazejax.base import static
from mazejax.envs import cells
from mazejax.envs.conversion import ActionConversion, ObservationConversion
from mazejax.envs.grid_maze.core import GridMaze, GridMazeState
from mazejax.envs.grid_maze.drawing import AGENT, FLOOR, GOAL, WALL
from mazejax.errors import ConfigError
from mazejax.spaces.simple import Box, Discrete
from mazejax.types import Array


class SymbolicObservation(ObservationConversion):
    """The whole maze as planes: walls, agent, goal."""

    size: int = static(default=GridMaze.size)

    def space(self) -> Box:
        """Three planes."""
        return Box(False, True, (self.size, self.size, 3), bool)

    def maze_to_space(self, state: GridMazeState, agent: int) -> Array:
        """[H, W, 3] bool."""
        return jnp.stack(_planes(state, self.size), axis=-1)


class PixelObservation(ObservationConversion):
    """The whole maze as a picture, `cell_pixels` to a cell's side."""

    size: int = static(default=GridMaze.size)
    cell_pixels: int = static(default=4)
    """Pixels of a cell's side, k."""

    def validate(self) -> None:
        """Raise ConfigError unless a cell has a pixel at least."""
        value = self.cell_pixels
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(
                f"PixelObservation.cell_pixels: got {value!r}, expected a positive integer, "
                f"such as 4"
            )

    def space(self) -> Box:
        """Red, green and blue."""
        side = self.size * self.cell_pixels
        return Box(0, 255, (side, side, 3), np.uint8)

    def maze_to_space(self, state: GridMazeState, agent: int) -> Array:
        """[H k, W k, 3] uint8."""
        walls, at_agent, at_goal = (plane[..., None] for plane in _planes(state, self.size))
        floor, wall, agent_color, goal = (
            np.array(color, np.uint8)[None, None] for color in (FLOOR, WALL, AGENT, GOAL)
        )
        color = jnp.where(walls, wall, floor)
        color = jnp.where(at_goal, goal, color)
        color = jnp.where(at_agent, agent_color, color)
        size, k = self.size, self.cell_pixels
        blocks = jnp.broadcast_to(color[:, None, :, None], (size, k, size, k, 3))
        return blocks.reshape(size * k, size * k, 3)


class PartialObservation(ObservationConversion):
    """The cells around the agent, which stands in the middle; walls hide nothing.

    Planes: walls, goal. Beyond the border all is wall.
    """

    size: int = static(default=GridMaze.size)
    view: int = static(default=5)
    """Rows and columns of the window, V: odd."""

    def validate(self) -> None:
        """Raise ConfigError unless the window has a middle."""
        # Twice the largest maze shows all of it from everywhere.
        if isinstance(self.view, bool) or self.view not in range(1, 64, 2):
            raise ConfigError(
                f"PartialObservation.view: got {self.view!r}, expected an odd integer from 1 to "
                f"63, such as 5, so that the agent stands in the middle"
            )

    def space(self) -> Box:
        """Two planes."""
        return Box(False, True, (self.view, self.view, 2), bool)

    def maze_to_space(self, state: GridMazeState, agent: int) -> Array:
        """[V, V, 2] bool."""
        offsets = np.arange(self.view, dtype=np.int8) - np.int8(self.view // 2)
        rows, columns = state.agent.row + offsets, state.agent.column + offsets
        every_row = np.arange(self.size, dtype=np.int8)
        # A row outside the grid has no word: 0, which is inverted to all walls.
        open_words = jnp.where(rows[:, None] == every_row[None], ~state.walls[None], np.uint32(0))
        words = ~jnp.sum(open_words, axis=1, dtype=jnp.uint32)
        shifts = jnp.clip(columns, 0, self.size - 1).astype(jnp.uint32)
        outside = (columns < 0) | (columns >= self.size)
        walls = ((words[:, None] >> shifts[None]) & 1 != 0) | outside[None]
        goal = (rows == state.goal.row)[:, None] & (columns == state.goal.column)[None]
        return jnp.stack([walls, goal], axis=-1)


class FourDirections(ActionConversion):
    """0 up, 1 right, 2 down, 3 left: the maze action is the direction itself."""

    def space(self) -> Discrete:
        """Four actions."""
        return Discrete(cells.NUM_DIRECTIONS)

    def space_to_maze(self, action: Array, state: Any, agent: int) -> Array:
        """The direction, int32 []."""
        return jnp.asarray(action, jnp.int32)

    def maze_to_space(self, maze_action: Array) -> Array:
        """The direction."""
        return jnp.asarray(maze_action, jnp.int32)


def _planes(state: GridMazeState, size: int) -> tuple[Array, Array, Array]:
    """Walls, agent and goal, bool [H, W] each."""
    walls = cells.unpack(state.walls, size)
    return walls, cells.plane(state.agent, size, size), cells.plane(state.goal, size, size)
