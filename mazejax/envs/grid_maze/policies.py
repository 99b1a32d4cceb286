"""The baseline for mazes: the shortest way, found by a flood from the goal.

The flood runs on the bits of the walls, all cells of a row at once, until it reaches the
agent. The number of its rounds is the distance, which gives the best return.
"""

import jax
import jax.numpy as jnp

from mazejax.base import Pytree
from mazejax.envs import cells
from mazejax.envs.grid_maze.core import GridMazeState
from mazejax.types import ActorID, Array, Key, PyTree


class ShortestPathPolicy(Pytree):
    """Walks the shortest way to the goal; it knows the whole maze, whatever is observed."""

    def __call__(self, key: Key, obs: PyTree, maze_state: GridMazeState, actor: ActorID) -> Array:
        """The direction of a shortest way, int32 []."""
        nearer, _ = _flood(maze_state)
        leads_on = [
            cells.contains(nearer, cells.neighbor(maze_state.agent, direction))
            for direction in range(cells.NUM_DIRECTIONS)
        ]
        return jnp.argmax(jnp.stack(leads_on)).astype(jnp.int32)


def distance_to_goal(state: GridMazeState) -> Array:
    """Steps from the agent to the goal, int32 []: the best return is 1 - step_cost times it."""
    return _flood(state)[1]


def _flood(state: GridMazeState) -> tuple[Array, Array]:
    """The cells nearer to the goal than the agent is, uint32 [H], and its distance, int32 []."""
    height = state.walls.shape[0]
    open_cells = ~state.walls  # beyond the border too, where the flood never gets

    def spread(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        _, reached, distance = carry
        return reached, cells.grown(reached) & open_cells, distance + 1

    nothing = jnp.zeros_like(state.walls)
    at_goal = cells.pack(cells.plane(state.goal, height, height))
    nearer, _, distance = jax.lax.while_loop(
        lambda carry: ~cells.contains(carry[1], state.agent),
        spread,
        (nothing, at_goal, jnp.zeros((), jnp.int32)),
    )
    return nearer, distance
