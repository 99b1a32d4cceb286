"""Games of two players who place stones in turn: the state, the schedule and the result.

A flat step is a move of each player, and both share one step key, so that self-play
shares one policy. Where stones may be placed and what makes a line, each game says in
its own state class.
"""

from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from mazejax import random
from mazejax.base import Pytree, static
from mazejax.envs.base import flag
from mazejax.envs.core import CoreEnv, CoreReset, CoreStep
from mazejax.events.kpi import KPICalculator
from mazejax.events.statistics import EpisodeStatistics
from mazejax.types import ActorID, Array, Key

Cell = tuple[int, int]
"""(row, column), counted from the upper left corner."""


class BoardState(Pytree):
    """A position: the stones of both players, and whose turn it is.

    Stones are bits of unsigned words: a few bytes per game, copied by value, with lines
    found by shifts for all cells at once. Players are Python ints, 0 and 1.
    """

    rows: ClassVar[int]
    columns: ClassVar[int]
    num_moves: ClassVar[int]
    """Moves there are, legal or not: the size of the action space."""

    stones: tuple[tuple[Array, ...], tuple[Array, ...]]
    """Words of player 0 and of player 1, unsigned [] each."""
    to_move: Array
    """Whose turn it is, int8 []."""

    @classmethod
    def empty(cls, to_move: Array) -> Self:
        """The empty board; the player `to_move` [] begins."""
        raise NotImplementedError

    def legal_moves(self) -> Array:
        """Moves that have room, bool [num_moves]; all false on a full board."""
        raise NotImplementedError

    def is_legal(self, move: Array) -> Array:
        """Whether a move [] has room, bool []."""
        raise NotImplementedError

    def play(self, player: int, move: Array) -> Self:
        """The position after a legal move of the player, with the other to move."""
        raise NotImplementedError

    def has_line(self, player: int) -> Array:
        """Whether the player has a winning line, bool []."""
        raise NotImplementedError

    def is_full(self) -> Array:
        """Whether no cell is free, bool []."""
        raise NotImplementedError

    def planes(self, player: int) -> Array:
        """Stones of the player and of its opponent, bool [rows, columns, 2]; row 0 is above."""
        raise NotImplementedError

    def cells(self, player: int) -> list[Cell]:
        """Where the player's stones are; on the host."""
        raise NotImplementedError

    def num_stones(self) -> Array:
        """Stones on the board, int32 []."""
        words = [*self.stones[0], *self.stones[1]]
        return sum(
            (jax.lax.population_count(word).astype(jnp.int32) for word in words),
            start=jnp.zeros((), jnp.int32),
        )

    def _after(self, player: int, words: tuple[Array, ...]) -> Self:
        """The position in which the player has these stones and the other is to move."""
        stones = (words, self.stones[1]) if player == 0 else (self.stones[0], words)
        return self.replace(stones=stones, to_move=jnp.full((), 1 - player, jnp.int8))


class GameKPIs(KPICalculator):
    """How a finished game ended; means over games are shares."""

    def calculate(self, episode: EpisodeStatistics, state: BoardState) -> dict[str, Array]:
        """`player_0_won`, `player_1_won`, `drawn`, `lost_by_illegal_move` (0 or 1), `plies`."""
        lines = state.has_line(0), state.has_line(1)
        drawn = state.is_full() & ~(lines[0] | lines[1])
        illegal = ~(lines[0] | lines[1] | drawn)
        kpis = {
            # Who moved illegally is still to move.
            "player_0_won": lines[0] | (illegal & (state.to_move == 1)),
            "player_1_won": lines[1] | (illegal & (state.to_move == 0)),
            "drawn": drawn,
            "lost_by_illegal_move": illegal,
            "plies": state.num_stones(),
        }
        return {name: value.astype(jnp.float32) for name, value in kpis.items()}


class BoardGame(CoreEnv):
    """Two players place stones in turn until one has a line or the board is full.

        schedule     ("player", 0), ("player", 1): a flat step is a move of each
        maze action  number of the move, int32
        reward       of the mover alone: 1 if it completes a line, else 0
        credit       `actor_rewards`: zero-sum, 1 for the winner, -1 for the loser, 0 for a draw
        terminated   a line, a full board, or an illegal move
        illegal      a move without room loses at once: no stone is placed, the mover earns -1

    A game may end with the first move of a flat step; the second player's is then void.
    """

    random_start: bool = static(default=False)
    """Draw who begins; where player 1 does, player 0 is inactive in the very first sub-step."""

    state_class: ClassVar[type[BoardState]]
    """Positions of this game."""

    @property
    def actors(self) -> tuple[ActorID, ...]:
        """Both players, one after the other."""
        return (ActorID("player", 0), ActorID("player", 1))

    def reset(self, key: Key) -> CoreReset:
        """The empty board."""
        if not self.random_start:
            return CoreReset(self.state_class.empty(jnp.zeros((), jnp.int8)))
        first = random.randint(random.stream(key, "first"), (), 2)
        return CoreReset(self.state_class.empty(first.astype(jnp.int8)))

    def step(self, key: Key, state: BoardState, maze_action: Array, actor: ActorID) -> CoreStep:
        """The mover's stone placed; an inactive player's move has no effect."""
        player = _player(actor)
        active, legal = self.actor_active(state, actor), state.is_legal(maze_action)
        moves, loses = active & legal, active & ~legal
        after = state.play(player, maze_action)
        wins = moves & after.has_line(player)
        over = wins | loses | (moves & after.is_full())
        new = jax.tree.map(lambda new, old: jnp.where(moves, new, old), after, state)
        reward = wins.astype(jnp.float32) - loses.astype(jnp.float32)
        return CoreStep(new, reward, over, flag())

    def actor_active(self, state: BoardState, actor: ActorID) -> Array:
        """Whether it is the player's turn."""
        return state.to_move == _player(actor)

    def actor_rewards(self, state: BoardState, rewards: tuple[Array, ...]) -> tuple[Array, ...]:
        """What each player earned less what its opponent did."""
        first, second = rewards
        return first - second, second - first

    def kpi_calculator(self) -> GameKPIs:
        """Who won, and after how many moves."""
        return GameKPIs()


def _player(actor: ActorID) -> int:
    """0 or 1; the schedule has no simultaneous agents."""
    return int(actor.agent_id or 0)
