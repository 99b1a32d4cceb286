"""What the board games look like: a sheet of paper, and a board in a frame of blue.

Each function takes cells as (row, column) pairs on the host and returns a `Scene` of one
unit a cell; stones that make a line are marked. Nothing here calls JAX.
"""

from collections.abc import Sequence
from typing import Any

from mazejax.types import Scene, Shape

_Cell = tuple[int, int]
_Point = tuple[float, float]
_Color = tuple[int, int, int]

_PAPER = (252, 252, 250)
_INK = (45, 48, 54)
_GRID = (168, 173, 181)
_CROSS, _NOUGHT = (204, 77, 77), (59, 111, 182)
_MARK = (253, 240, 186)
_FRAME, _HOLE = (43, 84, 156), (228, 235, 245)
_RED, _YELLOW = (212, 58, 52), (246, 200, 44)
_RIM = {_RED: (178, 42, 38), _YELLOW: (222, 172, 20)}
_WHITE = (255, 255, 255)


def draw_tic_tac_toe(crosses: Sequence[_Cell], noughts: Sequence[_Cell], to_move: int) -> Scene:
    """Crosses of player 0 and noughts of player 1; a line of three stands on marked cells."""
    lines = [*_lines(crosses, 3), *_lines(noughts, 3)]
    marked = {cell for line in lines for cell in line}
    shapes = [_square(_MARK, _center(cell, 3), 0.5) for cell in sorted(marked)]
    for i in (1.0, 2.0):
        shapes += [_line(_GRID, 0.03, (i, 0.0), (i, 3.0)), _line(_GRID, 0.03, (0.0, i), (3.0, i))]
    for cell in crosses:
        x, y = _center(cell, 3)
        for side in (-0.27, 0.27):
            shapes.append(_line(_CROSS, 0.11, (x - 0.27, y - side), (x + 0.27, y + side)))
    for cell in noughts:
        inside = _MARK if cell in marked else _PAPER
        shapes += [_disc(_NOUGHT, 0.34, _center(cell, 3)), _disc(inside, 0.23, _center(cell, 3))]
    shapes += [_line(_INK, 0.05, *_through(line, 3, 0.38)) for line in lines]
    title = _title(crosses, noughts, to_move, ("cross", "nought"), (3, 9))
    return Scene((-0.2, -0.2, 3.2, 3.5), tuple(shapes), _PAPER, title)


def draw_connect_four(reds: Sequence[_Cell], yellows: Sequence[_Cell], to_move: int) -> Scene:
    """Red stones of player 0 and yellow ones of player 1; those of a line of four have rings."""
    shapes = [_polygon(_FRAME, (-0.1, -0.1), (7.1, -0.1), (7.1, 6.1), (-0.1, 6.1))]
    shapes += [
        _polygon(_FRAME, (x, -0.4), (x + 0.35, -0.4), (x + 0.25, -0.1), (x + 0.1, -0.1))
        for x in (0.1, 6.55)
    ]
    color = {**dict.fromkeys(reds, _RED), **dict.fromkeys(yellows, _YELLOW)}
    for cell in ((row, column) for row in range(6) for column in range(7)):
        center = _center(cell, 6)
        shapes.append(_disc(_HOLE, 0.41, center))
        if cell in color:
            shapes += [_disc(_RIM[color[cell]], 0.41, center), _disc(color[cell], 0.33, center)]
    for line in (*_lines(reds, 4), *_lines(yellows, 4)):
        shapes.append(_line(_WHITE, 0.07, *_through(line, 6, 0.0)))
        for cell in line:
            shapes += [
                _disc(_WHITE, 0.2, _center(cell, 6)),
                _disc(color[cell], 0.13, _center(cell, 6)),
            ]
    title = _title(reds, yellows, to_move, ("red", "yellow"), (4, 42))
    return Scene((-0.3, -0.4, 7.3, 6.8), tuple(shapes), _PAPER, title)


def _title(
    first: Sequence[_Cell],
    second: Sequence[_Cell],
    to_move: int,
    names: tuple[str, str],
    sizes: tuple[int, int],
) -> str:
    """Who has won or is to move; `sizes` are the length of a line and the number of cells."""
    for stones, name in zip((first, second), names, strict=True):
        if _lines(stones, sizes[0]):
            return f"{name} wins"
    return "draw" if len(first) + len(second) == sizes[1] else f"{names[to_move]} to move"


def _lines(cells: Sequence[_Cell], length: int) -> list[list[_Cell]]:
    """All straight lines of this many of the cells, each once."""
    runs = (
        [(row + i * down, column + i * right) for i in range(length)]
        for row, column in cells
        for down, right in ((0, 1), (1, 0), (1, 1), (1, -1))
    )
    return [run for run in runs if set(run) <= set(cells)]


def _through(line: list[_Cell], rows: int, beyond: float) -> tuple[_Point, _Point]:
    """Ends of a stroke through the cells of a line, a share of a cell longer at both ends."""
    (x1, y1), (x2, y2) = _center(line[0], rows), _center(line[-1], rows)
    dx, dy = (beyond * (b - a) / (len(line) - 1) for a, b in ((x1, x2), (y1, y2)))
    return (x1 - dx, y1 - dy), (x2 + dx, y2 + dy)


def _center(cell: _Cell, rows: int) -> _Point:
    row, column = cell
    return column + 0.5, rows - row - 0.5


def _square(color: _Color, center: _Point, half: float) -> Shape:
    x, y = center
    corners = ((-half, -half), (half, -half), (half, half), (-half, half))
    return _polygon(color, *((x + dx, y + dy) for dx, dy in corners))


def _line(color: _Color, width: float, *points: _Point) -> Shape:
    return Shape(kind="line", points=points, color=color, width=width)


def _disc(color: _Color, radius: float, center: _Point) -> Shape:
    return Shape(kind="circle", points=(center,), color=color, width=radius)


def _polygon(color: _Color, *corners: Any) -> Shape:
    return Shape(kind="polygon", points=corners, color=color)
