"""Keys whose bits cost almost nothing, named streams, exact draws, a shuffle without a sort.

`key(seed)` makes a typed JAX key of the registered implementation "counter": its bits
are an elementwise function of (two key words, counter), so that draws fuse into the
step that uses them. It is for simulation and not for cryptography; threefry keys work
everywhere too.
"""

import functools
import math
import zlib

import jax
import jax.extend.random
import jax.numpy as jnp
import numpy as np

from mazejax.errors import ConfigError, did_you_mean
from mazejax.types import Array, Key

DEFAULT_IMPL = "counter"
VERSION = 1
"""Of the bits that `counter` keys give; written into checkpoints, raised if they ever change."""

_IMPLS = (DEFAULT_IMPL, "threefry2x32", "rbg", "unsafe_rbg")
_MAX_RANKED = 256  # at most this many are shuffled by comparing all with all
_ROUNDS = 8

_GOLDEN = np.uint32(0x9E3779B9)  # 2^32 / golden ratio, as in Weyl sequences and SplitMix
_FOLD_TAG = np.uint32(0x243F6A88)  # digits of pi: fold_in, split and seed must not collide
_SPLIT_TAG = np.uint32(0x85A308D3)
_SEED_TAG = np.uint32(0x13198A2E)


# --- keys ---------------------------------------------------------------------------


def key(seed: int | Array, impl: str = DEFAULT_IMPL) -> Key:
    """Typed key for a seed; `impl` is "counter" or a name that `jax.random.key` knows.

    Of "counter" all 64 bits of an integer count, with 64-bit types and without them. The
    other implementations are seeded by jax, which without 64-bit types drops the high
    word: there 2^32 + 1 and 1 give one key.
    """
    if impl == DEFAULT_IMPL and isinstance(seed, (int, np.integer)):
        seed = int(seed)
        if not -(2**63) <= seed < 2**64:
            raise ConfigError(f"seed: must be from -2^63 to 2^64 - 1, got {seed}")
        return wrap_words(_seed_words(jnp.uint32(seed % 2**32), jnp.uint32(seed // 2**32 % 2**32)))
    try:
        return jax.random.key(seed, impl=_spec(impl))
    except ValueError as error:
        raise ConfigError(
            f"key implementation {impl!r} is not known; {did_you_mean(impl, _IMPLS)}"
        ) from error


def as_key(key: Key, impl: str = DEFAULT_IMPL) -> Key:
    """The key itself if it is of this implementation already, else one seeded from its words.

    Key arrays keep their shape. Raises ConfigError for anything that is not a typed key.
    """
    if not is_key(key):
        raise ConfigError(
            f"expected a typed key such as jax.random.key(0) or mazejax.random.key(0), "
            f"got {type(key).__name__}; wrap raw words with jax.random.wrap_key_data"
        )
    if impl_name(key) == impl:
        return key
    words = jax.random.key_data(key).astype(jnp.uint32)
    a, b = words[..., 0], words[..., words.shape[-1] - 1]
    for i in range(1, words.shape[-1] - 1):
        a, b = _child(a, b, words[..., i], _SEED_TAG)
    mixed = jnp.stack(_child(a, b, np.uint32(1), _SEED_TAG), axis=-1)
    if impl == DEFAULT_IMPL:
        return wrap_words(mixed)
    keys = jax.vmap(functools.partial(_key_of_words, impl=impl))(mixed.reshape(-1, 2))
    return keys.reshape(mixed.shape[:-1])


def is_key(value: object) -> bool:
    """Whether the value is a typed JAX key or an array of them."""
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def impl_name(key: Key) -> str:
    """Name of the key's implementation: "counter", "threefry2x32", ..."""
    spec = jax.random.key_impl(key)
    return DEFAULT_IMPL if spec == _COUNTER else str(spec)


def wrap_words(words: Array, impl: str = DEFAULT_IMPL) -> Key:
    """Keys [...] from raw words [..., 2] uint32, as `jax.random.key_data` gives them."""
    return jax.random.wrap_key_data(words, impl=_spec(impl))


def stream(key: Key, name: str) -> Key:
    """Child key for a purpose: streams of different names are independent.

    The name is hashed (CRC-32), so adding a stream never changes the others.
    """
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


# --- draws --------------------------------------------------------------------------


def uniform(key: Key, shape: tuple[int, ...] = (), low: float = 0.0, high: float = 1.0) -> Array:
    """Uniform float32 [shape] in [low, high], the same bits in every program.

    The bounds are Python numbers. Draws lie on a grid of multiples of a power of two, at
    most 2^24 + 1 of them, and are one exact product, since `low + (high - low) * u` is
    contracted to a fused multiply-add in some programs and not in others, which differs
    by one ulp. Where the interval is narrower than the grid, every draw is `low`.
    """
    low, high = float(low), float(high)
    largest = max(abs(low), abs(high))
    if not (low <= high and largest <= float(np.finfo(np.float32).max)):
        raise ConfigError(
            f"uniform: expected low <= high, finite in float32, got low={low}, high={high}"
        )
    mantissa, exponent = math.frexp(largest)
    # 24 bits below the power of two that covers the bounds; less than 2^-126 may become 0.
    step = 2.0 ** max(exponent - (mantissa == 0.5) - 23, -126)
    first, last = math.ceil(low / step), math.floor(high / step)
    if last <= first:
        return jnp.full(shape, low, jnp.float32)
    return (randint(key, shape, last - first + 1) + first).astype(jnp.float32) * np.float32(step)


def symmetric_uniform(key: Key, shape: tuple[int, ...], bound: float | Array) -> Array:
    """Uniform float32 [shape] in (-bound, bound), the same bits in every program.

    The bound may be traced. An odd 24-bit integer times one factor: never 0, symmetric.
    """
    odd = 2 * (jax.random.bits(key, shape, jnp.uint32) >> 8).astype(jnp.int32) - (2**24 - 1)
    return odd.astype(jnp.float32) * (bound * 2.0**-24)


def randint(key: Key, shape: tuple[int, ...], num: int) -> Array:
    """Integers int32 [shape] from 0 to num - 1, num a Python int from 1 to 2^31.

    The high word of bits * num, one draw an element; a value's probability is off by
    less than 2^-32. Lemire, 2019, arXiv:1805.10941 (without the rejection).
    """
    _check_num("randint", num)
    bits = jax.random.bits(key, shape, jnp.uint32)
    return _high_word(bits, np.uint32(num)).astype(jnp.int32)


def permutation_indices(key: Key, index: Array, num: int) -> Array:
    """Where the keyed random permutation of 0..num-1 sends each index; int32, index's shape.

    Without a sort. Up to 256 are ranked by random words, all compared with all: uniform
    over all permutations. More go through a Feistel network on the grid rows x columns
    that covers num, each round a hash of the other coordinate added modulo the side: a
    bijection, of which single images and pairs of images are uniform. What falls outside
    num is sent on until it is inside (cycle walking).
    """
    _check_num("permutation", num)
    index = jnp.asarray(index).astype(jnp.uint32)
    if num <= _MAX_RANKED:
        return _ranks(key, index, num)
    grid = _grid(num)
    words = jax.random.bits(key, (_ROUNDS,), jnp.uint32)
    position = _feistel(index, words, grid)
    if math.prod(grid) > num:
        position = jax.lax.while_loop(
            lambda p: (p >= num).any(),
            lambda p: jnp.where(p >= num, _feistel(p, words, grid), p),
            position,
        )
    return position.astype(jnp.int32)


def permutation(key: Key, num: int) -> Array:
    """A random permutation of 0..num-1, int32 [num], without a sort."""
    _check_num("permutation", num)
    return permutation_indices(key, jnp.arange(num, dtype=jnp.uint32), num)


def _check_num(name: str, num: int) -> None:
    if not isinstance(num, (int, np.integer)) or not 1 <= num <= 2**31:
        raise ConfigError(f"{name}: num must be a Python integer from 1 to 2^31, got {num!r}")


def _ranks(key: Key, index: Array, num: int) -> Array:
    own = jnp.arange(num, dtype=jnp.uint32)
    # The low byte makes the words distinct; two high parts are equal once in 2^24 pairs.
    words = (jax.random.bits(key, (num,), jnp.uint32) & np.uint32(0xFFFFFF00)) | own
    below = jnp.expand_dims(words, tuple(range(index.ndim))) < words[index][..., None]
    return jnp.sum(below, axis=-1, dtype=jnp.int32)


def _feistel(position: Array, words: Array, grid: tuple[int, int]) -> Array:
    # 8 rounds: with 6, pairs of images on grids of 17 x 17 or 9 x 31 differ from uniform
    # ones by 20 standard deviations in 2^20 to 2^22 keys, with 8 by less than 3.
    rows, columns = map(np.uint32, grid)
    row, column = position // columns, position % columns
    for i in range(_ROUNDS):
        if i % 2 == 0:
            row = (row + _high_word(_mix(column * _GOLDEN + words[i]), rows)) % rows
        else:
            column = (column + _high_word(_mix(row * _GOLDEN + words[i]), columns)) % columns
    return row * columns + column


def _grid(num: int) -> tuple[int, int]:
    """Sides of the smallest near-square grid: an exact factorization if one is near the root."""
    root = math.isqrt(num - 1) + 1
    for rows in range(root, root // 2, -1):
        if num % rows == 0:
            return rows, num // rows
    return root, -(-num // root)


# --- the implementation -------------------------------------------------------------


def _mix(x: Array) -> Array:
    """Finalizer of 32 bits with low bias: Wellons, hash prospector, "lowbias32" (2018)."""
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _child(a: Array, b: Array, index: Array | np.uint32, tag: np.uint32) -> tuple[Array, Array]:
    """Two Feistel rounds: for each index a permutation of the 64-bit keys."""
    a, b = b, a ^ _mix(b + index * _GOLDEN + tag)
    return b, a ^ _mix(b + (tag ^ _GOLDEN))


def _words(key: Array) -> tuple[Array, Array]:
    # index_in_dim and not key[0]: a gather would keep the draw from fusing.
    return jax.lax.index_in_dim(key, 0, 0, False), jax.lax.index_in_dim(key, 1, 0, False)


def _seed(seed: Array) -> Array:
    # The high word of a 32-bit seed repeats its sign, as 64-bit types would.
    low = seed.astype(jnp.uint32)
    wide = seed.dtype.itemsize > 4
    if wide:
        high = (seed >> 32).astype(jnp.uint32)
    else:
        high = jnp.where(seed < 0, np.uint32(0xFFFFFFFF), np.uint32(0))
    return _seed_words(low, high)


def _seed_words(low: Array, high: Array) -> Array:
    a, b = _child(low, high, np.uint32(0), _SEED_TAG)
    return jnp.stack(_child(a, b, np.uint32(0), _SEED_TAG))


def _split_words(key: Array, shape: tuple[int, ...]) -> Array:
    a, b = _words(key)
    index = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    return jnp.stack(_child(a, b, index, _SPLIT_TAG), axis=-1)


def _fold_in_words(key: Array, data: int | Array) -> Array:
    a, b = _words(key)
    return jnp.stack(_child(a, b, jnp.uint32(data), _FOLD_TAG))


def _bits_of_words(key: Array, bit_width: int, shape: tuple[int, ...]) -> Array:
    a, b = _words(key)
    counter = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    if bit_width == 64:
        high = _bits32(a, b, 2 * counter).astype(jnp.uint64)
        return (high << 32) | _bits32(a, b, 2 * counter + 1).astype(jnp.uint64)
    return _bits32(a, b, counter).astype(jnp.dtype(f"uint{bit_width}"))


def _bits32(a: Array, b: Array, counter: Array) -> Array:
    return _mix(_mix(counter * _GOLDEN + b) ^ a)


def _high_word(x: Array, num: np.uint32) -> Array:
    """High 32 bits of x * num, in halves because there are no 64-bit integers without x64."""
    if num < 2**16:
        return ((x >> 16) * num + ((x & 0xFFFF) * num >> 16)) >> 16
    low, high = num & np.uint32(0xFFFF), num >> np.uint32(16)
    x_low, x_high = x & 0xFFFF, x >> 16
    middle = x_high * low + (x_low * low >> 16)
    carry = (middle & 0xFFFF) + x_low * high
    return x_high * high + (middle >> 16) + (carry >> 16)


def _key_of_words(words: Array, impl: str) -> Key:
    return jax.random.fold_in(key(words[0], impl), words[1])


def _spec(impl: str) -> object:
    # jax never finds a registered implementation by its name.
    return _COUNTER if impl == DEFAULT_IMPL else impl


# Outside jit each would be eight programs for every shape; inside they are inlined. Keys are
# pickled with the names of their implementation's functions, so those must be plain functions.
_compiled_split = jax.jit(_split_words, static_argnums=1, inline=True)
_compiled_fold_in = jax.jit(_fold_in_words, inline=True)
_compiled_bits = jax.jit(_bits_of_words, static_argnums=(1, 2), inline=True)


def _split(key: Array, shape: tuple[int, ...]) -> Array:
    return _compiled_split(key, shape)


def _fold_in(key: Array, data: int | Array) -> Array:
    return _compiled_fold_in(key, data)


def _random_bits(key: Array, bit_width: int, shape: tuple[int, ...]) -> Array:
    return _compiled_bits(key, bit_width, shape)


_COUNTER = jax.extend.random.define_prng_impl(
    key_shape=(2,),
    seed=_seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name=DEFAULT_IMPL,
    tag="ctr",
)
