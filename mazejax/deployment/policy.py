"""`Policy`: trained variables that act, on one observation or on many, outside training."""

from typing import Any

import jax
import numpy as np

from mazejax import random
from mazejax.errors import ConfigError, did_you_mean
from mazejax.networks.policy import ActorCritic, AgentActorCritics
from mazejax.spaces.shapes import batch_shape_of, check_shapes
from mazejax.types import Array, PyTree


class Policy:
    """Networks by step key, with their variables.

    Observations and actions are those of the env in its wrappers; `Interface` leads to them
    from those of the bare env. What only the critic saw may be left out of them.

    policy.act(obs)                      # the best action, for one observation
    policy.act(obs, seed=3)              # drawn from the distribution
    policy.act(observations)             # [B, ...], batches as they come
    policy.act(obs, step_key="cut")      # of a structured env: as this actor
    policy.act(obs, agent=2)             # where each agent has a network of its own
    action, carry = policy.step(obs, carry)    # with a memory; None begins an episode
    """

    def __init__(
        self,
        networks: dict[str, ActorCritic | AgentActorCritics],
        variables: dict[str, PyTree],
    ) -> None:
        self.networks = networks
        self.variables = variables
        self._jitted = jax.jit(_act, static_argnums=0)

    def act(
        self,
        obs: PyTree,
        seed: int | None = None,
        step_key: str | None = None,
        agent: int | None = None,
    ) -> PyTree:
        """The action as the env takes it: the mode, or with a seed a draw.

        Raises SpaceError if the observation has neither the space's shape nor one batch
        axis more, ConfigError if it is not said which actor acts, or if it remembers.
        """
        step_key = self._step_key(step_key)
        if self.networks[step_key].is_recurrent:
            raise ConfigError(
                "policy.act: this policy has a memory; use action, carry = policy.step(obs, carry)"
            )
        return self.step(obs, None, seed, step_key, agent)[0]

    def step(
        self,
        obs: PyTree,
        carry: PyTree | None = None,
        seed: int | None = None,
        step_key: str | None = None,
        agent: int | None = None,
    ) -> tuple[PyTree, PyTree]:
        """The action, and the memory with which the next one is chosen.

        No carry begins an episode. Raises as `act` does.
        """
        step_key = self._step_key(step_key)
        network, variables = self._of_agent(step_key, agent)
        space, obs = network.observation_space, network.completed(obs)
        batch = batch_shape_of(space, obs)[-1:]
        check_shapes(space, obs, "obs", batch)
        carry = network.initial_carry(batch) if carry is None else carry
        key = None if seed is None else random.key(seed)
        return self._jitted(network, variables, obs, carry, key)

    def _of_agent(self, step_key: str, agent: int | None) -> tuple[ActorCritic, PyTree]:
        network, variables = self.networks[step_key], self.variables[step_key]
        if isinstance(network, ActorCritic):
            return network, variables
        known = range(network.num_sets)
        is_bool = isinstance(agent, bool)
        if is_bool or not isinstance(agent, (int, np.integer)) or agent not in known:
            raise ConfigError(
                f"policy.act: agent: got {agent!r}, but each of {step_key!r} has a network of its "
                f"own; choose from 0 to {network.num_sets - 1}"
            )
        return network.network, network.of(variables, int(agent))

    def _step_key(self, step_key: str | None) -> str:
        known = tuple(self.networks)
        if step_key is None and len(known) == 1:
            return known[0]
        if step_key not in self.networks:
            hint = did_you_mean(str(step_key), known)
            raise ConfigError(f"policy.act: step_key: got {step_key!r}; {hint}")
        return step_key

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


def _act(
    network: ActorCritic, variables: PyTree, obs: PyTree, carry: PyTree, key: Array | None
) -> tuple[Any, PyTree]:
    distribution, carry = network.act(variables, obs, carry)
    action = distribution.mode() if key is None else distribution.sample(key)
    return network.to_env(action), carry
