"""Cells and sets of cells against plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.envs import cells
from mazejax.envs.cells import Cell

RNG = np.random.default_rng(0)


def cell(row, column):
    return Cell(jnp.int8(row), jnp.int8(column))


@pytest.mark.parametrize("width", [1, 7, 31, 32])
def test_a_set_holds_the_cells_that_were_packed(width):
    marks = RNG.random((5, width)) < 0.4
    words = cells.pack(jnp.asarray(marks))
    assert words.dtype == np.uint32
    np.testing.assert_array_equal(cells.unpack(words, width), marks)
    rows, columns = np.indices(marks.shape).astype(np.int8)
    found = jax.vmap(cells.contains, (None, 0))(words, Cell(rows.ravel(), columns.ravel()))
    np.testing.assert_array_equal(found, marks.ravel())


def test_a_set_grows_by_the_neighbours_of_its_cells():
    marks = np.zeros((6, 7), bool)
    marks[1:-1, 1:-1] = RNG.random((4, 5)) < 0.2
    wanted = marks.copy()
    for row, column in np.argwhere(marks):
        for down, right in ((-1, 0), (0, 1), (1, 0), (0, -1)):
            wanted[row + down, column + right] = True
    grown = cells.grown(cells.pack(jnp.asarray(marks)))
    np.testing.assert_array_equal(cells.unpack(grown, 7), wanted)


def test_directions_go_clockwise_from_up_and_row_0_is_the_top():
    places = [cells.neighbor(cell(3, 4), jnp.int32(direction)).at for direction in range(4)]
    assert places == [(2, 4), (3, 5), (4, 4), (3, 3)]


def test_cells_are_numbered_row_by_row():
    numbered = cells.cell_of_index(jnp.arange(12), 4)
    assert numbered.row.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert numbered.column.tolist() == [0, 1, 2, 3] * 3
    assert numbered.row.dtype == numbered.column.dtype == np.int8


def test_a_plane_is_true_at_its_cell_only():
    wanted = np.zeros((3, 5), bool)
    wanted[2, 1] = True
    np.testing.assert_array_equal(cells.plane(cell(2, 1), 3, 5), wanted)
    assert cells.same_cell(cell(2, 1), cell(2, 1))
    assert not cells.same_cell(cell(2, 1), cell(1, 2))
