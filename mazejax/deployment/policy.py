"""`Policy`: trained variables that act, on one observation or on many, outside training."""

import functools
from typing import Any

import jax

from mazejax import random
from mazejax.errors import ConfigError, did_you_mean
from mazejax.networks.policy import ActorCritic
from mazejax.spaces.shapes import batch_shape_of, check_shapes
from mazejax.types import Array, PyTree


class Policy:
    """Networks by step key, with their variables.

    policy.act(obs)                      # the best action, for one observation
    policy.act(obs, seed=3)              # drawn from the distribution
    policy.act(observations)             # [B, ...], batches as they come
    policy.act(obs, step_key="cut")      # of a structured env: as this actor
    """

    def __init__(self, networks: dict[str, ActorCritic], variables: dict[str, PyTree]) -> None:
        self.networks = networks
        self.variables = variables
        act = jax.jit(self._action, static_argnums=0)
        self._mode = functools.partial(act, key=None)
        self._draw = act

    def act(self, obs: PyTree, seed: int | None = None, step_key: str | None = None) -> PyTree:
        """The action as the env takes it: the mode, or with a seed a draw.

        Raises SpaceError if the observation has neither the space's shape nor one batch
        axis more, ConfigError if it is not said which actor of a structured env acts.
        """
        step_key = self._step_key(step_key)
        space = self.networks[step_key].observation_space
        check_shapes(space, obs, "obs", batch_shape_of(space, obs)[-1:])
        variables = self.variables[step_key]
        if seed is None:
            return self._mode(step_key, variables, obs)
        return self._draw(step_key, variables, obs, random.key(seed))

    def _step_key(self, step_key: str | None) -> str:
        known = tuple(self.networks)
        if step_key is None and len(known) == 1:
            return known[0]
        if step_key not in self.networks:
            hint = did_you_mean(str(step_key), known)
            raise ConfigError(f"policy.act: step_key: got {step_key!r}; {hint}")
        return step_key

    def _action(self, step_key: str, variables: PyTree, obs: PyTree, key: Array | None) -> Any:
        network = self.networks[step_key]
        distribution = network.apply(variables, obs)[0].distribution
        action = distribution.mode() if key is None else distribution.sample(key)
        return network.to_env(action)

    def __repr__(self) -> str:
        lines = [self._shown(step_key) for step_key in self.networks]
        return f"Policy({lines[0]})" if len(lines) == 1 else "\n  ".join(["Policy:", *lines])

    def _shown(self, step_key: str) -> str:
        network = self.networks[step_key]
        name = f"{step_key}  " if len(self.networks) > 1 else ""
        return (
            f"{name}{network.observation_space.summary} -> {network.action_space.summary}, "
            f"{network.num_parameters():,} parameters"
        )
