"""Networks as policies and critics: what `collect` asks for, from networks and their variables."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import jax

from mazejax.algos.collect import Act, Acted, Critics, Evaluate, Policies
from mazejax.envs.base import Env
from mazejax.envs.structured import agent_axis
from mazejax.errors import ConfigError
from mazejax.networks.policy import ActorCritic, AgentActorCritics, weights
from mazejax.networks.template import NetworkTemplate
from mazejax.spaces import mapper
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.types import ActorID, Array, Key, PyTree

Networks = dict[str, Any]
"""By step key: an `ActorCritic` that its actors share, or `AgentActorCritics`."""


def build_networks(
    template: NetworkTemplate, env: Env, network_per: str = "step_key", normalize_obs: bool = False
) -> Networks:
    """A network from the template for the spaces of each step key, or one per actor."""
    observations, actions = env.observation_spaces, env.action_spaces
    networks: Networks = {}
    with _as_network():
        template.check_step_keys(tuple(actions))
    for key in actions:
        agents = [actor.agent_id for actor in env.actors if actor.step_key == key]
        at_once = env.agent_counts[key] if None in agents else 0
        with _as_network():
            own = _with_own_rules(template.of_step_key(key), observations, actions, key)
            network = _built(own, observations[key], actions[key], at_once)
        network = network.replace(normalize_obs=normalize_obs)
        by_slot = tuple(range(at_once)) if at_once else tuple(a for a in agents if a is not None)
        each = network_per == "actor" and len(set(by_slot)) > 1
        networks[key] = AgentActorCritics(network, by_slot) if each else network
    return networks


def initial_carries(networks: Networks, env: Env, num_envs: int) -> tuple[PyTree, ...] | None:
    """What policies begin episodes with, [N, ...] by sub-step; None if nobody remembers."""
    if not any(network.is_recurrent for network in networks.values()):
        return None
    return tuple(
        networks[actor.step_key].initial_carry((num_envs, *agent_axis(actor, env.agent_counts)))
        for actor in env.actors
    )


def policies(
    networks: Networks, env: Env, variables: dict[str, PyTree], deterministic: bool = False
) -> Policies:
    """How each actor acts: drawn from its distribution, or by its mode."""
    return {
        actor: policy(*_of_actor(networks, variables, actor), deterministic)
        for actor in dict.fromkeys(env.actors)
    }


def critics(networks: Networks, env: Env, variables: dict[str, PyTree]) -> Critics:
    """What each actor thinks observations are worth."""
    return {
        actor: critic(*_of_actor(networks, variables, actor)) for actor in dict.fromkeys(env.actors)
    }


def weights_of(variables: dict[str, PyTree]) -> dict[str, PyTree]:
    """What is learned of the variables, by step key: parameters alone."""
    return {key: weights(own) for key, own in variables.items()}


def with_weights(variables: dict[str, PyTree], learned: dict[str, PyTree]) -> dict[str, PyTree]:
    """The variables with other weights."""
    return {key: {**own, **learned[key]} for key, own in variables.items()}


def policy(
    network: ActorCritic | AgentActorCritics, variables: PyTree, deterministic: bool = False
) -> Act:
    """How the network acts: drawn from its distribution, or by its mode."""

    def act(keys: Key, obs: PyTree, carry: PyTree) -> Acted:
        output, carry = network.apply(variables, obs, carry)
        if deterministic:
            action = output.distribution.mode()
        else:
            action = _draw(output.distribution, keys)
        log_prob = output.distribution.log_prob(action)
        entropy = output.distribution.entropy()
        return Acted(action, network.to_env(action), log_prob, output.value, carry, entropy)

    return act


def critic(network: ActorCritic | AgentActorCritics, variables: PyTree) -> Evaluate:
    """What the network thinks observations are worth."""

    def evaluate(obs: PyTree, carry: PyTree) -> Array:
        return network.apply(variables, obs, carry)[0].value

    return evaluate


# Learners ask for their networks several times a trace, and graphs of blocks take long to check.
@functools.lru_cache(maxsize=64)
def _built(
    template: NetworkTemplate, observation_space: Space, action_space: Space, num_agents: int
) -> ActorCritic:
    return template.build(observation_space, action_space, num_agents)


@contextlib.contextmanager
def _as_network() -> Iterator[None]:
    """What the template says of its fields, in the name of the learner's field `network`."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"network.{error}") from None


def _with_own_rules(
    template: NetworkTemplate, observations: dict[str, Space], actions: dict[str, Space], key: str
) -> NetworkTemplate:
    """The template without what it says of heads and observations that only others have."""
    others = {head for space in actions.values() for head in mapper.heads(space)}
    others -= set(mapper.heads(actions[key]))
    rules = tuple(rule for rule in template.distributions if rule[0] not in others)
    others = {name for space in observations.values() for name in _names(space)}
    others -= _names(observations[key])
    keys = tuple(name for name in template.privileged_keys if name not in others)
    if (rules, keys) == (template.distributions, template.privileged_keys):
        return template
    return template.replace(distributions=rules, privileged_keys=keys)


def _names(space: Space) -> set[str]:
    return set(space) if isinstance(space, Dict) else set()


def _of_actor(networks: Networks, variables: dict[str, PyTree], actor: ActorID) -> tuple[Any, Any]:
    """The network of an actor and its variables."""
    network, own = networks[actor.step_key], variables[actor.step_key]
    if isinstance(network, AgentActorCritics) and actor.agent_id is not None:
        return network.network, network.of(own, actor.agent_id)
    return network, own


def _draw(distribution: PyTree, keys: Key) -> PyTree:
    """One action for each of the keys, [N] or [N, A]."""

    def draw(distribution: PyTree, key: Key) -> PyTree:
        return distribution.sample(key)

    for _ in range(keys.ndim):
        draw = jax.vmap(draw)
    return draw(distribution, keys)
