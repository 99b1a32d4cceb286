"""Arithmetic of the packed list; whole cuts beside plain lists: test_core."""

import jax
import jax.numpy as jnp
import numpy as np

from mazejax.envs.cutting2d.inventory import (
    cut,
    fits,
    fits_turned_or_not,
    new_inventory,
    select_piece,
)

CUT = jax.jit(cut, static_argnums=4)


def inventory_of(*pieces, raw_index, max_pieces):
    empty = new_inventory((4, 3), max_pieces)
    words = np.zeros(max_pieces, np.int16)
    words[: len(pieces)] = [width + 256 * height for width, height in pieces]
    dtype = empty.num_pieces.dtype
    return empty.replace(
        words=jnp.asarray(words),
        num_pieces=jnp.asarray(len(pieces), dtype),
        raw_index=jnp.asarray(raw_index, dtype),
    )


def cut_of(inventory, index, order):
    order, index = jnp.asarray(order, jnp.int8), jnp.asarray(index, jnp.int8)
    return CUT(inventory, index, order, jnp.bool(False), (4, 3))


def test_integers_are_as_small_as_sizes_and_places_allow():
    small, large = new_inventory((4, 127), 127), new_inventory((128, 3), 128)
    assert (small.words.dtype, small.num_pieces.dtype) == (jnp.int16, jnp.int8)
    assert (large.words.dtype, large.num_pieces.dtype) == (jnp.int32, jnp.int16)
    assert small.pieces[0].tolist() == [4, 127] and large.pieces[0].tolist() == [128, 3]
    assert new_inventory((32767, 32767), 1).pieces.tolist() == [[32767, 32767]]


def test_the_two_oldest_make_room():
    full = inventory_of((2, 2), (1, 1), (4, 3), raw_index=2, max_pieces=3)
    result = cut_of(full, 2, (1, 2))
    assert result.inventory.pieces.tolist() == [[3, 3], [1, 1], [4, 3]]
    assert result.discarded[: int(result.num_discarded)].tolist() == [[2, 2], [1, 1]]
    assert int(result.inventory.raw_index) == 2 and bool(result.replenished)


def test_a_raw_piece_that_is_thrown_away_is_gone():
    full = inventory_of((4, 3), (2, 2), raw_index=0, max_pieces=2)
    result = cut_of(full, 1, (1, 1))
    assert result.inventory.pieces.tolist() == [[1, 2], [1, 1]]
    assert int(result.inventory.raw_index) == -1 and not bool(result.replenished)


def test_an_order_that_takes_all_leaves_a_gap_that_closes():
    stock = inventory_of((1, 1), (2, 2), (4, 3), raw_index=2, max_pieces=4)
    result = cut_of(stock, 1, (2, 2))
    assert result.inventory.pieces.tolist() == [[1, 1], [4, 3], [0, 0], [0, 0]]
    assert int(result.inventory.num_pieces) == 2 and int(result.inventory.raw_index) == 1


def test_orders_fit_as_they_are_or_turned():
    pieces = jnp.array([[1, 2], [2, 1], [1, 1], [0, 0], [2, 2]], jnp.int8)
    order = jnp.array([1, 2], jnp.int8)
    assert fits(order, pieces).tolist() == [True, False, False, False, True]
    assert fits_turned_or_not(order, pieces).tolist() == [True, True, False, False, True]


def test_pieces_are_selected_by_place_and_outside_there_is_none():
    stock = inventory_of((1, 2), (4, 3), raw_index=1, max_pieces=3)
    rows = [select_piece(stock, jnp.int8(i)).tolist() for i in (-1, 0, 1, 2, 3)]
    assert rows == [[0, 0], [1, 2], [4, 3], [0, 0], [0, 0]]


def test_sizes_of_whole_batches_are_read_at_once():
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), new_inventory((4, 3), 2))
    assert batch.pieces.tolist() == [[[4, 3], [0, 0]]] * 2
