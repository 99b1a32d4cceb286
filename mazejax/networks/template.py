"""Networks from the spaces alone.

A template is configuration: it is built into an `ActorCritic` once the spaces of the
env are known.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from mazejax.base import Pytree, static
from mazejax.errors import ConfigError, did_you_mean
from mazejax.networks.heads import ActionHead, ValueHead
from mazejax.networks.layers import ACTIVATIONS, TwinDense
from mazejax.networks.policy import ActorCritic
from mazejax.networks.recurrent import GRU, LSTM
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.spaces.mapper import DistributionMapper
from mazejax.spaces.simple import Box, Discrete, MultiBinary, MultiDiscrete
from mazejax.types import Array, PyTree

CELLS: dict[str, type[LSTM] | type[GRU]] = {"lstm": LSTM, "gru": GRU}
"""Recurrent cells by name."""

_KINDS = {kind.__name__: kind for kind in (Box, Discrete, MultiBinary, MultiDiscrete, Dict)}


class NetworkTemplate(Pytree):
    """Base of all templates: configuration that is built into an `ActorCritic` for spaces.

    A subclass defines `_module`, from the spaces to a linen module.
    """

    compile_time: ClassVar[bool] = True

    distributions: tuple[tuple[Any, ...], ...] = static(default=(), kw_only=True)
    """Rules of the `DistributionMapper`, such as `("Box", "squashed_gaussian")` for a kind of
    space or `("throttle", "beta")` for a head; later ones win."""

    by_key: ClassVar[bool] = False
    """Whether its modules take arrays by key, as `observations` has them, or one flat vector."""

    def __post_init__(self) -> None:
        if isinstance(self.distributions, Sequence):  # a list from a configuration file
            object.__setattr__(self, "distributions", tuple(map(_plain_rule, self.distributions)))
        super().__post_init__()

    def validate(self) -> None:
        """Raise ConfigError for rules that are none."""
        self.mapper()

    def of_step_key(self, step_key: str) -> Self:
        """The template for the networks of one step key."""
        return self

    def build(
        self, observation_space: Space, action_space: Space, num_agents: int = 0
    ) -> ActorCritic:
        """The network for these spaces; `num_agents` if several agents act at once.

        Raises ConfigError where a rule of `distributions` does not fit the action space.
        """
        mapper, agents = self.mapper(), self._agents_seen(num_agents)
        with _as_distributions():
            mapper.parameters(action_space)
        module = self._module(observation_space, action_space, mapper, agents)
        return ActorCritic(
            module, observation_space, action_space, mapper, num_agents=agents, by_key=self.by_key
        )

    def mapper(self) -> DistributionMapper:
        """Which distribution draws the actions of which space."""
        if not isinstance(self.distributions, tuple):
            raise ConfigError(
                f"distributions: expected pairs such as (('throttle', 'beta'),), got "
                f"{self.distributions!r}"
            )
        rules = []
        for rule in self.distributions:
            what = rule[0] if isinstance(rule, tuple) and rule else None
            known = isinstance(what, str) and what in _KINDS
            rules.append((_KINDS[what], *rule[1:]) if known else rule)  # type: ignore[index]
        with _as_distributions():
            return DistributionMapper(tuple(rules))

    def _agents_seen(self, num_agents: int) -> int:
        """Agents whose observations the critic sees; 0 if only that of its own."""
        return 0

    def _module(
        self,
        observation_space: Space,
        action_space: Space,
        mapper: DistributionMapper,
        num_agents: int,
    ) -> nn.Module:
        raise NotImplementedError


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
        """Raise ConfigError for unknown choices, widths that are not positive, bad rules."""
        super().validate()
        if self.activation not in ACTIVATIONS:
            raise ConfigError(
                f"activation: unknown {self.activation!r}; "
                f"{did_you_mean(str(self.activation), ACTIVATIONS)}"
            )
        check_memory(self.recurrence, self.memory_size)
        if not isinstance(self.hidden, tuple) or not all(map(_is_width, self.hidden)):
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
        body = self._body(action_space, mapper, num_agents)
        if self.recurrence == "none":
            return body
        return _WithMemory(CELLS[self.recurrence](self.memory_size), body, self.activation)

    def _body(self, action_space: Space, mapper: DistributionMapper, num_agents: int) -> nn.Module:
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
        if self.share_torso and self.central_critic:
            raise ConfigError(
                "central_critic: sees more than the policy, so they cannot share_torso; "
                "set one of the two"
            )

    def _agents_seen(self, num_agents: int) -> int:
        return num_agents if self.central_critic else 0

    def _body(self, action_space: Space, mapper: DistributionMapper, num_agents: int) -> nn.Module:
        shape = (self.hidden, self.activation, action_space, mapper)
        if num_agents:
            return _CentralCriticMLP(*shape)
        return _SharedMLP(*shape) if self.share_torso else _TwinMLP(*shape)


class MLPPolicy(MLPTemplate):
    """A dense network for the policy alone: its value is 0 everywhere."""

    def _body(self, action_space: Space, mapper: DistributionMapper, num_agents: int) -> nn.Module:
        return _PolicyMLP(self.hidden, self.activation, action_space, mapper)


def dense_layers(x: Array, hidden: Sequence[int], activation: str, name: str) -> Array:
    """Activations of the last of some dense layers, inside a compact module."""
    init = nn.initializers.orthogonal(2.0**0.5)
    for i, width in enumerate(hidden):
        layer = nn.Dense(width, kernel_init=init, name=f"{name}_{i}")
        x = ACTIVATIONS[activation](layer(x))
    return x


def check_memory(recurrence: str, memory_size: int) -> None:
    """Raise ConfigError for an unknown cell and a width that is not positive."""
    known = ("none", *CELLS)
    if recurrence not in known:
        raise ConfigError(
            f"recurrence: unknown {recurrence!r}; {did_you_mean(str(recurrence), known)}"
        )
    if not _is_width(memory_size):
        raise ConfigError(f"memory_size: must be a positive integer, got {memory_size!r}")


def _is_width(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _plain_rule(rule: Any) -> Any:
    """A list as a tuple, a kind of space by its name: as configuration files can hold them."""
    if not isinstance(rule, (list, tuple)):
        return rule
    names: dict[type, str] = {kind: name for name, kind in _KINDS.items()}
    return tuple(names.get(part, part) if isinstance(part, type) else part for part in rule)


@contextlib.contextmanager
def _as_distributions() -> Iterator[None]:
    """What the mapper says of its rules, in the name of the field that they come from."""
    try:
        yield
    except ConfigError as error:
        said = re.sub("^DistributionMapper( rules)?", "distributions", str(error))
        raise ConfigError(said) from None


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
    @nn.compact
    def __call__(self, features: Array) -> tuple[PyTree, Array]:
        torso = dense_layers(features, self.hidden, self.activation, "dense")
        parameters: Any = ActionHead(self.action_space, self.mapper, name="policy")(torso)
        return parameters, jnp.zeros(features.shape[:-1], jnp.float32)


class _SharedMLP(_TwinMLP):
    @nn.compact
    def __call__(self, features: Array) -> tuple[PyTree, Array]:
        torso = dense_layers(features, self.hidden, self.activation, "torso")
        parameters = ActionHead(self.action_space, self.mapper, name="policy")(torso)
        return parameters, ValueHead(name="value")(torso)


class _CentralCriticMLP(_TwinMLP):
    """On features [..., A, D]: the critic of each agent sees all of them, and whose it is."""

    @nn.compact
    def __call__(self, features: Array) -> tuple[PyTree, Array]:
        policy = dense_layers(features, self.hidden, self.activation, "policy_torso")
        parameters = ActionHead(self.action_space, self.mapper, name="policy")(policy)
        *batch, agents, size = features.shape
        everything = jnp.broadcast_to(
            features.reshape(*batch, 1, agents * size), (*batch, agents, agents * size)
        )
        whose = jnp.broadcast_to(jnp.eye(agents), (*batch, agents, agents))
        seen = jnp.concatenate([everything, whose], axis=-1)
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
