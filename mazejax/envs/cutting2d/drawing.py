"""What Cutting-2D looks like: the order beside the shelf of pieces.

Plain host numbers in, a `Scene` out; nothing here calls JAX. Every piece of the shelf lies
in a compartment of the size of a raw piece, oldest first from the upper left, so that sizes
compare at a glance; the shelf grows in a few jumps, and so a film of it stands still.
"""

import math

from mazejax.types import Scene, Shape

_Size = tuple[int, int]
_Color = tuple[int, int, int]

_BACKGROUND = (252, 252, 250)
_INK = (45, 48, 54)
_SHELF = (240, 240, 236)
_RAW = (122, 162, 190)
_FITTING = (224, 176, 112)
_TOO_SMALL = (238, 226, 204)
_ORDER = (198, 82, 62)

_BOUNDS = (0.0, 0.0, 16.0, 9.0)
_TABLE = (0.5, 3.6, 5.0, 8.1)
"""(left, bottom, right, top) of what the order is compared with."""
_RACK = (5.6, 0.4, 15.6, 8.1)
"""(left, bottom, right, top) of the compartments."""
_ROOM = (16, 36, 64, 100, 144, 196)
"""Compartments that are shown: the least that suffice, squares as the rack is almost one."""
_FINEST = 24
"""Longest side, in units, up to which unit squares are drawn."""


def draw_cutting(
    pieces: list[_Size],
    order: _Size,
    raw_piece_size: _Size,
    raw_index: int,
    selected: int,
    max_pieces: int,
) -> Scene:
    """The order within the selected piece and a raw one, and the inventory.

    Blue is the raw piece, brown what the order fits into, pale what it does not; a frame
    marks the selected piece. Indices are -1 for none.
    """
    is_selected = 0 <= selected < len(pieces)
    shapes = [
        *_table(order, pieces[selected] if is_selected else None, raw_piece_size),
        *_legend(),
        _text((10.6, 8.55), 0.42, f"inventory: {len(pieces)} of {max_pieces} pieces", _INK),
    ]
    room = min(next((n for n in _ROOM if n >= len(pieces)), len(pieces)), max_pieces)
    columns, scale = _arrange(room, raw_piece_size)
    for index in range(room):
        box = _compartment(index, columns, scale, raw_piece_size)
        if index >= len(pieces):
            shapes.append(_rectangle(box, _SHELF))
            continue
        color = _RAW if index == raw_index else _color(pieces[index], order)
        shapes += _shelved(pieces[index], box, scale, color, index, index == selected)
    return Scene(bounds=_BOUNDS, shapes=tuple(shapes), background=_BACKGROUND)


def _table(order: _Size, piece: _Size | None, raw_piece_size: _Size) -> list[Shape]:
    """The order in the corner of the selected piece, and that in the corner of a raw one."""
    left, bottom, right, top = _TABLE
    # The order too, which is drawn the way it was ordered: it may fit only when it is turned.
    scale = min(right - left, top - bottom) / max(*raw_piece_size, *order)
    corner = (left, top - max(raw_piece_size[1], order[1]) * scale)
    shapes = [
        _text((0.5 * (left + right), 8.55), 0.42, f"order: {order[0]} x {order[1]}", _INK),
        *_piece(corner, raw_piece_size, scale, _SHELF, 0.03),
    ]
    if piece is not None:
        shapes += _piece(corner, piece, scale, _color(piece, order), 0.03)
    return [*shapes, *_piece(corner, order, scale, _ORDER, 0.05)]


def _legend() -> list[Shape]:
    entries = ((_ORDER, "order"), (_RAW, "raw piece"), (_FITTING, "large enough"))
    shapes = []
    for i, (color, text) in enumerate((*entries, (_TOO_SMALL, "too small"))):
        x, y = 0.5 + 2.3 * (i % 2), 1.2 - 0.7 * (i // 2)
        shapes.append(_rectangle((x, y, x + 2.2, y + 0.6), color))
        shapes.append(_text((x + 1.1, y + 0.3), 0.3, text, _INK))
    return shapes


def _arrange(room: int, raw_piece_size: _Size) -> tuple[int, float]:
    """Columns of the rack, and the largest scale at which its compartments find room."""
    left, bottom, right, top = _RACK

    def scale(columns: int) -> float:
        cell_width, cell_height = _cell(raw_piece_size)
        rows = math.ceil(room / columns)
        return min((right - left) / (columns * cell_width), (top - bottom) / (rows * cell_height))

    columns = max(range(1, room + 1), key=scale)
    return columns, scale(columns)


def _cell(raw_piece_size: _Size) -> tuple[float, float]:
    """Width and height of a compartment with its frame, in units of the pieces."""
    frame = 0.12 * max(raw_piece_size)
    return raw_piece_size[0] + frame, raw_piece_size[1] + frame


def _compartment(
    index: int, columns: int, scale: float, raw_piece_size: _Size
) -> tuple[float, float, float, float]:
    row, column = divmod(index, columns)
    cell_width, cell_height = _cell(raw_piece_size)
    left = _RACK[0] + column * cell_width * scale
    top = _RACK[3] - row * cell_height * scale
    return left, top - raw_piece_size[1] * scale, left + raw_piece_size[0] * scale, top


def _shelved(
    piece: _Size,
    box: tuple[float, float, float, float],
    scale: float,
    color: _Color,
    index: int,
    is_selected: bool,
) -> list[Shape]:
    """A piece in the lower left of its compartment, and its index in the upper right."""
    left, bottom, right, top = box
    size = 0.16 * (top - bottom)
    shapes = [_rectangle(box, _SHELF), *_piece((left, bottom), piece, scale, color, 0.03)]
    if is_selected:
        corners = ((left, bottom), (right, bottom), (right, top), (left, top))
        shapes.append(_line(_ORDER, 0.1, *corners, *corners[:2]))
    return [*shapes, _text((right - 0.8 * size, top - 0.8 * size), size, str(index), _INK)]


def _piece(
    corner: tuple[float, float],
    size: _Size,
    scale: float,
    color: _Color,
    frame_width: float,
) -> list[Shape]:
    """A rectangle with its unit squares, framed in a darker shade."""
    x, y = corner
    right, top = x + size[0] * scale, y + size[1] * scale
    shapes = [_rectangle((x, y, right, top), color)]
    if max(size) <= _FINEST:
        line = _darker(color, 0.9)
        for i in range(1, size[0]):
            shapes.append(_line(line, 0.02, (x + i * scale, y), (x + i * scale, top)))
        for i in range(1, size[1]):
            shapes.append(_line(line, 0.02, (x, y + i * scale), (right, y + i * scale)))
    outline = ((x, y), (right, y), (right, top), (x, top), (x, y), (right, y))
    return [*shapes, _line(_darker(color, 0.6), frame_width, *outline)]


def _color(piece: _Size, order: _Size) -> _Color:
    small, large = sorted(order), sorted(piece)
    return _FITTING if small[0] <= large[0] and small[1] <= large[1] else _TOO_SMALL


def _darker(color: _Color, share: float) -> _Color:
    red, green, blue = (round(share * channel) for channel in color)
    return red, green, blue


def _rectangle(box: tuple[float, float, float, float], color: _Color) -> Shape:
    left, bottom, right, top = box
    corners = ((left, bottom), (right, bottom), (right, top), (left, top))
    return Shape(kind="polygon", points=corners, color=color)


def _line(color: _Color, width: float, *points: tuple[float, float]) -> Shape:
    return Shape(kind="line", points=points, color=color, width=width)


def _text(center: tuple[float, float], height: float, text: str, color: _Color) -> Shape:
    return Shape(kind="text", points=(center,), color=color, width=height, text=text)
