"""The picture of Cutting-2D."""

import numpy as np

from mazejax.envs.cutting2d import drawing
from mazejax.envs.cutting2d.drawing import draw_cutting
from mazejax.rendering import rasterize


def scene(pieces, order=(1, 2), raw=(4, 3), raw_index=0, selected=-1, max_pieces=50):
    return draw_cutting(pieces, order, raw, raw_index, selected, max_pieces)


def cells_of(picture, color):
    return int((picture == np.array(color, np.uint8)).all(axis=-1).sum())


def test_colors_tell_raw_pieces_from_those_that_serve_the_order_and_those_that_do_not():
    few = rasterize(scene([(4, 3)]), 320)
    more = rasterize(scene([(4, 3), (2, 2), (1, 1)]), 320)
    assert cells_of(few, drawing._RAW) == cells_of(more, drawing._RAW) > 100
    assert cells_of(more, drawing._FITTING) > cells_of(few, drawing._FITTING) + 50
    assert cells_of(more, drawing._TOO_SMALL) > cells_of(few, drawing._TOO_SMALL) + 10


def test_all_shapes_lie_within_the_picture():
    for pieces, raw, room in (
        ([(4, 3)] * 50, (4, 3), 50),
        ([(1, 9)], (1, 9), 1),
        ([(90, 7)] * 250, (100, 7), 300),
        ([], (2, 2), 3),
    ):
        made = scene(pieces, order=(7, 1), raw=raw, max_pieces=room, selected=len(pieces) - 1)
        left, bottom, right, top = made.bounds
        for shape in made.shapes:
            for x, y in shape.points:
                assert left <= x <= right and bottom <= y <= top


def test_the_selected_piece_is_framed_and_one_that_is_not_there_is_not():
    pieces = [(4, 3), (2, 2)]
    plain = scene(pieces)
    assert scene(pieces, selected=5) == plain
    assert len(scene(pieces, selected=1).shapes) > len(plain.shapes)
