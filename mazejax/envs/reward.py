"""Reward aggregators: what an agent earns, as a pure function of what happened.

An aggregator takes the place of the core env's own reward, so the same problem is
trained on another objective without touching it. Several are summed with weights, and
each part of the sum is an event of its own.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from mazejax.base import Pytree, is_concrete
from mazejax.errors import ConfigError, did_you_mean
from mazejax.events.builtin import part_event
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

    def parts(self, events: EventLog, state: PyTree) -> dict[str, Array]:
        """What the reward is the sum of, by name, float32 [] or [A] each; {} of a single one."""
        return {}


class RewardSum(RewardAggregator):
    """The weighted sum of other aggregators; each part is a statistic of its own.

    RewardSum({"pieces": PieceUsage(), "errors": InvalidActions()}, {"errors": 2.0})
    """

    aggregators: dict[str, RewardAggregator]
    """By name."""
    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    """By name; 1 where there is none."""

    def validate(self) -> None:
        """Raise ConfigError for a sum of nothing, and for weights that are none."""
        for field in ("aggregators", "weights"):
            if not isinstance(getattr(self, field), Mapping):
                raise ConfigError(
                    f"RewardSum.{field}: expected a dict by name, got {getattr(self, field)!r}"
                )
        if not self.aggregators:
            raise ConfigError("RewardSum.aggregators: expected at least one by name, got none")
        for name, aggregator in self.aggregators.items():
            if not isinstance(aggregator, RewardAggregator):
                raise ConfigError(
                    f"RewardSum.aggregators[{name!r}]: expected a RewardAggregator, got "
                    f"{aggregator!r}"
                )
        for name, weight in self.weights.items():
            if name not in self.aggregators:
                raise ConfigError(
                    f"RewardSum.weights[{name!r}]: weighs no aggregator; "
                    f"{did_you_mean(name, self.aggregators)}"
                )
            if is_concrete(weight) and not _is_finite(weight):
                raise ConfigError(f"RewardSum.weights[{name!r}]: must be finite, got {weight!r}")

    def summarize(self, events: EventLog, state: PyTree) -> Array:
        """The sum of the parts."""
        parts = [*self.parts(events, state).values()]
        return sum(parts[1:], parts[0])

    def parts(self, events: EventLog, state: PyTree) -> dict[str, Array]:
        """The weighted rewards by name."""
        return {
            name: aggregator.summarize(events, state) * self.weights.get(name, 1.0)
            for name, aggregator in self.aggregators.items()
        }


def _is_finite(number: Any) -> bool:
    try:
        return bool(np.isfinite(np.asarray(number, np.float64)).all())
    except (TypeError, ValueError):
        return False


def aggregated(aggregator: RewardAggregator, events: Any, state: PyTree) -> tuple[Array, Any]:
    """The reward, and the events with those of its parts, summed over agents."""
    reward = aggregator.summarize(events, state)
    parts = aggregator.parts(events, state)
    if not parts or not isinstance(events, EventLog):
        return reward, events
    event = part_event(tuple(parts))
    values = jnp.stack([jnp.sum(part).astype(jnp.float32) for part in parts.values()])
    log = EventLog.empty(event).fire_each(
        event, jnp.ones(len(parts), bool), name=jnp.arange(len(parts)), value=values
    )
    return reward, events.union(log)
