"""Convolution of images with the channels last, with gradients that are quick in loops.

Within a loop, as all training is, XLA on the CPU takes up to ten times as long for the
gradients of a convolution as for those of a product of matrices. So there they are those
of a product, whose rows are the patches that the kernel sees, and so are tangents of
forward mode, of which they are the transpose. Elsewhere XLA's own serve.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from mazejax.types import Array

Padding = str | Sequence[tuple[int, int]]
"""`SAME`, `VALID`, or zeros before and after each axis."""

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


class Convolution(nn.Module):
    """Convolution and bias: [B, *sizes, C] to [B, *out, features], of 1 to 3 sizes.

    The weights are those of `flax.linen.Conv`: a kernel [*kernel_size, C, features].
    """

    features: int
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    padding: Padding
    kernel_init: Callable

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, *out, features]."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        out = convolve(x.astype(kernel.dtype), kernel, self.strides, self.dilations, self.padding)
        return out + jnp.expand_dims(bias, range(out.ndim - 1))


def convolve(
    x: Array, kernel: Array, strides: Sequence[int], dilations: Sequence[int], padding: Padding
) -> Array:
    """Cross-correlation [B, *out, F] of images [B, *sizes, C] with a kernel [*k, C, F]."""
    sizes, window = x.shape[1:-1], kernel.shape[:-2]
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, window, strict=True)]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(sizes, spans, strides, padding)
    how = tuple(strides), tuple(dilations), tuple((before, after) for before, after in padding)
    if jax.default_backend() == "cpu":
        return _convolve_with_quick_gradient(x, kernel, *how)
    return _convolve(x, kernel, *how)


def _convolve(x: Array, kernel: Array, strides: Ints, dilations: Ints, padding: Pads) -> Array:
    axes = "DHW"[-len(strides) :]
    layout = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding, rhs_dilation=dilations, dimension_numbers=layout
    )


_convolve_with_quick_gradient = jax.custom_jvp(_convolve, nondiff_argnums=(2, 3, 4))


def _tangent(
    strides: Ints, dilations: Ints, padding: Pads, primals: tuple, tangents: tuple
) -> tuple[Array, Array]:
    # Kept for the gradient are image and kernel alone, and the patches, many times the image,
    # are taken again.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def by_patches(x: Array, kernel: Array) -> Array:
        return _by_patches(x, kernel, strides, dilations, padding)

    x, kernel = primals
    out = _convolve_with_quick_gradient(x, kernel, strides, dilations, padding)
    d_x, d_kernel = tangents
    parts = []
    if not isinstance(d_x, SymbolicZero):
        parts.append(by_patches(d_x, kernel))
    if not isinstance(d_kernel, SymbolicZero):
        parts.append(by_patches(x, d_kernel))
    return out, functools.reduce(jnp.add, parts)


_convolve_with_quick_gradient.defjvp(_tangent, symbolic_zeros=True)


def _by_patches(x: Array, kernel: Array, strides: Ints, dilations: Ints, padding: Pads) -> Array:
    """The same as one product of matrices, a row for each place of the kernel."""
    window = kernel.shape[:-2]
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, window, strict=True)]
    if any(map(any, padding)):
        x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    out = [(n - span) // s + 1 for n, span, s in zip(x.shape[1:-1], spans, strides, strict=True)]
    if max(strides) > 1 and max(dilations) == 1 and not any(map(int.__mod__, window, strides)):
        x = _in_depth(x, strides, out, window)
        kernel = _blocks_in_channels(kernel[None], strides)[0]
        strides = dilations = (1,) * len(out)
    return _product_of_patches(x, kernel, strides, dilations, out)


def _product_of_patches(
    x: Array, kernel: Array, strides: Sequence[int], dilations: Sequence[int], out: Sequence[int]
) -> Array:
    *window, channels, features = kernel.shape
    patches = []
    for offset in itertools.product(*map(range, window)):
        begin = [o * d for o, d in zip(offset, dilations, strict=True)]
        each = zip(begin, strides, out, strict=True)
        seen = [slice(b, b + s * (n - 1) + 1, s) for b, s, n in each]
        patches.append(x[(slice(None), *seen)])
    rows = jnp.concatenate(patches, axis=-1).reshape(-1, math.prod(window) * channels)
    return (rows @ kernel.reshape(-1, features)).reshape(x.shape[0], *out, features)


def _in_depth(x: Array, strides: Sequence[int], out: Sequence[int], window: Sequence[int]) -> Array:
    """The image in blocks of a stride's size, the pixels of each in one pixel's channels.

    A kernel of whole blocks then sees fewer and longer pieces, with a stride of 1.
    """
    blocks = [n - 1 + k // s for n, k, s in zip(out, window, strides, strict=True)]
    used = [slice(0, n * s) for n, s in zip(blocks, strides, strict=True)]
    return _blocks_in_channels(x[(slice(None), *used)], strides)


def _blocks_in_channels(x: Array, strides: Sequence[int]) -> Array:
    """[B, *(n * s), C, ...] as [B, *n, prod(s) * C, ...]."""
    count = len(strides)
    batch, sizes, rest = x.shape[0], x.shape[1 : 1 + count], x.shape[1 + count :]
    split = [part for n, s in zip(sizes, strides, strict=True) for part in (n // s, s)]
    outer, inner = range(1, 2 * count, 2), range(2, 2 * count + 1, 2)
    after = range(1 + 2 * count, 1 + 2 * count + len(rest))
    x = x.reshape(batch, *split, *rest).transpose(0, *outer, *inner, *after)
    return x.reshape(*x.shape[: 1 + count], math.prod(strides) * rest[0], *rest[1:])
