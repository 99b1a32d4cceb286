import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.spaces import draws

BITS = np.array([0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xDEADBEEF, 0xFFFFFFFE, 0xFFFFFFFF], np.uint32)


@pytest.fixture
def known_bits(monkeypatch):
    monkeypatch.setattr(jax.random, "bits", lambda key, shape, dtype: jnp.asarray(BITS, dtype))


@pytest.mark.parametrize("low", [0, -5, -(2**31)])
@pytest.mark.parametrize("num", [1, 2, 3, 256, 65535, 65536, 65537, 2**31 - 3, 2**32])
def test_integers_are_the_high_word_of_bits_times_their_number(known_bits, low, num):
    high = min(low + num - 1, 2**31 - 1)
    drawn = draws.draw_integers(None, np.int32(low), np.int32(high), BITS.shape)
    num = high - low + 1
    assert drawn.tolist() == [low + (int(bits) * num >> 32) for bits in BITS]


def test_integers_agree_with_randint_entry_by_entry():
    key = random.key(1)
    nums = np.array([1, 2, 5, 70_000, 2**31 - 1], np.int32)
    drawn = draws.draw_integers(key, np.int32(0), nums - 1, nums.shape)
    assert drawn.tolist() == [int(random.randint(key, (5,), int(n))[i]) for i, n in enumerate(nums)]


def test_wide_integers_are_the_high_word_too():
    with jax.enable_x64(True):
        key = random.key(1)
        bits = jax.random.bits(key, (50,), jnp.uint64)
        low, high = np.int64(-(2**63)), np.int64(2**62 + 7)
        drawn = draws.draw_integers(key, low, high, (50,))
        num = int(high) - int(low) + 1
        assert drawn.dtype == jnp.int64
        assert drawn.tolist() == [int(low) + (int(b) * num >> 64) for b in bits]


def test_bounded_floats_are_grid_points_or_the_bounds():
    low, high = np.float32([0.0, -0.1, 3.0]), np.float32([1.0, 5.0, 3.0])
    sample = jax.jit(jax.vmap(lambda key: draws.draw_floats(key, low, high, (3,))))
    drawn = np.asarray(sample(jax.random.split(random.key(0), 1000)))
    steps = np.float64(drawn) / [2**-24, 2**-21, 2**-22]
    assert ((steps == np.round(steps)) | (drawn == low) | (drawn == high)).all()
    assert (drawn >= low).all() and (drawn <= high).all()


@pytest.mark.parametrize(("bits", "end"), [(0, 0), (2**32 - 1, 1)])
@pytest.mark.parametrize(
    "bounds", [(0.0, 1.0), (-0.1, 0.3), (0.1, 1e30), (-3e38, 3e38), (1e-30, 2e-30), (-7.0, -0.1)]
)
def test_bounded_floats_reach_both_bounds_exactly(monkeypatch, bounds, bits, end):
    monkeypatch.setattr(jax.random, "bits", lambda key, shape, dtype: jnp.full(shape, bits, dtype))
    low, high = map(np.float32, bounds)
    assert draws.draw_floats(None, low, high, ()) == (low, high)[end]


def test_bounded_floats_are_the_same_bits_in_every_program():
    low, high = np.float32([-1.3, 0.2]), np.float32([2.7, 0.3])
    key = random.key(5)

    def sample(key):
        return draws.draw_floats(key, low, high, (2,))

    alone = sample(key)
    fused = jax.jit(lambda key: (sample(key) * 3.0 + 1.0, sample(key)))(key)[1]
    assert (alone == fused).all()
    assert (jax.vmap(sample)(key[None])[0] == alone).all()


def test_each_kind_of_interval_has_its_distribution():
    inf, n = np.inf, 100_000
    low, high = np.float32([2.0, 2.0, -inf, -inf]), np.float32([4.0, inf, 2.0, inf])
    sample = jax.jit(jax.vmap(lambda key: draws.draw_floats(key, low, high, (4,))))
    drawn = np.asarray(sample(jax.random.split(random.key(3), n)), np.float64)
    mean, variance = np.array([3.0, 3.0, 1.0, 0.0]), np.array([1 / 3, 1.0, 1.0, 1.0])
    kurtosis = np.array([1.8, 9.0, 9.0, 3.0])
    assert (np.abs(drawn.mean(0) - mean) < 4 * np.sqrt(variance / n)).all()
    error = variance * np.sqrt((kurtosis - 1) / n)
    assert (np.abs(drawn.var(0) - variance) < 4 * error).all()
    assert (np.abs(np.corrcoef(drawn.T) - np.eye(4)) < 4 / np.sqrt(n)).all()
