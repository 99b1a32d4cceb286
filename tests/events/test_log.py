"""Event logs against a plain list of what was fired."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mazejax.errors import EnvError
from mazejax.events import Attribute, Event, EventLog, Topic


class ShopEvents(Topic):
    opened = Event("The shop opened.")
    sold = Event("Something was sold.", {"price": Attribute()}, capacity=2)
    moved = Event(
        "Things were moved.",
        {"place": Attribute((2,), "int8"), "fragile": Attribute((), "bool"), "way": Attribute()},
        capacity=4,
    )


EMPTY = EventLog.empty(ShopEvents)
OPENED, SOLD, MOVED = ShopEvents.events
K = 3


def fire_stream(log, whens, values):
    """One stream of firings: every way to fire, some events twice; `whens` [6 + K] are data."""
    log = log.fire(OPENED, whens[0])
    log = log.fire(SOLD, whens[1], price=values[0])
    log = log.fire_each(MOVED, whens[6:], **moved(values[1 : 1 + K]))
    log = log.fire(SOLD, whens[2], price=values[4])
    log = log.fire(MOVED, whens[3], **jax.tree.map(lambda row: row[0], moved(values[5:6])))
    log = log.fire_each(OPENED, whens[4:6])
    log = log.fire_each(SOLD, whens[6:], price=values[1 : 1 + K])
    return log.fire(MOVED, whens[5], place=[3, -4], fragile=True, way=2)


def moved(values):
    place = (jnp.stack([values, -values], axis=1) * 10).astype(jnp.int8)
    return {"place": place, "fragile": values > 0.5, "way": values}


def listed_stream(whens, values):
    """{event: attributes of every firing, in order} of the same stream, in plain Python."""
    values = np.asarray(values, np.float32)
    things = [
        {"place": [int(v * np.float32(10)), int(-v * np.float32(10))], "fragile": v > 0.5, "way": v}
        for v in values
    ]
    told = {"place": [3, -4], "fragile": True, "way": 2.0}
    each = range(K)
    return {
        OPENED: [{} for i in (0, 4, 5) if whens[i]],
        SOLD: [{"price": values[v]} for i, v in ((1, 0), (2, 4)) if whens[i]]
        + [{"price": values[1 + k]} for k in each if whens[6 + k]],
        MOVED: [things[1 + k] for k in each if whens[6 + k]]
        + [things[5]] * bool(whens[3])
        + [told] * bool(whens[5]),
    }


def assert_log_is(log, listed):
    """Counts exact, attributes of the first `capacity` firings in order, the others lost."""
    log = jax.device_get(log)
    for event, firings in listed.items():
        held = log[event]
        assert held.count == log.count(event) == len(firings)
        assert held.fired.sum() == min(len(firings), len(held.fired))
        assert held.lost == (max(len(firings) - event.capacity, 0) if event.attributes else 0)
        for slot, firing in enumerate(firings[: event.capacity]):
            for name, value in firing.items():
                np.testing.assert_array_equal(held.attributes[name][slot], value, err_msg=name)


def assert_same_bits(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for mine, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        assert np.asarray(mine).tobytes() == np.asarray(theirs).tobytes()


fire_stream_compiled = jax.jit(functools.partial(fire_stream, EMPTY))
streams = st.tuples(
    st.lists(st.booleans(), min_size=6 + K, max_size=6 + K).map(np.array),
    st.lists(st.integers(-12, 12), min_size=6, max_size=6).map(
        lambda numbers: np.array(numbers, np.float32) / 4
    ),
)


def without_noise(log):
    """The log with zeros in the slots that hold no firing."""

    def firings(f):
        def blank(leaf):
            return np.where(f.fired.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, leaf.dtype.type(0))

        return f.replace(attributes=jax.tree.map(blank, f.attributes))

    log = jax.device_get(log)
    return log.replace(firings={name: firings(f) for name, f in log.firings.items()})


# --- what a log holds -----------------------------------------------------------------


@given(streams)
def test_a_log_holds_what_a_plain_list_would(stream):
    assert_log_is(fire_stream_compiled(*stream), listed_stream(*stream))


def test_firing_is_the_same_outside_jit():
    whens, values = np.array([1, 0, 1, 1, 0, 1, 1, 0, 1], bool), np.linspace(-1, 1, 6, np.float32)
    values = values.astype(np.float32)
    assert_same_bits(fire_stream(EMPTY, whens, values), fire_stream_compiled(whens, values))


def test_an_empty_log_holds_nothing():
    assert_log_is(EMPTY, {event: [] for event in ShopEvents.events})
    assert list(EMPTY.firings) == [event.id for event in ShopEvents.events]
    assert EMPTY[OPENED].capacity is None and EMPTY[MOVED].capacity == 4
    assert list(EventLog.empty(SOLD, SOLD, OPENED).firings) == [SOLD.id, OPENED.id]


def test_firings_beyond_the_capacity_are_counted_and_lost():
    log = EMPTY
    for price in range(5):
        log = log.fire(SOLD, price=price)
    assert int(log.count(SOLD)) == 5 and int(log[SOLD].lost) == 3
    assert log[SOLD].attributes["price"].tolist() == [0.0, 1.0]
    assert log[SOLD].fired.tolist() == [True, True]


@pytest.mark.parametrize("num", [1, 5, 70])  # up to 64 are compared, more are summed up
def test_firing_each_is_firing_one_after_the_other(num):
    when = np.random.default_rng(num).random(num) < 0.6
    way = np.arange(num, dtype=np.float32)
    attributes = {"place": np.stack([way, -way], 1).astype(np.int8), "fragile": way > 2, "way": way}

    @jax.jit
    def at_once(when, attributes):
        return EMPTY.fire_each(MOVED, when, **attributes)

    @jax.jit
    def one_by_one(when, attributes):
        def fire(log, row):
            return log.fire(MOVED, row[0], **row[1]), None

        return jax.lax.scan(fire, EMPTY, (when, attributes))[0]

    assert_same_bits(*(fire(when, attributes) for fire in (at_once, one_by_one)))
    assert int(at_once(when, attributes).count(MOVED)) == when.sum()


def test_firing_none_of_none_changes_nothing():
    nothing = EMPTY.fire_each(SOLD, jnp.zeros(0, bool), price=jnp.zeros(0))
    assert_same_bits(nothing, EMPTY)


def test_every_number_is_kept_to_the_bit():
    odd = np.array([-0.0, np.nan, np.inf, -np.inf, np.finfo(np.float32).min], np.float32)

    class Odd(Topic):
        float = Event("A float.", {"x": Attribute()}, capacity=5)
        int = Event("An integer.", {"x": Attribute((), "int32")}, capacity=2)
        byte = Event("A byte.", {"x": Attribute((2,), "uint8")})

    ends = np.array([-(2**31), 2**31 - 1], np.int32)
    log = EventLog.empty(Odd).fire_each(Odd.float, np.ones(5, bool), x=odd)
    log = log.fire_each(Odd.int, np.ones(2, bool), x=ends).fire(Odd.byte, x=np.uint8([0, 255]))
    log = EventLog.empty(Odd).merge(log)
    assert np.asarray(log[Odd.float].attributes["x"]).tobytes() == odd.tobytes()
    assert log[Odd.int].attributes["x"].tolist() == ends.tolist()
    assert log[Odd.byte].attributes["x"].tolist() == [[0, 255]]


# --- merge and keep -------------------------------------------------------------------


@given(streams, streams)
def test_merged_logs_are_the_first_firings_and_then_the_later_ones(first, later):
    merged = merge_compiled(fire_stream_compiled(*first), fire_stream_compiled(*later))
    listed = [listed_stream(*stream) for stream in (first, later)]
    assert_log_is(merged, {event: listed[0][event] + listed[1][event] for event in listed[0]})


merge_compiled = jax.jit(lambda first, later: first.merge(later))


def test_merging_with_an_empty_log_changes_nothing():
    ones = np.ones(6 + K, bool)
    log = fire_stream_compiled(ones, np.arange(6, dtype=np.float32) / 8)
    assert_same_bits(without_noise(EMPTY.merge(log)), without_noise(log))
    assert_same_bits(without_noise(log.merge(EMPTY)), without_noise(log))


def test_the_later_log_decides_which_events_a_merged_one_has():
    first = EventLog.empty(SOLD).fire(SOLD, price=3.0)
    merged = first.merge(EMPTY.fire(OPENED))
    assert list(merged.firings) == list(EMPTY.firings)
    assert_log_is(merged, {OPENED: [{}], SOLD: [{"price": 3.0}], MOVED: []})
    with pytest.raises(EnvError, match=r"^event ShopEvents\.opened: a reset may fire it but a"):
        EMPTY.merge(first)


def test_a_log_is_kept_whole_or_not_at_all():
    log = EMPTY.fire(SOLD, price=3.0).fire(OPENED)
    assert_log_is(log.keep_where(True), {OPENED: [{}], SOLD: [{"price": 3.0}], MOVED: []})
    assert_log_is(log.keep_where(jnp.zeros((), bool)), {OPENED: [], SOLD: [], MOVED: []})
    again = log.keep_where(False).fire(SOLD, price=7.0)
    assert_log_is(again, {SOLD: [{"price": 7.0}]})


# --- in compiled programs -------------------------------------------------------------


def test_firing_keeps_structure_shapes_and_strong_dtypes():
    log = EMPTY.fire(SOLD, price=3).fire(MOVED, when=1, place=(1, 2), fragile=False, way=1)
    log = EMPTY.merge(log.fire_each(OPENED, [True, False])).keep_where(True)
    shapes = [jax.eval_shape(lambda tree=tree: tree) for tree in (EMPTY, log)]
    assert shapes[0] == shapes[1]
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(log))


def test_logs_are_batched_by_vmap():
    rng = np.random.default_rng(3)
    whens = rng.random((7, 6 + K)) < 0.5
    values = (rng.integers(-12, 12, (7, 6)) / 4).astype(np.float32)
    batch = jax.device_get(jax.jit(jax.vmap(functools.partial(fire_stream, EMPTY)))(whens, values))
    for row in range(7):
        log = jax.tree.map(lambda leaf: leaf[row], batch)  # noqa: B023
        assert_log_is(log, listed_stream(whens[row], values[row]))


def test_what_nobody_reads_is_not_computed():
    def counts(whens, values):
        def one_step(pending, row):
            log = pending.merge(fire_stream(EMPTY, *row)).keep_where(row[0][0])
            return log, (log.count(SOLD), log.count(MOVED))

        return jax.lax.scan(one_step, EMPTY, (whens, values))[1]

    shapes = jax.ShapeDtypeStruct((5, 6 + K), bool), jax.ShapeDtypeStruct((5, 6), jnp.float32)
    program = jax.jit(counts).lower(*shapes).compile().as_text()
    assert "s32[" in program and "f32[" not in program and "s8[" not in program


# --- errors ---------------------------------------------------------------------------


class OtherEvents(Topic):
    sold = Event("Sold elsewhere.")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: EMPTY.fire(OtherEvents.sold), r"OtherEvents\.sold: not in this log; did you mean"),
        (lambda: EMPTY.count(OtherEvents.sold), r"OtherEvents\.sold: not in this log"),
        (lambda: EventLog.empty(OPENED)[SOLD], r"ShopEvents\.sold: not in this log"),
        (lambda: EMPTY.fire(SOLD), r"sold: got the attributes \[\], expected \['price'\]"),
        (lambda: EMPTY.fire(SOLD, prize=1.0), r"got the attributes \['prize'\], expected"),
        (lambda: EMPTY.fire(OPENED, at=1), r"got the attributes \['at'\], expected \[\]"),
        (lambda: EMPTY.fire(SOLD, price=[1.0]), r"'price' has shape \(1,\), expected \(\)"),
        (
            lambda: EMPTY.fire_each(SOLD, np.ones(3, bool), price=np.ones(2)),
            r"'price' has shape \(2,\), expected \(3,\)",
        ),
        (
            lambda: EMPTY.fire_each(SOLD, np.ones(3, bool), price=1.0),
            r"'price' has shape \(\), expected \(3,\)",
        ),
        (lambda: EMPTY.fire(SOLD, np.ones(2, bool), price=1.0), r"`when` has shape \(2,\), exp"),
        (lambda: EMPTY.fire_each(OPENED, True), r"`when` has shape \(\), expected \[K\]"),
        (lambda: EMPTY.fire_each(OPENED, np.ones((2, 2), bool)), r"`when` has shape \(2, 2\)"),
        (
            lambda: EMPTY.fire(MOVED, place=[0.5, 1.0], fragile=True, way=1.0),
            "'place' is float32, expected int8; convert it on purpose",
        ),
        (
            lambda: EMPTY.fire(MOVED, place=[0, 1], fragile=2, way=1.0),
            "'fragile' is int32, expected bool",
        ),
    ],
)
def test_wrong_firings_are_refused(wrong, message):
    with pytest.raises(EnvError, match=message):
        wrong()


def test_topics_of_one_name_that_declare_differently_do_not_mix():
    class ShopEvents(Topic):
        sold = Event("Another one.")

    with pytest.raises(EnvError, match=r"event ShopEvents\.sold: two topics of one name"):
        EventLog.empty(SOLD, ShopEvents)


def test_a_union_has_all_events_of_both_logs():
    class Other(Topic):
        rung = Event("A bell was rung.")

    both = EMPTY.union(EventLog.empty(Other).fire(Other.rung))
    assert both.count(Other.rung) == 1 and set(both.events) == {*EMPTY.events, Other.rung}
    assert jax.tree.structure(both) == jax.tree.structure(EventLog.empty(Other).union(EMPTY))
    with pytest.raises(EnvError, match="is in both logs"):
        both.union(EMPTY)
