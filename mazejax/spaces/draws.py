"""Random arrays between bounds, which every entry may have of its own.

Bounds are numpy scalars or arrays, known when a program is compiled. Between finite
ones a draw is an integer, or an integer times a power of two, so that it is exact,
stays inside and is the same in every program. Spaces import this when they sample.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.types import Array, Key


def draw_floats(key: Key, low: Any, high: Any, shape: tuple[int, ...]) -> Array:
    """Floats [shape] of the bounds' dtype, each entry by the kind of its interval."""
    dtype = np.promote_types(low.dtype, np.float32)
    largest = np.finfo(low.dtype).max.astype(dtype)
    below, above = np.isfinite(low), np.isfinite(high)
    first = np.where(below, low, 0).astype(dtype)
    last = np.where(above, high, 0).astype(dtype)
    kinds = (
        ("bounded", below & above, lambda key: _draw_on_grid(key, first, last, shape)),
        ("low", below & ~above, lambda key: first + jax.random.exponential(key, shape, dtype)),
        ("high", above & ~below, lambda key: last - jax.random.exponential(key, shape, dtype)),
        ("free", ~below & ~above, lambda key: jax.random.normal(key, shape, dtype)),
    )
    present = [kind for kind in kinds if kind[1].any()]
    value = jnp.zeros(shape, dtype)
    for name, entries, draw in present:
        drawn = draw(random.stream(key, name) if len(present) > 1 else key)
        value = jnp.where(entries, drawn, value)
    return jnp.clip(value, -largest, largest).astype(low.dtype)


def _draw_on_grid(key: Key, low: Any, high: Any, shape: tuple[int, ...]) -> Array:
    """Uniform floats [shape] in [low, high]: an integer times a power of two, exactly."""
    mantissa, exponent = np.frexp(np.maximum(np.abs(low), np.abs(high)).astype(np.float64))
    # 24 bits below the power of two that covers the bounds; smaller ones may flush to zero.
    step = np.ldexp(1.0, np.maximum(exponent - (mantissa == 0.5) - 24, -126))
    first = np.ceil(low / step)
    last = np.maximum(np.floor(high / step), first)
    first, last = first.astype(np.int32), last.astype(np.int32)
    index = draw_integers(key, first, last, shape)
    value = index.astype(low.dtype) * step.astype(low.dtype)
    return jnp.where(index == first, low, jnp.where(index == last, high, value))


def draw_integers(key: Key, low: Any, high: Any, shape: tuple[int, ...]) -> Array:
    """Uniform integers [shape] from low to high, both included, in the dtype of the bounds.

    The high word of bits * num as in `mazejax.random.randint`, for bounds that are arrays
    and for ranges up to all values of the dtype. Sums are modulo the word, as unsigned ones are.
    """
    word = np.dtype(np.uint64 if low.dtype.itemsize == 8 else np.uint32)
    with np.errstate(over="ignore"):
        offset = low.astype(word)
        span = high.astype(word) - offset
    drawn = _scaled(jax.random.bits(key, shape, word), span) + offset
    if low.dtype.kind == "i":
        drawn = jax.lax.bitcast_convert_type(drawn, jnp.dtype(f"int{8 * word.itemsize}"))
    return drawn.astype(low.dtype)


def _scaled(bits: Array, span: Any) -> Array:
    """High word of bits * (span + 1), from 0 to span; in halves, for no type holds the product."""
    half = bits.dtype.itemsize * 4
    mask = span.dtype.type(2**half - 1)
    bits_low, bits_high, span_low, span_high = bits & mask, bits >> half, span & mask, span >> half
    middle = bits_high * span_low + (bits_low * span_low >> half)
    carry = (middle & mask) + bits_low * span_high
    high_word = bits_high * span_high + (middle >> half) + (carry >> half)
    return high_word + (bits * span + bits < bits)
