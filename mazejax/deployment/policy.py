"""`Policy`: trained variables that act, on one observation or on many, outside training."""

import jax

from mazejax import random
from mazejax.networks.policy import ActorCritic
from mazejax.spaces.shapes import batch_shape_of, check_shapes
from mazejax.types import Array, PyTree


class Policy:
    """A network with its variables.

    policy.act(obs)                  # the best action, for one observation
    policy.act(obs, seed=3)          # drawn from the distribution
    policy.act(observations)         # [B, ...], batches as they come
    """

    def __init__(self, network: ActorCritic, variables: PyTree) -> None:
        self.network = network
        self.variables = variables
        self._mode = jax.jit(lambda variables, obs: self._action(variables, obs, None))
        self._draw = jax.jit(self._action)

    def act(self, obs: PyTree, seed: int | None = None) -> PyTree:
        """The action as the env takes it: the mode, or with a seed a draw.

        Raises SpaceError if the observation has neither the space's shape nor one batch
        axis more.
        """
        space = self.network.observation_space
        check_shapes(space, obs, "obs", batch_shape_of(space, obs)[-1:])
        if seed is None:
            return self._mode(self.variables, obs)
        return self._draw(self.variables, obs, random.key(seed))

    def _action(self, variables: PyTree, obs: PyTree, key: Array | None) -> PyTree:
        distribution = self.network.apply(variables, obs)[0].distribution
        action = distribution.mode() if key is None else distribution.sample(key)
        return self.network.to_env(action)

    def __repr__(self) -> str:
        return (
            f"Policy({self.network.observation_space} -> {self.network.action_space}, "
            f"{self.network.num_parameters():,} parameters)"
        )
