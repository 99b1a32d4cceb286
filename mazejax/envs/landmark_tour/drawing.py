"""What a landmark tour looks like from above.

Takes plain host numbers and returns a `Scene` in which a cell is one unit wide; nothing
here calls JAX. Landmarks that are visited are pale, a line leads to the subgoal.
"""

from collections.abc import Sequence

from mazejax.types import Scene, Shape

_BACKGROUND = (252, 252, 250)
_GRID = (224, 227, 231)
_WORKER = (0, 178, 184)
_LANDMARK = (222, 184, 20)
_VISITED = (236, 226, 190)
_SUBGOAL = (204, 77, 77)


def draw_landmark_tour(
    size: int,
    worker: tuple[int, int],
    landmarks: Sequence[tuple[int, int]],
    visited: Sequence[bool],
    subgoal: int,
) -> Scene:
    """The grid, the landmarks as squares and the worker as a disc, (row, column) each."""

    def center(cell: tuple[int, int]) -> tuple[float, float]:
        return cell[1] + 0.5, size - cell[0] - 0.5

    lines = [((i, 0), (i, size)) for i in range(size + 1)]
    lines += [((0, i), (size, i)) for i in range(size + 1)]
    shapes = [Shape(kind="line", points=ends, color=_GRID, width=0.03) for ends in lines]
    for cell, is_visited in zip(landmarks, visited, strict=True):
        shapes.append(_square(_VISITED if is_visited else _LANDMARK, center(cell), 0.35))
    if not visited[subgoal]:
        goal = center(landmarks[subgoal])
        shapes.append(Shape(kind="line", points=(center(worker), goal), color=_SUBGOAL, width=0.08))
        shapes.append(_square(_SUBGOAL, goal, 0.35))
    shapes.append(Shape(kind="circle", points=(center(worker),), color=_WORKER, width=0.3))
    bounds = (-0.1, -0.1, size + 0.1, size + 0.1)
    return Scene(bounds=bounds, shapes=tuple(shapes), background=_BACKGROUND)


def _square(color: tuple[int, int, int], center: tuple[float, float], half: float) -> Shape:
    x, y = center
    corners = (
        (x - half, y - half),
        (x + half, y - half),
        (x + half, y + half),
        (x - half, y + half),
    )
    return Shape(kind="polygon", points=corners, color=color)
