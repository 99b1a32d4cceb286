"""Networks from the spaces alone.

A template is configuration: it is built into an `ActorCritic` once the spaces of the
env are known.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import numpy as np

from mazejax.base import Pytree, static
from mazejax.errors import ConfigError, did_you_mean
from mazejax.networks.blocks import ACTIVATIONS, TwinDense
from mazejax.networks.heads import ActionHead, ValueHead
from mazejax.networks.policy import ActorCritic
from mazejax.spaces.base import Space
from mazejax.spaces.mapper import DistributionMapper
from mazejax.types import Array, PyTree


class MLPActorCritic(Pytree):
    """Separate dense networks for policy and value, for any observation and action space."""

    compile_time: ClassVar[bool] = True

    hidden: tuple[int, ...] = static(default=(64, 64))
    """Widths of the hidden layers of each of the two networks."""
    activation: str = static(default="tanh")
    """`tanh`, `relu`, `gelu`, `silu` or `elu`."""

    def __post_init__(self) -> None:
        if isinstance(self.hidden, Sequence):  # a list from a configuration file
            hidden = tuple(int(w) if isinstance(w, np.integer) else w for w in self.hidden)
            object.__setattr__(self, "hidden", hidden)
        super().__post_init__()

    def validate(self) -> None:
        """Raise ConfigError for an unknown activation or a width that is not positive."""
        if self.activation not in ACTIVATIONS:
            raise ConfigError(
                f"activation: unknown {self.activation!r}; "
                f"{did_you_mean(str(self.activation), ACTIVATIONS)}"
            )
        if not isinstance(self.hidden, tuple) or not all(map(_is_width, self.hidden)):
            raise ConfigError(
                f"hidden: must be positive integers such as (64, 64), got {self.hidden!r}"
            )

    def build(self, observation_space: Space, action_space: Space) -> ActorCritic:
        """The actor-critic for these spaces."""
        mapper = DistributionMapper()
        module = _TwinMLP(self.hidden, self.activation, action_space, mapper)
        return ActorCritic(module, observation_space, action_space, mapper)


def _is_width(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


class _TwinMLP(nn.Module):
    hidden: tuple[int, ...]
    activation: str
    action_space: Space
    mapper: DistributionMapper

    @nn.compact
    def __call__(self, features: Array) -> tuple[PyTree, Array]:
        policy, critic = TwinDense(self.hidden, self.activation, name="torso")(features)
        parameters = ActionHead(self.action_space, self.mapper, name="policy")(policy)
        return parameters, ValueHead(name="value")(critic)
