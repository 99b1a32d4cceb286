"""What happens in a job shop, and what a schedule was worth."""

import jax.numpy as jnp

from mazejax.events.kpi import KPICalculator
from mazejax.events.levels import TOTALS
from mazejax.events.statistics import EpisodeStatistics
from mazejax.events.topic import Attribute, Event, Topic
from mazejax.types import Array, PyTree

_INTEGER = Attribute(dtype="int32")


class JobShopEvents(Topic):
    """Operations as they are put on their machines."""

    operation_dispatched = Event(
        "The next operation of a job was put on its machine.",
        {"job": _INTEGER, "machine": _INTEGER, "start": _INTEGER, "end": _INTEGER},
        statistics=TOTALS,
    )
    dispatch_refused = Event("The job had no operation left.", {"job": _INTEGER}, statistics=TOTALS)
    schedule_finished = Event("All operations are dispatched.", {"makespan": _INTEGER})


class JobShopKPIs(KPICalculator):
    """Of the schedule as far as it is built.

    `makespan` is when its last operation ends, `makespan_ratio` that divided by the lower
    bound (the longest job or the busiest machine), `machine_utilization` the share of the
    machines' time until then in which they work.
    """

    def calculate(self, episode: EpisodeStatistics, state: PyTree) -> dict[str, Array]:
        """The three, float32 []; of a whole schedule the ratio is at least 1."""
        makespan = state.makespan.astype(jnp.float32)
        dispatched = jnp.where(state.starts >= 0, state.durations, 0)
        work = jnp.sum(dispatched, dtype=jnp.int32).astype(jnp.float32)
        num_machines = state.machine_ready.shape[0]
        return {
            "makespan": makespan,
            "makespan_ratio": makespan / state.lower_bound.astype(jnp.float32),
            "machine_utilization": work / (num_machines * jnp.maximum(makespan, 1.0)),
        }
