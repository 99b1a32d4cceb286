"""`EventLog`: what was fired in one sub-step, as a pytree of fixed structure.

A core env starts from an empty log of the events that it may fire, fires conditionally
and returns the log; every firing is a pure function of the log before. How often is
always exact; attributes are kept for as many firings as the event has capacity.
"""

from typing import Any, Self

import jax.numpy as jnp
import numpy as np

from mazejax.base import Pytree, static
from mazejax.errors import EnvError, did_you_mean
from mazejax.events.topic import Event, Topic
from mazejax.types import Array

_MAX_COMPARED = 64  # up to here comparing all with all fuses and is cheaper than a scan
_KINDS = (jnp.bool_, jnp.integer, jnp.generic)  # each holds the numbers of those before it


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
        """[capacity] bool: which slots hold a firing; [1] of an event that says nothing."""
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
    events: tuple[Event, ...] = static(default=())
    """What may be fired, by name: for statistics, which follow from the declarations."""

    @classmethod
    def empty(cls, *events: Event | type[Topic]) -> Self:
        """A log in which these events, or all events of these topics, may be fired."""
        declared: dict[str, Event] = {}
        for given in events:
            for event in [given] if isinstance(given, Event) else given.events:
                if not event.name:
                    raise EnvError("EventLog: an event without a topic; declare it in a Topic")
                if declared.setdefault(event.id, event) != event:
                    raise EnvError(
                        f"event {event.id}: two topics of one name declare it differently; "
                        f"rename one of them"
                    )
        return cls(
            {name: _nothing(event) for name, event in declared.items()},
            tuple(declared[name] for name in sorted(declared)),
        )

    def fire(self, event: Event, when: Array | bool = True, **attributes: Any) -> Self:
        """The log after the event was fired once, if `when` [] holds."""
        before, happens = self[event], jnp.asarray(when, bool)
        values = _checked(event, happens, attributes, ())
        rows = {name: value[None] for name, value in values.items()}
        return self._with(event, _fired(before, happens[None], rows))

    def fire_each(self, event: Event, when: Array, **attributes: Any) -> Self:
        """The log after the event was fired once for every k where `when` [K] holds.

        Attributes have a value for every k: [K, ...].
        """
        before, each = self[event], jnp.asarray(when, bool)
        values = _checked(event, each, attributes, each.shape[:1] or (1,))
        return self._with(event, _fired(before, each, values))

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
        return later.replace(firings=merged)

    def union(self, other: Self) -> Self:
        """A log of both events and firings; EnvError if they have an event in common."""
        for name in self.firings.keys() & other.firings.keys():
            raise EnvError(f"event {name}: is in both logs; fire it in one of them")
        events = sorted((*self.events, *other.events), key=lambda event: event.id)
        return type(self)({**self.firings, **other.firings}, tuple(events))

    def keep_where(self, condition: Array) -> Self:
        """This log where the condition [] holds, else an empty one."""
        firings = {
            name: Firings(jnp.where(condition, f.count, 0), f.attributes)
            for name, f in self.firings.items()
        }
        return self.replace(firings=firings)

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
        return self.replace(firings={**self.firings, event.id: firings})


def _nothing(event: Event) -> Firings:
    return Firings(
        jnp.zeros((), jnp.int32),
        {
            name: jnp.zeros((event.capacity, *attribute.shape), attribute.dtype)
            for name, attribute in event.attributes.items()
        },
    )


def _fired(before: Firings, when: Array, values: dict[str, Array]) -> Firings:
    """Firings after one more for every k where `when` [K] holds, with values [K, ...]."""
    slot = before.count + _num_before(when)
    attributes = {}
    for name, kept in before.attributes.items():
        hit = (jnp.arange(kept.shape[0])[:, None] == slot[None]) & when[None]
        attributes[name] = _into_slots(hit, values[name].astype(kept.dtype), kept)
    return Firings(before.count + jnp.sum(when, dtype=jnp.int32), attributes)


def _num_before(when: Array) -> Array:
    """How many of the entries before each one hold, int32 [K]."""
    num = when.shape[0]
    if num > _MAX_COMPARED:
        return jnp.cumsum(when, dtype=jnp.int32) - when
    return jnp.sum(np.tri(num, k=-1, dtype=bool) & when[None], axis=1, dtype=jnp.int32)


def _into_slots(hit: Array, values: Array, kept: Array) -> Array:
    """Slots [capacity, ...] with values [K, ...] written where hit [capacity, K]."""
    reach = hit.reshape(*hit.shape, *[1] * (values.ndim - 1))
    # At most one k for a slot: the maximum is that one's value, whatever its kind and sign.
    lowest = _lowest(values.dtype)
    chosen = jnp.where(reach, values[None], lowest).max(axis=1, initial=lowest)
    return jnp.where(reach.any(axis=1), chosen, kept)


def _lowest(dtype: Any) -> Any:
    if dtype == np.bool_:
        return False
    return np.iinfo(dtype).min if jnp.issubdtype(dtype, jnp.integer) else -np.inf


def _concatenated(first: Firings, later: Firings) -> Firings:
    attributes = {}
    for name, mine in first.attributes.items():
        slot = jnp.arange(mine.shape[0])
        hit = slot[:, None] == first.count + slot[None]
        attributes[name] = _into_slots(hit, later.attributes[name], mine)
    return Firings(first.count + later.count, attributes)


def _checked(
    event: Event, when: Array, attributes: dict[str, Any], shape: tuple[int, ...]
) -> dict[str, Array]:
    """The attributes as arrays [*shape, ...]; EnvError if they or `when` [*shape] do not fit."""
    if when.shape != shape:
        raise EnvError(
            f"event {event.id}: `when` has shape {when.shape}, expected "
            f"{shape if shape == () else '[K]'}; `fire` fires one, `fire_each` a vector"
        )
    if attributes.keys() != event.attributes.keys():
        raise EnvError(
            f"event {event.id}: got the attributes {sorted(attributes)}, expected "
            f"{sorted(event.attributes)}"
        )
    values = {name: jnp.asarray(value) for name, value in attributes.items()}
    for name, value in values.items():
        wanted, dtype = (*shape, *event.attributes[name].shape), event.attributes[name].dtype
        if value.shape != wanted:
            raise EnvError(
                f"event {event.id}: attribute {name!r} has shape {value.shape}, expected {wanted}"
            )
        # What only narrows is converted, what changes the kind of number would lose it.
        if _kind(value.dtype) > _kind(dtype):
            raise EnvError(
                f"event {event.id}: attribute {name!r} is {value.dtype}, expected {dtype}; "
                f"convert it on purpose"
            )
    return values


def _kind(dtype: Any) -> int:
    return next(i for i, kind in enumerate(_KINDS) if jnp.issubdtype(dtype, kind))
