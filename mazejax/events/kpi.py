"""KPIs: what an episode was worth in the problem's own terms.

A calculator is a pure function of the statistics of an episode's events and of its last
state, so it is computed wherever the statistics are: in a compiled loop, when an episode
ends, or on a recorded episode.
"""

from typing import ClassVar

from mazejax.base import Pytree
from mazejax.events.statistics import EpisodeStatistics
from mazejax.types import Array, PyTree


class KPICalculator(Pytree):
    """Key performance indicators of an episode."""

    compile_time: ClassVar[bool] = True

    def calculate(self, episode: EpisodeStatistics, state: PyTree) -> dict[str, Array]:
        """KPIs by name, float32 [], from the episode's statistics and its last core state.

        `episode.count(event)` and `episode.num_steps` say how often, `episode.value(event,
        output)` gives what the event's `episode_stats` declare.
        """
        raise NotImplementedError
