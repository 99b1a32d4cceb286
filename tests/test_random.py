"""Exactness of keys and draws, and the statistics of the "counter" implementation.

All keys are fixed, so every statistic is the same in each run: a failure is a change of
the bits, not bad luck. Bounds are |z| < 5 and p > 1e-6 (two-sided) for whole families.
"""

import itertools
import math
import pickle
import subprocess
import sys
import zlib

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import strategies

from mazejax import random
from mazejax.errors import ConfigError

N = 2**18  # draws in a stream
ROW = 2**9  # of nested streams: N = ROW * ROW
PART = 2**16  # of a stream, for what costs more


def words(key):
    return np.asarray(jax.random.key_data(key))


def same(one, other):
    return one.dtype == other.dtype and np.array_equal(words(one), words(other))


# --- a reference in plain Python ------------------------------------------------------

WORD = 2**32
GOLDEN, FOLD, SPLIT, SEED = 0x9E3779B9, 0x243F6A88, 0x85A308D3, 0x13198A2E


def mix(x):
    x %= WORD
    x = (x ^ x >> 16) * 0x7FEB352D % WORD
    x = (x ^ x >> 15) * 0x846CA68B % WORD
    return x ^ x >> 16


def child(key, index, tag):
    a, b = key
    a, b = b, a ^ mix(b + index * GOLDEN + tag)
    return b, a ^ mix(b + (tag ^ GOLDEN))


def seeded(seed):
    return child(child((seed % WORD, seed // WORD % WORD), 0, SEED), 0, SEED)


def bits(key, counter):
    return mix(mix(counter * GOLDEN + key[1]) ^ key[0])


@pytest.mark.parametrize("seed", [0, 1, 42, 2**31, 2**32 - 1, 2**32 + 1, 2**64 - 1, -1, -(2**63)])
def test_a_seed_gives_the_key_of_the_reference(seed):
    assert tuple(words(random.key(seed))) == seeded(seed)


def test_draws_and_children_are_those_of_the_reference():
    key, reference = random.key(7), seeded(7)
    drawn = jax.random.bits(key, (3, 4), jnp.uint32)
    assert drawn.ravel().tolist() == [bits(reference, c) for c in range(12)]
    halves = jax.random.bits(key, (5,), jnp.uint16)
    assert halves.tolist() == [bits(reference, c) % 2**16 for c in range(5)]
    children = jax.random.split(key, (2, 2))
    assert [tuple(w) for w in words(children).reshape(4, 2)] == [
        child(reference, i, SPLIT) for i in range(4)
    ]
    for data in (0, 1, 2**31, 2**32 - 1):
        assert tuple(words(jax.random.fold_in(key, data))) == child(reference, data, FOLD)
    name = zlib.crc32(b"reset")
    assert tuple(words(random.stream(key, "reset"))) == child(reference, name, FOLD)


def test_the_bits_of_this_version_never_change():
    key = random.key(0)
    assert random.VERSION == 1
    assert words(key).tolist() == [2691449828, 367704602]
    assert jax.random.bits(key, (3,), jnp.uint32).tolist() == [4238891168, 1007317856, 629022691]
    assert words(random.stream(jax.random.fold_in(key, 1), "env")).tolist() == [
        2185143857,
        2087991137,
    ]


# --- keys -----------------------------------------------------------------------------


def test_seeds_as_arrays_give_the_keys_of_the_same_integers():
    seeds = np.array([0, 1, -1, 2**31 - 1, -(2**31)], np.int32)
    keys = jax.vmap(random.key)(jnp.asarray(seeds))
    for seed, key in zip(seeds, keys, strict=True):
        assert same(key, random.key(int(seed))) and same(key, random.key(seed))
    assert same(random.key(jnp.uint32(2**32 - 1)), random.key(2**32 - 1))
    assert not same(random.key(-1), random.key(2**32 - 1))


def test_the_high_word_of_a_seed_counts_with_and_without_64_bit_types():
    wide = [2**32 + 1, 2**40 + 1, -(2**32) + 1, 1]
    keys = [words(random.key(seed)).tolist() for seed in wide]
    assert len({tuple(key) for key in keys}) == 4
    with jax.enable_x64(True):
        assert [words(random.key(seed)).tolist() for seed in wide] == keys
        traced = jax.jit(jax.vmap(random.key))(np.array(wide, np.int64))
        assert words(traced).tolist() == keys


def test_seeds_of_other_implementations_are_those_of_jax_which_drops_the_high_word():
    assert same(random.key(5, "threefry2x32"), jax.random.key(5, impl="threefry2x32"))
    assert same(random.key(2**32 + 1, "threefry2x32"), random.key(1, "threefry2x32"))


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1])
def test_a_seed_of_more_than_64_bits_is_an_error(seed):
    with pytest.raises(ConfigError, match=r"^seed: must be from -2\^63 to 2\^64 - 1, got"):
        random.key(seed)


def test_an_unknown_implementation_is_an_error_with_a_suggestion():
    with pytest.raises(ConfigError, match=r"'threefry'.*did you mean 'threefry2x32'\?"):
        random.key(0, "threefry")
    with pytest.raises(ConfigError, match="known names: counter, rbg, threefry2x32, unsafe_rbg"):
        random.as_key(random.key(0), "no such")


@pytest.mark.parametrize("impl", ["counter", "threefry2x32", "rbg", "unsafe_rbg"])
def test_the_name_of_an_implementation_makes_and_tells_it(impl):
    key = random.key(3, impl)
    assert random.is_key(key) and random.impl_name(key) == impl
    assert random.impl_name(jax.random.split(key, 3)) == impl
    assert random.as_key(key, impl) is key
    wrapped = random.wrap_words(jax.random.key_data(key), impl)
    assert same(wrapped, key) and random.impl_name(wrapped) == impl


def test_what_is_no_typed_key_is_told_apart():
    for value in (jnp.zeros(2, jnp.uint32), np.zeros(2, np.uint32), 0, None, "key"):
        assert not random.is_key(value)
        with pytest.raises(ConfigError, match=r"expected a typed key.*got .*wrap_key_data"):
            random.as_key(value)
    assert jax.jit(lambda key: jnp.bool_(random.is_key(key)))(random.key(0))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "philox2x32", "threefry4x32"])
def test_foreign_keys_seed_counter_keys_one_by_one(impl):
    keys = jax.random.split(jax.random.key(5, impl=impl), (2, 3))
    ours = random.as_key(keys)
    assert ours.shape == (2, 3) and random.impl_name(ours) == "counter"
    assert len({tuple(w) for w in words(ours).reshape(6, 2)}) == 6
    assert same(ours[1, 2], random.as_key(keys[1, 2]))
    assert same(ours, jax.jit(jax.vmap(random.as_key))(keys))


def test_every_word_of_a_foreign_key_counts():
    base = jnp.arange(4, dtype=jnp.uint32)
    changed = [base, *(base.at[i].add(1) for i in range(4))]
    ours = [words(random.as_key(random.wrap_words(w, "rbg"))).tolist() for w in changed]
    assert len({tuple(w) for w in ours}) == 5


def test_counter_keys_seed_keys_of_other_implementations():
    keys = random.as_key(jax.random.split(random.key(5), 4), "threefry2x32")
    assert keys.shape == (4,) and random.impl_name(keys) == "threefry2x32"
    assert len({tuple(w) for w in words(keys)}) == 4
    assert same(keys[2], random.as_key(jax.random.split(random.key(5), 4)[2], "threefry2x32"))


def test_foreign_keys_of_neighbouring_seeds_seed_unrelated_keys():
    seeds = jnp.arange(2**14)
    keys = jax.jit(jax.vmap(lambda s: random.as_key(jax.random.key(s))))(seeds)
    signs = plus_minus(words(keys)[:, 0])
    assert np.abs(signs.sum(0)).max() < 5 * math.sqrt(2**14)
    assert largest_correlation(signs[1:], signs[:-1]) < 5


def test_keys_can_be_pickled():
    keys = jax.random.split(random.key(0), 2)
    assert same(pickle.loads(pickle.dumps(keys)), keys)


def test_splits_folds_and_draws_are_the_same_under_vmap_and_jit():
    keys = jax.random.split(random.key(1), 5)
    data = jnp.arange(5, dtype=jnp.uint32) * jnp.uint32(2**30)

    def everything(key, data):
        folded = jax.random.fold_in(key, data)
        kids = jax.random.split(folded, (2, 3))
        draws = jax.random.bits(folded, (2, 2), jnp.uint32), jax.random.bits(key, (3,), jnp.uint8)
        return jax.random.key_data(kids), jax.random.key_data(random.stream(key, "x")), *draws

    single = [everything(key, value) for key, value in zip(keys, data, strict=True)]
    expected = [np.stack(parts) for parts in zip(*single, strict=True)]
    for run in (jax.vmap(everything), jax.jit(jax.vmap(everything))):
        for got, want in zip(run(keys, data), expected, strict=True):
            assert got.dtype == want.dtype and np.array_equal(got, want)


def test_64_bit_draws_are_two_words_of_the_stream():
    with jax.enable_x64(True):
        drawn = jax.random.bits(random.key(3), (4,), jnp.uint64)
        key = seeded(3)
        assert drawn.tolist() == [bits(key, 2 * c) * WORD + bits(key, 2 * c + 1) for c in range(4)]


def test_streams_of_names_are_told_apart_in_every_process():
    names = ["reset", "env", "policy", "Policy", "", "é"]
    keys = [tuple(words(random.stream(random.key(0), name)).tolist()) for name in names]
    assert len(set(keys)) == len(names)
    code = (
        "import jax; from mazejax import random;"
        "print(jax.random.key_data(random.stream(random.key(0), 'policy')).tolist())"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert output.strip() == str(list(keys[2]))


# --- statistics of the bits -----------------------------------------------------------


def plus_minus(values):
    """Bits of uint32 [n] as -1 and 1, float32 [n, 32]."""
    octets = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), 4)
    return np.unpackbits(octets, axis=1).astype(np.float32) * 2 - 1


def largest_correlation(one, other):
    """Largest |z| of the 32 x 32 correlations between the bits of two streams."""
    return np.abs(one.T @ other).max() / math.sqrt(len(one))


def p_value(counts, expected=None):
    """Two-sided p of Pearson's chi-square: too even is as wrong as too uneven."""
    counts = np.asarray(counts, np.float64).ravel()
    expected = counts.sum() / counts.size if expected is None else expected
    statistic = ((counts - expected) ** 2 / expected).sum()
    below = scipy.stats.chi2.cdf(statistic, counts.size - 1)
    return 2 * min(below, scipy.stats.chi2.sf(statistic, counts.size - 1))


STREAMS = (
    *("counter", "bytes", "lanes", "second draw of lanes", "splits", "nested splits"),
    *("env then time", "time then env", "env then episode", "seeds", "chain"),
)


@pytest.fixture(scope="module")
def streams():
    """{name: (uint32 [N] draws, uint64 [N] keys or None)}."""
    fold = jax.random.fold_in

    def grid(function):
        row = jnp.arange(ROW, dtype=jnp.uint32)
        return jax.vmap(lambda i: jax.vmap(lambda j: function(i, j))(row))(row).reshape(N)

    def link(key, _):
        key = fold(key, 2**31)
        return key, key

    @jax.jit
    def draw(key):
        index = jnp.arange(N, dtype=jnp.uint32)
        lanes = jax.vmap(lambda i: fold(key, i))(index)
        keys = {
            "lanes": lanes,
            "splits": jax.random.split(key, N),
            "nested splits": jax.vmap(lambda k: jax.random.split(k, ROW))(
                jax.random.split(random.stream(key, "nested"), ROW)
            ).reshape(N),
            "env then time": grid(
                lambda i, t: random.stream(fold(fold(fold(key, i), 0), t), "env")
            ),
            "time then env": grid(
                lambda t, i: random.stream(fold(fold(fold(key, i), 0), t), "act")
            ),
            "env then episode": grid(lambda i, e: random.stream(fold(fold(key, i), e), "reset")),
            "seeds": jax.vmap(random.key)(index),
            "chain": jax.lax.scan(link, key, None, N)[1],
        }
        draws = {name: jax.vmap(lambda k: jax.random.bits(k, ()))(k) for name, k in keys.items()}
        draws["counter"] = jax.random.bits(key, (N,))
        octets = jax.random.bits(random.stream(key, "bytes"), (N, 4), jnp.uint8)
        draws["bytes"] = jax.lax.bitcast_convert_type(octets, jnp.uint32)
        draws["second draw of lanes"] = jax.vmap(lambda k: jax.random.bits(k, (2,))[1])(lanes)
        return draws, {name: jax.random.key_data(k) for name, k in keys.items()}

    draws, keys = jax.device_get(draw(random.key(7)))
    packed = {
        name: k[:, 0].astype(np.uint64) << np.uint64(32) | k[:, 1] for name, k in keys.items()
    }
    return {name: (draws[name], packed.get(name)) for name in STREAMS}


@pytest.mark.parametrize("name", STREAMS)
def test_bytes_and_nibbles_of_a_stream_are_uniform(streams, name):
    draws, _ = streams[name]
    for size in (8, 4):
        for shift in range(0, 32, size):
            part = (draws >> shift) & (2**size - 1)
            assert p_value(np.bincount(part, minlength=2**size)) > 1e-6
    assert np.abs(plus_minus(draws).sum(0)).max() < 5 * math.sqrt(N)


@pytest.mark.parametrize("name", STREAMS)
def test_neighbours_in_a_stream_are_independent(streams, name):
    draws, _ = streams[name]
    signs = plus_minus(draws[:PART])
    for lag in (1, 2, 64, ROW - 1, ROW, ROW + 1):  # of nested streams: along both axes
        assert largest_correlation(signs[lag:], signs[:-lag]) < 5
        for shift in (0, 28):
            first, second = (draws >> shift) & 15, (draws >> 28) & 15
            pairs = np.bincount(first[:-lag] * 16 + second[lag:], minlength=256)
            assert p_value(pairs) > 1e-6


def test_the_bits_of_draws_are_independent_within_streams_and_between_them(streams):
    signs = np.concatenate([plus_minus(draws[-PART:]) for draws, _ in streams.values()], axis=1)
    correlation = signs.T @ signs / math.sqrt(PART)
    np.fill_diagonal(correlation, 0)
    assert np.abs(correlation).max() < 5.5  # of 61776 numbers


def test_no_two_keys_are_equal_within_streams_or_between_them(streams):
    keys = np.concatenate([keys for _, keys in streams.values() if keys is not None])
    assert len(keys) == 8 * N and len(np.unique(keys)) == len(keys)


def test_flipping_one_bit_of_an_index_or_a_key_flips_half_of_the_bits_drawn():
    count = 2**12

    @jax.jit
    @jax.vmap
    def flipped(i):
        flips = jnp.uint32(1) << jnp.arange(32, dtype=jnp.uint32)
        word = jax.random.key_data(random.key(i))
        draw = jax.vmap(lambda k: jax.random.bits(k, ()))
        own = jax.random.bits(random.wrap_words(word), ())
        lane = jax.random.bits(jax.random.fold_in(random.key(0), i), ())
        lanes = draw(jax.vmap(lambda f: jax.random.fold_in(random.key(0), i ^ f))(flips))
        low = draw(jax.vmap(lambda f: random.wrap_words(word.at[0].set(word[0] ^ f)))(flips))
        high = draw(jax.vmap(lambda f: random.wrap_words(word.at[1].set(word[1] ^ f)))(flips))
        return jnp.stack([lanes ^ lane, low ^ own, high ^ own])

    changed = np.asarray(flipped(jnp.arange(count, dtype=jnp.uint32)))  # [count, 3, 32]
    signs = plus_minus(changed.ravel()).reshape(count, 3, 32, 32)
    assert np.abs(signs.sum(0)).max() < 5.5 * math.sqrt(count)  # of 3072 numbers


# --- draws ----------------------------------------------------------------------------


def test_uniform_and_normal_draws_of_jax_have_their_distributions():
    key = random.key(11)
    unit = np.asarray(jax.random.uniform(random.stream(key, "uniform"), (N,)), np.float64)
    normal = np.asarray(jax.random.normal(random.stream(key, "normal"), (N,)), np.float64)
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((normal**power).mean() - mean) < 5 * math.sqrt(variance / N)
    assert scipy.stats.kstest(normal, "norm").pvalue > 1e-6
    assert scipy.stats.kstest(unit, "uniform").pvalue > 1e-6


def test_uniform_has_the_moments_and_the_shape_of_its_interval():
    drawn = random.uniform(random.key(1), (N,), -3.0, 5.0)
    assert drawn.shape == (N,) and drawn.dtype == jnp.float32 and not drawn.weak_type
    values = (np.asarray(drawn, np.float64) + 3) / 8
    assert scipy.stats.kstest(values, "uniform").pvalue > 1e-6
    assert abs(values.mean() - 0.5) < 5 * math.sqrt(1 / 12 / N)
    assert p_value(np.bincount((values * 2**20).astype(np.int64) % 256, minlength=256)) > 1e-6


def test_uniform_is_on_a_grid_that_includes_both_bounds():
    drawn = np.asarray(random.uniform(random.key(2), (4096,), 1000.0, 1000.0 + 2**-10))
    assert np.unique(drawn).tolist() == [1000 + i * 2.0**-13 for i in range(9)]
    unit = np.asarray(random.uniform(random.key(2), (N,)), np.float64)
    assert np.array_equal(unit * 2**23, np.round(unit * 2**23))
    assert unit.min() < 2**-14 and unit.max() > 1 - 2**-14


FLOATS = strategies.floats(width=32, allow_nan=False, allow_infinity=False)


@hypothesis.given(FLOATS, FLOATS, strategies.integers(0, 2**32))
@hypothesis.example(0.0, 1e-40, 0)
@hypothesis.example(-0.0, 0.0, 0)
@hypothesis.example(float(np.finfo(np.float32).min), float(np.finfo(np.float32).max), 0)
@hypothesis.example(1.0, 1.0000001192092896, 0)
def test_uniform_stays_within_its_bounds(one, other, seed):
    low, high = min(one, other), max(one, other)
    drawn = np.asarray(random.uniform(random.key(seed), (64,), low, high))
    assert drawn.dtype == np.float32 and (low <= drawn).all() and (drawn <= high).all()


@pytest.mark.parametrize(
    ("low", "high"), [(1.0, 0.0), (0.0, math.inf), (-math.inf, 0.0), (math.nan, 1.0), (0.0, 1e39)]
)
def test_uniform_refuses_bounds_that_are_no_interval(low, high):
    with pytest.raises(ConfigError, match="uniform: expected low <= high, finite in float32, got"):
        random.uniform(random.key(0), (), low, high)


def test_float_draws_are_the_same_bits_in_every_program():
    keys = jax.random.split(random.key(3), 1000)

    def draw(key):
        return random.uniform(key, (4,), -0.05, 0.07), random.symmetric_uniform(key, (4,), 0.05)

    def fused(key):
        one, two = draw(key)
        return one, two, jnp.sum(0.3 + 1.7 * one) * two + jnp.sin(two)

    def fused_with_traced_bound(key, bound):
        two = random.symmetric_uniform(key, (4,), bound)
        return two, two * 1.1 + bound

    one, two = jax.vmap(draw)(keys)
    bounds = jnp.full(1000, 0.05, jnp.float32)
    programs = [
        jax.jit(jax.vmap(draw))(keys),
        jax.jit(jax.vmap(fused))(keys),
        jax.lax.map(fused, keys),
    ]
    for program in programs:
        assert np.array_equal(program[0], one) and np.array_equal(program[1], two)
    traced = jax.jit(jax.vmap(fused_with_traced_bound))(keys, bounds)
    assert np.array_equal(traced[0], two)


def test_symmetric_uniform_is_symmetric_and_never_zero_nor_its_bound():
    drawn = random.symmetric_uniform(random.key(4), (N,), 1.0)
    assert drawn.dtype == jnp.float32 and not drawn.weak_type
    values = np.asarray(drawn, np.float64)
    odd = values * 2**24
    assert np.array_equal(odd, np.round(odd)) and (odd % 2 == 1).all()
    assert (np.abs(values) < 1).all() and np.abs(values).max() > 1 - 2**-14
    assert scipy.stats.kstest((values + 1) / 2, "uniform").pvalue > 1e-6
    assert abs(values.mean()) < 5 * math.sqrt(1 / 3 / N)


@hypothesis.given(strategies.floats(2.0**-100, 2.0**100, width=32))
def test_symmetric_uniform_stays_inside_any_bound(bound):
    largest = (2**24 - 1) * np.float32(bound * 2.0**-24)
    assert np.float32(largest) < bound
    drawn = np.asarray(random.symmetric_uniform(random.key(5), (64,), bound))
    assert (np.abs(drawn) < bound).all() and (drawn != 0).all()


@pytest.mark.parametrize("num", [1, 2, 3, 10, 255, 2**16 - 1, 2**16, 2**16 + 1, 2**24 + 1, 2**31])
def test_randint_is_the_high_word_of_the_product(num):
    key = random.key(6)
    drawn = random.randint(key, (1000,), num)
    bits = np.asarray(jax.random.bits(key, (1000,)), np.uint64)
    assert drawn.dtype == jnp.int32
    assert np.array_equal(drawn, (bits * np.uint64(num)) >> np.uint64(32))


@pytest.mark.parametrize("num", [2, 3, 6, 10, 1000, 2**16 + 1])
def test_randint_covers_all_numbers_evenly(num):
    drawn = np.asarray(random.randint(random.key(8), (4 * N,), num))
    counts = np.bincount(drawn, minlength=num)
    assert len(counts) == num
    assert p_value(counts) > 1e-6


@pytest.mark.parametrize("num", [0, -1, 2**31 + 1, 2.5, None])
def test_randint_and_permutation_refuse_what_is_no_number_of_things(num):
    for draw in (
        lambda key: random.randint(key, (), num),
        lambda key: random.permutation(key, num),
        lambda key: random.permutation_indices(key, jnp.arange(3), num),
    ):
        with pytest.raises(ConfigError, match="num must be a Python integer from 1 to 2"):
            draw(random.key(0))


# --- permutations ---------------------------------------------------------------------

SIZES = (1, 2, 3, 4, 5, 6, 7, 31, 255, 256, 257, 258, 512, 1009, 4095, 16 * 300)


@pytest.fixture(scope="module")
def permutations():
    """{num: int32 [3, num]}: of three keys, all sizes in one program."""
    run = jax.jit(
        jax.vmap(
            lambda key: {
                num: random.permutation(random.stream(key, str(num)), num) for num in SIZES
            }
        )
    )
    return jax.device_get(run(jax.random.split(random.key(9), 3)))


def test_a_permutation_holds_every_number_once(permutations):
    for num, drawn in permutations.items():
        assert drawn.shape == (3, num) and drawn.dtype == np.int32
        assert np.array_equal(np.sort(drawn, axis=1), np.tile(np.arange(num), (3, 1)))


def test_different_keys_give_different_permutations(permutations):
    for num, drawn in permutations.items():
        if num > 8:
            assert len({tuple(row) for row in drawn}) == 3
            assert (drawn == np.arange(num)).sum() < 20  # fixed points: one is expected


@pytest.mark.parametrize("num", [6, 256, 257, 1009, 4800])
def test_slices_of_a_permutation_are_found_by_their_indices(permutations, num):
    key = random.stream(jax.random.split(random.key(9), 3)[1], str(num))
    whole = permutations[num][1]
    part = np.arange(num - 5, num).reshape(5, 1)
    assert np.array_equal(random.permutation_indices(key, part, num), whole[part])
    alone = random.permutation_indices(key, jnp.uint32(num - 1), num)
    assert alone.shape == () and alone == whole[-1]


@hypothesis.settings(max_examples=8)
@hypothesis.given(strategies.integers(257, 5000), strategies.integers(0, 2**32))
def test_indices_of_any_number_are_permuted(num, seed):
    index = jnp.arange(5000) % num  # of one shape, so that eager programs are shared
    image = np.asarray(random.permutation_indices(random.key(seed), index, num))
    assert np.array_equal(np.sort(image[:num]), np.arange(num))
    assert np.array_equal(image[num:], image[: 5000 - num])


def test_grids_cover_their_numbers_and_are_nearly_square():
    for num in range(257, 5001):
        rows, columns = random._grid(num)
        assert num <= rows * columns < num + rows + columns
        assert max(rows, columns) < 4.2 * min(rows, columns)


def test_small_permutations_are_all_equally_frequent():
    keys = jax.random.split(random.key(12), 2**16)
    run = jax.jit(jax.vmap(lambda key: [random.permutation(key, num) for num in (2, 3, 4, 5)]))
    for drawn in jax.device_get(run(keys)):
        num = drawn.shape[1]
        seen, counts = np.unique(drawn, axis=0, return_counts=True)
        assert len(seen) == math.factorial(num)
        assert p_value(counts) > 1e-6


@pytest.mark.parametrize("num", [24, 257, 279, 1024])
def test_images_and_pairs_of_images_are_uniform(num):
    # With 6 rounds, pairs on the grids 17 x 16 and 9 x 31 miss this by far.
    columns = random._grid(num)[1]
    index = jnp.array([0, 1, columns, num - 1], jnp.uint32)
    count = 2**20
    run = jax.jit(
        lambda key: jax.vmap(
            lambda i: random.permutation_indices(jax.random.fold_in(key, i), index, num)
        )(jnp.arange(count, dtype=jnp.uint32))
    )
    images = np.asarray(run(random.key(13)), np.int64)
    for column in images.T:
        assert p_value(np.bincount(column, minlength=num)) > 1e-6
    for one, other in itertools.combinations(images.T, 2):
        assert p_value(np.bincount((one - other) % num, minlength=num)[1:]) > 1e-6
        pairs = np.bincount(one * num + other, minlength=num * num).reshape(num, num)
        if num < 300:  # else too few of each pair for the statistic
            assert p_value(pairs[~np.eye(num, dtype=bool)]) > 1e-6


def test_permutations_are_the_same_eager_and_compiled():
    for num in (9, 300):
        key = random.key(14)
        assert np.array_equal(
            random.permutation(key, num), jax.jit(lambda k, n=num: random.permutation(k, n))(key)
        )


def test_the_multiplier_is_exact_at_the_edges_of_its_halves():
    numbers = [1, 2, 3, 2**15, 2**16 - 1, 2**16, 2**16 + 1, 2**31 - 1, 2**31]
    values = [0, 1, 2**16 - 1, 2**16, 2**16 + 1, 2**31, 2**32 - 2, 2**32 - 1]
    for num in numbers:
        high = random._high_word(jnp.array(values, jnp.uint32), np.uint32(num))
        assert high.tolist() == [value * num >> 32 for value in values]
