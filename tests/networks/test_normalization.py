"""Running statistics against the whole stream in float64, however it comes in parts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mazejax import random
from mazejax.networks import normalization
from mazejax.networks.normalization import CLIP, RunningStatistics
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box, Discrete, MultiBinary, MultiDiscrete
from tests.networks.streams import assert_statistics, by_path, mean_of

add = jax.jit(lambda statistics, values, where: statistics.add(values, where))
merge = jax.jit(lambda one, other: one.merge(other))
normalize = jax.jit(lambda statistics, values: statistics.normalize(values))


def assert_same(one, other):
    """To the bit."""
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(one), jax.device_get(other))


# --- streams in parts -----------------------------------------------------------------------

ROWS = 6


@given(
    parts=st.lists(st.integers(0, 2**ROWS - 1), min_size=1, max_size=12),
    offset=st.sampled_from([0.0, -3.0, 1e4]),
    spread=st.sampled_from([1e-2, 1.0, 1e6]),
    seed=st.integers(0, 2**16),
)
def test_however_a_stream_is_cut_and_masked_the_statistics_are_those_of_what_counts(
    parts, offset, spread, seed
):
    """Each part is six rows, the bits of its number say which of them count."""
    masks = [np.array([number >> i & 1 for i in range(ROWS)], bool) for number in parts]
    draws = np.random.default_rng(seed).normal(size=(len(parts), ROWS, 2)) * [1.0, 1e-3]
    values = (offset + spread * draws).astype(np.float32)
    statistics = RunningStatistics.start((2,))
    for part, where in zip(values, masks, strict=True):
        # What does not count may be anything.
        statistics = add(statistics, np.where(where[:, None], part, np.nan), where)
    counted = values[np.stack(masks)]
    if len(counted) == 0:
        assert_same(statistics, RunningStatistics.start((2,)))
        return
    assert_statistics(statistics, counted)


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
@pytest.mark.parametrize("batch", [(), (5,), (4, 3), (4, 3, 2)])
def test_batches_have_any_axes_such_as_time_envs_and_slots(batch, shape):
    draws = np.random.default_rng(0).normal(2.0, 3.0, (4, *batch, *shape)).astype(np.float32)
    statistics = RunningStatistics.start(shape)
    for values in draws:
        statistics = add(statistics, values, None)
    assert_statistics(statistics, draws.reshape(-1, *shape))
    assert statistics.mean.shape == statistics.variance.shape == shape


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "float16"])
def test_numbers_of_any_type_are_counted_as_what_they_are(dtype):
    draws = np.random.default_rng(1).integers(0, 127, (3, 8, 2)).astype(dtype)
    statistics = RunningStatistics.start((2,))
    for values in draws:
        statistics = add(statistics, values, None)
    assert_statistics(statistics, draws.reshape(-1, 2))
    got, wanted = normalize(statistics, draws[0]), draws[0] - np.asarray(statistics.mean)
    np.testing.assert_allclose(got, wanted / np.sqrt(statistics.variance), rtol=1e-5)
    assert got.dtype == jnp.float32


@pytest.mark.parametrize("offset", [1e6, -3e4])
def test_a_large_offset_with_a_small_spread_keeps_its_digits(offset):
    draws = np.random.default_rng(2).uniform(-1.0, 1.0, (60, 7, 3))
    values = (offset + draws).astype(np.float32)
    statistics = RunningStatistics.start()
    for part in values:
        statistics = add(statistics, part, None)
    assert_statistics(statistics, values.reshape(-1), rtol=1e-5)
    exact = values.astype(np.float64)
    normalized = (exact - exact.mean()) / exact.std()
    np.testing.assert_allclose(normalize(statistics, values), normalized, atol=1e-4)


def test_a_mean_of_a_million_follows_what_changes_late():
    """A thousandth of the change is less than half of what tells floats of a million apart."""
    values = np.full((1500, 4), 1e6, np.float32) + np.float32([-1.0, 1.0, -1.0, 1.0])
    values[1000:] += np.float32(3.0)

    @jax.jit
    def after(values):
        begin = RunningStatistics.start()
        return jax.lax.scan(lambda s, part: (s.add(part), None), begin, values)[0]

    assert_statistics(after(values), values.reshape(-1), rtol=1e-4)
    np.testing.assert_allclose(mean_of(after(values)), 1e6 + 1.0, atol=1e-4)


def test_what_is_known_of_huge_numbers_stays_finite():
    rows = np.array([1e20, 3e20], np.float32)
    statistics = add(RunningStatistics.start(), rows, None)
    np.testing.assert_allclose([statistics.mean, np.sqrt(statistics.variance)], [2e20, np.inf])
    once = add(RunningStatistics.start(), rows[:1], None)
    np.testing.assert_allclose([once.mean, once.variance], [1e20, 0.0])


def test_a_mask_that_is_nowhere_true_changes_nothing():
    known = add(RunningStatistics.start((2,)), np.float32([[1.0, 5.0], [2.0, 8.0]]), None)
    for before in (RunningStatistics.start((2,)), known):
        after = add(before, np.full((3, 2), np.inf, np.float32), np.zeros(3, bool))
        assert_same(after, before)


@pytest.mark.parametrize("sizes", [(5, 9), (1, 1), (0, 4), (4, 0), (0, 0)])
def test_two_streams_merge_into_the_one_of_both(sizes):
    draws = np.random.default_rng(3).normal(size=(2, 9, 2)).astype(np.float32)
    draws += np.float32([1e3, 2e3])[:, None, None]
    counts = np.arange(9)[None, :] < np.array(sizes)[:, None]
    start = RunningStatistics.start((2,))
    one, other = add(start, draws[0], counts[0]), add(start, draws[1], counts[1])
    if sum(sizes) == 0:
        assert_same(merge(one, other), start)
        return
    assert_statistics(merge(one, other), draws[counts])
    assert_statistics(merge(other, one), draws[counts])


def test_streams_side_by_side_merge_each_with_its_own():
    """As of agents with networks of their own; here as many as entries, which must not mix."""
    draws = np.random.default_rng(3).normal(size=(2, 3, 4, 3)).astype(np.float32)
    draws = draws * np.float32([1.0, 10.0, 100.0])[:, None, None]
    counts = np.arange(4)[None, :] < np.array([1, 2, 4])[:, None]
    start = jax.vmap(lambda _: RunningStatistics.start((3,)))(jnp.arange(3))
    one = jax.vmap(add)(start, draws[0], counts)
    other = jax.vmap(add)(start, draws[1], np.ones((3, 4), bool))
    merged = merge(one, other)
    for i in range(3):
        own = jax.tree.map(lambda x, i=i: x[i], merged)
        assert_statistics(own, np.concatenate([draws[0, i][counts[i]], draws[1, i]]), rtol=1e-4)


def test_beyond_what_float32_counts_old_rows_fade_and_the_variance_stays():
    """Eight rows more than 2^27 are 2^27: so many updates later the spread must be the same."""
    rows = jnp.float32([-1.0, 1.0] * 4)
    full = RunningStatistics.start().replace(count=jnp.float32(2.0**27))

    @jax.jit
    def after(statistics):
        return jax.lax.fori_loop(0, 200_000, lambda _, s: s.add(rows), statistics)

    statistics = after(full)
    assert statistics.count == 2.0**27
    np.testing.assert_allclose([statistics.mean, statistics.variance], [0.0, 1.0], atol=1e-3)
    assert 1.0 < after(full.replace(variance=jnp.float32(4.0))).variance < 4.0


# --- over devices ---------------------------------------------------------------------------


def test_statistics_over_devices_are_those_of_all_rows_together():
    """Devices have different numbers of rows that count, one has none."""
    draws = np.random.default_rng(4).normal(50.0, 1.0, (4, 6, 3, 2)).astype(np.float32)
    where = np.random.default_rng(5).uniform(size=(4, 6, 3)) < 0.4
    where[2] = False
    known = add(RunningStatistics.start((2,)), draws[0, 0], None)

    @functools.partial(jax.vmap, axis_name="devices", in_axes=(None, 0, 0))
    def spread(statistics, values, where):
        return statistics.add(values, where, "devices")

    everywhere = jax.jit(spread)(known, draws, where)
    for device in range(4):
        one = jax.tree.map(lambda x, device=device: x[device], everywhere)
        assert_statistics(one, np.concatenate([draws[0, 0], draws[where]]), rtol=1e-4)
        assert_same(one, jax.tree.map(lambda x: x[0], everywhere))


# --- normalizing ----------------------------------------------------------------------------


def test_of_nothing_seen_nothing_changes_but_what_is_clipped():
    values = np.float32([[-9.5, 0.1], [1e-7, 11.0], [-np.inf, 3.0]])
    got = normalize(RunningStatistics.start((2,)), values)
    np.testing.assert_array_equal(got, np.clip(values, -10.0, 10.0))


@pytest.mark.parametrize("count", [1, 7, 21, 1000])
@pytest.mark.parametrize("constant", [0.0, 0.1, -3e-8, 1e6 + 0.3125, -123456.7, 1e20])
def test_what_never_changes_becomes_zero(constant, count):
    values = np.full(count, constant, np.float32)
    statistics = add(RunningStatistics.start(), values, None)
    for grown in (statistics, add(statistics, values, None), merge(statistics, statistics)):
        np.testing.assert_allclose(normalize(grown, values), 0.0, atol=1e-3)
        assert grown.variance <= 1e-6 * constant**2


def test_normalized_numbers_are_at_most_ten():
    rows = np.float32([[0.0, 5.0], [2.0, 5.0]])
    statistics = add(RunningStatistics.start((2,)), rows, None)
    got = normalize(statistics, np.float32([[1.5, 5.0], [1e9, 5.1], [-9.0, -np.inf]]))
    np.testing.assert_allclose(got, [[0.5, 0.0], [10.0, 10.0], [-10.0, -10.0]])
    assert CLIP == 10.0


# --- observations of any space --------------------------------------------------------------

SPACE = Dict(
    {
        "position": Box(-np.inf, np.inf, (2,)),
        "image": Box(0, 255, (2, 3), "uint8"),
        "scalar": Box(-1.0, 1.0, ()),
        "action_mask": Box(False, True, (4,), bool),
        "bitmap": Box(False, True, (2, 2), bool),
        "kind": Discrete(3, start=-1),
        "inner": Dict({"levels": MultiDiscrete([2, 3]), "on": MultiBinary(2), "steps": Box(0, 9)}),
    }
)
NORMALIZED = ("position", "image", "scalar", "inner/steps")
start_of = normalization.start_statistics
add_observations = jax.jit(normalization.add_observations, static_argnums=0)
normalized = jax.jit(normalization.normalize_observations, static_argnums=0)


@functools.cache
def observations():
    """[T, N, S] of everything."""
    keys = jax.random.split(random.key(0), (4, 3, 2))
    sample = SPACE.sample
    for _ in range(3):
        sample = jax.vmap(sample)
    return jax.device_get(jax.jit(sample)(keys))


def test_every_box_but_those_of_bool_has_statistics_of_its_own_shape():
    statistics = start_of(SPACE)
    assert statistics.keys() == dict(SPACE).keys()
    shapes = {path: s.mean.shape for path, s in by_path(statistics).items()}
    assert shapes == {"position": (2,), "image": (2, 3), "scalar": (), "inner/steps": ()}


@pytest.mark.parametrize(
    "space", [Discrete(4), MultiDiscrete([2, 3]), MultiBinary(3), Box(False, True, (3,), bool)]
)
def test_categories_bits_and_masks_stay_as_they_are(space):
    statistics, obs = start_of(space), np.ones((5, *space.shape), space.dtype)
    assert statistics is None
    assert add_observations(space, statistics, obs, None) is None
    got = normalized(space, statistics, obs)
    np.testing.assert_array_equal(got, obs)
    assert got.dtype == obs.dtype


@pytest.mark.parametrize("masked", [False, True])
def test_each_entry_of_nested_observations_is_counted_for_itself(masked):
    obs = observations()
    where = np.random.default_rng(6).uniform(size=(4, 3, 2)) < 0.6 if masked else None
    statistics = add_observations(SPACE, start_of(SPACE), obs, where)
    chosen = np.ones((4, 3, 2), bool) if where is None else where
    rows = by_path(obs)
    for path, found in by_path(statistics).items():
        assert_statistics(found, rows[path][chosen])


def test_each_entry_of_nested_observations_is_normalized_for_itself():
    obs = observations()
    statistics = add_observations(SPACE, start_of(SPACE), obs, None)
    got, rows = by_path(normalized(SPACE, statistics, obs)), by_path(obs)
    assert jax.tree.structure(normalized(SPACE, statistics, obs)) == jax.tree.structure(obs)
    for path, row in rows.items():
        if path not in NORMALIZED:
            np.testing.assert_array_equal(got[path], row)
            assert got[path].dtype == row.dtype
            continue
        exact = row.astype(np.float64)
        mean, deviation = exact.mean((0, 1, 2)), exact.std((0, 1, 2))
        wanted = np.clip((exact - mean) / deviation, -10, 10)
        np.testing.assert_allclose(got[path], wanted, rtol=1e-4, atol=1e-5)
        assert got[path].dtype == jnp.float32
