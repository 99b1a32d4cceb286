"""Find the way through a maze that is new in every episode."""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Cell": "mazejax.envs.cells",
        "FourDirections": "mazejax.envs.grid_maze.conversions",
        "GridMaze": "mazejax.envs.grid_maze.core",
        "GridMazeState": "mazejax.envs.grid_maze.core",
        "PartialObservation": "mazejax.envs.grid_maze.conversions",
        "PixelObservation": "mazejax.envs.grid_maze.conversions",
        "ShortestPathPolicy": "mazejax.envs.grid_maze.policies",
        "SymbolicObservation": "mazejax.envs.grid_maze.conversions",
        "distance_to_goal": "mazejax.envs.grid_maze.policies",
        "make_grid_maze": "mazejax.envs.grid_maze.make",
        "random_maze": "mazejax.envs.grid_maze.levels",
    },
)
