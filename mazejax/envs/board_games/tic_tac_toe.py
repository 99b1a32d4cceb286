"""Tic-tac-toe: three in a row on a board of three by three.

Each player has one 16-bit word, in which bit 3 * row + column is that cell, so that a
line is a mask. Everything but the board is in `core`.
"""

from typing import ClassVar, Self

import jax.numpy as jnp
import numpy as np

from mazejax.envs.board_games.core import BoardGame, BoardState, Cell
from mazejax.envs.board_games.drawing import draw_tic_tac_toe
from mazejax.types import Array, Scene

_BITS = np.arange(9, dtype=np.uint16)
_FULL = np.uint16(2**9 - 1)

LINES = (0o007, 0o070, 0o700, 0o111, 0o222, 0o444, 0o421, 0o124)
"""Masks of the eight lines: an octal digit is a row, the lowest the upper one."""


class TicTacToeState(BoardState):
    """A position of tic-tac-toe: one uint16 a player, 5 bytes in all."""

    rows: ClassVar[int] = 3
    columns: ClassVar[int] = 3
    num_moves: ClassVar[int] = 9

    @classmethod
    def empty(cls, to_move: Array) -> Self:
        word = (jnp.zeros((), jnp.uint16),)
        return cls((word, word), to_move)

    def legal_moves(self) -> Array:
        return (self._taken() >> _BITS) & 1 == 0

    def is_legal(self, move: Array) -> Array:
        return (self._taken() >> move.astype(jnp.uint16)) & 1 == 0

    def play(self, player: int, move: Array) -> Self:
        stone = jnp.left_shift(np.uint16(1), move.astype(jnp.uint16))
        return self._after(player, (self.stones[player][0] | stone,))

    def has_line(self, player: int) -> Array:
        (word,) = self.stones[player]
        lines = [word & np.uint16(line) == line for line in LINES]
        return jnp.stack(lines).any()

    def is_full(self) -> Array:
        return self._taken() == _FULL

    def planes(self, player: int) -> Array:
        own, other = self.stones[player][0], self.stones[1 - player][0]
        bits = _BITS.reshape(3, 3)
        return jnp.stack([(word >> bits) & 1 != 0 for word in (own, other)], axis=-1)

    def cells(self, player: int) -> list[Cell]:
        word = int(self.stones[player][0])
        return [divmod(bit, 3) for bit in range(9) if word >> bit & 1]

    def _taken(self) -> Array:
        return self.stones[0][0] | self.stones[1][0]


class TicTacToe(BoardGame):
    """Tic-tac-toe; move k places a stone in row k // 3, column k % 3."""

    state_class: ClassVar[type[BoardState]] = TicTacToeState

    def draw(self, state: TicTacToeState) -> Scene:
        """The board, crosses for player 0 and noughts for player 1."""
        return draw_tic_tac_toe(state.cells(0), state.cells(1), int(state.to_move))
