"""What a forager sees, and how it moves.

A forager sees the cells around it and nothing beyond: neither where it is nor how much
food is left elsewhere. Sizes are those of the core env.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from mazejax.base import static
from mazejax.envs.conversion import ActionConversion, ObservationConversion
from mazejax.envs.foraging import cells
from mazejax.envs.foraging.core import DOWN, LEFT, RIGHT, STAY, UP, ForagingState
from mazejax.errors import ConfigError
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box, Discrete
from mazejax.types import Array

NUM_ACTIONS = 5


class LocalView(ObservationConversion):
    """The cells up to `radius` rows and columns away; the agent in the middle. V = 2 radius + 1.

        window       [3, V, V] bool: walls and what is outside the grid; food; other agents
                     (one or several) that have not dropped out
        energy       [1] float32: own energy / energy_scale, at most 1
        action_mask  [5] bool: staying, and moves that no wall stops

    An agent that dropped out sees nothing, has energy 0 and may only stay.
    """

    size: int = static()
    """Rows and columns of the grid."""
    energy_scale: float
    """The most energy that an agent can have."""
    radius: int = static(default=2)

    def validate(self) -> None:
        """Raise ConfigError unless a row with its surroundings fits a word."""
        most = (cells.MAX_COLUMNS - self.size) // 2
        if not 1 <= self.radius <= most:
            raise ConfigError(
                f"LocalView.radius: got {self.radius}, expected from 1 to {most} for "
                f"size {self.size}, so that size + 2 radius is at most {cells.MAX_COLUMNS}"
            )

    def space(self) -> Dict:
        """Of one agent."""
        side = 2 * self.radius + 1
        return Dict(
            {
                "window": Box(False, True, (3, side, side), bool),
                "energy": Box(0.0, 1.0, (1,)),
                "action_mask": Box(False, True, (NUM_ACTIONS,), bool),
            }
        )

    def maze_to_space(self, state: ForagingState, agent: Array | int) -> dict[str, Array]:
        """What the agent sees."""
        own = jnp.arange(state.row.shape[0]) == agent
        row, column, energy = (
            jnp.sum(jnp.where(own, values, 0), dtype=values.dtype)
            for values in (state.row, state.column, state.energy)
        )
        walls = cells.window(state.walls, row, column, self.radius)
        walls |= cells.outside(self.size, row, column, self.radius)
        food = cells.window(state.food, row, column, self.radius)
        words = jnp.stack([walls, food, self._others(state, row, column, ~own)])
        bits = np.arange(2 * self.radius + 1, dtype=np.uint32)
        is_active = energy > 0
        seen = ((words[:, :, None] >> bits[None, None]) & 1 != 0) & is_active
        share = energy.astype(jnp.float32) / self.energy_scale
        return {
            "window": seen,
            "energy": jnp.minimum(share, 1.0)[None],
            "action_mask": self._allowed(seen[0]) & (is_active | (jnp.arange(NUM_ACTIONS) == STAY)),
        }

    def _others(self, state: ForagingState, row: Array, column: Array, others: Array) -> Array:
        """Rows of the window, uint32 [V]: cells with other active agents."""
        side = 2 * self.radius + 1
        down, right = state.row - row + self.radius, state.column - column + self.radius
        is_seen = others & state.active & (right >= 0) & (right < side)
        return cells.set_of_cells(down, right, is_seen, side)

    def _allowed(self, walls: Array) -> Array:
        """What no wall [V, V] next to the middle forbids, [5] bool."""
        r = self.radius
        next_to = {UP: (r - 1, r), RIGHT: (r, r + 1), DOWN: (r + 1, r), LEFT: (r, r - 1)}
        free = [~walls[next_to[action]] for action in range(1, NUM_ACTIONS)]
        return jnp.stack([jnp.ones((), bool), *free])


class StayOrMove(ActionConversion):
    """0 stays, 1 to 4 go up, right, down, left."""

    def space(self) -> Discrete:
        """Five actions."""
        return Discrete(NUM_ACTIONS)

    def space_to_maze(self, action: Array, state: Any, agent: Array | int) -> Array:
        """The action, int32 []."""
        return jnp.asarray(action, jnp.int32)

    def maze_to_space(self, maze_action: Array) -> Array:
        """The action, int32 []."""
        return jnp.asarray(maze_action, jnp.int32)

    def noop_action(self) -> Array:
        """Staying; it tires like a move."""
        return jnp.asarray(STAY, jnp.int32)
