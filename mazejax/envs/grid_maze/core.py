"""GridMaze: walk to the goal of a maze that is generated anew for every episode.

    observation  symbolic: bool [H, W, 3]; pixels: uint8 [H k, W k, 3]; partial: bool [V, V, 2]
    action       Discrete(4): 0 up, 1 right, 2 down, 3 left
    reward       1 for reaching the goal, minus 0.01 for every step, that one included
    terminated   at the goal
    reset        a random perfect maze, start and goal at two distinct open cells

Into a wall the agent does not move, and pays for the step. The way to the goal is
unique, so the best return is 1 - 0.01 d for a goal d steps away.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.base import Pytree, static
from mazejax.envs import cells
from mazejax.envs.base import flag
from mazejax.envs.cells import Cell
from mazejax.envs.core import CoreEnv, CoreReset, CoreStep
from mazejax.envs.grid_maze import levels
from mazejax.envs.grid_maze.drawing import draw_grid_maze
from mazejax.errors import ConfigError
from mazejax.types import ActorID, Array, Key, Scene

_SIZES = range(5, 32, 2)


class GridMazeState(Pytree):
    """A maze with the agent in it: 4 H + 4 bytes."""

    walls: Array
    """The cells that are walls: bit c of word r, uint32 [H]."""
    agent: Cell
    goal: Cell


class GridMaze(CoreEnv):
    """Mazes of `size` x `size` cells with the walls around; the maze action is the direction.

    The reset is expensive, (size - 1)^2 / 4 iterations over all rooms; a step is cheap.
    """

    step_cost: float = 0.01
    """What every step costs."""
    size: int = static(default=11)
    """Rows and columns H = W, walls included: odd, from 5 to 31."""

    def validate(self) -> None:
        """Raise ConfigError unless the size is odd and fits the words of a row."""
        if isinstance(self.size, bool) or self.size not in _SIZES:
            raise ConfigError(
                f"GridMaze.size: got {self.size!r}, expected an odd integer from 5 to 31, "
                f"such as 11"
            )

    def reset(self, key: Key) -> CoreReset:
        """A new maze, with start and goal in it."""
        walls = levels.random_maze(random.stream(key, "maze"), self.size)
        start, goal = levels.random_start_and_goal(random.stream(key, "cells"), walls)
        return CoreReset(GridMazeState(walls, start, goal))

    def step(self, key: Key, state: GridMazeState, maze_action: Array, actor: ActorID) -> CoreStep:
        """One cell in the direction, if there is no wall."""
        target = cells.neighbor(state.agent, maze_action)
        blocked = cells.contains(state.walls, target)
        agent = jax.tree.map(lambda old, new: jnp.where(blocked, old, new), state.agent, target)
        arrived = cells.same_cell(agent, state.goal)
        reward = (arrived.astype(jnp.float32) - self.step_cost).astype(jnp.float32)
        return CoreStep(state.replace(agent=agent), reward, arrived, flag())

    def draw(self, state: GridMazeState) -> Scene:
        """The maze from above."""
        walls = np.asarray(cells.unpack(state.walls, self.size))
        return draw_grid_maze(walls, state.agent.at, state.goal.at)
