"""Dense layers as blocks."""

import flax.linen as nn

from mazejax.networks.blocks.base import Block
from mazejax.networks.blocks.checks import (
    check_activation,
    check_initializer,
    check_number,
    check_widths,
)
from mazejax.networks.initializers import initializer
from mazejax.networks.layers import ACTIVATIONS
from mazejax.types import Array


class DenseBlock(Block):
    """Dense layers, each followed by the activation: [..., D] to [..., hidden[-1]]."""

    hidden: tuple[int, ...] = (64, 64)
    """Widths of the layers."""
    activation: str = "tanh"
    """`tanh`, `relu`, `gelu`, `silu` or `elu`."""
    kernel_init: str = "orthogonal"
    """`orthogonal`, `normc`, `lecun_normal` or `he_normal`."""

    in_ndims = (1,)

    def validate(self) -> None:
        """Raise ConfigError for widths that are not positive and unknown choices."""
        check_widths(self, "hidden")
        check_activation(self)
        check_initializer(self)

    @nn.compact
    def forward(self, x: Array) -> Array:
        """[..., hidden[-1]]."""
        for i, width in enumerate(self.hidden):
            layer = nn.Dense(width, kernel_init=initializer(self.kernel_init), name=f"dense_{i}")
            x = ACTIVATIONS[self.activation](layer(x))
        return x


class LinearOutputBlock(Block):
    """One linear layer without activation: [..., D] to [..., features]."""

    features: int = 1
    """Outputs."""
    kernel_init: str = "normc"
    """As of `DenseBlock`."""
    kernel_scale: float = 0.01
    """Scale of the initial kernel; small for policies, whose first actions are then nearly even."""
    bias_init: float = 0.0
    """Where biases begin, such as `probability_bias(0.9)` for a Bernoulli that begins at 0.9."""

    in_ndims = (1,)

    def validate(self) -> None:
        """Raise ConfigError for a width that is not positive and what makes no initial weights."""
        check_widths(self, "features")
        check_number(self, "bias_init")
        check_initializer(self, self.kernel_scale)

    @nn.compact
    def forward(self, x: Array) -> Array:
        """[..., features]."""
        return nn.Dense(
            self.features,
            kernel_init=initializer(self.kernel_init, self.kernel_scale),
            bias_init=nn.initializers.constant(self.bias_init),
            name="dense",
        )(x)
