"""KPIs: what an episode was worth in the problem's own terms.

A calculator is a pure function of how often each event was fired in an episode and of
the episode's last state, so it is computed wherever the counts are: in a compiled loop
or on a recorded episode.
"""

from typing import ClassVar, Self

import jax.numpy as jnp

from mazejax.base import Pytree
from mazejax.errors import EnvError, did_you_mean
from mazejax.events.log import EventLog
from mazejax.events.topic import Event
from mazejax.types import Array, PyTree


class EpisodeCounts(Pytree):
    """How often each event was fired in an episode so far."""

    counts: dict[str, Array]
    """By `Topic.event`, int32 []."""
    num_steps: Array
    """Flat steps, int32 []."""

    @classmethod
    def zero(cls, log: EventLog) -> Self:
        """The counts before an episode whose steps return such logs."""
        nothing = jnp.zeros((), jnp.int32)
        return cls(dict.fromkeys(log.firings, nothing), nothing)

    def add(self, log: EventLog, flat_steps: int = 1) -> Self:
        """The counts after one more log, which may lack events; EnvError if it has others.

        `flat_steps` is 0 for a sub-step that does not end the flat step.
        """
        for name in log.firings:
            if name not in self.counts:
                raise EnvError(f"event {name}: not counted; {did_you_mean(name, self.counts)}")
        counts = {
            name: total + log.firings[name].count if name in log.firings else total
            for name, total in self.counts.items()
        }
        return type(self)(counts, self.num_steps + flat_steps)

    def count(self, event: Event) -> Array:
        """How often the event was fired, int32 []."""
        if event.id not in self.counts:
            raise EnvError(f"event {event.id}: unknown; {did_you_mean(event.id, self.counts)}")
        return self.counts[event.id]


class KPICalculator(Pytree):
    """Key performance indicators of an episode."""

    compile_time: ClassVar[bool] = True

    def calculate(self, episode: EpisodeCounts, state: PyTree) -> dict[str, Array]:
        """KPIs by name, float32 [], from the counts and the episode's last core state."""
        raise NotImplementedError
