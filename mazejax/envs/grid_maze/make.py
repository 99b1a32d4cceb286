"""Mazes put together from their parts, by name.

The numbers' defaults stand in the classes; a time limit is added where mazes are
registered.
"""

from mazejax.envs.conversion import ObservationConversion
from mazejax.envs.grid_maze.conversions import (
    FourDirections,
    PartialObservation,
    PixelObservation,
    SymbolicObservation,
)
from mazejax.envs.grid_maze.core import GridMaze
from mazejax.envs.maze_env import MazeEnv
from mazejax.errors import ConfigError, did_you_mean

OBSERVATIONS = ("symbolic", "pixels", "partial")


def make_grid_maze(
    observation: str = "symbolic",
    size: int = GridMaze.size,
    step_cost: float = GridMaze.step_cost,
    cell_pixels: int = PixelObservation.cell_pixels,
    view: int = PartialObservation.view,
) -> MazeEnv:
    """A maze of size x size cells, observed as `symbolic` planes, `pixels` or a `partial` window.

    `cell_pixels` matters to pixels only, `view` to the window only. Without a time limit:
    the longest way has (size - 1)^2 / 2 - 2 steps.
    """
    core_env = GridMaze(step_cost=step_cost, size=size)
    return MazeEnv(core_env, _observation(observation, size, cell_pixels, view), FourDirections())


def _observation(name: str, size: int, cell_pixels: int, view: int) -> ObservationConversion:
    if name not in OBSERVATIONS:
        raise ConfigError(f"observation: unknown {name!r}; {did_you_mean(str(name), OBSERVATIONS)}")
    if name == "pixels":
        return PixelObservation(size=size, cell_pixels=cell_pixels)
    if name == "partial":
        return PartialObservation(size=size, view=view)
    return SymbolicObservation(size=size)
