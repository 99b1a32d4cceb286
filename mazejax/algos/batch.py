"""Batches: what losses read of a rollout, row by row.

A row is a step of an env; where policies remember it is the whole sequence of one env, so
that a minibatch can be unrolled from the memory that it began with. Advantages and value
targets are those of the whole rollout; how they are used, the learners say.
"""

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from mazejax.algos import credit, losses
from mazejax.algos.metrics import Metrics
from mazejax.algos.returns import explained_variance
from mazejax.events.accumulator import Accumulator
from mazejax.networks.policy import ActorCritic, AgentActorCritics
from mazejax.types import ActorID, Array, PyTree, Rollout, Transition

if TYPE_CHECKING:
    from mazejax.algos.actor_critic import ActorCriticAlgorithm


class Batch(NamedTuple):
    """What the loss reads of the rows of one step key, [B, ...] or [B, S, ...].

    A row is one step, or where policies remember the sequence of one env, [B, T, ...].
    """

    obs: PyTree
    action: PyTree
    log_prob: Array
    value: Array
    advantage: Array
    target: Array
    weight: Array | None = None
    """How much each entry counts for the policy, float32; None where all count alike."""
    value_weight: Array | None = None
    """How much each entry counts for the critic, float32; None where all count alike."""
    carry: PyTree = ()
    """Memory before each sequence."""
    begins: Array | None = None
    """Where in a sequence an episode begins, bool; None where rows are steps."""


Batches = dict[str, Batch]
"""By step key."""


def from_rollout(algorithm: "ActorCriticAlgorithm", rollout: Rollout) -> Batches:
    """Rows by step key, with advantages and value targets."""
    if algorithm.critic == "delta":
        rollout = _summed_values(algorithm.env.actors, rollout)
    assign = credit.assign_shared if algorithm.critic == "shared" else credit.assign
    credits = assign(algorithm.env, rollout, algorithm.gamma, algorithm.gae_lambda)
    batches = {}
    for key, steps in rollout.transitions.items():
        advantage, target, has_target = credits[key]
        if algorithm.advantage_norm == "batch":
            advantage = _standardized(advantage, steps.active, algorithm.actor_critics[key])
        batch = Batch(
            obs=steps.obs,
            action=steps.action,
            log_prob=steps.log_prob,
            value=steps.value,
            advantage=advantage,
            target=target,
            weight=None if steps.active is None else steps.active.astype(jnp.float32),
            value_weight=None if has_target is None else has_target.astype(jnp.float32),
        )
        if rollout.carry:
            batch = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), batch)
            batch = batch._replace(carry=rollout.carry[key], begins=_begins(steps))
        else:
            rows = steps.terminated.size
            batch = jax.tree.map(lambda x, rows=rows: x.reshape(rows, *x.shape[2:]), batch)
        batches[key] = batch
    return batches


def time_first(rows: Batch) -> Batch:
    """Sequences [B, T, ...] as [T, B, ...]; their memory stays [B, ...]."""
    carry = rows.carry
    turned = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), rows._replace(carry=()))
    return turned._replace(carry=carry)


def standardized(batches: Batches, networks: dict[str, ActorCritic | AgentActorCritics]) -> Batches:
    """The minibatch with standardized advantages, those of each step key by themselves."""
    changed = {}
    for key, rows in batches.items():
        where = None if rows.weight is None else rows.weight > 0
        advantage = _standardized(rows.advantage, where, networks[key])
        changed[key] = rows._replace(advantage=advantage)
    return changed


def of_mean_weight_one(batches: Batches, axis_name: str | None = None) -> Batches:
    """The minibatch with weights scaled to a mean of 1 over all devices; all 0 if they are."""
    weights = {key: (rows.weight, rows.value_weight) for key, rows in batches.items()}
    leaves, structure = jax.tree.flatten(weights)
    if not leaves:
        return batches
    means = jnp.stack([jnp.mean(leaf) for leaf in leaves])
    if axis_name is not None:
        # A device on which few are active must not count as much as one on which all are.
        means = jax.lax.pmean(means, axis_name)
    scaled = [leaf / jnp.maximum(mean, 1e-8) for leaf, mean in zip(leaves, means, strict=True)]
    weights = structure.unflatten(scaled)
    return {
        key: rows._replace(weight=weights[key][0], value_weight=weights[key][1])
        for key, rows in batches.items()
    }


def mean(values: Array, weight: Array | None) -> Array:
    """Mean of values [B, ...], each counted with its weight, whose mean is 1."""
    return jnp.mean(values if weight is None else values * weight)


def explained(batches: Batches) -> Metrics:
    """Share of the variance of the value targets that the values had explained."""
    metrics = {}
    for key, batch in batches.items():
        where = None if batch.value_weight is None else batch.value_weight > 0
        share = explained_variance(batch.value, batch.target, where)
        name = f"value/explained_variance{'/' + key if len(batches) > 1 else ''}"
        metrics[name] = Accumulator.of(share, jnp.isfinite(share))
    return metrics


def _standardized(
    advantage: Array, where: Array | None, network: ActorCritic | AgentActorCritics
) -> Array:
    """Advantages standardized together; slot by slot where each has a network of its own."""
    if not isinstance(network, AgentActorCritics):
        return losses.standardize(advantage, where=where)
    return jax.vmap(lambda a, w: losses.standardize(a, where=w), in_axes=-1, out_axes=-1)(
        advantage, where
    )


def _summed_values(actors: tuple[ActorID, ...], rollout: Rollout) -> Rollout:
    """The rollout in which each value has those of the sub-steps before added to it."""
    value, next_value = dict[str, Array](), dict[str, Array]()
    total = next_total = jnp.zeros((), jnp.float32)
    for actor in actors:
        key = actor.step_key
        total = value[key] = total + rollout.transitions[key].value
        next_total = next_value[key] = next_total + rollout.next_value[key]
    steps = {key: t.replace(value=value[key]) for key, t in rollout.transitions.items()}
    return rollout.replace(transitions=steps, next_value=next_value)


def _begins(steps: Transition) -> Array:
    """Where an episode begins within the rollout, [N, T] or [N, T, S] bool.

    Not at its first step: the memory before it is a fresh one already if an episode begins.
    """
    done = (steps.terminated | steps.truncated)[:-1]
    begins = jnp.concatenate([jnp.zeros_like(steps.terminated[:1]), done]).swapaxes(0, 1)
    slots = steps.reward.shape[2:]
    begins = begins.reshape(*begins.shape, *(1 for _ in slots))
    return jnp.broadcast_to(begins, (*begins.shape[:2], *slots))
