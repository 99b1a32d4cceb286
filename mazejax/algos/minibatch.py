"""Shuffled minibatches without a sort, gathered in one go.

All leaves of a batch are packed side by side, so a minibatch costs one gather whose
rows are contiguous; the shuffle is a keyed bijection of the row index.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.types import Array, Key, PyTree

Packed = dict[str, Array]
"""Rows [B, F] by unsigned carrier type: bits, whatever the leaves were."""

_CHUNK_STEPS = 2048


def pack(batch: PyTree) -> tuple[Packed, Callable[[Packed], PyTree]]:
    """The leaves [B, ...] side by side, and the function that takes rows apart again."""
    leaves, structure = jax.tree.flatten(batch)
    columns: dict[str, list[Array]] = {}
    places: list[tuple[str, int, Any]] = []
    for leaf in leaves:
        flat = leaf.reshape(leaf.shape[0], math.prod(leaf.shape[1:]))
        flat = flat.astype(jnp.uint8) if leaf.dtype == jnp.bool_ else flat
        carrier = f"uint{8 * flat.dtype.itemsize}"
        column = columns.setdefault(carrier, [])
        places.append((carrier, sum(c.shape[1] for c in column), leaf))
        column.append(jax.lax.bitcast_convert_type(flat, jnp.dtype(carrier)))

    def unpack(rows: Packed) -> PyTree:
        return structure.unflatten([_take_apart(rows[c], start, leaf) for c, start, leaf in places])

    return {carrier: jnp.concatenate(c, axis=1) for carrier, c in columns.items()}, unpack


def shuffled_rows(packed: Packed, key: Key, index: Array, size: int) -> Packed:
    """Minibatch `index` (traced) of `size` rows, of the shuffle that the key stands for."""
    num_rows = next(iter(packed.values())).shape[0]
    position = index.astype(jnp.uint32) * np.uint32(size) + jnp.arange(size, dtype=jnp.uint32)
    rows = random.permutation_indices(key, position, num_rows)
    return {name: p.at[rows].get(mode="promise_in_bounds") for name, p in packed.items()}


def in_chunks(
    function: Callable[[PyTree], PyTree], batch: PyTree, steps_per_row: int = 1
) -> PyTree:
    """Mean of the function over equal chunks of the rows [B, ...], small enough for the cache.

    For functions that are means over rows, such as a loss and its gradient.
    """
    rows = jax.tree.leaves(batch)[0].shape[0]
    size = chunk_size(rows, max(1, _CHUNK_STEPS // steps_per_row))
    if size == rows:
        return function(batch)
    chunks = jax.tree.map(lambda x: x.reshape(rows // size, size, *x.shape[1:]), batch)

    def add_chunk(total: PyTree, chunk: PyTree) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, function(chunk)), None

    shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], chunks))
    nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    total, _ = jax.lax.scan(add_chunk, nothing, chunks)
    return jax.tree.map(lambda x: x * (size / rows), total)


def chunk_size(rows: int, target: int = _CHUNK_STEPS) -> int:
    """Rows of one pass through the network: the largest divisor near the target, else all.

    2048 rows of a 64x64 network stay in the cache; measured 1.1 to 1.2 times faster than
    whole minibatches of 65536 rows on CPU.
    """
    for size in range(min(rows, target), target // 4, -1):
        if rows % size == 0:
            return size
    return rows


def _take_apart(rows: Array, start: int, leaf: Array) -> Array:
    width = math.prod(leaf.shape[1:])
    bits = jax.lax.slice_in_dim(rows, start, start + width, axis=1)
    is_bool = leaf.dtype == jnp.bool_
    values = bits.astype(bool) if is_bool else jax.lax.bitcast_convert_type(bits, leaf.dtype)
    return values.reshape(rows.shape[0], *leaf.shape[1:])
