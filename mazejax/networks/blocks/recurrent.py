"""Recurrent layers over stacked observations as blocks: the last T of them, oldest first.

A block begins at every call with an empty memory. Memory that lasts as long as the episode
is left to the networks of `mazejax.networks.recurrent`, whose cells these are.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from mazejax.errors import ConfigError
from mazejax.networks.blocks.base import Block
from mazejax.networks.blocks.checks import check_choice, check_initializer, check_widths
from mazejax.networks.initializers import initializer
from mazejax.networks.layers import ACTIVATIONS
from mazejax.networks.recurrent import GRU, LSTM
from mazejax.types import Array


class _RecurrentBlock(Block):
    """Recurrent layers one upon the other."""

    hidden_size: int = 64
    """H of each layer and direction."""
    num_layers: int = 1
    """Layers, each of which reads what the one below it gives."""
    bidirectional: bool = False
    """Read backward too: a layer gives both directions side by side, [..., T, 2 * H]."""
    activation: str = "none"
    """Add a dense layer of width H with this activation; or `none` for hidden states as such."""
    kernel_init: str = "orthogonal"
    """Of that dense layer, as of `DenseBlock`."""

    in_ndims = (2,)
    cell: ClassVar[Callable[..., Any]]
    only_last: ClassVar[bool] = False

    def validate(self) -> None:
        """Raise ConfigError for sizes that are not positive and unknown choices."""
        check_widths(self, "hidden_size", "num_layers")
        check_choice(self, "activation", ("none", *ACTIVATIONS))
        check_initializer(self)

    @nn.compact
    def forward(self, x: Array) -> Array:
        """[..., T, H]; [..., T, 2 * H] for both directions without a dense layer."""
        if not x.shape[-2]:
            raise ConfigError(
                f"{self.label}: {self.in_keys[0]!r} has shape {x.shape}, expected at least 1 step "
                "in the last axis but one"
            )
        x = jnp.moveaxis(x, -2, 0)
        for i in range(self.num_layers):
            x = self._layer(i, x)
        x = x[-1] if self.only_last else jnp.moveaxis(x, 0, -2)
        if self.activation == "none":
            return x
        dense = nn.Dense(self.hidden_size, kernel_init=initializer(self.kernel_init), name="dense")
        return ACTIVATIONS[self.activation](dense(x))

    def _layer(self, i: int, x: Array) -> Array:
        """[T, ..., H] or, of both directions, [T, ..., 2 * H]; T is 1 where no other is needed."""
        at_end = self.only_last and i == self.num_layers - 1

        def read(x: Array, name: str) -> Array:
            cell = type(self).cell(self.hidden_size, name=f"{name}_{i}")
            out, carry = cell(x, cell.initial_carry(x.shape[1:-1]), None)
            # From the carry, so that no gradient of the other steps' outputs is stacked.
            return carry.hidden[None] if at_end else out

        ahead = read(x, "forward")
        if not self.bidirectional:
            return ahead
        if at_end:
            # Reading backward, the last step is the first.
            return jnp.concatenate([ahead, read(x[-1:], "backward")], axis=-1)
        back = read(x[::-1], "backward")[::-1]
        return jnp.concatenate([ahead, back], axis=-1)


class LSTMBlock(_RecurrentBlock):
    """Long short-term memory over the stacked steps: [..., T, D] to [..., T, H].

    The equations are those of `mazejax.networks.recurrent.LSTM`, from c = h = 0. Hochreiter &
    Schmidhuber, 1997.
    """

    cell = LSTM


class GRUBlock(_RecurrentBlock):
    """Gated recurrent units over the stacked steps: [..., T, D] to [..., T, H].

    The equations are those of `mazejax.networks.recurrent.GRU`, from h = 0. Cho et al., 2014,
    arXiv:1406.1078.
    """

    cell = GRU


class LSTMLastStepBlock(_RecurrentBlock):
    """What `LSTMBlock` gives at the last of the stacked steps: [..., T, D] to [..., H].

    The backward direction of the last layer has read only the last step by then.
    """

    cell = LSTM
    only_last = True
