"""How `check_env` walks an env: flat steps of random allowed actions, unrolled over the schedule.

Actions are drawn under the masks that observations hold, those of inactive actors from
the whole space by a key of their own. A flat env walks like any other: its flat step has
one sub-step.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.envs.base import Env, select
from mazejax.envs.check.findings import leaves, without_keys
from mazejax.envs.episode import random_policy
from mazejax.types import Array, Key, PyTree, Step

_HASH_MULTIPLIER = np.uint32(0x9E3779B9)  # 2^32 / golden ratio: odd and without pattern


class Move(NamedTuple):
    """One sub-step and what came of it; in a walk with time first, [T, ...]."""

    obs: PyTree
    """Observation that the action answered."""
    active: Array
    """Whether the actor acted, bool [] or [A]."""
    time: Array
    """Flat steps before the sub-step, int32 []."""
    action: PyTree
    step: Step
    """What came of it; in a walk the leaves of its state are digests, uint32 [T]."""
    next_active: Array
    """Whether the next actor acts, in the state after the sub-step and before a reset."""
    next_time: Array
    """Flat steps in that state."""
    next_obs: tuple[PyTree, ...]
    """Of the last sub-step: what the actors after the first would see of that state."""
    stood: dict[str, Array]
    """By leaf of the problem's own state: whether the sub-step left it as it was, bool []."""


def substep_keys(key: Key, substep: int) -> tuple[Key, Key, Key]:
    """Keys of a sub-step from that of its flat step: for the env, the action, idle actors."""
    own = jax.random.fold_in(key, substep)
    return random.stream(own, "env"), random.stream(own, "action"), random.stream(own, "idle")


def flat_step(env: Env, key: Key, state: PyTree, idle: Array | int = 0) -> tuple[Move, ...]:
    """The moves of one flat step, one for every sub-step of the schedule.

    `idle` changes what inactive actors do, and should change nothing else.
    """
    policy = random_policy(env)
    obs, moves = env.observe(state), []
    for substep, actor in enumerate(env.actors):
        env_key, action_key, idle_key = substep_keys(key, substep)
        active, maze_state = env.actor_active(state), env.maze_state(state)
        # Without an observation there is no mask: the action is any of the space.
        careless = policy(jax.random.fold_in(idle_key, idle), None, maze_state, actor)
        action = select(active, policy(action_key, obs, maze_state, actor), careless)
        step = env.step(env_key, state, action)
        others = range(1, len(env.actors)) if substep == len(env.actors) - 1 else ()
        moves.append(
            Move(
                obs=obs,
                active=active,
                time=env.time(state),
                action=action,
                step=step,
                next_active=env.actor_active(step.state),
                next_time=env.time(step.state),
                next_obs=tuple(env.observe(env.at_substep(step.state, i)) for i in others),
                stood=_stood(env, state, step.state) if substep else {},
            )
        )
        obs, state = step.obs, step.state
    return tuple(moves)


def walk(env: Env, key: Key, keys: Key, idle: Array | int = 0) -> tuple[Move, ...]:
    """Moves [T, ...] by sub-step: a scan over keys [T] that starts anew where an episode ends."""

    def one_flat_step(state: PyTree, key: Key) -> tuple[PyTree, tuple[Move, ...]]:
        moves = flat_step(env, key, state, idle)
        end = moves[-1].step
        fresh = env.reset(random.stream(key, "check"))[1]
        return select(end.done, fresh, end.state), tuple(map(_digested, moves))

    return jax.lax.scan(one_flat_step, env.reset(key)[1], keys)[1]


def digest(leaf: Array) -> Array:
    """A number that changes with any bit of a leaf, uint32 []."""
    leaf = jnp.asarray(without_keys(leaf))
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        bits = jax.lax.bitcast_convert_type(leaf.astype(jnp.float32), jnp.uint32)
    else:
        bits = leaf.astype(jnp.uint32)
    weights = (2 * jnp.arange(bits.size, dtype=jnp.uint32) + 1) * _HASH_MULTIPLIER
    return (bits.reshape(-1) * weights).sum(dtype=jnp.uint32)


def _digested(move: Move) -> Move:
    state = jax.tree.map(digest, move.step.state)
    return move._replace(step=move.step._replace(state=state))


def _stood(env: Env, state: PyTree, new: PyTree) -> dict[str, Array]:
    """Which leaves of `maze_state` are as before, a clock that follows the env's time aside."""
    before = leaves("maze_state", without_keys(env.maze_state(state)))
    after = leaves("maze_state", without_keys(env.maze_state(new)))
    time, next_time = env.time(state), env.time(new)

    def same(old: Array, now: Array) -> Array:
        if old.shape != now.shape or old.dtype != now.dtype:
            return jnp.zeros((), bool)
        equal = ((old == now) | ((old != old) & (now != now))).all()
        if old.shape or not jnp.issubdtype(old.dtype, jnp.integer):
            return equal
        return equal | ((old == time) & (now == next_time))

    return {path: same(before[path], after[path]) for path in before if path in after}
