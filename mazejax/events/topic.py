"""`Topic` and `Event`: which events there are, and what each of them says.

A topic is a class that declares its events as attributes. Declarations are static
descriptions: they compare by name and hold no numbers. What was fired, and how often,
is an `EventLog`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from mazejax.errors import ConfigError, did_you_mean
from mazejax.events.levels import Statistic, by_default, resolved

PLOTS = ("histogram", "relative_bars", "binary_bars", "violin")
"""How a distribution may be drawn."""

_ARGUMENTS_OF_FIRE = ("self", "event", "when")


class Attribute(NamedTuple):
    """Shape and dtype of one thing that an event says."""

    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    categories: int | tuple[str, ...] | None = None
    """How many values an integer has, from 0 on, or what they are called; needed to group by it."""
    bounds: tuple[float, float] | None = None
    """Between which values a number lies, for histograms; None where that is not known."""

    @property
    def num_categories(self) -> int | None:
        """How many categories there are; None if it has none."""
        return self.categories if self.categories is None else len(self.labels)

    @property
    def is_quantity(self) -> bool:
        """Whether its mean says something: a number that is no category."""
        return self.shape == () and self.categories is None and self.dtype != "bool"

    @property
    def labels(self) -> tuple[str, ...]:
        """What the categories are called."""
        named = self.categories
        return tuple(map(str, range(named or 0))) if not isinstance(named, tuple) else named


class Event:
    """Declaration of an event, as an attribute of a `Topic`.

    `attributes` are what each firing says; an event without attributes is only counted.
    `capacity` is how many firings of one sub-step keep their attributes; further ones
    are counted as lost. `group_by` names the attributes whose values keep statistics apart,
    `statistics` what becomes of the event in steps, episodes and epochs (without any, how
    often it was fired and the means of its scalars), `plot` how its histograms are drawn.
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
        *,
        group_by: str | tuple[str, ...] = (),
        statistics: Statistic | tuple[Statistic, ...] | None = None,
        plot: str = "histogram",
        labels: tuple[str, ...] = (),
    ) -> None:
        self.description = description
        self.attributes = dict(attributes or {})
        self.capacity = capacity
        self.group_by = (group_by,) if isinstance(group_by, str) else tuple(group_by)
        self.plot = plot
        self.labels = labels
        """Groups that it belongs to as a whole, before those of its attributes."""
        if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
            raise ConfigError(f"Event capacity: must be a positive integer, got {capacity!r}")
        for name, attribute in self.attributes.items():
            _check_attribute(name, attribute)
        for name in self.group_by:
            _check_group(name, self.attributes)
        if plot not in PLOTS:
            raise ConfigError(f"Event plot: unknown {plot!r}; {did_you_mean(str(plot), PLOTS)}")
        self._declared = statistics
        self.statistics = self._resolved(statistics)

    def __set_name__(self, owner: type, name: str) -> None:
        if not self.name:  # the topic that declares it names it, others may list it too
            self.topic, self.name = owner.__name__, name

    @property
    def id(self) -> str:
        """`Topic.event`, as in logs and tables, with its labels behind."""
        return "/".join((f"{self.topic}.{self.name}", *self.labels))

    @property
    def num_groups(self) -> tuple[int, ...]:
        """Categories of each attribute of `group_by`."""
        return tuple(self.attributes[name].num_categories or 0 for name in self.group_by)

    def labelled(self, *labels: str, **changes: Any) -> "Event":
        """This event once more, for what the labels say; `changes` are arguments of `Event`."""
        arguments = {
            "attributes": self.attributes,
            "capacity": self.capacity,
            "group_by": self.group_by,
            "statistics": self._declared,  # whose groups are those that there will be
            "plot": self.plot,
        }
        event = Event(self.description, labels=labels, **{**arguments, **changes})
        event.topic, event.name = self.topic, self.name
        return event

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Event) and self._token() == other._token()

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return self.id

    def _token(self) -> tuple:
        attributes = tuple(sorted(self.attributes.items()))
        return self.id, attributes, self.capacity, self.group_by, self.statistics, self.plot

    def _resolved(
        self, statistics: Statistic | tuple[Statistic, ...] | None
    ) -> tuple[Statistic, ...]:
        attributes = {k: a for k, a in self.attributes.items() if k not in self.group_by}
        if isinstance(statistics, Statistic):
            statistics = (statistics,)
        if statistics is None:
            quantities = [name for name, a in attributes.items() if a.is_quantity]
            statistics = by_default(quantities)
        return resolved(statistics, tuple(attributes), self.group_by, "Event statistics")


class Topic:
    """Base of topics: a class whose attributes are `Event`s.

    class InventoryEvents(Topic):
        piece_discarded = Event(
            "The oldest piece was thrown away.",
            {"piece": Attribute((2,), "int32")},
            statistics=(
                step_stats("count"),
                episode_stats("sum"),
                epoch_stats("mean", output="mean_episode_total"),
            ),
        )
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
    if attribute.categories is not None:
        _check_categories(attribute, dtype, where)
    if attribute.bounds is not None and not attribute.bounds[0] < attribute.bounds[1]:
        raise ConfigError(f"{where}: bounds: expected (low, high), got {attribute.bounds!r}")


def _check_categories(attribute: Attribute, dtype: Any, where: str) -> None:
    if dtype.kind not in "iu":
        raise ConfigError(f"{where}: categories are integers from 0 on, got {attribute.dtype!r}")
    if not attribute.num_categories or len({*attribute.labels}) < len(attribute.labels):
        raise ConfigError(
            f"{where}: expected a positive number of categories or different names, got "
            f"{attribute.categories!r}"
        )


def _check_group(name: str, attributes: Mapping[str, Attribute]) -> None:
    where = f"Event group_by {name!r}"
    if name not in attributes:
        raise ConfigError(f"{where}: is no attribute; {did_you_mean(str(name), attributes)}")
    attribute = attributes[name]
    if attribute.shape != () or attribute.num_categories is None:
        raise ConfigError(
            f"{where}: groups are those of one integer with known categories, such as "
            f"Attribute((), 'int32', categories=3); got {attribute!r}"
        )
