"""Lines, and the number of all games there are."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from mazejax.envs.board_games.tic_tac_toe import TicTacToe, TicTacToeState

ROWS = 2048

EMPTY = TicTacToeState.empty(jnp.int8(0))


def successors(words):
    """Words [ROWS, 2] of (mover, other) after every move, [ROWS, 9, 2], legality, ends."""

    def after(words, move):
        state = EMPTY.replace(stones=((words[0],), (words[1],)))
        new = state.play(0, move)
        swapped = jnp.stack([new.stones[1][0], new.stones[0][0]])
        return swapped, state.is_legal(move), new.has_line(0), new.is_full()

    return jax.vmap(lambda row: jax.vmap(after, (None, 0))(row, jnp.arange(9)))(words)


def test_all_255168_games_are_there():
    one_ply = jax.jit(successors)
    positions, decided = np.zeros((1, 2), np.uint16), []
    for _ in range(9):
        padded = np.zeros((-len(positions) % ROWS, 2), np.uint16)
        blocks = np.concatenate([positions, padded]).reshape(-1, ROWS, 2)
        parts = jax.device_get([one_ply(block) for block in blocks])
        new, legal, won, full = (
            np.concatenate(part)[: len(positions)] for part in zip(*parts, strict=True)
        )
        decided.append((int((legal & won).sum()), int((legal & full & ~won).sum())))
        positions = new[legal & ~won & ~full]
    assert [won for won, _ in decided] == [0, 0, 0, 0, 1440, 5328, 47952, 72576, 81792]
    assert [drawn for _, drawn in decided] == [0] * 8 + [46080]
    assert len(positions) == 0


def test_exactly_the_eight_lines_win():
    states = [EMPTY.replace(stones=((jnp.uint16(w),), (jnp.uint16(0),))) for w in range(2**9)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    found = jax.vmap(lambda state: state.has_line(0))(stacked)
    grid = [(i, j) for i in range(3) for j in range(3)]
    lines = [
        {(r + i * dr, c + i * dc) for i in range(3)}
        for r, c in grid
        for dr, dc in ((0, 1), (1, 0), (1, 1), (1, -1))
    ]
    lines = [line for line in lines if line <= set(grid)]
    expected = [
        any(
            {grid.index(cell) for cell in line} <= {b for b in range(9) if w >> b & 1}
            for line in lines
        )
        for w in range(2**9)
    ]
    np.testing.assert_array_equal(found, expected)


def test_move_k_is_row_k_over_3_and_column_k_mod_3():
    for move, cell in enumerate(itertools.product(range(3), repeat=2)):
        state = EMPTY.play(0, jnp.int32(move))
        assert state.cells(0) == [cell] and state.cells(1) == []
        assert np.argwhere(state.planes(0)).tolist() == [[*cell, 0]]
        assert np.argwhere(state.planes(1)).tolist() == [[*cell, 1]]
        assert np.flatnonzero(~state.legal_moves()).tolist() == [move]
        assert (int(state.to_move), int(state.num_stones())) == (1, 1)


def test_a_position_takes_five_bytes():
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(EMPTY)) == 5
    assert TicTacToe().draw(EMPTY).title == "cross to move"
