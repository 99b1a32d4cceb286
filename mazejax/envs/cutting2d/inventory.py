"""The stock of Cutting-2D: a list of pieces as arrays of fixed size, and the cut.

The list is packed, oldest piece first, and zero behind its end. Taking a piece out and
storing others moves every piece by at most three places, so a cut is a selection among
four shifted copies: elementwise, without a sort, a gather or a loop over the pieces.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mazejax.base import Pytree
from mazejax.types import Array

_MOST_STORED = 3
"""Pieces that a cut stores at most: two residuals and a raw piece."""


class Inventory(Pytree):
    """Pieces in the order in which they were stored; dtypes are as small as sizes allow.

    Both sides of a piece share one integer, since compilers vectorize over [N] and not over
    the short axis of [N, 2]: a cut costs a third of the time.
    """

    words: Array
    """Width in the lower and height in the upper half; 0 behind the last piece, int [N]."""
    num_pieces: Array
    """How many there are, int []."""
    raw_index: Array
    """Where the raw piece lies, -1 once it was discarded, int []. There is never a second."""

    @property
    def pieces(self) -> Array:
        """(width, height) of each, oldest first and 0 behind the last, int [N, 2]."""
        return _sides(self.words)


class Cut(NamedTuple):
    """What came of a cut."""

    inventory: Inventory
    replenished: Array
    """Whether the raw piece was cut and another one stored, bool []."""
    discarded: Array
    """Sizes of the pieces that found no place, in the order in which they went, int [2, 2]."""
    num_discarded: Array
    """How many of them there are, int []."""


def new_inventory(raw_piece_size: tuple[int, int], max_pieces: int) -> Inventory:
    """An inventory that holds a raw piece and nothing else; sides are at most 32767."""
    words = np.zeros(max_pieces, np.int16 if max(raw_piece_size) <= 127 else np.int32)
    words[0] = _word(*raw_piece_size, words.dtype)
    index = np.min_scalar_type(-1 - max_pieces)
    return Inventory(jnp.asarray(words), jnp.ones((), index), jnp.zeros((), index))


def fits(order: Array, pieces: Array) -> Array:
    """Whether an order [2] fits into pieces [..., 2] as it is, not turned; bool [...]."""
    return (order[0] <= pieces[..., 0]) & (order[1] <= pieces[..., 1])


def fits_turned_or_not(order: Array, pieces: Array) -> Array:
    """Whether an order [2] fits into pieces [..., 2] in one of the two ways; bool [...]."""
    return fits(order, pieces) | fits(order[::-1], pieces)


def select_piece(inventory: Inventory, index: Array) -> Array:
    """(width, height) of the piece at an index, 0 where there is none, int [2]."""
    # Compared and summed, not gathered, so that it fuses.
    here = _slots(inventory.words) == index.astype(inventory.words.dtype)
    word = jnp.where(here, inventory.words, 0).sum(dtype=inventory.words.dtype)
    return _sides(word)


def cut(
    inventory: Inventory,
    index: Array,
    order: Array,
    y_first: Array,
    raw_piece_size: tuple[int, int],
) -> Cut:
    """The inventory after an order [2] was cut from the piece at an index, where it fits.

    The first cut leaves a strip as long as the piece, the second one as long as the order.
    They are stored in that order, then a new raw piece if the raw one was cut; every piece
    beyond the N that there is room for drives out the oldest.
    """
    words, dtype = inventory.words, inventory.words.dtype
    index, raw_index = index.astype(dtype), inventory.raw_index.astype(dtype)
    num_kept = inventory.num_pieces.astype(dtype) - 1
    replenished = index == raw_index
    residuals = _residuals(select_piece(inventory, index), order.astype(dtype), y_first)
    raw_word = jnp.asarray(_word(*raw_piece_size, dtype), dtype)
    stored, total = [], num_kept
    for word, is_stored in (*residuals, (raw_word, replenished)):
        stored.append((word, is_stored, total))
        total = total + is_stored.astype(dtype)
    excess = jnp.maximum(total - words.shape[0], 0)

    moved = _moved(words, index, excess)
    for word, is_stored, place in stored:
        here = is_stored & (_slots(words) == place - excess)
        moved = jnp.where(here, word, moved)
    raw_index = jnp.maximum(raw_index - (raw_index > index).astype(dtype) - excess, -1)
    raw_index = jnp.where(replenished, total - excess - 1, raw_index)

    small = inventory.num_pieces.dtype
    after = Inventory(moved, (total - excess).astype(small), raw_index.astype(small))
    return Cut(after, replenished, _first_two(words, num_kept, index, stored), excess)


def _residuals(piece: Array, order: Array, y_first: Array) -> tuple[tuple[Array, Array], ...]:
    """What two cuts leave of a piece [2], in the order of the cuts: words, and whether any."""
    beside, above = piece[0] - order[0], piece[1] - order[1]
    dtype = piece.dtype
    x_cut = _word(beside, jnp.where(y_first, order[1], piece[1]), dtype)
    y_cut = _word(jnp.where(y_first, piece[0], order[0]), above, dtype)
    first = jnp.where(y_first, y_cut, x_cut), jnp.where(y_first, above, beside) > 0
    second = jnp.where(y_first, x_cut, y_cut), jnp.where(y_first, beside, above) > 0
    return first, second


def _moved(words: Array, index: Array, excess: Array) -> Array:
    """The pieces [N] without the one at an index and without the oldest of what remains."""
    slot = _slots(words)
    shift = excess + (slot + excess >= index).astype(words.dtype)
    padded = jax.lax.pad(words, words.dtype.type(0), ((0, _MOST_STORED, 0),))
    moved = words
    for by in range(1, _MOST_STORED + 1):
        moved = jnp.where(shift == by, padded[by : by + words.size], moved)
    return moved


def _first_two(words: Array, num_kept: Array, index: Array, stored: list) -> Array:
    """The two oldest of all that is kept and stored: what goes if there is too much, [2, 2]."""
    last = words.shape[0] - 1
    oldest = []
    for place in range(_MOST_STORED - 1):
        word = jnp.where(place >= index, words[min(place + 1, last)], words[min(place, last)])
        for new, is_stored, its_place in stored:
            word = jnp.where(is_stored & (its_place == place), new, word)
        oldest.append(word)
    return _sides(jnp.stack(oldest))


def _slots(words: Array) -> Array:
    return jnp.arange(words.shape[0], dtype=words.dtype)


def _half(dtype: np.dtype) -> int:
    """Bits of one side."""
    return 4 * np.dtype(dtype).itemsize


def _word(width: Array | int, height: Array | int, dtype: np.dtype) -> Array | int:
    return width | height << _half(dtype)


def _sides(words: Array) -> Array:
    """(width, height) of words [...], int [..., 2]."""
    half = _half(words.dtype)
    shifts = np.array([0, half], words.dtype).reshape((1,) * words.ndim + (2,))
    return words[..., None] >> shifts & (1 << half) - 1
