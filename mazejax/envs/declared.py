"""Which events an env declares: read off the log of its first step, nothing is computed."""

import functools

import jax
import jax.numpy as jnp

from mazejax import random
from mazejax.base import is_concrete
from mazejax.envs.base import Env
from mazejax.envs.structured import agent_axis
from mazejax.events.builtin import RewardEvents
from mazejax.events.log import EventLog
from mazejax.events.topic import Event
from mazejax.types import Key, PyTree


def declared_events(env: Env) -> tuple[Event, ...]:
    """The events of the env's steps, and the reward as it was where wrappers change it."""
    return _cached(env) if is_concrete(env) else _declared(env)


def _declared(env: Env) -> tuple[Event, ...]:
    key = jax.eval_shape(lambda: random.key(0))
    actor = env.actors[0]
    axis = agent_axis(actor, env.agent_counts)

    def first_step(key: Key) -> PyTree:
        action = env.action_spaces[actor.step_key].sample(key)
        batched = jax.tree.map(lambda x: jnp.broadcast_to(x, (*axis, *x.shape)), action)
        return env.step_state(key, env.reset_state(key), batched).info

    info = jax.eval_shape(first_step, key)
    log = info.get("events")
    own = log.events if isinstance(log, EventLog) else ()
    return own + ((RewardEvents.reward_original,) if "reward_original" in info else ())


_cached = functools.lru_cache(maxsize=64)(_declared)
