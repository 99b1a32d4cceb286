"""The spaces of Cutting-2D: flat, or for selection and cutting one after the other.

A mask, where `masked` asks for one, stands in the observation under the name of the action
that it masks. Where no action would cut anything, all are allowed: a mask excludes some.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from mazejax.base import static
from mazejax.envs.conversion import ActionConversion, ObservationConversion
from mazejax.envs.cutting2d.core import (
    CutAction,
    Cutting2D,
    CuttingAction,
    CuttingState,
    SelectAction,
)
from mazejax.envs.cutting2d.inventory import fits, fits_turned_or_not, select_piece
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box, Discrete
from mazejax.types import Array


class InventoryObservation(ObservationConversion):
    """All pieces and the order: of the flat env, and of the sub-step `selection`.

    inventory        [N, 2] float32: sizes, oldest first, 0 behind the last
    inventory_size   [1] float32
    ordered_piece    [2] float32
    piece_idx_mask   [N] bool, if masked: the order fits, turned or not
    """

    raw_piece_size: tuple[int, int] = static(default=Cutting2D.raw_piece_size)
    """The core env's: it bounds all sizes."""
    max_pieces: int = static(default=Cutting2D.max_pieces)
    """The core env's, N."""
    masked: bool = static(default=False)
    """Whether the observation holds the mask."""

    def space(self) -> Dict:
        """Bounds are one more than what occurs, as Maze's."""
        sizes = np.broadcast_to(_piece_bound(self.raw_piece_size), (self.max_pieces, 2))
        spaces: dict[str, Space] = {
            "inventory": Box(0.0, sizes),
            "inventory_size": Box(0.0, self.max_pieces + 1.0, (1,)),
            "ordered_piece": Box(0.0, max(self.raw_piece_size) + 1.0, (2,)),
        }
        if self.masked:
            spaces["piece_idx_mask"] = Box(False, True, (self.max_pieces,), bool)
        return Dict(spaces)

    def maze_to_space(self, state: CuttingState, agent: int) -> dict[str, Array]:
        """The sizes as floats."""
        obs = {
            "inventory": state.inventory.pieces.astype(jnp.float32),
            "inventory_size": state.inventory.num_pieces.astype(jnp.float32)[None],
            "ordered_piece": state.demand.astype(jnp.float32),
        }
        if self.masked:
            obs["piece_idx_mask"] = _all_if_none(
                fits_turned_or_not(state.demand, state.inventory.pieces)
            )
        return obs


class CutObservation(ObservationConversion):
    """The selected piece and the order: of the sub-step `cutting`.

    selected_piece      [2] float32: its size, 0 where there is no piece
    ordered_piece       [2] float32
    cut_rotation_mask   [2] bool, if masked: the order fits as it is, turned
    """

    raw_piece_size: tuple[int, int] = static(default=Cutting2D.raw_piece_size)
    """The core env's: it bounds all sizes."""
    masked: bool = static(default=False)
    """Whether the observation holds the mask."""

    def space(self) -> Dict:
        """Bounds are one more than what occurs, as Maze's."""
        spaces: dict[str, Space] = {
            "selected_piece": Box(0.0, _piece_bound(self.raw_piece_size)),
            "ordered_piece": Box(0.0, max(self.raw_piece_size) + 1.0, (2,)),
        }
        if self.masked:
            spaces["cut_rotation_mask"] = Box(False, True, (2,), bool)
        return Dict(spaces)

    def maze_to_space(self, state: CuttingState, agent: int) -> dict[str, Array]:
        """The sizes as floats."""
        piece = select_piece(state.inventory, state.selected)
        obs = {
            "selected_piece": piece.astype(jnp.float32),
            "ordered_piece": state.demand.astype(jnp.float32),
        }
        if self.masked:
            obs["cut_rotation_mask"] = _all_if_none(
                jnp.stack([fits(state.demand, piece), fits(state.demand[::-1], piece)])
            )
        return obs


class SelectAndCut(ActionConversion):
    """Action of the flat env: `piece_idx`, `cut_rotation` (1 turns), `cut_order` (1: y first)."""

    max_pieces: int = static(default=Cutting2D.max_pieces)
    """The core env's, N."""

    def space(self) -> Dict:
        """A place in the inventory and two switches."""
        return Dict(
            {
                "piece_idx": Discrete(self.max_pieces),
                "cut_rotation": Discrete(2),
                "cut_order": Discrete(2),
            }
        )

    def space_to_maze(self, action: dict[str, Array], state: Any, agent: int) -> CuttingAction:
        """Switches as bool."""
        return CuttingAction(
            action["piece_idx"], action["cut_rotation"] == 1, action["cut_order"] == 1
        )

    def maze_to_space(self, maze_action: CuttingAction) -> dict[str, Array]:
        """int32 [] each."""
        return _as_categories(
            piece_idx=maze_action.piece_id,
            cut_rotation=maze_action.rotate,
            cut_order=maze_action.reverse_cutting_order,
        )


class SelectPiece(ActionConversion):
    """Action of the sub-step `selection`: `piece_idx`."""

    max_pieces: int = static(default=Cutting2D.max_pieces)
    """The core env's, N."""

    def space(self) -> Dict:
        """A place in the inventory."""
        return Dict({"piece_idx": Discrete(self.max_pieces)})

    def space_to_maze(self, action: dict[str, Array], state: Any, agent: int) -> SelectAction:
        """The place as it is."""
        return SelectAction(action["piece_idx"])

    def maze_to_space(self, maze_action: SelectAction) -> dict[str, Array]:
        """int32 []."""
        return _as_categories(piece_idx=maze_action.piece_id)


class CutPiece(ActionConversion):
    """Action of the sub-step `cutting`: `cut_rotation` (1 turns), `cut_order` (1: y first)."""

    def space(self) -> Dict:
        """Two switches."""
        return Dict({"cut_rotation": Discrete(2), "cut_order": Discrete(2)})

    def space_to_maze(self, action: dict[str, Array], state: Any, agent: int) -> CutAction:
        """Switches as bool."""
        return CutAction(action["cut_rotation"] == 1, action["cut_order"] == 1)

    def maze_to_space(self, maze_action: CutAction) -> dict[str, Array]:
        """int32 [] each."""
        return _as_categories(
            cut_rotation=maze_action.rotate, cut_order=maze_action.reverse_cutting_order
        )


def _piece_bound(raw_piece_size: tuple[int, int]) -> np.ndarray:
    return np.asarray(raw_piece_size, np.float32) + 1


def _all_if_none(mask: Array) -> Array:
    return mask | ~mask.any()


def _as_categories(**values: Array) -> dict[str, Array]:
    return {name: jnp.asarray(value).astype(jnp.int32) for name, value in values.items()}
