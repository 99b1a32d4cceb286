"""`ActorCritic`: a policy and a critic behind a pure boundary.

Learners see `init` and `apply` on variables that travel by value, whatever module
computes inside. The memory of recurrent modules passes through as `carry`; without
memory it is empty.
"""

from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mazejax.base import Pytree, static
from mazejax.spaces.base import Space
from mazejax.spaces.distributions import Distribution
from mazejax.spaces.mapper import DistributionMapper
from mazejax.spaces.masks import action_masks
from mazejax.types import Array, Key, PyTree


class PolicyOutput(NamedTuple):
    """What an actor-critic says of observations [..., *obs]."""

    distribution: Distribution
    """Of actions, [...]."""
    value: Array
    """[...] float32."""


class ActorCritic(Pytree):
    """A module from flat observations to (distribution parameters, value), with its spaces."""

    compile_time: ClassVar[bool] = True

    module: nn.Module = static()
    """From features [..., D] float32 to (parameters, value)."""
    observation_space: Space = static()
    action_space: Space = static()
    mapper: DistributionMapper = static(default=DistributionMapper())

    def init(self, key: Key) -> PyTree:
        """Fresh variables."""
        features = jnp.zeros((1, self.observation_space.flat_size), jnp.float32)
        return self.module.init(key, features)

    def apply(
        self, variables: PyTree, obs: PyTree, carry: PyTree = ()
    ) -> tuple[PolicyOutput, PyTree]:
        """The output for observations with any leading axes, and the new carry.

        Actions that masks among the observations exclude have probability 0.
        """
        out: Any = self.module.apply(variables, self.observation_space.flatten(obs))
        parameters, value = out
        masks = action_masks(self.action_space, obs)
        distribution = self.mapper.distribution(self.action_space, parameters, masks)
        return PolicyOutput(distribution, value), carry

    def initial_carry(self, num_envs: int) -> PyTree:
        """The memory at the beginning of an episode, [N, ...]."""
        return ()

    def to_env(self, action: PyTree) -> PyTree:
        """The action as the env takes it."""
        return self.mapper.to_env(self.action_space, action)

    def num_parameters(self) -> int:
        """Weights in all."""
        shapes = jax.eval_shape(self.init, jax.random.key(0))
        return sum(leaf.size for leaf in jax.tree.leaves(shapes))
