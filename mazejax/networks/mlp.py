"""Dense networks from the spaces alone: the templates that learners begin with."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from mazejax.base import static
from mazejax.errors import ConfigError, did_you_mean
from mazejax.networks.heads import ActionHead, ValueHead
from mazejax.networks.layers import ACTIVATIONS, TwinDense
from mazejax.networks.recurrent import GRU, LSTM
from mazejax.networks.template import CELLS, NetworkTemplate, check_memory, is_width
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.spaces.mapper import DistributionMapper
from mazejax.types import Array, PyTree

Places = tuple[tuple[int, int], ...]
"""Parts of the features, each from one number to before another; () for all of them."""


class MLPTemplate(NetworkTemplate):
    """What the templates of dense networks share; `MLPActorCritic` and `MLPPolicy` build them."""

    hidden: tuple[int, ...] = static(default=(64, 64))
    """Widths of the hidden layers of each network."""
    activation: str = static(default="tanh")
    """`tanh`, `relu`, `gelu`, `silu` or `elu`."""
    recurrence: str = static(default="none")
    """`lstm` or `gru` puts a memory of the episode in front of the networks; `none`."""
    memory_size: int = static(default=64)
    """Width of the memory and of the dense layer before it."""

    def __post_init__(self) -> None:
        if isinstance(self.hidden, Sequence):  # a list from a configuration file
            hidden = tuple(int(w) if isinstance(w, np.integer) else w for w in self.hidden)
            object.__setattr__(self, "hidden", hidden)
        if isinstance(self.memory_size, np.integer):
            object.__setattr__(self, "memory_size", int(self.memory_size))
        super().__post_init__()

    def validate(self) -> None:
        """Raise ConfigError for unknown choices, widths that are not positive, bad rules.

        And for a memory that would tell the policy what the critic alone may see.
        """
        super().validate()
        if self.activation not in ACTIVATIONS:
            raise ConfigError(
                f"activation: unknown {self.activation!r}; "
                f"{did_you_mean(str(self.activation), ACTIVATIONS)}"
            )
        check_memory(self.recurrence, self.memory_size)
        if self.recurrence != "none" and self.privileged_keys:
            raise ConfigError(
                "privileged_keys: the memory is in front of policy and critic, so the policy would "
                "see them; leave recurrence out, or use PerceptionActorCritic, whose two networks "
                "remember apart"
            )
        if not isinstance(self.hidden, tuple) or not all(map(is_width, self.hidden)):
            raise ConfigError(
                f"hidden: must be positive integers such as (64, 64), got {self.hidden!r}"
            )

    def _module(
        self,
        observation_space: Space,
        action_space: Space,
        mapper: DistributionMapper,
        num_agents: int,
    ) -> nn.Module:
        own = _places(observation_space, self.privileged_keys)
        body = self._body(action_space, mapper, num_agents, own)
        if self.recurrence == "none":
            return body
        return _WithMemory(CELLS[self.recurrence](self.memory_size), body, self.activation)

    def _body(
        self, action_space: Space, mapper: DistributionMapper, num_agents: int, own: Places
    ) -> nn.Module:
        """From flat features, or what a memory makes of them, to (parameters, value)."""
        raise NotImplementedError


class MLPActorCritic(MLPTemplate):
    """Dense networks for policy and value, for any observation and action space."""

    share_torso: bool = static(default=False)
    """Whether policy and value are two heads on the same hidden layers."""
    central_critic: bool = static(default=False)
    """Whether the value of each of several agents that act at once is judged by the
    observations of all of them; what an agent does depends on its own alone."""

    def validate(self) -> None:
        """Raise ConfigError as every template, and for a torso that cannot be shared."""
        super().validate()
        sees_more = "central_critic" if self.central_critic else "privileged_keys"
        if self.share_torso and getattr(self, sees_more):
            raise ConfigError(
                f"{sees_more}: the critic sees more than the policy, so they cannot share_torso; "
                "set one of the two"
            )

    def _agents_seen(self, num_agents: int) -> int:
        return num_agents if self.central_critic else 0

    def _body(
        self, action_space: Space, mapper: DistributionMapper, num_agents: int, own: Places
    ) -> nn.Module:
        shape = (self.hidden, self.activation, action_space, mapper)
        if num_agents or own:
            return _ApartMLP(*shape, own, is_central=num_agents > 0)
        return _SharedMLP(*shape) if self.share_torso else _TwinMLP(*shape)


class MLPPolicy(MLPTemplate):
    """A dense network for the policy alone: its value is 0 everywhere."""

    def _body(
        self, action_space: Space, mapper: DistributionMapper, num_agents: int, own: Places
    ) -> nn.Module:
        return _PolicyMLP(self.hidden, self.activation, action_space, mapper, own)


def dense_layers(x: Array, hidden: Sequence[int], activation: str, name: str) -> Array:
    """Activations of the last of some dense layers, inside a compact module."""
    init = nn.initializers.orthogonal(2.0**0.5)
    for i, width in enumerate(hidden):
        layer = nn.Dense(width, kernel_init=init, name=f"{name}_{i}")
        x = ACTIVATIONS[activation](layer(x))
    return x


def _places(space: Space, privileged_keys: tuple[str, ...]) -> Places:
    """Where in flat observations all but these keys are; () if there are none."""
    if not privileged_keys or not isinstance(space, Dict):
        return ()
    keys = sorted(space)
    ends = [int(end) for end in np.cumsum([space[key].flat_size for key in keys])]
    parts = zip(keys, [0, *ends], ends, strict=False)
    return tuple((begin, end) for key, begin, end in parts if key not in privileged_keys)


def _at(places: Places, features: Array) -> Array:
    """The parts of features [..., D] at these places."""
    if not places:
        return features
    return jnp.concatenate([features[..., begin:end] for begin, end in places], axis=-1)


def _of_all_agents(features: Array) -> Array:
    """What a central critic sees of features [..., A, D]: those of all, and whose turn it is."""
    *batch, agents, size = features.shape
    everything = jnp.broadcast_to(
        features.reshape(*batch, 1, agents * size), (*batch, agents, agents * size)
    )
    whose = jnp.broadcast_to(jnp.eye(agents), (*batch, agents, agents))
    return jnp.concatenate([everything, whose], axis=-1)


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


class _PolicyMLP(_TwinMLP):
    own: Places
    """Where the policy's features are; () for all."""

    @nn.compact
    def __call__(self, features: Array) -> tuple[PyTree, None]:  # type: ignore[override]
        torso = dense_layers(_at(self.own, features), self.hidden, self.activation, "dense")
        parameters: Any = ActionHead(self.action_space, self.mapper, name="policy")(torso)
        return parameters, None


class _SharedMLP(_TwinMLP):
    @nn.compact
    def __call__(self, features: Array) -> tuple[PyTree, Array]:
        torso = dense_layers(features, self.hidden, self.activation, "torso")
        parameters = ActionHead(self.action_space, self.mapper, name="policy")(torso)
        return parameters, ValueHead(name="value")(torso)


class _ApartMLP(_TwinMLP):
    """The critic sees more than the policy: privileged features, those of all agents, or both."""

    own: Places
    """Where the policy's features are; () for all."""
    is_central: bool
    """Whether features are [..., A, D] and the critic of each agent sees all, and whose it is."""

    @nn.compact
    def __call__(self, features: Array) -> tuple[PyTree, Array]:
        policy = dense_layers(_at(self.own, features), self.hidden, self.activation, "policy_torso")
        parameters = ActionHead(self.action_space, self.mapper, name="policy")(policy)
        seen = _of_all_agents(features) if self.is_central else features
        critic = dense_layers(seen, self.hidden, self.activation, "critic_torso")
        return parameters, ValueHead(name="value")(critic)


class _WithMemory(nn.Module):
    """A memory of the episode in front of a feed-forward module."""

    cell: LSTM | GRU
    body: nn.Module
    activation: str

    @nn.compact
    def __call__(self, features: Array, carry: PyTree, begins: Array) -> tuple[Any, PyTree]:
        x = dense_layers(features, (self.cell.features,), self.activation, "encoder")
        x, carry = self.cell(x, carry, begins)
        return self.body(x), carry

    @nn.nowrap
    def initial_carry(self, batch_shape: tuple[int, ...]) -> PyTree:
        return self.cell.initial_carry(batch_shape)
