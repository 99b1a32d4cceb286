"""Cells of a grid, moves between them, and sets of cells as bits.

A cell is a row and a column; a set of cells is one word a row, so that a whole maze is
a few bytes and a flood over it a few shifts. What a set means is the caller's matter.
"""

import jax.numpy as jnp
import numpy as np

from mazejax.base import Pytree
from mazejax.types import Array

UP, RIGHT, DOWN, LEFT = range(4)
"""Directions, clockwise; row 0 is the top."""

NUM_DIRECTIONS = 4


class Cell(Pytree):
    """A cell, or [...] of them."""

    row: Array
    """int8 [...], 0 at the top."""
    column: Array
    """int8 [...], 0 at the left."""

    @property
    def at(self) -> tuple[int, int]:
        """(row, column) on the host."""
        return int(self.row), int(self.column)


def cell_of_index(index: Array, width: int) -> Cell:
    """The cells that are numbered [...] row by row."""
    return Cell((index // width).astype(jnp.int8), (index % width).astype(jnp.int8))


def same_cell(one: Cell, other: Cell) -> Array:
    """Whether two cells are one, bool [...]."""
    return (one.row == other.row) & (one.column == other.column)


def neighbor(cell: Cell, direction: Array | int) -> Cell:
    """The next cell in a direction, which may lie outside the grid."""
    down = jnp.asarray(direction == DOWN).astype(jnp.int8)
    up = jnp.asarray(direction == UP).astype(jnp.int8)
    right = jnp.asarray(direction == RIGHT).astype(jnp.int8)
    left = jnp.asarray(direction == LEFT).astype(jnp.int8)
    return Cell(cell.row + down - up, cell.column + right - left)


def plane(cell: Cell, height: int, width: int) -> Array:
    """Plane [H, W] bool that is true at the cell only."""
    rows = jnp.arange(height, dtype=jnp.int8)[:, None]
    columns = jnp.arange(width, dtype=jnp.int8)[None, :]
    return (rows == cell.row) & (columns == cell.column)


# --- sets of cells ----------------------------------------------------------------------


def pack(cells: Array) -> Array:
    """Set of the cells that are true in bool [H, W], W <= 32: bit c of word r; uint32 [H]."""
    bits = np.uint32(1) << np.arange(cells.shape[1], dtype=np.uint32)
    return jnp.sum(jnp.where(cells, bits[None], np.uint32(0)), axis=1, dtype=jnp.uint32)


def unpack(words: Array, width: int) -> Array:
    """Plane [H, W] bool that is true at the cells of a set."""
    columns = np.arange(width, dtype=np.uint32)
    return (words[:, None] >> columns[None]) & 1 != 0


def contains(words: Array, cell: Cell) -> Array:
    """Whether a set contains a cell of its grid, bool []."""
    # Compared and summed: a gather would not fuse with the step.
    here = jnp.arange(words.shape[0], dtype=jnp.int8) == cell.row
    word = jnp.sum(jnp.where(here, words, np.uint32(0)), dtype=jnp.uint32)
    return (word >> cell.column.astype(jnp.uint32)) & 1 != 0


def grown(words: Array) -> Array:
    """The set with all neighbours of its cells; those right of the grid are to be cut off."""
    none = jnp.zeros(1, jnp.uint32)
    from_above = jnp.concatenate([none, words[:-1]])
    from_below = jnp.concatenate([words[1:], none])
    return words | (words << 1) | (words >> 1) | from_above | from_below
