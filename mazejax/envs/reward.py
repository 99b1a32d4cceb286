"""Reward aggregators: what an agent earns, as a pure function of what happened.

An aggregator takes the place of the core env's own reward, so the same problem is
trained on another objective without touching it.
"""

from typing import ClassVar

from mazejax.base import Pytree
from mazejax.events.log import EventLog
from mazejax.types import Array, PyTree


class RewardAggregator(Pytree):
    """Reward from events; its numbers are leaves, so they can be swept."""

    compile_time: ClassVar[bool] = True

    def summarize(self, events: EventLog, state: PyTree) -> Array:
        """Reward of a sub-step, float32 [] or [A], from its events and the core state after it.

        The last sub-step of the first flat step has the events of the reset too.
        """
        raise NotImplementedError
