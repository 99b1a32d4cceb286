"""What happens on a tour, and what a tour was worth.

The events are those of both levels: what the manager set, and where the worker came.
"""

import jax.numpy as jnp

from mazejax.events.kpi import KPICalculator
from mazejax.events.levels import TOTALS
from mazejax.events.statistics import EpisodeStatistics
from mazejax.events.topic import Attribute, Event, Topic
from mazejax.types import Array, PyTree


class TourEvents(Topic):
    """Events of the landmark tour; landmarks are given by index."""

    subgoal_set = Event(
        "The manager was asked and set a subgoal, be it the one before.",
        {"landmark": Attribute((), "int32")},
        statistics=TOTALS,
    )
    choice_refused = Event("The manager chose a landmark that is visited: another was set.")
    landmark_visited = Event(
        "The worker came to a landmark for the first time.",
        {"landmark": Attribute((), "int32")},
        statistics=TOTALS,
    )
    subgoal_reached = Event("The landmark visited is the one that the manager set.")


class TourKPIs(KPICalculator):
    """`landmarks_visited`, `steps_per_landmark` and `decisions` of the manager."""

    def calculate(self, episode: EpisodeStatistics, state: PyTree) -> dict[str, Array]:
        """Numbers, float32 []; before the first landmark, steps are divided by 1."""
        visited = episode.count(TourEvents.landmark_visited).astype(jnp.float32)
        return {
            "landmarks_visited": visited,
            "steps_per_landmark": episode.num_steps / jnp.maximum(visited, 1.0),
            "decisions": episode.count(TourEvents.subgoal_set).astype(jnp.float32),
        }
