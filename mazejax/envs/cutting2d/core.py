"""Cutting-2D: cut ordered rectangles from stock, with as few raw pieces as can be.

The state, the actions and the dynamics; what agents see and do stands in `conversions`,
what is ordered in `demand`, and how pieces are kept and cut in `inventory`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.base import Pytree, static
from mazejax.envs.base import flag
from mazejax.envs.core import CoreEnv, CoreReset, CoreStep
from mazejax.envs.cutting2d.demand import CyclicDemand, DemandGenerator, check_size
from mazejax.envs.cutting2d.drawing import draw_cutting
from mazejax.envs.cutting2d.events import CuttingEvents, CuttingKPIs, InventoryEvents
from mazejax.envs.cutting2d.inventory import Cut, Inventory, cut, fits, new_inventory, select_piece
from mazejax.envs.cutting2d.reward import CuttingRewardAggregator
from mazejax.errors import ConfigError
from mazejax.events.log import EventLog
from mazejax.types import SINGLE_ACTOR, ActorID, Array, Key, PyTree, Scene

SELECTION = ActorID("selection", 0)
"""Who chooses the piece, where that is a sub-step of its own."""
CUTTING = ActorID("cutting", 0)
"""Who cuts it then."""


class CuttingAction(NamedTuple):
    """Maze action of the flat env: which piece to cut, and how."""

    piece_id: Array
    """Place of the piece in the inventory, int []."""
    rotate: Array
    """Whether the order is turned, its width along the piece's height; bool []."""
    reverse_cutting_order: Array
    """Whether the height is cut first, bool []."""


class SelectAction(NamedTuple):
    """Maze action of the sub-step `selection`."""

    piece_id: Array
    """Place of the piece in the inventory, int []."""


class CutAction(NamedTuple):
    """Maze action of the sub-step `cutting`."""

    rotate: Array
    """Whether the order is turned, its width along the piece's height; bool []."""
    reverse_cutting_order: Array
    """Whether the height is cut first, bool []."""


class CuttingState(Pytree):
    """Stock and order."""

    inventory: Inventory
    demand: Array
    """(width, height) of the current order, int [2]."""
    demand_state: PyTree
    """The demand generator's own."""
    selected: PyTree = ()
    """Of the structured env: place of the selected piece, int []; -1 before the selection."""


class Cutting2D(CoreEnv):
    """One order a step is to be cut from one piece of the inventory.

        maze action  piece_id, rotate (the order), reverse_cutting_order (y before x)
        reset        an inventory with one raw piece; this piece is an event of the reset
        reward       -1 for a raw piece taken, -2 for a piece that is not there, -2 for an
                     order that does not fit; the events of the reset are not counted
        end          none: a time limit ends episodes

    Two guillotine cuts serve an order of w x h from a piece of W x H. The first leaves a
    strip of full length, (W - w, H), the second a strip as wide as the order, (w, H - h);
    with y first they are (W, H - h) and (W - w, h). What is not empty is stored behind all
    others. Where the raw piece was cut, a new one is stored last. A full inventory throws
    its oldest piece away for each that is stored: the raw piece too, after which no other
    comes. Without a valid cut nothing changes. The next order comes in any case.

    With `structured` a flat step has two sub-steps: `selection` chooses the piece and earns
    nothing, `cutting` does all the rest, and each is credited half of what the step earned.
    """

    raw_piece_size: tuple[int, int] = static(default=(4, 3))
    """Width and height of a raw piece, from 1 to 32767."""
    max_pieces: int = static(default=50)
    """Room of the inventory, N."""
    demand: DemandGenerator = CyclicDemand()
    """What is ordered."""
    structured: bool = static(default=False)
    """Whether selection and cutting are sub-steps of their own."""

    def validate(self) -> None:
        """Raise ConfigError for bad sizes, or a demand that a raw piece cannot serve."""
        check_size(self.raw_piece_size, "Cutting2D.raw_piece_size")
        if type(self.max_pieces) is not int or not 1 <= self.max_pieces <= 32000:
            raise ConfigError(
                f"Cutting2D.max_pieces: must be an integer from 1 to 32000, got {self.max_pieces!r}"
            )
        if not isinstance(self.demand, DemandGenerator):
            raise ConfigError(
                f"Cutting2D.demand: expected a DemandGenerator such as StaticDemand((1, 2)), "
                f"got {self.demand!r}"
            )
        self.demand.check(self.raw_piece_size)

    @property
    def actors(self) -> tuple[ActorID, ...]:
        """One actor, or the two sub-steps."""
        return (SELECTION, CUTTING) if self.structured else (SINGLE_ACTOR,)

    def reset(self, key: Key) -> CoreReset:
        """One raw piece, and the first order."""
        key_init, key_first = jax.random.split(random.stream(key, "demand"))
        inventory = new_inventory(self.raw_piece_size, self.max_pieces)
        demand_state, demand = self.demand.next(key_first, self.demand.init(key_init))
        state = CuttingState(
            inventory=inventory,
            demand=demand.astype(np.min_scalar_type(-1 - max(self.raw_piece_size))),
            demand_state=demand_state,
            selected=_nothing_selected(inventory) if self.structured else (),
        )
        replenished = InventoryEvents.piece_replenished
        return CoreReset(state, EventLog.empty(replenished).fire(replenished))

    def step(self, key: Key, state: CuttingState, maze_action: PyTree, actor: ActorID) -> CoreStep:
        """One cut by a `CuttingAction`; structured, by a `SelectAction` and then a `CutAction`."""
        if actor == SELECTION:
            selected = _as_index(maze_action.piece_id, state.inventory)
            nothing = EventLog.empty(CuttingEvents, InventoryEvents)
            return _outcome(state.replace(selected=selected), nothing)
        piece_id = state.selected if self.structured else maze_action.piece_id
        order = jnp.where(maze_action.rotate, state.demand[::-1], state.demand)
        inventory, events = self._cut(state, piece_id, order, maze_action.reverse_cutting_order)
        demand_state, demand = self.demand.next(random.stream(key, "demand"), state.demand_state)
        new = CuttingState(
            inventory=inventory,
            demand=demand.astype(state.demand.dtype),
            demand_state=demand_state,
            selected=_nothing_selected(inventory) if self.structured else (),
        )
        return _outcome(new, events)

    def actor_rewards(self, state: CuttingState, rewards: tuple[Array, ...]) -> tuple[Array, ...]:
        """Half of the flat step's reward for each of the two sub-steps, float32 []."""
        half = sum(rewards[1:], rewards[0]) / 2
        return (half, half)

    def defines(self, method: str) -> bool:
        """As inherited; but the only actor of the flat env shares its credit with nobody."""
        return super().defines(method) and (self.structured or method != "actor_rewards")

    def kpi_calculator(self) -> CuttingKPIs:
        """`raw_piece_usage_per_step`."""
        return CuttingKPIs()

    def draw(self, state: CuttingState) -> Scene:
        """The order beside the shelf of pieces."""
        inventory = state.inventory
        pieces = np.asarray(inventory.pieces)[: int(inventory.num_pieces)].tolist()
        width, height = np.asarray(state.demand).tolist()
        return draw_cutting(
            pieces=[(w, h) for w, h in pieces],
            order=(width, height),
            raw_piece_size=self.raw_piece_size,
            raw_index=int(inventory.raw_index),
            selected=int(state.selected) if self.structured else -1,
            max_pieces=self.max_pieces,
        )

    def _cut(
        self, state: CuttingState, piece_id: Array, order: Array, y_first: Array
    ) -> tuple[Inventory, EventLog]:
        """The inventory after the order [2], as it is turned, was cut if it could be."""
        before = state.inventory
        index = _as_index(piece_id, before)
        in_stock = (index >= 0) & (index < before.num_pieces)
        piece = select_piece(before, index)
        is_cut = in_stock & fits(order, piece)
        result = cut(before, index, order, y_first, self.raw_piece_size)
        after = jax.tree.map(lambda new, old: jnp.where(is_cut, new, old), result.inventory, before)

        events = EventLog.empty(CuttingEvents, InventoryEvents)
        raw = jnp.asarray(self.raw_piece_size, jnp.int32)
        sizes = {"current_demand": state.demand, "piece_to_cut": piece, "raw_piece_size": raw}
        events = events.fire(CuttingEvents.invalid_piece_selected, ~in_stock)
        events = events.fire(CuttingEvents.invalid_cut, in_stock & ~is_cut, **sizes)
        events = events.fire(CuttingEvents.valid_cut, is_cut, **sizes)
        return after, _fire_inventory(events, result, is_cut, after.num_pieces)


def _nothing_selected(inventory: Inventory) -> Array:
    return -jnp.ones_like(inventory.num_pieces)


def _as_index(piece_id: Array, inventory: Inventory) -> Array:
    """A piece's place in the small dtype of the inventory; what lies outside stays outside."""
    index = jnp.clip(jnp.asarray(piece_id), -1, inventory.words.shape[0])
    return index.astype(inventory.num_pieces.dtype)


def _fire_inventory(events: EventLog, result: Cut, is_cut: Array, num_pieces: Array) -> EventLog:
    places = jnp.arange(len(result.discarded), dtype=result.num_discarded.dtype)
    events = events.fire_each(
        InventoryEvents.piece_discarded,
        is_cut & (places < result.num_discarded),
        piece=result.discarded,
    )
    events = events.fire(InventoryEvents.piece_replenished, is_cut & result.replenished)
    return events.fire(InventoryEvents.pieces_in_inventory, value=num_pieces)


def _outcome(state: CuttingState, events: EventLog) -> CoreStep:
    reward = CuttingRewardAggregator().summarize(events, state)
    return CoreStep(state, reward, flag(), flag(), events)
