"""The boards look as their stones lie, with lines marked."""

import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.envs.board_games.connect_four import ConnectFour, ConnectFourState
from mazejax.envs.board_games.drawing import draw_connect_four, draw_tic_tac_toe
from mazejax.rendering.rasterizer import rasterize

CROSS, NOUGHT, INK, MARK = (204, 77, 77), (59, 111, 182), (45, 48, 54), (253, 240, 186)
RED, YELLOW, WHITE = (212, 58, 52), (246, 200, 44), (255, 255, 255)


def cells(scene, color, rows):
    """Cells in which pixels of a colour are."""
    picture = rasterize(scene, width=320)
    y, x = np.nonzero((picture == color).all(axis=-1))
    left, _, right, top = scene.bounds
    scale = (right - left) / 320
    columns = np.floor(left + (x + 0.5) * scale).astype(int)
    from_top = np.floor(rows - (top - (y + 0.5) * scale)).astype(int)
    return set(zip(from_top.tolist(), columns.tolist(), strict=True))


def strokes(scene, color):
    return [shape.points for shape in scene.shapes if shape.kind == "line" and shape.color == color]


def test_crosses_and_noughts_stand_in_their_cells():
    crosses, noughts = [(0, 0), (1, 2)], [(2, 1)]
    scene = draw_tic_tac_toe(crosses, noughts, 1)
    assert cells(scene, CROSS, 3) == set(crosses)
    assert cells(scene, NOUGHT, 3) == set(noughts)
    assert cells(scene, MARK, 3) == set() and strokes(scene, INK) == []
    assert scene.title == "nought to move"


def test_three_in_a_row_are_marked():
    line = [(0, 2), (1, 1), (2, 0)]
    scene = draw_tic_tac_toe([(0, 0), (0, 1), (2, 2)], line, 0)
    assert cells(scene, MARK, 3) == set(line)
    ((start, end),) = strokes(scene, INK)
    assert (start, end) == (pytest.approx((2.88, 2.88)), pytest.approx((0.12, 0.12)))
    assert scene.title == "nought wins"


def test_a_full_board_without_a_line_is_a_draw():
    crosses = [(0, 0), (0, 1), (1, 2), (2, 0), (2, 1)]
    noughts = [(0, 2), (1, 0), (1, 1), (2, 2)]
    assert draw_tic_tac_toe(crosses, noughts, 1).title == "draw"


def test_stones_fill_their_holes():
    state = ConnectFourState.empty(jnp.int8(0))
    for move in (3, 3, 0, 6):
        state = state.play(int(state.to_move), jnp.int32(move))
    scene = ConnectFour().draw(state)
    assert cells(scene, RED, 6) == {(5, 3), (5, 0)}
    assert cells(scene, YELLOW, 6) == {(4, 3), (5, 6)}
    assert strokes(scene, WHITE) == [] and scene.title == "red to move"


def test_four_in_a_row_are_ringed_and_five_are_two_lines():
    reds = [(5, column) for column in range(5)]
    scene = draw_connect_four(reds, [(4, column) for column in range(3)], 1)
    assert cells(scene, WHITE, 6) == set(reds)
    assert strokes(scene, WHITE) == [((0.5, 0.5), (3.5, 0.5)), ((1.5, 0.5), (4.5, 0.5))]
    assert scene.title == "red wins"
