"""Opponents for the board games: random, perfect, by simulation, and one against another.

All are called as `policy(key, obs, maze_state, actor)` and choose legal moves only.
States go by value, so looking ahead is playing on from the state at hand.
"""

from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.base import Pytree, static
from mazejax.envs.board_games.core import BoardState
from mazejax.envs.board_games.tic_tac_toe import LINES, TicTacToeState
from mazejax.errors import ConfigError
from mazejax.spaces.masks import sample_masked
from mazejax.spaces.simple import Discrete
from mazejax.types import ActorID, Array, Key, PyTree

_WIN, _LOSS = 2.0, -2.0  # beyond every mean result of simulated games


class RandomPolicy(Pytree):
    """Every legal move is equally likely."""

    def __call__(self, key: Key, obs: PyTree, maze_state: BoardState, actor: ActorID) -> Array:
        """The move, int32 []."""
        return _draw(key, obs["action_mask"])


class Versus(Pytree):
    """One policy for player 0, another for player 1; decided while tracing."""

    first: Any
    """Policy of player 0: a Pytree, or a function, which plain `jax.jit` must close over."""
    second: Any
    """Policy of player 1."""

    def __call__(self, key: Key, obs: PyTree, maze_state: BoardState, actor: ActorID) -> PyTree:
        """The move of the policy whose player acts."""
        policy = self.first if actor.agent_id == 0 else self.second
        return policy(key, obs, maze_state, actor)


# --- perfect play -----------------------------------------------------------------------


class MinimaxPolicy(Pytree):
    """Perfect tic-tac-toe: it wins as early as can be forced, and loses as late.

    A table of the best moves in all 3^9 positions is made once on the host; a call is
    one look-up and a draw among the best.
    """

    best_moves: Array = field(default_factory=lambda: _best_moves())
    """Masks of moves by position, uint16 [19683]."""

    def __call__(self, key: Key, obs: PyTree, maze_state: TicTacToeState, actor: ActorID) -> Array:
        """The move, int32 []."""
        board = maze_state.planes(actor.agent_id or 0).reshape(9, 2)
        position = (board * _DIGITS).sum(dtype=jnp.int32)
        best = self.best_moves[position]
        return _draw(key, (best >> np.arange(9, dtype=np.uint16)) & 1 != 0)


_DIGITS = (3 ** np.arange(9, dtype=np.int32))[:, None] * np.array([1, 2], np.int32)  # [9, 2]
"""What an own stone and one of the opponent add to the number of a position."""


def _best_moves() -> Array:
    """Masks of the best moves of all positions, uint16 [3^9], from full boards backwards.

    A position is worth what its mover can force: for a win the number of cells that are
    free when the last move is made, for a loss as much less than 0, for a draw 0.
    """
    cells, words = np.arange(9), np.arange(2**9)
    wins = np.any([words & line == line for line in LINES], axis=0)
    in_base_3 = (words[:, None] >> cells & 1) @ 3**cells
    digits = np.arange(3**9)[:, None] // 3**cells % 3  # [3^9, 9]: free, own, the opponent's
    own, other = ((digits == side) @ 2**cells for side in (1, 2))
    values = np.zeros(3**9, int)
    best = np.zeros(3**9, np.uint16)
    for num_free in range(1, 10):
        (here,) = np.nonzero((digits == 0).sum(axis=1) == num_free)
        after = own[here, None] | 2**cells  # [positions, 9]
        child = in_base_3[other[here, None]] + 2 * in_base_3[after]
        # A move onto a stone leads nowhere, and is worth less than any loss.
        legal = digits[here] == 0
        worth = np.where(wins[after], num_free, -values[np.where(legal, child, 0)])
        worth = np.where(legal, worth, -10)
        values[here] = worth.max(axis=1)
        best[here] = (worth == values[here, None]) @ 2**cells
    return jnp.asarray(best)


# --- play by simulation -----------------------------------------------------------------


class RolloutPolicy(Pytree):
    """Looks two moves ahead, then trusts the mean result of random games.

    It wins where it can at once, never lets the opponent win with its next move where that
    can be helped, and else takes the move from which `num_rollouts` games of random play
    went best. For every board game; deterministic in the key.
    """

    num_rollouts: int = static(default=32)
    """Games played from the position after each move."""

    def validate(self) -> None:
        """Raise ConfigError unless there is a game to judge by."""
        if self.num_rollouts < 1:
            raise ConfigError(
                f"RolloutPolicy.num_rollouts: must be at least 1, got {self.num_rollouts}"
            )

    def __call__(self, key: Key, obs: PyTree, maze_state: BoardState, actor: ActorID) -> Array:
        """The move, int32 []."""
        player, moves = actor.agent_id or 0, jnp.arange(maze_state.num_moves)
        move_keys = jax.random.split(random.stream(key, "rollouts"), maze_state.num_moves)
        worth = jax.vmap(lambda key, move: self._worth(key, move, maze_state, player))(
            move_keys, moves
        )
        worth = jnp.where(maze_state.legal_moves(), worth, -jnp.inf)
        return _draw(random.stream(key, "ties"), worth == worth.max())

    def _worth(self, key: Key, move: Array, state: BoardState, player: int) -> Array:
        """What a move promises the player, float32 []."""
        after = state.play(player, move)
        rollout_keys = jax.random.split(key, self.num_rollouts)
        results = jax.vmap(lambda key: _random_result(key, after, player))(rollout_keys)
        promise = jnp.where(_can_win(after, 1 - player), _LOSS, results.mean())
        return jnp.where(after.has_line(player), _WIN, promise)


def _can_win(state: BoardState, player: int) -> Array:
    """Whether the player has a move that completes a line, bool []."""
    moves = jnp.arange(state.num_moves)
    wins = jax.vmap(lambda move: state.play(player, move).has_line(player))(moves)
    return (wins & state.legal_moves()).any()


def _random_result(key: Key, state: BoardState, player: int) -> Array:
    """1, 0 or -1 as the player wins, draws or loses, float32 []; its opponent moves first.

    Both move at random from a position without a line.
    """

    def one_round(now: tuple[BoardState, Array], key: Key) -> tuple[tuple[BoardState, Array], None]:
        state, result = now
        for mover, gain in ((1 - player, -1.0), (player, 1.0)):
            goes_on = (result == 0) & ~state.is_full()
            move = _random_legal(random.stream(key, f"player_{mover}"), state)
            after = state.play(mover, move)
            state = jax.tree.map(lambda new, old, on=goes_on: jnp.where(on, new, old), after, state)
            result = jnp.where(goes_on & after.has_line(mover), gain, result)
        return (state, result), None

    num_rounds = (state.rows * state.columns) // 2
    start = (state, jnp.zeros((), jnp.float32))
    return jax.lax.scan(one_round, start, jax.random.split(key, num_rounds))[0][1]


def _random_legal(key: Key, state: BoardState) -> Array:
    """A legal move, all equally likely to within 2^-20, int32 [].

    One running count over scalars: a third of the time of drawing under the mask as an array.
    """
    legal = state.legal_moves()
    bits = jax.random.bits(key, (), jnp.uint32) >> 8
    rank = bits * legal.sum(dtype=jnp.uint32) >> 24  # 24 bits times at most 9 moves fit
    move, seen = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.uint32)
    for index in range(state.num_moves):
        move = jnp.where(legal[index] & (seen == rank), index, move)
        seen += legal[index]
    return move


def _draw(key: Key, mask: Array) -> Array:
    """One of the moves that the mask allows, int32 []; all are equally likely."""
    return sample_masked(Discrete(mask.shape[0]), key, mask)
