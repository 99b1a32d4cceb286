"""`Topic` and `Event`: which events there are, and what each of them says.

A topic is a class that declares its events as attributes. Declarations are static
descriptions: they compare by name and hold no numbers. What was fired, and how often,
is an `EventLog`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from mazejax.errors import ConfigError

_ARGUMENTS_OF_FIRE = ("self", "event", "when")


class Attribute(NamedTuple):
    """Shape and dtype of one thing that an event says."""

    shape: tuple[int, ...] = ()
    dtype: str = "float32"


class Event:
    """Declaration of an event, as an attribute of a `Topic`.

    `attributes` are what each firing says; an event without attributes is only counted.
    `capacity` is how many firings of one sub-step keep their attributes; further ones
    are counted as lost.
    """

    topic: str = ""
    """Name of the topic that declares it."""
    name: str = ""
    """Name within the topic."""

    def __init__(
        self,
        description: str,
        attributes: Mapping[str, Attribute] | None = None,
        capacity: int = 1,
    ) -> None:
        self.description = description
        self.attributes = dict(attributes or {})
        self.capacity = capacity
        if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
            raise ConfigError(f"Event capacity: must be a positive integer, got {capacity!r}")
        for name, attribute in self.attributes.items():
            _check_attribute(name, attribute)

    def __set_name__(self, owner: type, name: str) -> None:
        if not self.name:  # the topic that declares it names it, others may list it too
            self.topic, self.name = owner.__name__, name

    @property
    def id(self) -> str:
        """`Topic.event`, as in logs and tables."""
        return f"{self.topic}.{self.name}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and self._token() == other._token()

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return self.id

    def _token(self) -> tuple:
        return self.id, tuple(sorted(self.attributes.items())), self.capacity


class Topic:
    """Base of topics: a class whose attributes are `Event`s.

    class InventoryEvents(Topic):
        piece_discarded = Event("The oldest piece was thrown away.",
                                {"piece": Attribute((2,), "int32")})
    """

    events: ClassVar[tuple[Event, ...]] = ()
    """All that the class declares, in the order of declaration."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Event)}
        if "events" in own:
            raise ConfigError(
                f"{cls.__name__}.events: lists all events; give this one another name"
            )
        cls.events = tuple({**{event.name: event for event in cls.events}, **own}.values())


def _check_attribute(name: Any, attribute: Any) -> None:
    where = f"Event attribute {name!r}"
    if not (isinstance(name, str) and name.isidentifier()) or name in _ARGUMENTS_OF_FIRE:
        raise ConfigError(
            f"{where}: expected a name that `fire` can take as a keyword, and none of "
            f"{', '.join(_ARGUMENTS_OF_FIRE)}; rename it"
        )
    if not isinstance(attribute, Attribute):
        raise ConfigError(f"{where}: expected an Attribute(shape, dtype), got {attribute!r}")
    shape = attribute.shape
    if not (isinstance(shape, tuple) and all(type(size) is int and size > 0 for size in shape)):
        raise ConfigError(f"{where}: expected a tuple of positive sizes as shape, got {shape!r}")
    try:
        dtype = np.dtype(attribute.dtype)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "biuf" or dtype.itemsize > 4:
        raise ConfigError(
            f"{where}: expected bool, an integer or a float of at most 32 bits as dtype, "
            f"got {attribute.dtype!r}"
        )
