"""What a sensible person would cut: a baseline for Cutting-2D.

For the flat env and for both sub-steps of the structured one; pure, so that it runs inside
compiled programs beside learners.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from mazejax.base import Pytree, static
from mazejax.envs.cutting2d.core import CUTTING, SELECTION
from mazejax.envs.cutting2d.inventory import fits, fits_turned_or_not, select_piece
from mazejax.errors import ConfigError
from mazejax.types import ActorID, Array, Key, PyTree

_LARGEST = np.iinfo(np.int32).max


class GreedyPolicy(Pytree):
    """Cuts the smallest piece, by area, into which the order fits; of equal ones the oldest.

    The order is turned only where it does not fit otherwise. Where it fits nowhere the
    oldest piece is tried. Reads the maze state, or the observation where that is None.
    """

    cut_order: int = static(default=0)
    """0 cuts the width first, 1 the height."""

    def validate(self) -> None:
        """Raise ConfigError for another order."""
        if self.cut_order not in (0, 1):
            raise ConfigError(f"GreedyPolicy.cut_order: must be 0 or 1, got {self.cut_order!r}")

    def __call__(self, key: Key, obs: PyTree, maze_state: Any, actor: ActorID) -> dict[str, Array]:
        """The action of the actor, in its action space."""
        order = _order(obs, maze_state)
        if actor == CUTTING:
            return self._cut(order, _selected_piece(obs, maze_state))
        pieces = obs["inventory"] if maze_state is None else maze_state.inventory.pieces
        index = _smallest_fitting(order, pieces)
        if actor == SELECTION:
            return {"piece_idx": index}
        return {"piece_idx": index, **self._cut(order, pieces[index])}

    def _cut(self, order: Array, piece: Array) -> dict[str, Array]:
        turned = ~fits(order, piece) & fits(order[::-1], piece)
        return {
            "cut_rotation": turned.astype(jnp.int32),
            "cut_order": jnp.asarray(self.cut_order, jnp.int32),
        }


def _smallest_fitting(order: Array, pieces: Array) -> Array:
    area = pieces[:, 0].astype(jnp.int32) * pieces[:, 1].astype(jnp.int32)
    return jnp.argmin(jnp.where(fits_turned_or_not(order, pieces), area, _LARGEST))


def _order(obs: PyTree, maze_state: Any) -> Array:
    return obs["ordered_piece"] if maze_state is None else maze_state.demand


def _selected_piece(obs: PyTree, maze_state: Any) -> Array:
    if maze_state is None:
        return obs["selected_piece"]
    return select_piece(maze_state.inventory, maze_state.selected)
