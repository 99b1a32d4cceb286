"""Connect four: four in a row on an upright board of six rows and seven columns.

A column is 7 bits, from its lowest cell to one above the board that stays 0 and keeps
columns apart; the low word has columns 0 to 3, the high one 4 to 6. So the cell on which
a stone lands is a carry, and a line is what remains after two shifts.
"""

import functools
import operator
from typing import ClassVar, Self

import jax.numpy as jnp
import numpy as np

from mazejax.envs.board_games.core import BoardGame, BoardState, Cell
from mazejax.envs.board_games.drawing import draw_connect_four
from mazejax.types import Array, Scene

_ROWS, _COLUMNS = 6, 7
_LOW_COLUMNS = 4  # as many as 32 bits hold
_HEIGHT = _ROWS + 1
_LOW_BITS = _LOW_COLUMNS * _HEIGHT
_DIRECTIONS = (1, _HEIGHT - 1, _HEIGHT, _HEIGHT + 1)
"""Bits from a cell to the one above, right below, to the right, right above."""

_COLUMN = np.arange(_COLUMNS)
_IS_LOW = _COLUMN < _LOW_COLUMNS  # [7]
_BOTTOM_BITS = (_HEIGHT * np.where(_IS_LOW, _COLUMN, _COLUMN - _LOW_COLUMNS)).astype(np.uint32)
"""Bit of the lowest cell within its word, by column, [7]."""
_CELL_BITS = _BOTTOM_BITS + np.arange(_ROWS, dtype=np.uint32)[::-1, None]
"""Bit of a cell within its word, [6, 7], row 0 above."""

_Words = tuple[Array, ...]
"""Low and high word, uint32 [] each."""


def _mask(bits: np.ndarray) -> tuple[np.uint32, np.uint32]:
    """Words in which these bits [..., 7] are set."""
    words = np.uint32(1) << bits
    low, high = words[..., _IS_LOW], words[..., ~_IS_LOW]
    return np.bitwise_or.reduce(low, axis=None), np.bitwise_or.reduce(high, axis=None)


_FULL = _mask(_CELL_BITS)
_ABOVE = _mask(_BOTTOM_BITS + np.uint32(_ROWS))


class ConnectFourState(BoardState):
    """A position of connect four: two uint32 a player, 17 bytes in all."""

    rows: ClassVar[int] = _ROWS
    columns: ClassVar[int] = _COLUMNS
    num_moves: ClassVar[int] = _COLUMNS

    @classmethod
    def empty(cls, to_move: Array) -> Self:
        zero = jnp.zeros((), jnp.uint32)
        return cls(((zero, zero), (zero, zero)), to_move)

    def legal_moves(self) -> Array:
        low, high = self._taken()
        word = jnp.where(_IS_LOW, low, high)
        return (word >> (_BOTTOM_BITS + np.uint32(_ROWS - 1))) & 1 == 0

    def is_legal(self, move: Array) -> Array:
        low, high = self._landing(move)
        return (low & _ABOVE[0]) | (high & _ABOVE[1]) == 0

    def play(self, player: int, move: Array) -> Self:
        (low, high), stone = self.stones[player], self._landing(move)
        return self._after(player, (low | stone[0], high | stone[1]))

    def has_line(self, player: int) -> Array:
        fours = [
            word
            for step in _DIRECTIONS
            for word in _with_neighbour(_with_neighbour(self.stones[player], step), 2 * step)
        ]
        return functools.reduce(operator.or_, fours) != 0

    def is_full(self) -> Array:
        low, high = self._taken()
        return (low == _FULL[0]) & (high == _FULL[1])

    def planes(self, player: int) -> Array:
        sides = (self.stones[player], self.stones[1 - player])
        is_low = np.broadcast_to(_IS_LOW, _CELL_BITS.shape)
        words = [jnp.where(is_low, low, high) for low, high in sides]
        return jnp.stack([(word >> _CELL_BITS) & 1 != 0 for word in words], axis=-1)

    def cells(self, player: int) -> list[Cell]:
        low, high = map(int, self.stones[player])
        return [
            (row, column)
            for (row, column), bit in np.ndenumerate(_CELL_BITS)
            if (low if _IS_LOW[column] else high) >> int(bit) & 1
        ]

    def _taken(self) -> _Words:
        (low, high), (other_low, other_high) = self.stones
        return low | other_low, high | other_high

    def _landing(self, move: Array) -> _Words:
        """The cell that a stone lands on; the bit above the board if the column is full."""
        low, high = self._taken()
        is_low = move < _LOW_COLUMNS
        column = jnp.where(is_low, move, move - _LOW_COLUMNS).astype(jnp.uint32)
        bottom = jnp.left_shift(np.uint32(1), np.uint32(_HEIGHT) * column)
        # The stones of a column are ones without a gap: the carry goes to the first free cell.
        landed_low = (low + jnp.where(is_low, bottom, 0)) & ~low
        landed_high = (high + jnp.where(is_low, 0, bottom)) & ~high
        return landed_low, landed_high


def _with_neighbour(words: _Words, step: int) -> _Words:
    """Bits that are set together with the one `step` bits higher."""
    low, high = words
    # What the shift moves above column 3 in the low word meets no bits there.
    return low & ((low >> step) | (high << (_LOW_BITS - step))), high & (high >> step)


class ConnectFour(BoardGame):
    """Connect four; move k drops a stone into column k."""

    state_class: ClassVar[type[BoardState]] = ConnectFourState

    def draw(self, state: ConnectFourState) -> Scene:
        """The board, red for player 0 and yellow for player 1."""
        return draw_connect_four(state.cells(0), state.cells(1), int(state.to_move))
