"""Declarations of events: names, order, equality, and what is refused."""

import numpy as np
import pytest

from mazejax.errors import ConfigError
from mazejax.events import Attribute, Event, Topic


class StockEvents(Topic):
    arrived = Event("A crate came in.", {"weight": Attribute(), "place": Attribute((2,), "int16")})
    empty = Event("Nothing is left.")
    sold = Event("Crates were sold.", {"number": Attribute((), "uint8")}, capacity=3)


def test_a_topic_lists_its_events_in_the_order_of_declaration():
    assert StockEvents.events == (StockEvents.arrived, StockEvents.empty, StockEvents.sold)
    assert [event.id for event in StockEvents.events] == [
        "StockEvents.arrived",
        "StockEvents.empty",
        "StockEvents.sold",
    ]
    assert repr(StockEvents.sold) == "StockEvents.sold"
    assert StockEvents.sold.capacity == 3 and StockEvents.empty.capacity == 1
    assert StockEvents.arrived.attributes == {
        "weight": Attribute((), "float32"),
        "place": Attribute((2,), "int16"),
    }
    assert Topic.events == ()


def test_a_subclass_inherits_events_under_their_first_name_and_may_replace_them():
    class MoreEvents(StockEvents):
        empty = Event("Nothing is left, said otherwise.")
        stolen = Event("A crate is gone.")

    assert [event.id for event in MoreEvents.events] == [
        "StockEvents.arrived",
        "MoreEvents.empty",
        "StockEvents.sold",
        "MoreEvents.stolen",
    ]
    assert StockEvents.events[1].id == "StockEvents.empty"


def test_a_topic_may_list_the_event_of_another_without_renaming_it():
    class OtherEvents(Topic):
        gone = StockEvents.sold

    assert StockEvents.sold.id == "StockEvents.sold"
    assert OtherEvents.events == (StockEvents.sold,)


def test_declarations_compare_by_what_they_declare():
    def declare(**arguments):
        class T(Topic):
            e = Event("Any text.", **arguments)

        return T.e

    attributes = {"x": Attribute(), "n": Attribute((2,), "int8")}
    one = declare(attributes=attributes)
    assert one == declare(attributes=dict(reversed(attributes.items())))
    assert hash(one) == hash(declare(attributes=attributes)) and one != "T.e"
    assert one != declare() and one != declare(attributes=attributes, capacity=2)
    assert one != StockEvents.empty


@pytest.mark.parametrize("capacity", [0, -1, True, 1.0, None])
def test_a_capacity_that_is_no_positive_integer_is_refused(capacity):
    with pytest.raises(ConfigError, match="capacity: must be a positive integer, got"):
        Event("An event.", capacity=capacity)


@pytest.mark.parametrize(
    ("name", "attribute", "message"),
    [
        ("x", np.float32, r"'x': expected an Attribute\(shape, dtype\), got <class"),
        ("x", ((), "int32"), r"'x': expected an Attribute\(shape, dtype\)"),
        ("x", Attribute((), "int33"), "'x': expected bool, .* as dtype, got 'int33'"),
        ("x", Attribute((), "int64"), "'x': expected bool, .* of at most 32 bits"),
        ("x", Attribute((), "complex64"), "'x': expected bool, an integer or a float"),
        ("x", Attribute(2, "int32"), "'x': expected a tuple of positive sizes as shape, got 2"),
        ("x", Attribute((0,)), "'x': expected a tuple of positive sizes"),
        ("x", Attribute((2.0,)), "'x': expected a tuple of positive sizes"),
        ("when", Attribute(), "'when': expected a name that `fire` can take as a keyword"),
        ("event", Attribute(), "'event': expected a name"),
        ("a b", Attribute(), "'a b': expected a name"),
        (3, Attribute(), "3: expected a name"),
    ],
)
def test_attributes_that_no_log_could_hold_are_refused(name, attribute, message):
    with pytest.raises(ConfigError, match=f"^Event attribute {message}"):
        Event("An event.", {name: attribute})


def test_the_name_of_the_list_of_events_is_taken():
    with pytest.raises(ConfigError, match=r"^Bad\.events: lists all events"):
        type("Bad", (Topic,), {"events": Event("An event.")})
