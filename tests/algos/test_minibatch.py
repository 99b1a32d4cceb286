"""Packing, shuffling and chunking of rows: nothing is lost, repeated or rounded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.algos import minibatch

ROWS = 12

shuffled_rows = jax.jit(minibatch.shuffled_rows, static_argnums=3)


def mixed_batch():
    """Rows of every kind of leaf, with bit patterns that a conversion would change."""
    numbers = np.random.default_rng(0)
    bits = numbers.integers(0, 2**32, (ROWS, 3), dtype=np.uint32)
    bits[0] = [0x7FC00001, 0xFF800000, 0x80000000]  # a nan with a payload, -inf, -0.0
    floats = jax.lax.bitcast_convert_type(jnp.asarray(bits), jnp.float32)
    return {
        "obs": {
            "image": jnp.asarray(numbers.integers(0, 256, (ROWS, 4, 5, 3)), jnp.uint8),
            "position": floats,
            "switches": jnp.asarray(numbers.random((ROWS, 2, 2)) < 0.5),
        },
        "action": (
            jnp.asarray(numbers.integers(-(2**31), 2**31, ROWS), jnp.int32),
            jnp.asarray(numbers.integers(-128, 128, (ROWS, 6)), jnp.int8),
        ),
        "half": jnp.asarray(numbers.normal(size=(ROWS, 2)), jnp.bfloat16),
        "other_half": jnp.asarray(numbers.normal(size=(ROWS, 1)), jnp.float16),
        "value": floats[:, 0],
        "done": floats[:, 1] > 0,
    }


def bits_of(tree):
    """Leaves as (dtype, shape, bytes): equality that tells nan from nan and -0 from 0."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.dtype, leaf.shape, np.asarray(leaf).tobytes()) for leaf in leaves]


def test_unpacking_what_was_packed_gives_the_same_bits():
    def both_ways(batch):
        packed, unpack = minibatch.pack(batch)
        return unpack(packed)

    batch = mixed_batch()
    assert bits_of(jax.jit(both_ways)(batch)) == bits_of(batch)


def test_leaves_of_one_width_stand_side_by_side_in_one_array():
    packed, _ = minibatch.pack(mixed_batch())
    # uint8: image 60, switches 4, int8 6, done 1; uint16: 2 + 1; uint32: position 3, action, value
    assert {name: rows.shape for name, rows in packed.items()} == {
        "uint8": (ROWS, 71),
        "uint16": (ROWS, 3),
        "uint32": (ROWS, 5),
    }
    assert all(rows.dtype == jnp.dtype(name) for name, rows in packed.items())


def test_any_rows_can_be_unpacked():
    def take(batch, rows):
        packed, unpack = minibatch.pack(batch)
        return unpack({name: values[rows] for name, values in packed.items()})

    batch, rows = mixed_batch(), np.array([7, 0, 7, 3, 11])
    expected = jax.tree.map(lambda leaf: np.asarray(leaf)[rows], batch)
    assert bits_of(jax.jit(take)(batch, rows)) == bits_of(expected)


def test_a_batch_of_one_leaf_and_one_row_packs():
    batch = jnp.array([3.5])
    packed, unpack = minibatch.pack(batch)
    taken = unpack(shuffled_rows(packed, random.key(0), jnp.uint32(0), 1))
    assert bits_of(taken) == bits_of(batch)


@pytest.mark.parametrize("impl", ["counter", "threefry2x32"])
@pytest.mark.parametrize(("num", "size"), [(12, 3), (7, 1), (7, 7), (97, 97), (1024, 256)])
def test_the_minibatches_of_an_epoch_hold_every_row_once(num, size, impl):
    packed, _ = minibatch.pack(jnp.arange(num))
    parts = [
        shuffled_rows(packed, random.key(3, impl), jnp.int32(i), size)["uint32"]
        for i in range(num // size)
    ]
    assert all(part.shape == (size, 1) for part in parts)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts).ravel()), np.arange(num))


def test_leaves_of_one_row_stay_together():
    row = jnp.arange(ROWS)
    batch = {"number": row, "byte": row.astype(jnp.uint8), "vector": jnp.stack([row, -row], 1)}
    packed, unpack = minibatch.pack(batch)
    taken = unpack(shuffled_rows(packed, random.key(1), jnp.int32(1), 6))
    np.testing.assert_array_equal(taken["byte"], taken["number"])
    expected = jnp.stack([taken["number"], -taken["number"]], 1)
    np.testing.assert_array_equal(taken["vector"], expected)


def test_every_epoch_has_a_shuffle_of_its_own_and_every_key_always_the_same():
    packed, _ = minibatch.pack(jnp.arange(64))

    def order(key):
        return tuple(shuffled_rows(packed, key, jnp.int32(0), 64)["uint32"].ravel().tolist())

    key = random.key(0)
    orders = {order(jax.random.fold_in(key, epoch)) for epoch in range(20)}
    assert len(orders) == 20 and tuple(range(64)) not in orders
    assert order(key) == order(random.key(0))


def test_every_row_comes_to_every_minibatch_equally_often():
    packed, _ = minibatch.pack(jnp.arange(16))
    keys = jax.random.split(random.key(0), 4000)
    first = jax.vmap(lambda key: minibatch.shuffled_rows(packed, key, jnp.int32(0), 4)["uint32"])
    counts = np.bincount(np.asarray(jax.jit(first)(keys)).ravel(), minlength=16)
    # Each row is in a quarter of 4000 first minibatches: 1000 with a deviation of 27.
    assert abs(counts - 1000).max() < 5 * 27


def test_shuffled_rows_do_not_go_through_a_sort():
    packed, _ = minibatch.pack(jnp.arange(64))
    lowered = jax.jit(minibatch.shuffled_rows, static_argnums=3).lower(
        packed, random.key(0), jnp.int32(0), 16
    )
    assert ".sort" not in lowered.as_text()


@pytest.mark.parametrize("target", [1, 4, 100, 2048])
def test_chunks_divide_the_rows_and_are_near_the_target_or_the_whole(target):
    for rows in (1, 2, 7, 64, 97, 100, 1000, 2048, 4096, 4099, 6000, 65_536, 7 * 2**13):
        size = minibatch.chunk_size(rows, target)
        assert rows % size == 0
        divisors = [d for d in range(1, rows + 1) if rows % d == 0]
        near = [d for d in divisors if target // 4 < d <= target]
        assert size == (max(near) if near else rows)


def test_chunks_of_usual_sizes():
    # 4099 is prime; 6000 = 3 * 2000; 65536 = 32 * 2048
    sizes = {256: 256, 2048: 2048, 4099: 4099, 6000: 2000, 65_536: 2048}
    assert {rows: minibatch.chunk_size(rows) for rows in sizes} == sizes
