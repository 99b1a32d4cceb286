"""Who deserves what: advantages and value targets for rollouts of any schedule.

Where every actor has rewards of its own, each slot is a stream in time. Where the flat
step's reward belongs to all, its sub-steps are links of one chain, in which only the
last takes time. A flat env is either.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from mazejax.algos.returns import gae, gae_between_active
from mazejax.envs.base import Env
from mazejax.types import ActorID, Array, Rollout, Transition


class Credit(NamedTuple):
    """What a critic's and a policy's loss need of each slot, [T, N] or [T, N, S]."""

    advantage: Array
    """float32; 0 where inactive."""
    target: Array
    """Value to be learned, float32."""
    has_target: Array | None
    """bool: where the value is to be learned; None if everywhere.

    Not only where active: a rollout or an episode may be cut while an actor waits for its
    turn, and then what it sees is valued. After the end of an episode there is nothing to
    value.
    """


def has_own_rewards(env: Env) -> bool:
    """Whether the slots of a flat step have rewards of their own, rather than one in common."""
    return env.has_actor_rewards or any(count > 1 for count in env.agent_counts.values())


def assign(
    env: Env, rollout: Rollout, gamma: float | Array, gae_lambda: float | Array
) -> dict[str, Credit]:
    """Credit by step key, of each slot by its own value."""
    if len(env.actors) == 1 or has_own_rewards(env):
        return {
            key: _streams(steps, rollout.next_value[key], gamma, gae_lambda)
            for key, steps in rollout.transitions.items()
        }
    return _chain(env.actors, rollout, gamma, gae_lambda)


def assign_shared(
    env: Env, rollout: Rollout, gamma: float | Array, gae_lambda: float | Array
) -> dict[str, Credit]:
    """Credit by step key where all slots have the advantage of the flat step.

    Its reward is the sum over all slots, its value that of the first sub-step (of agents
    at once the mean over them, whether or not they act), which alone has targets.
    """
    first_key, at_first = _places(env.actors, rollout)[0]
    if env.actors[0].agent_id is None:
        at_first = (...,)
    first = rollout.transitions[first_key]
    reward = sum(_over_slots(s.reward, jnp.sum) for s in rollout.transitions.values())
    value = _over_slots(first.value[at_first], jnp.mean)
    next_value = _over_slots(rollout.next_value[first_key][at_first], jnp.mean)
    flags = first.terminated, first.truncated
    advantage = gae(jnp.asarray(reward), value, next_value, *flags, gamma, gae_lambda)

    def shared(key: str, steps: Transition) -> Credit:
        own, target = (
            jnp.broadcast_to(_with_slots(x, steps.reward.ndim), steps.reward.shape)
            for x in (advantage, advantage + value)
        )
        has_target = jnp.zeros(own.shape, bool)
        if key == first_key:
            has_target = has_target.at[at_first].set(True)
        return Credit(_where_active(own, steps), target, has_target)

    return {key: shared(key, steps) for key, steps in rollout.transitions.items()}


def _streams(
    steps: Transition, next_value: Array, gamma: float | Array, gae_lambda: float | Array
) -> Credit:
    """Each slot by itself, from active step to active step."""
    ndim = steps.reward.ndim
    terminated, truncated = (_with_slots(f, ndim) for f in (steps.terminated, steps.truncated))
    if steps.actor_done is not None:
        next_value = jnp.where(steps.actor_done, 0.0, next_value)
    if steps.active is None:
        advantage = gae(
            steps.reward, steps.value, next_value, terminated, truncated, gamma, gae_lambda
        )
    else:
        shape = steps.reward.shape
        advantage = gae_between_active(
            steps.reward,
            steps.value,
            next_value,
            steps.active,
            jnp.broadcast_to(terminated, shape),
            jnp.broadcast_to(truncated, shape),
            gamma,
            gae_lambda,
        )
    has_target = _has_target(steps, steps.actor_done)
    return Credit(_where_active(advantage, steps), advantage + steps.value, has_target)


def _chain(
    actors: tuple[ActorID, ...],
    rollout: Rollout,
    gamma: float | Array,
    gae_lambda: float | Array,
) -> dict[str, Credit]:
    """Sub-steps one after another, [T * S, N]: only the last of a flat step takes time."""
    places = _places(actors, rollout)
    transitions = rollout.transitions

    def chained(name: str) -> Array:
        """One field of all sub-steps, in the order in which they were taken."""
        parts = [getattr(transitions[key], name)[at] for key, at in places]
        joined = jnp.stack(parts, axis=1)
        return joined.reshape(-1, joined.shape[-1])

    first_key, first_at = places[0]
    num_steps, num_envs = transitions[first_key].terminated.shape
    is_last = jnp.tile(jnp.arange(len(actors)) == len(actors) - 1, num_steps)[:, None]
    terminated, truncated = (
        jnp.repeat(getattr(transitions[first_key], name), len(actors), axis=0) & is_last
        for name in ("terminated", "truncated")
    )
    # Read only after a flat step that was truncated or was the last: what the first actor sees.
    next_value = jnp.repeat(rollout.next_value[first_key][first_at], len(actors), axis=0)
    reward, always = chained("reward"), transitions[first_key].active is None
    advantage = gae_between_active(
        reward=reward,
        value=chained("value"),
        next_value=next_value,
        active=jnp.ones(reward.shape, bool) if always else chained("active"),
        terminated=terminated,
        truncated=truncated,
        gamma=jnp.where(is_last, gamma, 1.0),
        gae_lambda=gae_lambda,
    )
    by_substep = advantage.reshape(num_steps, len(actors), num_envs)
    credit: dict[str, Credit] = {}
    for key, steps in transitions.items():
        own = [i for i, (place, _) in enumerate(places) if place == key]
        mine = jnp.moveaxis(by_substep[:, jnp.array(own)], 1, -1).reshape(steps.reward.shape)
        credit[key] = Credit(_where_active(mine, steps), mine + steps.value, _has_target(steps))
    return credit


def _places(actors: tuple[ActorID, ...], rollout: Rollout) -> list[tuple[str, tuple]]:
    """Where each sub-step is found: its step key and the index of its slot."""
    seen: dict[str, int] = {}
    places = []
    for actor in actors:
        slot = seen.get(actor.step_key, 0)
        seen[actor.step_key] = slot + 1
        has_slots = rollout.transitions[actor.step_key].reward.ndim > 2
        places.append((actor.step_key, (..., slot) if has_slots else (...,)))
    return places


def _where_active(advantage: Array, steps: Transition) -> Array:
    return advantage if steps.active is None else jnp.where(steps.active, advantage, 0.0)


def _has_target(steps: Transition, gone: Array | None = None) -> Array | None:
    """Where an actor acts, or waits for its turn in an episode that goes on."""
    if steps.active is None:
        return None
    ended = _with_slots(steps.terminated | steps.truncated, steps.active.ndim)
    return steps.active | ~(ended if gone is None else ended | gone)


def _with_slots(flags: Array, ndim: int) -> Array:
    """[T, N] with the trailing axes that [T, N, S] has."""
    return flags.reshape(flags.shape + (1,) * (ndim - flags.ndim))


def _over_slots(values: Array, reduce: Callable[..., Array]) -> Array:
    """[T, N] from [T, N] or [T, N, S]."""
    return values if values.ndim == 2 else reduce(values, axis=-1)
