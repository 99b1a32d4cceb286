"""Breakout: keep a ball in play with a paddle and clear three rows of bricks, over and over.

    observation  Box(10, 10, 4) of uint8, 0 or 1: paddle, ball, where the ball was, bricks
    action       Discrete(3): 0 stays, 1 moves the paddle to the left, 2 to the right
    reward       1 for every brick
    terminated   the ball falls past the paddle
    reset        all bricks; the ball in an upper corner below them, left or right

The rules of gymnax's Breakout-MinAtar, step for step, of which MinAtar's Breakout is the
origin: Young and Tian, 2019, arXiv:1903.03176. The registered Breakout-v0 adds the limit of
1000 steps; actions are not sticky (the wrapper `StickyActions` makes them so).

A state is two words, and nothing in a step is a gather or a scatter: what is done once for
every env and step, the observation, is comparisons of constants with a few numbers.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.base import Pytree
from mazejax.envs.base import flag
from mazejax.envs.conversion import ActionConversion, ObservationConversion
from mazejax.envs.core import CoreEnv, CoreReset, CoreStep
from mazejax.envs.maze_env import MazeEnv
from mazejax.spaces.simple import Box, Discrete
from mazejax.types import ActorID, Array, Key, Scene, Shape

SIZE = 10
"""Rows and columns."""
PADDLE, BALL, TRAIL, BRICK = range(4)
"""Channels of the observation."""

_LAST = SIZE - 1
_BRICK_ROWS = (1, 2, 3)
_ALL_BRICKS = np.uint32((1 << len(_BRICK_ROWS) * SIZE) - 1)
_FIRST_BRICK = _BRICK_ROWS[0] * SIZE  # the cell of bit 0; cells are counted row by row


class Pieces(NamedTuple):
    """All but the bricks, int32 each; row 0 is the top."""

    ball_row: Array
    ball_column: Array
    trail_row: Array
    """Where the ball was before the last step, here and below."""
    trail_column: Array
    paddle: Array
    """Its column; its row is the last one."""
    is_down: Array
    """1 if the ball flies downwards, 0 upwards."""
    is_right: Array
    """1 if it flies to the right, 0 to the left."""
    struck: Array
    """1 if the ball met a brick in the last step: the next one that it meets it flies through."""

    def pack(self) -> Array:
        """The numbers in one word, uint32."""
        word = sum(number << shift for number, shift in zip(self, _SHIFTS, strict=True))
        return jnp.asarray(word).astype(jnp.uint32)

    @classmethod
    def unpack(cls, word: Array) -> "Pieces":
        """The numbers of a word."""
        word = word.astype(jnp.int32)
        parts = zip(_SHIFTS, _WIDTHS, strict=True)
        return cls(*((word >> shift) & ((1 << width) - 1) for shift, width in parts))


_WIDTHS = (4, 4, 4, 4, 4, 1, 1, 1)  # bits of each
_SHIFTS = tuple(np.cumsum((0, *_WIDTHS[:-1])).tolist())


class BreakoutState(Pytree):
    """The whole board in 8 bytes."""

    bricks: Array
    """Bit 10 (row - 1) + column is the brick of rows 1 to 3, uint32."""
    packed_pieces: Array
    """Ball, trail and paddle, uint32: one word, for each array of a state is a loop of its own."""

    @property
    def pieces(self) -> Pieces:
        """Ball, trail and paddle."""
        return Pieces.unpack(self.packed_pieces)


class Breakout(CoreEnv):
    """The rules; the maze action is the paddle's move: -1, 0 or 1 columns."""

    def reset(self, key: Key) -> CoreReset:
        """All bricks; the ball comes down from one side, either equally likely."""
        on_the_right = random.randint(key, (), 2)
        row, column = jnp.full((), _BRICK_ROWS[-1], jnp.int32), _LAST * on_the_right
        zero = jnp.zeros((), jnp.int32)
        pieces = Pieces(row, column, row, column, zero + 4, zero + 1, 1 - on_the_right, zero)
        return CoreReset(BreakoutState(jnp.full((), _ALL_BRICKS, jnp.uint32), pieces.pack()))

    def step(self, key: Key, state: BreakoutState, maze_action: Array, actor: ActorID) -> CoreStep:
        """The paddle moves, then the ball, one cell diagonally, and what it meets sends it back."""
        old, bricks = state.pieces, state.bricks
        paddle = jnp.clip(old.paddle + maze_action, 0, _LAST)
        column = old.ball_column + 2 * old.is_right - 1
        off_side = (column < 0) | (column > _LAST)
        column = jnp.clip(column, 0, _LAST)
        row = old.ball_row + 2 * old.is_down - 1
        off_top = row < 0
        row = jnp.maximum(row, 0)

        brick = _brick(row, column)
        met = bricks & brick != 0
        struck = met & (old.struck == 0)
        at_bottom = row == _LAST
        # The paddle catches a ball above it, or one that would come to it diagonally.
        caught_above = at_bottom & (old.ball_column == paddle)
        caught_aside = at_bottom & (column == paddle) & ~caught_above
        caught = caught_above | caught_aside

        # New bricks come as late as this: when the ball reaches the bottom.
        bricks = jnp.where(at_bottom & (bricks == 0), _ALL_BRICKS, bricks)
        bricks = jnp.where(struck, bricks & ~brick, bricks)
        pieces = Pieces(
            ball_row=jnp.where(struck | caught, old.ball_row, row),
            ball_column=column,
            trail_row=old.ball_row,
            trail_column=old.ball_column,
            paddle=paddle,
            is_down=old.is_down ^ (off_top | struck | caught),
            is_right=old.is_right ^ (off_side ^ caught_aside),
            struck=met.astype(jnp.int32),
        )
        new = BreakoutState(bricks, pieces.pack())
        return CoreStep(new, struck.astype(jnp.float32), at_bottom & ~caught, flag())

    def draw(self, state: BreakoutState) -> Scene:
        """Bricks by the colours of their rows, the ball with its trail, and the paddle."""
        return draw_breakout(int(state.bricks), *(int(number) for number in state.pieces[:5]))


class BreakoutObservation(ObservationConversion):
    """The board as four planes, [row, column, channel].

    uint8 and not bool, which is stored in trajectories by one conversion more, up to twice as
    slow on the CPU. The bounds are 0 and 1, so networks see 0.0 and 1.0.
    """

    def space(self) -> Box:
        """Four planes."""
        return Box(0, 1, (SIZE, SIZE, 4), np.uint8)

    def maze_to_space(self, state: BreakoutState, agent: int) -> Array:
        """[10, 10, 4] uint8."""
        pieces = state.pieces
        ball = _place(pieces.ball_row, pieces.ball_column, BALL)
        trail = _place(pieces.trail_row, pieces.trail_column, TRAIL)
        paddle = _place(_LAST, pieces.paddle, PADDLE)
        # Runs of rows, joined: XLA computes each in vectors and then copies them, where loops
        # over [10, 10, 4] are no longer than 4. Three, for with two of them the runs of 64 envs
        # are large enough to be handed to threads, which takes longer than computing them.
        with_bricks, between, with_paddle = (
            (places == ball) | (places == trail) for places in _RUNS
        )
        with_bricks |= _BRICK_AT & state.bricks != 0
        with_paddle |= _RUNS[-1] == paddle
        runs = [run.astype(jnp.uint8) for run in (with_bricks, between, with_paddle)]
        return jnp.concatenate(runs).reshape(SIZE, SIZE, 4)


class StayLeftRight(ActionConversion):
    """0 leaves the paddle where it is, 1 moves it to the left, 2 to the right."""

    def space(self) -> Discrete:
        """Three actions."""
        return Discrete(3)

    def space_to_maze(self, action: Array, state: Any, agent: int) -> Array:
        """Columns to the right, int32."""
        action = jnp.asarray(action)
        return (action == 2).astype(jnp.int32) - (action == 1).astype(jnp.int32)

    def maze_to_space(self, maze_action: Array) -> Array:
        """The direction, int32."""
        return -jnp.asarray(maze_action, jnp.int32) % 3

    def noop_action(self) -> Array:
        """No move."""
        return jnp.zeros((), jnp.int32)


def make_breakout() -> MazeEnv:
    """Breakout without a limit of time."""
    return MazeEnv(Breakout(), BreakoutObservation(), StayLeftRight())


def draw_breakout(
    bricks: int, ball_row: int, ball_column: int, trail_row: int, trail_column: int, paddle: int
) -> Scene:
    """The board from plain numbers; a cell is one unit wide."""
    walls = [
        _rectangle(_BRICK_COLORS[bit // SIZE], _FIRST_BRICK + bit)
        for bit in range(int(_ALL_BRICKS).bit_length())
        if bricks >> bit & 1
    ]
    shapes = (
        *walls,
        _disc((224, 227, 231), trail_row, trail_column, 0.25),
        _disc((45, 48, 54), ball_row, ball_column, 0.35),
        _rectangle((129, 132, 203), _LAST * SIZE + paddle),
    )
    return Scene(bounds=(0.0, 0.0, SIZE, SIZE), shapes=shapes, background=(252, 252, 250))


_BRICK_COLORS = ((204, 77, 77), (222, 184, 20), (0, 178, 184))


def _rectangle(color: tuple[int, int, int], cell: int) -> Shape:
    left, bottom = cell % SIZE + 0.05, _LAST - cell // SIZE + 0.2
    right, top = left + 0.9, bottom + 0.6
    corners = ((left, bottom), (right, bottom), (right, top), (left, top))
    return Shape(kind="polygon", points=corners, color=color)


def _disc(color: tuple[int, int, int], row: int, column: int, radius: float) -> Shape:
    center = (column + 0.5, _LAST - row + 0.5)
    return Shape(kind="circle", points=(center,), color=color, width=radius)


def _brick(row: Array, column: Array) -> Array:
    """The bit of a cell's brick, uint32; where there is none, 0 or one that is never set."""
    # A shift by 32 and more, or by a negative number, which is a large one, leaves 0.
    return np.uint32(1) << (SIZE * row + column - _FIRST_BRICK).astype(jnp.uint32)


def _place(row: Array | int, column: Array, channel: int) -> Array:
    """Index in the flat observation."""
    return 4 * (SIZE * row + column) + channel


# Indices of the flat observation: rows with bricks and the one above, those below, the last one.
_RUNS = np.split(
    np.arange(4 * SIZE * SIZE, dtype=np.int32), [4 * SIZE * (_BRICK_ROWS[-1] + 1), 4 * SIZE * _LAST]
)


def _brick_at() -> np.ndarray:
    """For every place of the first run the bit of its brick, 0 where there is none, uint32."""
    bits = np.zeros((len(_RUNS[0]) // 4, 4), np.uint32)
    bits[_FIRST_BRICK:, BRICK] = np.uint32(1) << np.arange(len(bits) - _FIRST_BRICK, dtype="u4")
    return bits.reshape(-1)


_BRICK_AT = _brick_at()
