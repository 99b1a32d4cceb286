"""Blocks that take the mean, sum or maximum of what lies along axes."""

import jax.numpy as jnp

from mazejax.errors import ConfigError
from mazejax.networks.blocks.base import Block
from mazejax.networks.blocks.checks import check_axis, check_choice, check_widths, set_in_ndims
from mazejax.types import Array


class GlobalAveragePoolingBlock(Block):
    """The mean over all pixels of each channel: [..., H, W, C] to [..., C].

    Lin et al., 2014, arXiv:1312.4400.
    """

    num_spatial: int = 2
    """Axes of an image without its channels."""

    def validate(self) -> None:
        """Raise ConfigError for a number of axes that is not positive."""
        check_widths(self, "num_spatial")
        set_in_ndims(self, self.num_spatial + 1)

    def forward(self, x: Array) -> Array:
        """[..., C]."""
        pixels = tuple(range(-self.num_spatial - 1, -1))
        # A sum of nothing is 0, where its mean would be no number.
        return x.mean(pixels) if all(x.shape[axis] for axis in pixels) else x.sum(pixels)


class MaskedGlobalPoolingBlock(Block):
    """The mean, sum or maximum along an axis of what a mask counts: [..., N, D] to [..., D].

    The mask [..., N], bool or 0 and 1, is the second input; without it all counts. It has
    the axes of the first input up to and with `axis`. Where it counts nothing the output is
    0. What it does not count has no influence, but must be finite: fill up with zeros.
    """

    pooling: str = "mean"
    """`mean`, `sum` or `max`."""
    axis: int = -2
    """Which axis, counted from the end."""

    num_inputs = (1, 2)

    def validate(self) -> None:
        """Raise ConfigError for an axis that is not negative and an unknown choice."""
        check_choice(self, "pooling", ("mean", "sum", "max"))
        check_axis(self)
        set_in_ndims(self, -self.axis, 1)

    def forward(self, x: Array, mask: Array | None = None) -> Array:
        """[..., D]."""
        if mask is not None and mask.shape != x.shape[: x.ndim + self.axis + 1]:
            raise ConfigError(
                f"{self.label}: {self.in_keys[1]!r} has shape {mask.shape}, expected "
                f"{x.shape[: x.ndim + self.axis + 1]} for {self.in_keys[0]!r} of {x.shape}"
            )
        if not x.shape[self.axis]:
            # A sum of nothing is 0, where a maximum would be an error and a mean no number.
            return x.sum(self.axis)
        if mask is None:
            return getattr(x, self.pooling)(self.axis)
        mask = jnp.expand_dims(mask.astype(bool), tuple(range(self.axis + 1, 0)))
        count = mask.sum(self.axis, dtype=jnp.int32)
        if self.pooling == "max":
            largest = jnp.where(mask, x, -jnp.inf).max(self.axis)
            return jnp.where(count > 0, largest, 0)
        # A product and no choice between x and 0: six times faster on the CPU.
        counted = x * mask
        if self.pooling == "sum":
            return counted.sum(self.axis)
        # Added up in float32, for the sum of half precision numbers may be none of them.
        total = counted.sum(self.axis, dtype=jnp.promote_types(x.dtype, jnp.float32))
        mean = total / jnp.maximum(count, 1)
        return mean.astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.inexact) else mean
