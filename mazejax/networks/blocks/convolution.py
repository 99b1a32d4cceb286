"""Convolutions as blocks, over images [..., H, W, C] and, strided, lines and volumes too.

Channels come last, and all axes before those of the image are one batch to the kernels.
What follows a convolution, such as flattening and dense layers, is in `joint`.
"""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mazejax.errors import ConfigError
from mazejax.networks.blocks.base import Block
from mazejax.networks.blocks.checks import (
    check_activation,
    check_choice,
    check_initializer,
    check_widths,
    set_in_ndims,
)
from mazejax.networks.convolution import Convolution
from mazejax.networks.initializers import initializer
from mazejax.networks.layers import ACTIVATIONS
from mazejax.types import Array

PerLayer = int | tuple[int | tuple[int, ...], ...]
"""One entry for each layer, an integer or one for each axis; or one integer for all layers."""

NORMALIZATIONS = ("none", "layer")
"""What may stand between a convolution and its activation."""


class VGGConvolutionBlock(Block):
    """Pairs of 3x3 convolutions, each pair pooled: [..., H, W, C] to [..., h, w, hidden[-1]].

    Each entry of `hidden` is two convolutions that keep the size, each followed by the
    activation, and the maximum of each square of 2x2 pixels: h = floor(H / 2^len(hidden)).
    Pixels that share the maximum share its gradient. Simonyan & Zisserman, 2015,
    arXiv:1409.1556.
    """

    hidden: tuple[int, ...] = (8, 16, 32)
    """Channels of each pair."""
    activation: str = "relu"
    """As of `DenseBlock`."""
    normalization: str = "none"
    """`none`, or `layer`: over the channels of each pixel, before the activation."""
    kernel_init: str = "orthogonal"
    """As of `DenseBlock`."""

    in_ndims = (3,)

    def validate(self) -> None:
        """Raise ConfigError for channels that are not positive and unknown choices."""
        check_widths(self, "hidden")
        check_activation(self)
        check_choice(self, "normalization", NORMALIZATIONS)
        check_initializer(self)

    @nn.compact
    def forward(self, x: Array) -> Array:
        """[..., h, w, hidden[-1]]."""
        # One batch axis: XLA has no fast path for the pooling of arrays of more.
        batch, image = x.shape[:-3], x.shape[-3:]
        x = x.reshape(math.prod(batch), *image)
        for i, width in enumerate(self.hidden):
            if min(x.shape[1:3]) < 2:
                raise _too_small(self, image, i, x.shape[1:3], "the pooled square", (2, 2))
            for j in range(2):
                x = self._layer(x, width, f"{i}_{j}")
            x = _maximum_of_squares(x)
        return x.reshape(*batch, *x.shape[1:])

    def _layer(self, x: Array, width: int, name: str) -> Array:
        init = initializer(self.kernel_init)
        ones = (1, 1)
        x = Convolution(width, (3, 3), ones, ones, "SAME", init, name=f"conv_{name}")(x)
        if self.normalization == "layer":
            # The fast variance loses four digits where there are few channels.
            x = nn.LayerNorm(use_fast_variance=False, name=f"norm_{name}")(x)
        return ACTIVATIONS[self.activation](x)


class StridedConvolutionBlock(Block):
    """Convolutions, each followed by the activation: [..., *sizes, C] to [..., *out, hidden[-1]].

    There are `dimension` sizes. With kernel k, stride s, dilation d and p added on both
    sides, a layer makes of size n the size floor((n + 2 p - d (k - 1) - 1) / s) + 1, and
    ceil(n / s) if the padding is SAME. The default is a small relative of the network of
    Mnih et al., 2015, for images of 44 pixels and more a side.
    """

    hidden: tuple[int, ...] = (8, 16, 32)
    """Channels of the layers."""
    kernel_sizes: PerLayer = (8, 4, 4)
    """Sizes of the kernels: one for each layer, an integer or one for each axis."""
    strides: PerLayer = (4, 2, 2)
    """As `kernel_sizes`; one integer stands for all layers."""
    dilations: PerLayer = 1
    """Distances between the pixels under a kernel; as `strides`."""
    padding: str | PerLayer = "VALID"
    """`VALID` for none, `SAME`, or zeros added on both sides of each axis; as `strides`."""
    dimension: int = 2
    """Axes of an image without its channels: 1, 2 or 3."""
    activation: str = "relu"
    """As of `DenseBlock`."""
    kernel_init: str = "orthogonal"
    """As of `DenseBlock`."""

    def validate(self) -> None:
        """Raise ConfigError for layers that do not fit together and unknown choices."""
        convolution_layers(self, "hidden")
        check_activation(self)
        check_initializer(self)
        set_in_ndims(self, self.dimension + 1)

    @nn.compact
    def forward(self, x: Array) -> Array:
        """[..., *out, hidden[-1]]."""
        batch, image = x.shape[: -self.dimension - 1], x.shape[-self.dimension - 1 :]
        x = x.reshape(math.prod(batch), *image)
        for i, layer in enumerate(convolution_layers(self, "hidden")):
            sizes = x.shape[1:-1]
            if any(n < k for n, k in zip(sizes, layer.least_sizes(), strict=True)):
                raise _too_small(self, image, i, sizes, "its kernel", layer.least_sizes())
            convolution = Convolution(
                self.hidden[i],
                layer.kernel,
                layer.stride,
                layer.dilation,
                layer.padding,
                initializer(self.kernel_init),
                name=f"conv_{i}",
            )
            x = ACTIVATIONS[self.activation](convolution(x))
        return x.reshape(*batch, *x.shape[1:])


class ConvolutionLayer(NamedTuple):
    """What a convolution does to each axis of an image."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str | tuple[tuple[int, int], ...]
    """`SAME`, or zeros added before and after."""

    def least_sizes(self) -> tuple[int, ...]:
        """Sizes of the smallest image that it takes."""
        if isinstance(self.padding, str):
            return (1,) * len(self.kernel)
        return tuple(
            max(1, d * (k - 1) + 1 - sum(p))
            for k, d, p in zip(self.kernel, self.dilation, self.padding, strict=True)
        )


def convolution_layers(block: Any, widths: str) -> list[ConvolutionLayer]:
    """The layers that the fields of a strided convolution mean, whose channels `widths` names.

    Raises ConfigError naming the field for those that mean none.
    """
    check_widths(block, widths)
    if type(block.dimension) is not int or block.dimension not in (1, 2, 3):
        raise ConfigError(
            f"{type(block).__name__}.dimension: must be 1, 2 or 3, got {block.dimension!r}"
        )
    kernels, strides, dilations = (
        _per_layer(block, field, widths, least=1)
        for field in ("kernel_sizes", "strides", "dilations")
    )
    paddings: list[Any]
    if isinstance(block.padding, str):
        check_choice(block, "padding", ("VALID", "SAME"))
        none = ((0, 0),) * block.dimension
        paddings = [block.padding if block.padding == "SAME" else none] * len(kernels)
    else:
        entries = _per_layer(block, "padding", widths, least=0)
        paddings = [tuple((p, p) for p in entry) for entry in entries]
    return [*map(ConvolutionLayer, kernels, strides, dilations, paddings)]


def _per_layer(block: Any, field: str, widths: str, least: int) -> list[tuple[int, ...]]:
    """The field as one integer for each axis of each layer."""
    value, layers = getattr(block, field), len(getattr(block, widths))
    entries = value if isinstance(value, tuple) else (value,) * layers
    where = f"{type(block).__name__}.{field}"
    if len(entries) != layers:
        raise ConfigError(
            f"{where}: has {len(entries)} entries, expected {layers} as of {widths!r}, or one "
            f"integer for all"
        )
    axes = [e if isinstance(e, tuple) else (e,) * block.dimension for e in entries]
    numbers = [n for entry in axes for n in entry]
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= least for n in numbers):
        raise ConfigError(f"{where}: must be integers of at least {least}, got {value!r}")
    if any(len(entry) != block.dimension for entry in axes):
        raise ConfigError(
            f"{where}: an entry must be one integer or {block.dimension}, one for each axis, "
            f"got {value!r}"
        )
    return axes


@jax.custom_jvp
def _maximum_of_squares(x: Array) -> Array:
    """[B, h, w, C] of x [B, H, W, C]: the maximum of each 2x2 square; odd ends are cut."""
    square = (1, 2, 2, 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, square, square, "VALID")


@_maximum_of_squares.defjvp
def _maximum_of_squares_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # The window alone is what XLA on the CPU fuses with the convolutions around it; but its
    # gradient would be twenty times slower than that of three maxima of two pixels each.
    return _maximum_of_squares(*primals), jax.jvp(_maximum_of_pairs, primals, tangents)[1]


def _maximum_of_pairs(x: Array) -> Array:
    """The same by three maxima of two pixels each."""
    height, width = x.shape[1] // 2, x.shape[2] // 2
    x = x[:, : 2 * height, : 2 * width]
    x = x.reshape(x.shape[0], height, 2, width, 2, x.shape[3])
    upper = jnp.maximum(x[:, :, 0, :, 0], x[:, :, 0, :, 1])
    lower = jnp.maximum(x[:, :, 1, :, 0], x[:, :, 1, :, 1])
    return jnp.maximum(upper, lower)


def _too_small(
    block: Any, image: tuple, layer: int, sizes: tuple, what: str, least: tuple
) -> ConfigError:
    return ConfigError(
        f"{block.label}: {block.in_keys[0]!r} with images {image} is too small: layer {layer} "
        f"gets {' x '.join(map(str, sizes))}, and {what} needs {' x '.join(map(str, least))}"
    )
