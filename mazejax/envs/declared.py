"""Which events an env declares: read off the log of its first step, nothing is computed."""

import functools

import jax
import jax.numpy as jnp

from mazejax import random
from mazejax.base import is_concrete
from mazejax.envs.base import Env
from mazejax.envs.structured import agent_axis
from mazejax.events.log import EventLog
from mazejax.events.topic import Event
from mazejax.types import Key, PyTree


def declared_events(env: Env) -> tuple[Event, ...]:
    """The events that steps of the env may fire, by name; none of an env without a log."""
    log = first_info(env).get("events")
    return log.events if isinstance(log, EventLog) else ()


def empty_log(env: Env) -> EventLog | None:
    """A log of nothing, as the env fires into it; None of an env without events."""
    log = first_info(env).get("events")
    if not isinstance(log, EventLog):
        return None
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), log)


def first_info(env: Env) -> dict[str, PyTree]:
    """Shapes and dtypes of what the first sub-step of the schedule says in `info`."""
    return _cached(env) if is_concrete(env) else _first_info(env)


def _first_info(env: Env) -> dict[str, PyTree]:
    key = jax.eval_shape(lambda: random.key(0))
    actor = env.actors[0]
    axis = agent_axis(actor, env.agent_counts)

    def first_step(key: Key) -> PyTree:
        action = env.action_spaces[actor.step_key].sample(key)
        batched = jax.tree.map(lambda x: jnp.broadcast_to(x, (*axis, *x.shape)), action)
        return env.step_state(key, env.reset_state(key), batched).info

    return jax.eval_shape(first_step, key)


_cached = functools.lru_cache(maxsize=64)(_first_info)
