"""What happens to foragers, and how well they did together."""

import jax.numpy as jnp

from mazejax.base import static
from mazejax.events.kpi import KPICalculator
from mazejax.events.levels import TOTALS, episode_stats, epoch_stats, step_stats
from mazejax.events.statistics import EpisodeStatistics
from mazejax.events.topic import Attribute, Event, Topic
from mazejax.types import Array, PyTree


class ForagingEvents(Topic):
    """Who it happened to is kept of 16 agents a step; how many is always exact."""

    food_collected = Event(
        "An agent collected food, or its share of food that several reached at once.",
        {"agent": Attribute(dtype="int32"), "share": Attribute()},
        capacity=16,
        statistics=(
            *TOTALS,
            step_stats("sum", "share"),
            episode_stats("sum", "share"),
            epoch_stats("mean", "share", "mean_episode_food"),
        ),
    )
    agent_dropped_out = Event(
        "An agent's energy was used up.",
        {"agent": Attribute(dtype="int32")},
        capacity=16,
        statistics=TOTALS,
    )


class ForagingKPIs(KPICalculator):
    """`food_share`: the part of the food that was collected; `survivors`: of the agents, alive."""

    num_food: int = static()
    """Food at the start of an episode."""

    def calculate(self, episode: EpisodeStatistics, state: PyTree) -> dict[str, Array]:
        """Both from 0 to 1, float32 []."""
        alive = state.active.sum(dtype=jnp.int32)
        agents = alive + episode.count(ForagingEvents.agent_dropped_out)
        collected = self.num_food - state.food_left
        return {
            "food_share": collected.astype(jnp.float32) / self.num_food,
            "survivors": alive.astype(jnp.float32) / agents,
        }
