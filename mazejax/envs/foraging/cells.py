"""Sets of grid cells as bits, and what several agents do with them at once.

A set is one uint32 word for every row, in which bit c stands for column c: a grid is a few
words, and a look at it a compare and a shift. Cells of agents are a row and a column each.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mazejax.types import Array

MAX_COLUMNS = 32
"""Bits of a word."""


def set_of_cells(row: Array, column: Array, where: Array, height: int) -> Array:
    """The set of those cells [K] for which `where`, bool [K] or [], holds; uint32 [height]."""
    bits = jnp.where(where, np.uint32(1) << (column & 31).astype(jnp.uint32), np.uint32(0))
    each = jnp.arange(height, dtype=row.dtype)[:, None]
    parts = jnp.where(each == row[None], bits[None], np.uint32(0))
    return jax.lax.reduce(parts, np.uint32(0), jax.lax.bitwise_or, (1,))


def word_at(words: Array, row: Array) -> Array:
    """The words [K] of rows [K], 0 for those outside the grid."""
    # Compared and summed, not gathered: there are few rows, and it fuses with the step.
    here = row[:, None] == jnp.arange(words.shape[0], dtype=row.dtype)[None]
    return jnp.sum(jnp.where(here, words[None], np.uint32(0)), axis=1, dtype=jnp.uint32)


def contains(words: Array, row: Array, column: Array) -> Array:
    """Whether the set contains the cells [K], which lie within 32 columns; bool [K]."""
    return (word_at(words, row) >> (column & 31).astype(jnp.uint32)) & 1 != 0


def count(words: Array) -> Array:
    """Cells of a set, int32 []."""
    return jax.lax.population_count(words).sum(dtype=jnp.int32)


def window(words: Array, row: Array, column: Array, radius: int) -> Array:
    """The rows of the set around a cell, uint32 [2 radius + 1]; bit i is column - radius + i.

    Needs columns + 2 radius <= 32 bits; what lies outside the grid is not in the set.
    """
    offsets = jnp.arange(-radius, radius + 1, dtype=jnp.int8)
    rows = word_at(words, row + offsets)
    return (rows << np.uint32(radius)) >> (column & 31).astype(jnp.uint32)


def outside(size: int, row: Array, column: Array, radius: int) -> Array:
    """The rows around a cell of a square grid, uint32 [2 radius + 1]: bits of what is no cell."""
    offsets = jnp.arange(-radius, radius + 1, dtype=jnp.int8)
    is_row = (row + offsets >= 0) & (row + offsets < size)
    cells = np.uint32((2**size - 1) << radius)
    inside = jnp.where(is_row, cells, np.uint32(0))
    return ~(inside >> (column & 31).astype(jnp.uint32))
