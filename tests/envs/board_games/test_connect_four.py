"""Landing, the 69 lines across the border of the words, and perft."""

import jax
import jax.numpy as jnp
import numpy as np

from mazejax.envs.board_games.connect_four import ConnectFour, ConnectFourState

ROWS = 16384

EMPTY = ConnectFourState.empty(jnp.int8(0))
PLAY = jax.jit(lambda state, player, move: state.play(player, move), static_argnums=1)


def from_words(words):
    return EMPTY.replace(stones=((words[0], words[1]), (words[2], words[3])))


def from_cells(own, other=()):
    """The position with these stones, each dropped into its column from below."""
    state = EMPTY
    color = {**dict.fromkeys(own, 0), **dict.fromkeys(other, 1)}
    for row, column in sorted(color, reverse=True):
        state = PLAY(state, color[row, column], jnp.int32(column))
    assert set(state.cells(0)) == set(own) and set(state.cells(1)) == set(other)
    return state


def test_perft():
    def successors(words):
        """Words [4] of (mover, other) after every move, [7, 4], legality, whether it won."""
        state = from_words(words)

        def after(move):
            new = state.play(0, move)
            return jnp.stack([*new.stones[1], *new.stones[0]]), new.has_line(0)

        return *jax.vmap(after)(jnp.arange(7)), state.legal_moves()

    one_ply = jax.jit(jax.vmap(successors))
    positions, counts = np.zeros((1, 4), np.uint32), []
    for _ in range(7):
        padded = np.zeros((-len(positions) % ROWS, 4), np.uint32)
        blocks = np.concatenate([positions, padded]).reshape(-1, ROWS, 4)
        parts = jax.device_get([one_ply(block) for block in blocks])
        new, won, legal = (
            np.concatenate(part)[: len(positions)] for part in zip(*parts, strict=True)
        )
        counts.append(int(legal.sum()))
        positions = new[legal & ~won]
    assert counts == [7, 49, 343, 2401, 16807, 117649, 823536]
    # The first lines stand after seven plies: nothing follows them.
    legal = jax.jit(jax.vmap(lambda words: from_words(words).legal_moves().sum()))
    assert int(legal(positions).sum()) == 5673234


def cells_and_lines():
    cells = [(row, column) for row in range(6) for column in range(7)]
    lines = [
        [(row + i * down, column + i * right) for i in range(4)]
        for row, column in cells
        for down, right in ((0, 1), (1, 0), (1, 1), (1, -1))
    ]
    return cells, [line for line in lines if set(line) <= set(cells)]


def words_of(cells):
    """What the module's docstring says of the layout, [2] uint32."""
    words = [0, 0]
    for row, column in cells:
        words[column // 4] |= 1 << 7 * (column % 4) + 5 - row
    return np.array(words, np.uint32)


def test_each_of_the_69_lines_wins_and_three_of_its_stones_do_not():
    _, lines = cells_and_lines()
    assert len(lines) == 69
    boards = lines + [line[:i] + line[i + 1 :] for line in lines for i in range(4)]
    words = np.stack([words_of(board) for board in boards])
    found = jax.vmap(lambda w: from_words([w[0], w[1], w[0] * 0, w[1] * 0]).has_line(0))(words)
    np.testing.assert_array_equal(found, [len(board) == 4 for board in boards])


def test_random_boards_have_the_lines_that_plain_python_finds():
    cells, lines = cells_and_lines()
    rng = np.random.default_rng(0)
    boards = [[cell for cell in cells if rng.random() < share] for share in [0.3, 0.5] * 300]
    words = np.stack([words_of(board) for board in boards])
    found = jax.vmap(lambda w: from_words([w[0] * 0, w[1] * 0, w[0], w[1]]).has_line(1))(words)
    expected = [any(set(line) <= set(board) for line in lines) for board in boards]
    np.testing.assert_array_equal(found, expected)
    assert 0.1 < np.mean(expected) < 0.9


def test_stones_land_on_what_is_there_until_the_column_is_full():
    for column in range(7):
        state = EMPTY
        for count in range(6):
            assert state.is_legal(jnp.int32(column)) and state.legal_moves()[column]
            state = PLAY(state, count % 2, jnp.int32(column))
            assert (5 - count, column) in state.cells(count % 2)
        assert not state.is_legal(jnp.int32(column))
        assert np.flatnonzero(~state.legal_moves()).tolist() == [column]
        assert not state.is_full()


def test_the_planes_show_row_0_above_and_own_stones_first():
    state = from_cells([(5, 0), (4, 6)], [(5, 6), (5, 3)])
    assert np.argwhere(state.planes(0)).tolist() == [[4, 6, 0], [5, 0, 0], [5, 3, 1], [5, 6, 1]]
    np.testing.assert_array_equal(state.planes(1), state.planes(0)[..., ::-1])


def test_a_full_board_is_full():
    state = EMPTY
    for move in [column for column in range(7) for _ in range(6)]:
        assert not state.is_full()
        state = PLAY(state, move % 2, jnp.int32(move))
    assert state.is_full() and int(state.num_stones()) == 42
    assert not state.legal_moves().any()


def test_a_position_takes_17_bytes():
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(EMPTY)) == 17
    assert ConnectFour().draw(EMPTY).title == "red to move"
