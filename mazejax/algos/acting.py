"""Networks as policies and critics: what `collect` asks for, from a network and its variables."""

import jax

from mazejax.algos.collect import Act, Acted, Evaluate
from mazejax.envs.base import Env
from mazejax.networks.policy import ActorCritic
from mazejax.networks.template import MLPActorCritic
from mazejax.types import Array, Key, PyTree


def build_networks(template: MLPActorCritic, env: Env) -> dict[str, ActorCritic]:
    """A network from the template for the spaces of each step key."""
    observations, actions = env.observation_spaces, env.action_spaces
    return {key: template.build(observations[key], actions[key]) for key in actions}


def policy(network: ActorCritic, variables: PyTree, deterministic: bool = False) -> Act:
    """How the network acts: drawn from its distribution, or by its mode."""

    def act(keys: Key, obs: PyTree, carry: PyTree) -> Acted:
        output, carry = network.apply(variables, obs, carry)
        if deterministic:
            action = output.distribution.mode()
        else:
            action = _draw(output.distribution, keys)
        log_prob = output.distribution.log_prob(action)
        return Acted(action, network.to_env(action), log_prob, output.value, carry)

    return act


def critic(network: ActorCritic, variables: PyTree) -> Evaluate:
    """What the network thinks observations are worth."""

    def evaluate(obs: PyTree, carry: PyTree) -> Array:
        return network.apply(variables, obs, carry)[0].value

    return evaluate


def _draw(distribution: PyTree, keys: Key) -> PyTree:
    """One action for each of the keys, [N] or [N, A]."""

    def draw(distribution: PyTree, key: Key) -> PyTree:
        return distribution.sample(key)

    for _ in range(keys.ndim):
        draw = jax.vmap(draw)
    return draw(distribution, keys)
