"""Features of sets of points as blocks: PointNet.

Every point goes through the same layers, and only a pooling brings them together: their
order does not matter. Which points are padding, a mask says; where the points come from is
left to the networks that use the block.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from mazejax.networks.blocks.base import Block
from mazejax.networks.blocks.checks import (
    check_activation,
    check_choice,
    check_initializer,
    check_shape,
    check_widths,
)
from mazejax.networks.initializers import initializer
from mazejax.networks.layers import ACTIVATIONS
from mazejax.types import Array

_POOLINGS: dict[str, Callable[..., Array]] = {"max": jnp.max, "mean": jnp.mean, "sum": jnp.sum}


class PointNetFeatureBlock(Block):
    """Features of a set of points: [..., embedding] of points [..., P, D].

        x_p = T x_p,   T [D, D] learned of all points
        h_p = dense layers of x_p,   output = pooling of h_p over points

    If there is a second input, it is a mask [..., P], true for points that count; where none
    does, the features are zero. With a second output key come the features of each point
    before pooling, [..., P, embedding], zero for points that do not count. Qi et al., 2016,
    arXiv:1612.00593.
    """

    hidden: tuple[int, ...] = (64, 64)
    """Widths of the layers that each point goes through before the last."""
    embedding: int = 128
    """Width of the last one."""
    activation: str = "relu"
    """As of `DenseBlock`, after each layer."""
    pooling: str = "max"
    """`max`, `mean` or `sum`."""
    use_input_transform: bool = True
    """Transform the points by a matrix that a small network makes of all of them."""
    use_feature_transform: bool = False
    """Transform the features after the first layer likewise."""
    normalization: str = "none"
    """`layer` normalizes the features of each point before every activation; or `none`."""
    kernel_init: str = "orthogonal"
    """As of `DenseBlock`."""

    num_inputs = (1, 2)
    num_outputs = (1, 2)
    in_ndims = (2, 1)

    def validate(self) -> None:
        """Raise ConfigError for widths that are not positive and unknown choices."""
        check_widths(self, "hidden", "embedding")
        check_activation(self)
        check_choice(self, "pooling", _POOLINGS)
        check_choice(self, "normalization", ("none", "layer"))
        check_initializer(self)

    @nn.compact
    def forward(self, points: Array, mask: Array | None = None) -> Array | tuple[Array, Array]:
        """[..., embedding], or that and [..., P, embedding]."""
        if mask is not None:
            check_shape(self, 1, mask, points.shape[:-1])
            mask = mask.astype(bool)
            # Selected, so that padding may hold anything, also what is not finite.
            points = jnp.where(mask[..., None], points, 0.0)
        if self.use_input_transform:
            points = self._transform("input_transform", points, mask)
        for i, width in enumerate((*self.hidden, self.embedding)):
            points = self._layer(f"dense_{i}", points, width)
            if self.use_feature_transform and i == 0:
                points = self._transform("feature_transform", points, mask)
        if mask is not None and len(self.out_keys) == 2:
            points = jnp.where(mask[..., None], points, 0.0)
        pooled = pool_points(self.pooling, points, mask)
        return pooled if len(self.out_keys) == 1 else (pooled, points)

    def _layer(self, name: str, x: Array, width: int) -> Array:
        x = nn.Dense(width, kernel_init=initializer(self.kernel_init), name=name)(x)
        if self.normalization == "layer":
            # The fast variance loses digits where layers are narrow.
            x = nn.LayerNorm(use_fast_variance=False, name=f"{name}_norm")(x)
        return ACTIVATIONS[self.activation](x)

    def _transform(self, name: str, x: Array, mask: Array | None) -> Array:
        """The points [..., P, D], times a matrix [..., D, D] made of them, first the identity."""
        width, seen = x.shape[-1], x
        for i, features in enumerate((*self.hidden, self.embedding)):
            seen = self._layer(f"{name}_dense_{i}", seen, features)
        seen = pool_points("max", seen, mask)
        # The paper's proportions: 512 and 256 after an embedding of 1024.
        for i, part in enumerate((2, 4)):
            seen = self._layer(f"{name}_pooled_{i}", seen, max(self.embedding // part, 1))
        zeros = nn.initializers.zeros_init()
        change = nn.Dense(width * width, kernel_init=zeros, name=f"{name}_matrix")(seen)
        matrix = change.reshape(*change.shape[:-1], width, width)
        return x + jnp.einsum("...pd,...de->...pe", x, matrix)


def pool_points(pooling: str, points: Array, mask: Array | None) -> Array:
    """The max, mean or sum over points that count, [..., D] of [..., P, D]; zeros of none."""
    if not points.shape[-2]:
        # A sum of nothing is 0, where a maximum would be an error and a mean no number.
        return jnp.sum(points, axis=-2)
    if mask is None:
        return _POOLINGS[pooling](points, axis=-2)
    mask = mask[..., None]
    if pooling == "max":
        # Of finite numbers, so that a set without points has a gradient, which is zero.
        most = jnp.max(jnp.where(mask, points, jnp.finfo(points.dtype).min), axis=-2)
        return jnp.where(jnp.any(mask, axis=-2), most, 0.0)
    # A product and no choice between points and 0, as in `MaskedGlobalPoolingBlock`: three to
    # five times faster on the CPU. What does not count is finite by now.
    total = jnp.sum(points * mask, axis=-2)
    return total if pooling == "sum" else total / jnp.maximum(jnp.sum(mask, axis=-2), 1)
