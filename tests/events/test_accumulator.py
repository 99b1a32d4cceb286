"""Accumulators against NumPy, merged in any way, on the device and on the host."""

import hypothesis
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.algos import metrics
from mazejax.events.accumulator import Accumulator

SIZE = 24

of = jax.jit(Accumulator.of)
merge = jax.jit(Accumulator.merge)
# The squares of smaller numbers are 0 in float32.
numbers = st.floats(-1e3, 1e3, width=32).map(lambda x: x if abs(x) > 1e-6 else 0.0)
streams = arrays.arrays(np.float32, SIZE, elements=numbers)
masks = arrays.arrays(bool, SIZE, elements=st.booleans())


def assert_summarizes(summary, values, rtol=1e-5):
    """Counts and extremes are exact; the rest is to rounding relative to the largest number."""
    values = np.float64(values)
    size = np.abs(values).max()
    assert summary.count == len(values)
    assert summary.min == values.min() and summary.max == values.max()
    np.testing.assert_allclose(summary.mean, values.mean(), rtol=rtol, atol=rtol * size)
    np.testing.assert_allclose(
        summary.m2, len(values) * values.var(), rtol=rtol, atol=rtol * len(values) * size**2
    )


def test_a_summary_holds_count_mean_spread_and_extremes():
    summary = of(jnp.array([1.0, 2.0, 6.0]))
    # mean 3, m2 = 4 + 1 + 9
    assert jax.tree.map(float, summary) == Accumulator(3.0, 3.0, 14.0, 1.0, 6.0)
    assert [leaf.dtype for leaf in jax.tree.leaves(summary)] == [jnp.int32] + 4 * [jnp.float32]


@hypothesis.given(streams, masks)
def test_masked_values_do_not_count_even_if_they_are_nan(values, where):
    hypothesis.assume(where.any())
    summary = of(np.where(where, values, np.nan), where)
    assert_summarizes(summary, values[where])


@hypothesis.given(streams, masks)
def test_merging_any_two_parts_gives_the_summary_of_the_whole(values, where):
    merged = merge(of(values, where), of(values, ~where))
    assert_summarizes(merged, values)


@hypothesis.given(streams, st.lists(st.integers(0, 5), min_size=SIZE, max_size=SIZE))
def test_rows_merge_exactly_on_the_host_under_any_split(values, owner):
    parts = [of(values, np.array(owner) == i) for i in range(6)]
    merged = metrics.merge_rows([{"x": jax.device_get(part)} for part in parts])["x"]
    wide = np.float64(values)
    size = np.abs(wide).max()
    assert merged["count"] == SIZE
    assert (merged["min"], merged["max"]) == (wide.min(), wide.max())
    np.testing.assert_allclose(merged["mean"], wide.mean(), rtol=1e-6, atol=1e-6 * size)
    np.testing.assert_allclose(merged["std"] ** 2, wide.var(), rtol=1e-5, atol=1e-5 * size**2)


def test_merging_with_an_empty_summary_changes_nothing():
    values = jnp.array([0.1, -3.0, 1e6])
    empty = of(jnp.full(3, jnp.nan), jnp.zeros(3, bool))
    assert empty.count == 0 and np.isnan(empty.mean) and np.isnan(empty.std)
    for merged in (merge(of(values), empty), merge(empty, of(values))):
        assert merged == of(values)
    assert merge(empty, empty) == empty


@pytest.mark.parametrize("num", [1000, 65_536])
@pytest.mark.parametrize("offset", [1e6, -1e6])
def test_the_spread_of_numbers_around_a_million_is_right(offset, num):
    values = (np.random.default_rng(0).normal(size=num) + offset).astype(np.float32)
    wide = np.float64(values)
    parts = [of(part) for part in np.split(values, 4)]
    merged = merge(merge(parts[0], parts[1]), merge(parts[2], parts[3]))
    # float32 holds a mean near a million to 0.03, which the spread between merged parts shows.
    for summary, tolerance in ((of(values), 1e-5), (merged, 4e-3)):
        np.testing.assert_allclose(summary.mean, wide.mean(), atol=0.1)
        deviation = np.sqrt(summary.m2 / len(values))
        np.testing.assert_allclose(deviation, wide.std(), rtol=tolerance)


@pytest.mark.parametrize("constant", [0.1, -7.7, 1e6 + 0.3])
def test_equal_numbers_have_no_spread(constant):
    summary = of(jnp.full(1000, constant))
    assert summary.mean == np.float32(constant)
    assert 0 <= np.sqrt(summary.m2 / 1000) <= 1e-6 * abs(constant)


def test_arrays_of_any_shape_and_number_type_become_one_summary():
    assert of(jnp.arange(6).reshape(1, 2, 3)) == of(jnp.arange(6.0))
    assert of(jnp.array([True, False, True, True])).mean == 0.75
    assert of(5).count == 1


def test_summaries_with_leading_axes_merge_elementwise():
    values = np.arange(16, dtype=np.float32).reshape(2, 4, 2)
    many = jax.jit(jax.vmap(jax.vmap(Accumulator.of)))(values)
    merged = merge(*(jax.tree.map(lambda leaf, i=i: leaf[:, i], many) for i in range(2)))
    assert many.mean.shape == (2, 4) and merged.mean.shape == (2,)
    for i in range(2):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], merged)
        assert_summarizes(one, values[i, :2].ravel())


def test_not_finite_numbers_are_not_hidden():
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        summary = of(jnp.array([1.0, bad, 2.0]))
        assert not jnp.isfinite(summary.mean)
        assert not jnp.isfinite(merge(of(jnp.ones(3)), summary).mean)


def test_what_did_not_happen_is_absent_and_not_zero():
    nothing = jax.device_get(of(jnp.zeros(2), jnp.zeros(2, bool)))
    something = jax.device_get(of(jnp.array([3.0, 5.0])))
    rows = [{"never": nothing, "later": nothing}, {"never": nothing, "later": something}]
    assert metrics.merge_rows(rows) == {
        "later": {"count": 2, "mean": 4.0, "std": 1.0, "min": 3.0, "max": 5.0}
    }
    assert metrics.merge_rows([]) == {}
    assert metrics.merge_rows([{}]) == {}


def test_host_summaries_of_many_rows_do_not_lose_small_numbers():
    # 2^24 + 1 has no float32; 2^24 values of 1 and one of 0 do show in float64.
    many = Accumulator(np.int32(2**24), np.float32(1), np.float32(0), np.float32(1), np.float32(1))
    one = Accumulator(np.int32(1), np.float32(0), np.float32(0), np.float32(0), np.float32(0))
    merged = metrics.merge_rows([{"x": many}, {"x": one}])["x"]
    assert merged["count"] == 2**24 + 1
    np.testing.assert_allclose(merged["mean"], 2**24 / (2**24 + 1), rtol=1e-12)
