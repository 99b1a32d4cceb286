"""What a maze looks like from above.

Takes plain host numbers and returns a `Scene` in which a cell is one unit wide; nothing
here calls JAX. Walls that stand side by side in a row are one rectangle.
"""

from collections.abc import Iterator

import numpy as np

from mazejax.types import Scene, Shape

FLOOR, WALL, AGENT, GOAL = (252, 252, 250), (45, 48, 54), (0, 178, 184), (222, 184, 20)
"""Colours of what is in a maze, (red, green, blue); observed pixels have the same."""


def draw_grid_maze(walls: np.ndarray, agent: tuple[int, int], goal: tuple[int, int]) -> Scene:
    """The walls, bool [H, W], the goal as a square and the agent as a disc, (row, column) each."""
    height, width = walls.shape
    shapes = [
        _rectangle(WALL, start, height - 1 - row, stop - start, 1.0)
        for row in range(height)
        for start, stop in _runs(walls[row])
    ]
    row, column = goal
    shapes.append(_rectangle(GOAL, column + 0.15, height - 1 - row + 0.15, 0.7, 0.7))
    row, column = agent
    center = (column + 0.5, height - row - 0.5)
    shapes.append(Shape(kind="circle", points=(center,), color=AGENT, width=0.32))
    bounds = (0.0, 0.0, float(width), float(height))
    return Scene(bounds=bounds, shapes=tuple(shapes), background=FLOOR)


def _runs(marks: np.ndarray) -> Iterator[tuple[int, int]]:
    """Start and stop of every run of true entries."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marks, [False]]).astype(np.int8)))
    return zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _rectangle(
    color: tuple[int, int, int], left: float, bottom: float, width: float, height: float
) -> Shape:
    right, top = left + width, bottom + height
    corners = ((left, bottom), (right, bottom), (right, top), (left, top))
    return Shape(kind="polygon", points=corners, color=color)
