"""Statistics of events: Maze's worked example, and random streams against plain Python."""

import collections

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from mazejax.algos import devices
from mazejax.errors import ConfigError, EnvError
from mazejax.events import (
    Attribute,
    EpisodeStatistics,
    EpochStatistics,
    Event,
    EventLog,
    Topic,
    episode_stats,
    epoch_stats,
    step_stats,
)
from mazejax.events.report import merge_summaries, report
from mazejax.events.summary import Bins, histogram


def integer(categories=None):
    return Attribute((), "int32", categories=categories)


class StockEvents(Topic):
    sold = Event(
        "Crates were sold.",
        {"shop": integer(2), "product": integer(("apple", "pear", "plum")), "qty": integer()},
        capacity=3,
        group_by=("shop", "product"),
        statistics=(
            step_stats("sum", "qty", "step_sold"),
            step_stats("sum", "qty", "per_shop", group_by="shop"),
            episode_stats("sum", "step_sold", "sold_sum"),
            epoch_stats("mean", "sold_sum", "mean_episode_sold"),
            epoch_stats("max", "sold_sum", "best_episode"),
        ),
    )
    stock_level = Event(
        "What is left after the step.",
        {"value": integer(12)},
        statistics=(step_stats("last"), episode_stats("mean"), epoch_stats("histogram")),
    )


SOLD, LEVEL = StockEvents.events
STOCK = EventLog.empty(StockEvents)


def day(*sales, level):
    log = STOCK
    for shop, product, qty in sales:
        log = log.fire(SOLD, shop=shop, product=product, qty=qty)
    return log.fire(LEVEL, value=level)


def stacked(*trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def test_the_worked_example_of_maze_comes_to_its_numbers():
    start = EpisodeStatistics.start(STOCK.events)
    first = start.add(day((0, 1, 3), (0, 2, 1), level=9)).add(day((0, 1, 2), level=7))
    second = start.add(day((0, 1, 9), level=3))
    value, present = first.outputs(SOLD)["sold_sum"]
    assert value.tolist() == [[0, 5, 1], [0, 0, 0]]
    assert present.tolist() == [[False, True, True], [False] * 3]
    assert first.value(LEVEL, "value") == 8.0
    value, present = second.outputs(SOLD)["sold_sum"]
    assert value[0, 1] == 9 and present.sum() == 1  # what did not happen is absent, not 0
    episodes = stacked(first, second)
    epoch = EpochStatistics.start(episodes).add(episodes, {}, jnp.array([True, True]))
    found = report("train", merge_summaries([jax.device_get(epoch.summaries())]))
    assert found.scalars == {
        "train_StockEvents/sold/mean_episode_sold/0/pear": 7.0,
        "train_StockEvents/sold/best_episode/0/pear": 9.0,
        "train_StockEvents/sold/mean_episode_sold/0/plum": 1.0,
        "train_StockEvents/sold/best_episode/0/plum": 1.0,
    }
    (drawn,) = found.distributions.values()
    assert np.flatnonzero(drawn.counts).tolist() == [3, 8]  # the means of two episodes


# --- random streams -----------------------------------------------------------------


REDUCERS = ("count", "sum", "mean", "std", "min", "max", "last")


class NoiseEvents(Topic):
    plain = Event("Without attributes.")
    number = Event(
        "A number.",
        {"value": Attribute()},
        capacity=2,
        statistics=(
            *(step_stats(reducer, "value", reducer) for reducer in REDUCERS),
            *(episode_stats(second, first, f"{first}_{second}")
              for first in ("sum", "mean", "last") for second in REDUCERS),
            episode_stats("histogram", "max", "peaks"),
            *(epoch_stats(reducer, "sum_mean", reducer) for reducer in REDUCERS),
            epoch_stats("sum", "last_last", "last_sum"),
            epoch_stats("mean", "mean_std", "mean_std"),
            epoch_stats("histogram", "peaks"),
        ),
    )  # fmt: skip
    grouped = Event(
        "By kind and by colour.",
        {"kind": integer(2), "colour": integer(3), "amount": integer()},
        capacity=3,
        group_by=("kind", "colour"),
        statistics=(
            step_stats("count", None, "times"),
            step_stats("sum", "amount", "amount"),
            episode_stats("sum", "times", "times"),
            episode_stats("max", "amount", "amount", group_by="colour"),
            epoch_stats("sum", "times", "times"),
            epoch_stats("sum", "times", "of_kind", group_by="kind"),
            epoch_stats("mean", "amount", "amount"),
        ),
    )
    rare = Event(
        "Nothing counts as zero.",
        statistics=(
            step_stats("count"),
            episode_stats("sum", "count", missing="zero"),
            epoch_stats("mean", "count", "per_episode"),
            epoch_stats("sum", "count", "ever", cumulative=True),
        ),
    )


NOISE = EventLog.empty(NoiseEvents)
T, N, S = 9, 3, 2  # flat steps, envs, sub-steps


def streams(rng, rate):
    """[T, N, S, K] of firings: which, and what they say."""
    shape = (T, N, S, 3)
    return {
        "plain": rng.random(shape) < rate,
        "number": rng.random(shape) < rate,
        "value": rng.normal(size=shape).astype(np.float32).round(2),
        "grouped": rng.random(shape) < rate,
        "kind": rng.integers(0, 2, shape, np.int32),
        "colour": rng.integers(0, 3, shape, np.int32),
        "amount": rng.integers(-5, 6, shape, np.int32),
        "rare": rng.random(shape) < rate / 4,
        "ended": rng.random((T, N)) < 0.3,
    }


def log_of(said):
    """The log of one sub-step, [K] each."""
    return (
        NOISE.fire_each(NoiseEvents.plain, said["plain"])
        .fire_each(NoiseEvents.number, said["number"], value=said["value"])
        .fire_each(
            NoiseEvents.grouped,
            said["grouped"],
            **{name: said[name] for name in ("kind", "colour", "amount")},
        )
        .fire_each(NoiseEvents.rare, said["rare"])
    )


def run(said):
    """Summaries after T flat steps of N envs: what a training loop does, in small."""
    start = EpisodeStatistics.start(NOISE.events)
    fresh = jax.tree.map(lambda x: jnp.broadcast_to(x, (N, *x.shape)), start)

    def one_flat_step(loop, said):
        episodes, epoch = loop
        ended = said.pop("ended")
        logs = [jax.vmap(lambda own, s=s: log_of({k: v[s] for k, v in own.items()}))(said)
                for s in range(S)]  # fmt: skip
        episodes = jax.vmap(lambda own, *logs: own.add(*logs))(episodes, *logs)
        epoch = epoch.add(episodes, {"steps": episodes.num_steps.astype(jnp.float32)}, ended)

        def begin_anew(new, old):
            return jnp.where(ended.reshape(N, *[1] * (new.ndim - 1)), new, old)

        return (jax.tree.map(begin_anew, fresh, episodes), epoch), None

    begin = (fresh, EpochStatistics.start(fresh, ("steps",)))
    return jax.lax.scan(one_flat_step, begin, dict(said))[0][1].summaries()


compiled = jax.jit(run)


def reduce_plainly(reducer, values):
    if reducer == "count":
        return len(values)
    if reducer == "last":
        return values[-1]
    return {"sum": np.sum, "mean": np.mean, "std": np.std, "min": np.min, "max": np.max}[reducer](
        np.asarray(values, np.float64)
    )


def finished_episodes(said):
    """Steps [(substep logs)] of the episodes that ended, in the order in which they ended."""
    running = [[] for _ in range(N)]
    for t in range(T):
        for n in range(N):
            running[n].append((t, n))
            if said["ended"][t, n]:
                yield running[n]
                running[n] = []


def slots(said, event, t, n, capacity):
    """(sub-step, slot) of what kept its attributes, in order."""
    for s in range(S):
        kept = np.flatnonzero(said[event][t, n, s])[:capacity]
        yield from ((t, n, s, k) for k in kept)


def number_plainly(said):
    """The statistics of `number` by lists."""
    epoch = collections.defaultdict(list)
    peaks = 0
    for steps in finished_episodes(said):
        by_step = [[said["value"][at] for at in slots(said, "number", t, n, 2)] for t, n in steps]
        by_step = [values for values in by_step if values]
        if by_step:
            for first in ("sum", "mean", "last"):
                given = [reduce_plainly(first, values) for values in by_step]
                for second in REDUCERS:
                    epoch[f"{first}_{second}"].append(reduce_plainly(second, given))
            peaks += len(by_step)
    return epoch, peaks


def check(said, found, without=frozenset()):
    prefix = "train_NoiseEvents"
    episodes = list(finished_episodes(said))
    epoch, peaks = number_plainly(said)
    wanted = {}
    for reducer in REDUCERS:
        if epoch["sum_mean"]:
            # Of envs that end in one step, the last is the one with the highest number.
            wanted[f"{prefix}/number/{reducer}"] = reduce_plainly(reducer, epoch["sum_mean"])
    if epoch["last_last"]:
        wanted[f"{prefix}/number/last_sum"] = np.sum(epoch["last_last"])
        wanted[f"{prefix}/number/mean_std"] = np.mean(epoch["mean_std"])
    plain = [sum(said["plain"][at].sum() for at in steps) for steps in episodes]
    if any(plain):
        wanted[f"{prefix}/plain/mean_episode_total"] = np.mean([x for x in plain if x])
        wanted[f"{prefix}/plain/total"] = sum(plain)
    rare = [sum(said["rare"][at].sum() for at in steps) for steps in episodes]
    if episodes:
        wanted[f"{prefix}/rare/per_episode"] = np.mean(rare)
        wanted[f"{prefix}/rare/ever"] = sum(rare)
        for reducer in ("mean", "std", "min", "max"):
            lengths = [len(steps) for steps in episodes]
            wanted[f"train_BaseEnvEvents/kpi/{reducer}/steps"] = reduce_plainly(reducer, lengths)
    wanted |= grouped_plainly(said, episodes, f"{prefix}/grouped")
    for name, capacity in (("number", 2), ("grouped", 3)):
        fired = [said[name][at].sum(axis=-1) for steps in episodes for at in steps]
        lost = sum(int(np.maximum(each - capacity, 0).sum()) for each in fired)
        if lost:
            wanted[f"train_BaseEnvEvents/lost_firings/sum/NoiseEvents.{name}"] = lost
    assert found.scalars.keys() == wanted.keys()
    for tag, value in wanted.items():
        if tag in without:
            continue
        exact = tag.endswith(("/total", "/count", "/ever")) or "/times/" in tag or "of_kind" in tag
        np.testing.assert_allclose(
            found.scalars[tag], value, rtol=0 if exact else 1e-5, atol=0 if exact else 1e-5,
            err_msg=tag,
        )  # fmt: skip
    drawn = found.distributions.get(f"{prefix}/number")
    assert (drawn.total if drawn else 0) == peaks


def grouped_plainly(said, episodes, prefix):
    wanted = {}
    times, amounts = collections.Counter(), collections.defaultdict(list)
    for steps in episodes:
        best = collections.defaultdict(list)
        for t, n in steps:
            of_step = collections.defaultdict(int)
            for at in slots(said, "grouped", t, n, 3):
                cell = int(said["kind"][at]), int(said["colour"][at])
                times[cell] += 1
                of_step[cell] += int(said["amount"][at])
            for (_, colour), amount in of_step.items():
                best[colour].append(amount)
        for colour, values in best.items():
            amounts[colour].append(max(values))
    for (kind, colour), number in times.items():
        wanted[f"{prefix}/times/{kind}/{colour}"] = number
        tag = f"{prefix}/of_kind/{kind}"
        wanted[tag] = wanted.get(tag, 0) + number
    for colour, values in amounts.items():
        wanted[f"{prefix}/amount/{colour}"] = np.mean(values)
    return wanted


@hypothesis.given(seed=st.integers(0, 2**32 - 1), rate=st.sampled_from([0.0, 0.1, 0.5, 0.95]))
def test_random_streams_come_to_what_lists_come_to(seed, rate):
    said = streams(np.random.default_rng(seed), rate)
    check(said, report("train", merge_summaries([jax.device_get(compiled(dict(said)))]), {}))


def test_epochs_over_devices_and_over_rows_are_one_epoch():
    rng = np.random.default_rng(5)
    halves = [streams(rng, 0.5) for _ in range(2)]
    mesh = jax.make_mesh((1,), ("devices",))
    spec = jax.sharding.PartitionSpec()
    spread = jax.jit(
        jax.shard_map(
            lambda said: devices.merge_metrics(run(said), "devices"),
            mesh=mesh, in_specs=(spec,), out_specs=spec, check_vma=False,
        )
    )  # fmt: skip
    rows = [jax.device_get(spread(dict(said))) for said in halves]
    both = {name: np.concatenate([half[name] for half in halves], axis=1) for name in halves[0]}
    global N
    N = 6
    try:
        # Both halves begin at time 0, so which episode was the last is another question.
        check(both, report("train", merge_summaries(rows), {}), {"train_NoiseEvents/number/last"})
    finally:
        N = 3


def test_envs_that_end_later_have_the_last_word():
    said = streams(np.random.default_rng(1), 0.9)
    eager = report("train", merge_summaries([jax.device_get(run(dict(said)))]), {})
    check(said, eager)


def test_what_is_cumulative_goes_on_and_is_repeated():
    said = streams(np.random.default_rng(2), 0.9)
    row = jax.device_get(compiled(dict(said)))
    totals = {}
    tag = "train_NoiseEvents/rare/ever"
    first = report("train", merge_summaries([row]), totals).scalars[tag]
    assert report("train", merge_summaries([row]), totals).scalars[tag] == 2 * first > 0
    assert report("train", {}, totals).scalars == {tag: 2 * first}
    assert report("eval", {}, totals).scalars == {}


# --- declarations ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statistics", "words"),
    [
        ((step_stats("mean", "size"),), "'size' is given by nothing before; did you mean 'sizes'"),
        ((episode_stats("sum", "totl"), step_stats("sum", "sizes", "total")), "'totl'.*'total'"),
        ((step_stats("mean"),), "needs an attribute"),
        ((step_stats("sum", "sizes", "x"), step_stats("max", "sizes", "x")), "two outputs .* 'x'"),
        ((step_stats("sum", "sizes", group_by="sort"),), "not grouped by it"),
    ],
)  # fmt: skip
def test_statistics_that_do_not_chain_are_refused(statistics, words):
    attributes = {"sizes": Attribute(), "weight": Attribute()}
    with pytest.raises(ConfigError, match=words):
        Event("Something.", attributes, statistics=statistics)


def test_reducers_are_named_and_belong_to_their_level():
    with pytest.raises(ConfigError, match="unknown reducer 'men'; did you mean 'mean'"):
        step_stats("men")
    with pytest.raises(ConfigError, match="give its name"):
        epoch_stats(max)
    with pytest.raises(ConfigError, match="unknown reducer 'median'"):
        episode_stats("median")
    with pytest.raises(ConfigError, match="only sums and counts go on"):
        epoch_stats("mean", cumulative=True)
    with pytest.raises(ConfigError, match="only sums and counts of nothing are zero"):
        episode_stats("mean", missing="zero")


def test_declarations_that_could_not_be_kept_are_refused():
    quantity = {"v": Attribute()}
    with pytest.raises(ConfigError, match="epochs reduce episodes, not steps; add episode_stats"):
        Event("x", quantity, statistics=(step_stats("sum", "v"), epoch_stats("mean", "v")))

    class Late(Topic):
        ended = Event("x", quantity, statistics=epoch_stats("mean", "v"))

    with pytest.raises(EnvError, match="has epoch_stats alone"):
        EpisodeStatistics.start(Late.events)
    with pytest.raises(EnvError, match="an event without a topic"):
        EventLog.empty(Event("x"))
    for categories in (0, (), ("a", "a")):
        with pytest.raises(ConfigError, match="positive number of categories or different names"):
            Event("x", {"kind": integer(categories)})


def test_firings_of_a_group_that_there_is_not_are_counted_as_lost():
    log = NOISE.fire(NoiseEvents.grouped, kind=1, colour=3, amount=2)
    log = log.fire(NoiseEvents.grouped, kind=-1, colour=0, amount=2)
    log = log.fire(NoiseEvents.grouped, kind=1, colour=2, amount=2)
    episode = EpisodeStatistics.start(NOISE.events).add(log)
    assert int(episode.lost[episode.events.index(NoiseEvents.grouped)]) == 2
    value, present = episode.outputs(NoiseEvents.grouped)["times"]
    assert value.sum() == present.sum() == 1 and int(episode.count(NoiseEvents.grouped)) == 3


def test_many_values_fall_into_the_bins_of_few():
    rng = np.random.default_rng(3)
    values = jnp.asarray(rng.normal(size=(600, 2)).astype(np.float32) * 100)
    where = jnp.asarray(rng.random((600, 2)) < 0.7)
    bins = Bins(-5.0, 5.0, 16, stretched=True)
    few = sum(histogram(values[i : i + 100], where[i : i + 100], bins) for i in range(0, 600, 100))
    np.testing.assert_array_equal(histogram(values, where, bins), few)
    assert int(few.sum()) == int(where.sum())


def test_a_report_is_asked_by_event_output_and_groups():
    row = jax.device_get(compiled(streams(np.random.default_rng(0), 0.9)))
    found = report("eval", merge_summaries([row]))
    wanted = found.scalars["eval_NoiseEvents/grouped/times/1/2"]
    assert found.value(NoiseEvents.grouped, "times", 1, 2) == wanted > 0
    assert np.isnan(found.value(SOLD, "best_episode", 0, 1))
