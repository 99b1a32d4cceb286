"""What a player sees and chooses: the board from its own side, and the number of a move.

Both players have the same spaces, and a position with colours exchanged looks to the
one as it did to the other, so that one policy plays both sides.
"""

from typing import Any

import jax.numpy as jnp

from mazejax.base import static
from mazejax.envs.board_games.core import BoardState
from mazejax.envs.conversion import ActionConversion, ObservationConversion
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box, Discrete
from mazejax.types import Array


class BoardObservation(ObservationConversion):
    """The board from the player's own side, with the moves that are legal.

    board        bool [rows, columns, 2]: own stones, the opponent's stones
    action_mask  bool [num_moves]: moves that have room; on a full board all of them
    """

    rows: int = static()
    columns: int = static()
    num_moves: int = static()

    def space(self) -> Dict:
        """Flags for cells and moves."""
        return Dict(
            {
                "board": Box(False, True, (self.rows, self.columns, 2), bool),
                "action_mask": Box(False, True, (self.num_moves,), bool),
            }
        )

    def maze_to_space(self, state: BoardState, agent: int) -> dict[str, Array]:
        """Stones and legal moves."""
        mask = state.legal_moves() | state.is_full()
        return {"board": state.planes(agent), "action_mask": mask}


class ChooseMove(ActionConversion):
    """The number of a move."""

    num_moves: int = static()

    def space(self) -> Discrete:
        """All moves, legal or not."""
        return Discrete(self.num_moves)

    def space_to_maze(self, action: Array, state: Any, agent: int) -> Array:
        """The same number, int32."""
        return jnp.asarray(action, jnp.int32)

    def maze_to_space(self, maze_action: Array) -> Array:
        """The same number."""
        return maze_action
