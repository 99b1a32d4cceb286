"""Sets of cells as bits agree with sets of Python."""

import jax.numpy as jnp
import numpy as np

from mazejax.envs.foraging import cells

SIZE = 6
GRID = np.random.default_rng(3).random((SIZE, SIZE)) < 0.4
WORDS = jnp.asarray((GRID * 2 ** np.arange(SIZE)).sum(axis=1), jnp.uint32)
ROW, COLUMN = (jnp.asarray(side.ravel(), jnp.int8) for side in np.indices(GRID.shape))


def test_sets_are_made_asked_and_counted():
    in_grid = jnp.asarray(GRID.ravel())
    np.testing.assert_array_equal(cells.set_of_cells(ROW, COLUMN, in_grid, SIZE), WORDS)
    np.testing.assert_array_equal(cells.contains(WORDS, ROW, COLUMN), in_grid)
    assert cells.count(WORDS) == GRID.sum()


def test_a_cell_given_twice_is_there_once_and_cells_in_no_row_nowhere():
    row, column = jnp.array([1, 1, -1, 6], jnp.int8), jnp.array([2, 2, 0, 0], jnp.int8)
    words = cells.set_of_cells(row, column, jnp.asarray(True), SIZE)
    assert words.tolist() == [0, 4, 0, 0, 0, 0]


def test_windows_show_the_surroundings_and_what_is_outside():
    radius = 2
    padded = np.pad(GRID, radius)
    outside = np.pad(np.zeros_like(GRID), radius, constant_values=True)
    for row, column in np.ndindex(GRID.shape):
        at = jnp.int8(row), jnp.int8(column)
        seen = bits(cells.window(WORDS, *at, radius), 5)
        part = np.s_[row : row + 5, column : column + 5]
        np.testing.assert_array_equal(seen, padded[part])
        np.testing.assert_array_equal(bits(cells.outside(SIZE, *at, radius), 5), outside[part])


def test_the_widest_grid_fits_its_words():
    words = jnp.zeros(28, jnp.uint32).at[5].set(np.uint32(1 << 27))
    seen = bits(cells.window(words, jnp.int8(5), jnp.int8(27), 2), 5)
    assert np.argwhere(seen).tolist() == [[2, 2]]
    assert bits(cells.outside(28, jnp.int8(5), jnp.int8(27), 2), 5)[:, 3:].all()


def bits(words, count):
    return (np.asarray(words)[:, None] >> np.arange(count, dtype=np.uint32)) & 1 == 1
