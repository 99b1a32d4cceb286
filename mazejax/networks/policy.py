"""`ActorCritic`: a policy and a critic behind a pure boundary.

Learners see `init`, `apply` and `unroll` on variables that travel by value, whatever
module computes inside. The memory of recurrent modules passes through as `carry`; without
memory it is empty.
"""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mazejax.base import Pytree, static
from mazejax.errors import ConfigError
from mazejax.networks import normalization, observations
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.spaces.distributions import Distribution
from mazejax.spaces.mapper import DistributionMapper
from mazejax.spaces.masks import action_masks
from mazejax.spaces.shapes import batch_shape_of
from mazejax.types import Array, Key, PyTree

STATISTICS = "statistics"
"""Under this name variables hold what they know of observations."""

PARAMS = "params"
"""Under this name modules hold their weights."""


class PolicyOutput(NamedTuple):
    """What an actor-critic says of observations [..., *obs]."""

    distribution: Distribution
    """Of actions, [...]."""
    value: Array
    """[...] float32."""


class ActorCritic(Pytree):
    """A module from observations to (distribution parameters, value), with its spaces.

    A recurrent module has a method `initial_carry(batch_shape)` and maps (features
    [T, ..., D], carry [..., H], begins [T, ...] bool) to ((parameters, value), carry).
    """

    compile_time: ClassVar[bool] = True

    module: nn.Module = static()
    """From features [..., D] float32, or arrays by key, to (parameters, value); the value is None
    where there is no critic."""
    observation_space: Space = static()
    action_space: Space = static()
    mapper: DistributionMapper = static(default=DistributionMapper())
    normalize_obs: bool = static(default=False)
    """Whether the variables keep running statistics by which observations are normalized."""
    num_agents: int = static(default=0)
    """Agents that the critic sees at once, A: observations are then [..., A, *obs]. 0: one."""
    privileged_keys: tuple[str, ...] = static(default=())
    """Keys of observations that the critic alone sees."""
    by_key: bool = static(default=False)
    """Whether the module takes arrays by key, as `observations` has them, or one flat vector."""

    def init(self, key: Key) -> PyTree:
        """Fresh variables."""
        variables = self._initialized(key)[1]
        if self.normalize_obs:
            start = normalization.start_statistics(self.observation_space)
            variables = {**variables, STATISTICS: start}
        return variables

    def _initialized(self, key: Key) -> tuple[Any, PyTree]:
        """What the module says of zeros, and its fresh variables."""
        batch = (self.num_agents or 1,)
        features = jax.tree.map(
            lambda s: jnp.zeros((*batch, *s.shape), s.dtype), self.input_shapes()
        )
        if self.is_recurrent:
            begins = jnp.zeros((1, *batch), bool)
            sequence = jax.tree.map(lambda x: x[None], features)
            carry = self.initial_carry(batch)
            (out, _), variables = self.module.init_with_output(key, sequence, carry, begins)
            return out, variables
        return self.module.init_with_output(key, features)

    def apply(
        self, variables: PyTree, obs: PyTree, carry: PyTree = ()
    ) -> tuple[PolicyOutput, PyTree]:
        """The output for observations with any leading axes, and the new carry.

        Actions that masks among the observations exclude have probability 0.
        """
        if not self.is_recurrent:
            out: Any = self.module.apply(
                _without_statistics(variables), self._features(variables, obs)
            )
            parameters, value = out
            return self._output(parameters, value, obs), carry
        one_step = jax.tree.map(lambda x: x[None], obs)
        output, carry = self.unroll(variables, one_step, carry)
        return jax.tree.map(lambda x: x[0], output), carry

    def unroll(
        self, variables: PyTree, obs: PyTree, carry: PyTree, begins: Array | None = None
    ) -> tuple[PolicyOutput, PyTree]:
        """Outputs [T, ...] for observations [T, ..., *obs] in the order of time.

        The carry is [..., H]; where `begins` [T, ...] is true it starts anew before that
        step. Without memory every step is by itself.
        """
        if not self.is_recurrent:
            return self.apply(variables, obs, carry)
        features = self._features(variables, obs)
        if begins is None:
            begins = jnp.zeros(batch_shape_of(self.observation_space, obs), bool)
        out: Any = self.module.apply(_without_statistics(variables), features, carry, begins)
        (parameters, value), carry = out
        return self._output(parameters, value, obs), carry

    def act(self, variables: PyTree, obs: PyTree, carry: PyTree = ()) -> tuple[PyTree, PyTree]:
        """The distribution alone, of one agent's observations with any leading axes.

        What only the critic sees may be missing from them.
        """
        obs = self.completed(obs)
        if not self.num_agents:
            output, carry = self.apply(variables, obs, carry)
            return output.distribution, carry
        # Each agent's distribution depends on its own observation alone: the others may be
        # anything where only the critic looks at them.
        axis = len(batch_shape_of(self.observation_space, obs))
        batched = jax.tree.map(lambda x: _repeated(x, axis, self.num_agents), obs)
        memory = jax.tree.map(lambda x: _repeated(x, x.ndim - 1, self.num_agents), carry)
        output, memory = self.apply(variables, batched, memory)
        first = jax.tree.map(lambda x: jax.lax.index_in_dim(x, 0, axis, False), output.distribution)
        return first, jax.tree.map(lambda x: x[..., 0, :], memory)

    def completed(self, obs: PyTree) -> PyTree:
        """Observations [..., *obs] with 0 for what only the critic sees, where it is left out."""
        space = self.observation_space
        if not isinstance(space, Dict) or not isinstance(obs, Mapping):
            return obs
        missing = [key for key in self.privileged_keys if key not in obs]
        known = {key: obs[key] for key in space if key in obs}
        if not missing or not known:
            return obs
        batch = batch_shape_of(Dict({key: space[key] for key in known}), known)
        return {**obs, **{key: _zeros(space[key], batch) for key in missing}}

    @property
    def is_recurrent(self) -> bool:
        """Whether it remembers."""
        return hasattr(self.module, "initial_carry")

    def initial_carry(self, batch_shape: tuple[int, ...]) -> PyTree:
        """The memory at the beginning of an episode, [*batch_shape, ...]."""
        return self.module.initial_carry(batch_shape) if self.is_recurrent else ()

    def add_observations(
        self,
        variables: PyTree,
        obs: PyTree,
        where: Array | None = None,
        axis_name: str | None = None,
    ) -> PyTree:
        """The variables with observations [..., *obs] counted in their statistics, if any.

        With a mask [...] those where it is true; inside `shard_map` those of all devices.
        """
        if not self.normalize_obs:
            return variables
        grown = normalization.add_observations(
            self.observation_space, variables[STATISTICS], obs, where, axis_name
        )
        return {**variables, STATISTICS: grown}

    @property
    def has_critic(self) -> bool:
        """Whether the module judges observations; where not, all values are 0."""
        return _has_critic(self.replace(normalize_obs=False))

    def to_env(self, action: PyTree) -> PyTree:
        """The action as the env takes it."""
        return self.mapper.to_env(self.action_space, action)

    def input_shapes(self) -> PyTree:
        """Shapes of what the module takes of one observation."""
        if self.by_key:
            return observations.input_shapes(self.observation_space, self.action_space)
        return jax.ShapeDtypeStruct((self.observation_space.flat_size,), jnp.float32)

    def num_parameters(self) -> int:
        """Weights in all."""
        shapes = weights(jax.eval_shape(self.init, jax.random.key(0)))
        return sum(leaf.size for leaf in jax.tree.leaves(shapes))

    def _features(self, variables: PyTree, obs: PyTree) -> PyTree:
        if self.normalize_obs:
            obs = normalization.normalize_observations(
                self.observation_space, variables[STATISTICS], obs
            )
        if self.by_key:
            return observations.arrays_by_key(self.observation_space, self.action_space, obs)
        return self.observation_space.flatten(obs)

    def _output(self, parameters: PyTree, value: Array | None, obs: PyTree) -> PolicyOutput:
        if value is None:
            value = jnp.zeros(batch_shape_of(self.observation_space, obs), jnp.float32)
        masks = action_masks(self.action_space, obs)
        distribution = self.mapper.distribution(self.action_space, parameters, masks)
        return PolicyOutput(distribution, value)


class AgentActorCritics(Pytree):
    """One architecture with a set of variables for each agent, stacked along a first axis."""

    compile_time: ClassVar[bool] = True

    network: ActorCritic
    """Of each agent."""
    agents: tuple[int, ...] = static()
    """The agent of each slot of a flat step."""

    def validate(self) -> None:
        """Raise ConfigError for a critic that belongs to all agents."""
        if self.network.num_agents:
            raise ConfigError(
                "network_per: 'actor' gives each agent a critic of its own, which network."
                "central_critic makes one of all; set one of the two"
            )

    def init(self, key: Key) -> PyTree:
        """Fresh variables, [A, ...]."""
        return jax.vmap(self.network.init)(jax.random.split(key, self.num_sets))

    def of(self, variables: PyTree, agent: int) -> PyTree:
        """The variables of one agent."""
        return jax.tree.map(lambda leaf: leaf[agent], variables)

    def apply(
        self, variables: PyTree, obs: PyTree, carry: PyTree = ()
    ) -> tuple[PolicyOutput, PyTree]:
        """As of `ActorCritic`, for observations of all slots, [..., S, *obs]."""
        axis = self._slot_axis(obs)
        return jax.vmap(self.network.apply, in_axes=(0, axis, axis), out_axes=(axis, axis))(
            self._by_slot(variables), obs, carry
        )

    def unroll(
        self, variables: PyTree, obs: PyTree, carry: PyTree, begins: Array
    ) -> tuple[PolicyOutput, PyTree]:
        """As of `ActorCritic`, for observations of all slots, [T, ..., S, *obs]."""
        axis = self._slot_axis(obs)
        return jax.vmap(
            self.network.unroll, in_axes=(0, axis, axis - 1, axis), out_axes=(axis, axis - 1)
        )(self._by_slot(variables), obs, carry, begins)

    def initial_carry(self, batch_shape: tuple[int, ...]) -> PyTree:
        """As of `ActorCritic`."""
        return self.network.initial_carry(batch_shape)

    def add_observations(
        self,
        variables: PyTree,
        obs: PyTree,
        where: Array | None = None,
        axis_name: str | None = None,
    ) -> PyTree:
        """As of `ActorCritic`, for observations of all slots: each agent counts its own."""
        if not self.network.normalize_obs:
            return variables
        axis = self._slot_axis(obs)
        for agent in range(self.num_sets):
            slots = jnp.array([i for i, other in enumerate(self.agents) if other == agent])
            own = jax.tree.map(lambda x, slots=slots: jnp.take(x, slots, axis), obs)
            mask = None if where is None else jnp.take(where, slots, axis)
            grown = self.network.add_observations(self.of(variables, agent), own, mask, axis_name)
            variables = jax.tree.map(
                lambda all_, one, agent=agent: all_.at[agent].set(one), variables, grown
            )
        return variables

    def to_env(self, action: PyTree) -> PyTree:
        """As of `ActorCritic`."""
        return self.network.to_env(action)

    @property
    def num_sets(self) -> int:
        """Agents with variables of their own, A."""
        return max(self.agents) + 1

    @property
    def is_recurrent(self) -> bool:
        """Whether they remember."""
        return self.network.is_recurrent

    @property
    def has_critic(self) -> bool:
        """As of `ActorCritic`."""
        return self.network.has_critic

    @property
    def observation_space(self) -> Space:
        """Of each agent."""
        return self.network.observation_space

    @property
    def action_space(self) -> Space:
        """Of each agent."""
        return self.network.action_space

    def num_parameters(self) -> int:
        """Weights of all agents."""
        return self.num_sets * self.network.num_parameters()

    def _by_slot(self, variables: PyTree) -> PyTree:
        if self.agents == tuple(range(self.num_sets)):
            return variables
        return jax.tree.map(lambda leaf: leaf[jnp.array(self.agents)], variables)

    def _slot_axis(self, obs: PyTree) -> int:
        return len(batch_shape_of(self.observation_space, obs)) - 1


def weights(variables: PyTree) -> PyTree:
    """The part of one network's variables that is learned: parameters alone.

    Also those kinds of `nnx.Param` that have a collection of their own.
    """
    return {name: part for name, part in variables.items() if _is_learned(name)}


def _is_learned(collection: str) -> bool:
    if collection in (PARAMS, STATISTICS):
        return collection == PARAMS
    from flax import nnx

    try:
        return issubclass(nnx.variable_type_from_name(collection), nnx.Param)
    except ValueError:  # none of nnx
        return False


def _without_statistics(variables: PyTree) -> PyTree:
    """What the module itself has made."""
    return {name: part for name, part in variables.items() if name != STATISTICS}


# Tracing a network takes long, and learners are made anew for every change of a number.
@functools.lru_cache(maxsize=64)
def _has_critic(network: ActorCritic) -> bool:
    _, value = jax.eval_shape(network._initialized, jax.random.key(0))[0]
    return value is not None


def _zeros(space: Space, batch_shape: tuple[int, ...]) -> PyTree:
    one = jax.eval_shape(space.sample, jax.random.key(0))
    return jax.tree.map(lambda s: jnp.zeros((*batch_shape, *s.shape), s.dtype), one)


def _repeated(leaf: Array, axis: int, count: int) -> Array:
    return jnp.repeat(jnp.expand_dims(leaf, axis), count, axis)
