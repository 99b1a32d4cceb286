"""`EventLog`: what was fired in one sub-step, as a pytree of fixed structure.

A core env starts from an empty log of the events that it may fire, fires conditionally
and returns the log; every firing is a pure function of the log before. How often is
always exact; attributes are kept for as many firings as the event has capacity.
"""

from typing import Any, Self

import jax
import jax.numpy as jnp

from mazejax.base import Pytree
from mazejax.errors import EnvError, did_you_mean
from mazejax.events.topic import Event, Topic
from mazejax.types import Array


class Firings(Pytree):
    """The firings of one event in one sub-step."""

    count: Array
    """Firings, those that are lost included, int32 []."""
    attributes: dict[str, Array]
    """What they said, in the order of firing, [capacity, ...]; meaningful where `fired`."""

    @property
    def capacity(self) -> int | None:
        """Firings whose attributes are kept; None for an event that says nothing."""
        return next((leaf.shape[0] for leaf in self.attributes.values()), None)

    @property
    def fired(self) -> Array:
        """[capacity] bool: which slots hold a firing."""
        return jnp.arange(self.capacity or 1) < self.count

    @property
    def lost(self) -> Array:
        """Firings whose attributes found no slot, int32 []."""
        if self.capacity is None:
            return jnp.zeros_like(self.count)
        return jnp.maximum(self.count - self.capacity, 0)


class EventLog(Pytree):
    """Firings by event. Unbatched: under `vmap` every env has its own."""

    firings: dict[str, Firings]
    """By `Topic.event`."""

    @classmethod
    def empty(cls, *events: Event | type[Topic]) -> Self:
        """A log in which these events, or all events of these topics, may be fired."""
        each = [
            e for given in events for e in ([given] if isinstance(given, Event) else given.events)
        ]
        return cls({event.id: _nothing(event) for event in each})

    def fire(self, event: Event, when: Array | bool = True, **attributes: Any) -> Self:
        """The log after the event was fired once, if `when` [] holds."""
        return self.fire_each(
            event,
            jnp.asarray(when, bool)[None],
            **{name: jnp.asarray(value)[None] for name, value in attributes.items()},
        )

    def fire_each(self, event: Event, when: Array, **attributes: Any) -> Self:
        """The log after the event was fired once for every k where `when` [K] holds.

        Attributes have a value for every k: [K, ...].
        """
        before = self[event]
        _check_attributes(event, attributes, when.shape)
        if not attributes:
            added = jnp.sum(when, dtype=jnp.int32)
            return self._with(event, Firings(before.count + added, {}))
        slot = before.count + jnp.cumsum(when, dtype=jnp.int32) - 1
        # [capacity, K]: at most one k for a slot; a sum over one hit is exact.
        hit = (jnp.arange(event.capacity)[:, None] == slot[None]) & when[None]
        values = {
            name: _into_slots(hit, jnp.asarray(value, before.attributes[name].dtype), kept)
            for (name, kept), value in zip(
                sorted(before.attributes.items()),
                [attributes[name] for name in sorted(attributes)],
                strict=True,
            )
        }
        return self._with(event, Firings(slot[-1] + 1, values))

    def merge(self, later: Self) -> Self:
        """Both logs as one; the firings of this one come first. `later` decides the structure."""
        merged = dict(later.firings)
        for name, first in self.firings.items():
            if name not in merged:
                raise EnvError(
                    f"event {name}: a reset may fire it but a step may not; "
                    f"let the log of every step begin with the same events"
                )
            merged[name] = _concatenated(first, merged[name])
        return type(self)(merged)

    def keep_where(self, condition: Array) -> Self:
        """This log where the condition [] holds, else an empty one."""
        return type(self)(
            {
                name: Firings(jnp.where(condition, f.count, 0), f.attributes)
                for name, f in self.firings.items()
            }
        )

    def count(self, event: Event) -> Array:
        """How often the event was fired, int32 []."""
        return self[event].count

    def __getitem__(self, event: Event) -> Firings:
        """The event's firings; EnvError if the log does not know it."""
        if event.id not in self.firings:
            raise EnvError(
                f"event {event.id}: not in this log; {did_you_mean(event.id, self.firings)} "
                f"(EventLog.empty lists what may be fired)"
            )
        return self.firings[event.id]

    def _with(self, event: Event, firings: Firings) -> Self:
        return type(self)({**self.firings, event.id: firings})


def _nothing(event: Event) -> Firings:
    return Firings(
        jnp.zeros((), jnp.int32),
        {
            name: jnp.zeros((event.capacity, *attribute.shape), attribute.dtype)
            for name, attribute in event.attributes.items()
        },
    )


def _into_slots(hit: Array, values: Array, kept: Array) -> Array:
    """Slots [capacity, ...] with values [K, ...] written where hit [capacity, K]."""
    source = hit.argmax(axis=1)
    chosen = values[source] if values.shape[0] > 1 else jnp.broadcast_to(values, kept.shape)
    return jax.vmap(jnp.where)(hit.any(axis=1), chosen, kept)


def _concatenated(first: Firings, later: Firings) -> Firings:
    capacity = later.capacity
    count = first.count + later.count
    if capacity is None:
        return Firings(count, {})
    index = jnp.arange(capacity) - first.count

    def joined(mine: Array, theirs: Array) -> Array:
        return jax.vmap(jnp.where)(index < 0, mine, theirs[jnp.maximum(index, 0)])

    return Firings(count, jax.tree.map(joined, first.attributes, later.attributes))


def _check_attributes(event: Event, attributes: dict[str, Any], when: tuple[int, ...]) -> None:
    if attributes.keys() != event.attributes.keys():
        raise EnvError(
            f"event {event.id}: got the attributes {sorted(attributes)}, expected "
            f"{sorted(event.attributes)}"
        )
    for name, value in attributes.items():
        wanted = (*when, *event.attributes[name].shape)
        if jnp.shape(value) != wanted:
            raise EnvError(
                f"event {event.id}: attribute {name!r} has shape {jnp.shape(value)[1:]}, "
                f"expected {wanted[1:]}"
            )
