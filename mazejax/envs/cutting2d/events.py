"""What happens in Cutting-2D, and the KPI that is counted from it.

Sizes are (width, height) in the units of the raw piece.
"""

import jax.numpy as jnp

from mazejax.events.kpi import KPICalculator
from mazejax.events.levels import episode_stats, epoch_stats, step_stats
from mazejax.events.statistics import EpisodeStatistics
from mazejax.events.topic import Attribute, Event, Topic
from mazejax.types import Array, PyTree

_SIZE = Attribute((2,), "int32")


class CuttingEvents(Topic):
    """How an order fared: one of the three in every step."""

    invalid_piece_selected = Event("There is no piece at the chosen place of the inventory.")
    valid_cut = Event(
        "The order was cut from the piece.",
        {"current_demand": _SIZE, "piece_to_cut": _SIZE, "raw_piece_size": _SIZE},
    )
    invalid_cut = Event(
        "The order does not fit into the piece the way it was turned.",
        {"current_demand": _SIZE, "piece_to_cut": _SIZE, "raw_piece_size": _SIZE},
    )


class InventoryEvents(Topic):
    """What becomes of the stock."""

    piece_discarded = Event(
        "The inventory was full and this piece, the oldest, was thrown away.",
        {"piece": _SIZE},
        capacity=2,  # a cut takes one piece and stores at most three
    )
    piece_replenished = Event("A raw piece was put into the inventory.")
    pieces_in_inventory = Event(
        "Pieces after the step.",
        {"value": Attribute((), "int32")},
        statistics=(
            step_stats("last", "value"),
            episode_stats("mean", "value", "step_mean"),
            episode_stats("max", "value", "step_max"),
            epoch_stats("mean", "step_mean", "step_mean"),
            epoch_stats("max", "step_max", "step_max"),
        ),
    )


class CuttingKPIs(KPICalculator):
    """Raw pieces that were used per flat step; the first, of the reset, is one of them."""

    def calculate(self, episode: EpisodeStatistics, state: PyTree) -> dict[str, Array]:
        """`raw_piece_usage_per_step`, float32 []."""
        used = episode.count(InventoryEvents.piece_replenished).astype(jnp.float32)
        return {"raw_piece_usage_per_step": used / jnp.maximum(episode.num_steps, 1)}
