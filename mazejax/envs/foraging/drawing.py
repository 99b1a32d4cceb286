"""What foraging looks like: a grid with walls, food, and agents with their energy.

Plain host arrays in, a `Scene` of one unit for each cell out. Agents on one cell are drawn
beside each other, those that dropped out as rings under the others.
"""

import colorsys
import math

import numpy as np

from mazejax.types import Scene, Shape

_Point = tuple[float, float]
_Color = tuple[int, int, int]

_BACKGROUND = (252, 252, 250)
_WALL = (88, 94, 104)
_GRID = (224, 227, 231)
_GREY = (168, 173, 182)
_INK = (45, 48, 54)
_LEAF = (92, 168, 84)


def draw_foraging(
    row: np.ndarray, column: np.ndarray, energy: np.ndarray, walls: np.ndarray, food: np.ndarray
) -> Scene:
    """The state: agents [A] each, walls and food [H] as bits of a square grid; row 0 on top."""
    size = len(walls)
    shapes = _grid(size)
    for at in _cells(walls):
        shapes.append(_square(_WALL, at, size))
    for at in _cells(food):
        x, y = _middle(*at, size)
        shapes.append(_circle(_LEAF, (x, y), 0.2))
        shapes.append(Shape("line", ((x, y + 0.1), (x + 0.12, y + 0.3)), _LEAF, 0.06))
    agents = [agent for agent in range(len(row)) if row[agent] >= 0]
    for agent in (agent for agent in agents if energy[agent] == 0):
        middle = _middle(int(row[agent]), int(column[agent]), size)
        shapes += [_circle(_GREY, middle, 0.3), _circle(_BACKGROUND, middle, 0.24)]
    alive = [agent for agent in agents if energy[agent] > 0]
    for agent in alive:
        mates = [a for a in alive if (row[a], column[a]) == (row[agent], column[agent])]
        middle = _middle(int(row[agent]), int(column[agent]), size)
        shapes += _forager(
            agent, len(row), int(energy[agent]), middle, mates.index(agent), len(mates)
        )
    left = sum(1 for _ in _cells(food))
    title = f"food {left}, agents {len(alive)}/{len(agents)}"
    return Scene((-0.3, -0.3, size + 0.3, size + 1.0), tuple(shapes), _BACKGROUND, title)


def agent_color(agent: int, num_agents: int) -> _Color:
    """A colour for an agent, evenly spread over the hues but for the green of food."""
    hue = (0.45 + 0.75 * agent / num_agents) % 1.0
    red, green, blue = colorsys.hls_to_rgb(hue, 0.68, 0.6)
    return round(255 * red), round(255 * green), round(255 * blue)


def _forager(
    agent: int, num_agents: int, energy: int, middle: _Point, index: int, mates: int
) -> list[Shape]:
    """A disc with its energy; of several on one cell each has a place on a small circle."""
    x, y = middle
    radius = 0.38 if mates == 1 else 0.24
    if mates > 1:
        angle = 2.0 * math.pi * index / mates
        x, y = x + 0.24 * math.sin(angle), y + 0.24 * math.cos(angle)
    text = Shape("text", ((x, y),), _INK, radius, str(energy))
    return [_circle(agent_color(agent, num_agents), (x, y), radius), text]


def _grid(size: int) -> list[Shape]:
    lines: list[Shape] = []
    for i in range(size + 1):
        lines.append(Shape("line", ((0.0, i), (size, i)), _GRID, 0.02))
        lines.append(Shape("line", ((i, 0.0), (i, size)), _GRID, 0.02))
    return lines


def _cells(words: np.ndarray) -> list[tuple[int, int]]:
    """Rows and columns of the cells of a set of bits."""
    size = len(words)
    return [(r, c) for r in range(size) for c in range(size) if int(words[r]) >> c & 1]


def _middle(row: int, column: int, size: int) -> _Point:
    return column + 0.5, size - row - 0.5


def _square(color: _Color, at: tuple[int, int], size: int) -> Shape:
    x, y = _middle(*at, size)
    corners = [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]
    return Shape("polygon", tuple((x + dx, y + dy) for dx, dy in corners), color)


def _circle(color: _Color, center: _Point, radius: float) -> Shape:
    return Shape("circle", (center,), color, radius)
