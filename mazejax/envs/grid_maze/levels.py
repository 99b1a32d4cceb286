"""Random perfect mazes: between any two open cells there is exactly one way.

A maze is a spanning tree of its rooms, the lightest one under random edge weights, found
by Prim's algorithm in as many iterations as there are rooms. Where an episode starts and
ends in it is drawn here too.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mazejax.envs import cells
from mazejax.envs.cells import Cell
from mazejax.types import Array, Key

_NO_EDGE = np.uint32(0xFFFFFFFF)


def random_maze(key: Key, size: int) -> Array:
    """Walls of a random maze of size x size cells, size odd: a set of cells, uint32 [size].

    Rooms are the cells with odd row and column; a wall between two rooms is open if the
    edge between them belongs to the minimum spanning tree of random weights. Every
    spanning tree can occur, but those with more dead ends are somewhat likelier than
    under the uniform distribution (Wilson, 1996). Of 3 x 3 rooms there are 192 trees, with
    probabilities from 0.0035 to 0.0068 instead of 0.0052, and 3.55 dead ends on average
    instead of 3.44.
    Prim, 1957.
    """
    rooms = (size - 1) // 2
    tree = _lightest_tree(_edge_weights(key, rooms))
    return cells.pack(_carved(tree))


def random_start_and_goal(key: Key, walls: Array) -> tuple[Cell, Cell]:
    """Two distinct open cells of a square maze; all ordered pairs are equally likely."""
    size = walls.shape[0]
    words = _distinct_words(key, (size, size))
    # The words of open cells are never 0, since cell 0 is a wall.
    words = jnp.where(cells.unpack(walls, size), np.uint32(0), words)
    first = words.max()
    second = jnp.where(words < first, words, np.uint32(0)).max()
    start, goal = (
        cells.cell_of_index((word & _index_mask(size * size)).astype(jnp.int32), size)
        for word in (first, second)
    )
    return start, goal


def _edge_weights(key: Key, rooms: int) -> Array:
    """Distinct weights uint32 [2, M, M] of the edges to the right of and below each room."""
    weights = _distinct_words(key, (2, rooms, rooms))
    exists = np.ones((2, rooms, rooms), bool)
    exists[0, :, -1] = exists[1, -1, :] = False
    return jnp.where(exists, weights, _NO_EDGE)


def _lightest_tree(weights: Array) -> Array:
    """Minimum spanning tree of the grid: which of the edges [2, M, M] belong to it, bool."""
    rooms = weights.shape[1]

    def add_lightest_edge(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        tree, reached = carry
        ends = jnp.stack([_moved(reached, 0, -1), _moved(reached, -1, 0)])
        leads_out = ends != reached[None]
        lightest = jnp.where(leads_out, weights, _NO_EDGE).min()
        chosen = weights == lightest
        new = chosen[0] | chosen[1] | _moved(chosen[0], 0, 1) | _moved(chosen[1], 1, 0)
        return (tree | chosen, reached | new), None

    tree = jnp.zeros(weights.shape, bool)
    reached = jnp.zeros((rooms, rooms), bool).at[0, 0].set(True)
    return jax.lax.scan(add_lightest_edge, (tree, reached), length=rooms**2 - 1)[0][0]


def _carved(tree: Array) -> Array:
    """Walls bool [2M+1, 2M+1] of the maze in which the edges [2, M, M] are open."""
    rooms = tree.shape[1]
    room, pillar = jnp.zeros((rooms, rooms), bool), jnp.ones((rooms, rooms), bool)
    # Each room with the cells to its right, below, and between these two: [M, 2, M, 2].
    blocks = jnp.stack(
        [jnp.stack([room, ~tree[0]], axis=-1), jnp.stack([~tree[1], pillar], axis=-1)], axis=1
    )
    inner = blocks.reshape(2 * rooms, 2 * rooms)
    return jnp.pad(inner, ((1, 0), (1, 0)), constant_values=True)


def _moved(marks: Array, rows: int, columns: int) -> Array:
    """Marks [M, M] moved by at most one row down and one column right, false where none come."""
    pads = [(step, -step, 0) for step in (rows, columns)]
    return jax.lax.pad(marks, np.zeros((), bool), pads)


def _distinct_words(key: Key, shape: tuple[int, ...]) -> Array:
    """Random words uint32 [*shape] that end in their own index, so that no two are equal."""
    num = int(np.prod(shape))
    index = np.arange(num, dtype=np.uint32).reshape(shape)
    return (jax.random.bits(key, shape, jnp.uint32) & ~_index_mask(num)) | index


def _index_mask(num: int) -> np.uint32:
    return np.uint32(2 ** (num - 1).bit_length() - 1)
