"""What cuts cost: the reward of Cutting-2D as a function of its events."""

import jax.numpy as jnp

from mazejax.envs.cutting2d.events import CuttingEvents, InventoryEvents
from mazejax.envs.reward import RewardAggregator
from mazejax.events.log import EventLog
from mazejax.types import Array, PyTree


class CuttingRewardAggregator(RewardAggregator):
    """Penalties for raw pieces and for actions that cut nothing.

    As the aggregator of an env it charges the raw piece of the reset to the first flat step.
    """

    invalid_action_penalty: float = -2.0
    """For a piece that is not there, and for one into which the order does not fit."""
    raw_piece_usage_penalty: float = -1.0
    """For every raw piece that is put into the inventory."""

    def summarize(self, events: EventLog, state: PyTree) -> Array:
        """The sum over the events, float32 []."""
        invalid = events.count(CuttingEvents.invalid_piece_selected) + events.count(
            CuttingEvents.invalid_cut
        )
        replenished = events.count(InventoryEvents.piece_replenished)
        return (
            invalid.astype(jnp.float32) * self.invalid_action_penalty
            + replenished.astype(jnp.float32) * self.raw_piece_usage_penalty
        )
