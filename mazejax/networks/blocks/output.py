"""Heads of policies and critics as blocks, so that a graph ends in what learners need."""

import flax.linen as nn

from mazejax.networks.blocks.base import Block
from mazejax.networks.blocks.checks import check_initializer
from mazejax.networks.heads import ActionHead, ValueHead, by_path, head_shapes
from mazejax.spaces.base import Space
from mazejax.spaces.mapper import DistributionMapper
from mazejax.types import Array


class ActionHeadBlock(Block):
    """Parameters of the action distribution by key: [..., D] to each [..., *shape].

    `ActionHeadBlock.of("latent", action_space, mapper)` names its outputs as
    `head_shapes` does, "gear/logits" for the action "gear" of a Dict.
    """

    action_space: Space
    mapper: DistributionMapper
    kernel_init: str = "orthogonal"
    """As of `DenseBlock`."""
    kernel_scale: float = 0.01
    """Scale of the initial kernel; small ones make first actions nearly even."""
    probabilities: tuple[tuple[str, float], ...] = ()
    """As of `ActionHead`."""

    num_outputs = ()
    in_ndims = (1,)

    @classmethod
    def of(
        cls, in_key: str, action_space: Space, mapper: DistributionMapper, **fields: object
    ) -> "ActionHeadBlock":
        """The head for these actions."""
        keys = tuple(head_shapes(action_space, mapper))
        return cls(in_key, keys, action_space, mapper, **fields)  # type: ignore[arg-type]

    def validate(self) -> None:
        """Raise ConfigError for an unknown initializer."""
        check_initializer(self, self.kernel_scale)

    @nn.compact
    def forward(self, x: Array) -> tuple[Array, ...]:
        """One array for each parameter."""
        head = ActionHead(
            self.action_space,
            self.mapper,
            self.kernel_scale,
            self.kernel_init,
            self.probabilities,
            name="head",
        )
        parameters = {"/".join(path): values for path, values in by_path(head(x)).items()}
        return tuple(parameters[key] for key in head_shapes(self.action_space, self.mapper))


class ValueHeadBlock(Block):
    """One value: [..., D] to [...]."""

    in_ndims = (1,)

    @nn.compact
    def forward(self, x: Array) -> Array:
        """[...]."""
        return ValueHead(name="head")(x)
