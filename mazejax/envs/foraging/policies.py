"""Baseline of foraging: go to the nearest food in sight, else wander.

It sees what a learner sees, the local window and the mask, and treats all agents alike.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.base import Pytree
from mazejax.envs.foraging.core import DOWN, LEFT, RIGHT, STAY, UP
from mazejax.types import ActorID, Array, Key, PyTree


class GreedyForager(Pytree):
    """Goes to the nearest food in sight, else to a random neighbouring cell.

    Nearest by rows plus columns, the first in reading order of several. Along the longer
    way first, or the other where a wall stops it; a random move where walls stop both.
    """

    compile_time: ClassVar[bool] = True

    def __call__(self, key: Key, obs: PyTree, maze_state: PyTree, actor: ActorID) -> Array:
        """Actions [A] int32 for observations [A, ...] of a `LocalView`."""
        agents = jnp.arange(obs["action_mask"].shape[0])
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, agents)
        return jax.vmap(_act)(keys, obs["window"][:, 1], obs["action_mask"])


def _act(key: Key, food: Array, mask: Array) -> Array:
    """The action of one agent, int32 [], from the food in its window [V, V] and its mask [5]."""
    radius = food.shape[0] // 2
    down, right = (side.ravel() - radius for side in np.indices(food.shape, dtype=np.int32))
    distance = np.abs(down) + np.abs(right)
    nearest = jnp.argmin(jnp.where(food.ravel(), distance, np.int32(4 * radius + 1)))
    is_nearest = jnp.arange(food.size) == nearest
    down, right = (jnp.sum(jnp.where(is_nearest, way, 0)) for way in (down, right))

    vertical, horizontal = jnp.where(down < 0, UP, DOWN), jnp.where(right < 0, LEFT, RIGHT)
    actions = jnp.arange(mask.shape[0])
    may_down = (down != 0) & (mask & (actions == vertical)).any()
    may_right = (right != 0) & (mask & (actions == horizontal)).any()
    goes_down = may_down & ((jnp.abs(down) >= jnp.abs(right)) | ~may_right)
    towards = jnp.where(goes_down, vertical, horizontal)
    approaches = food.any() & (may_down | may_right)
    return jnp.where(approaches, towards, _wander(key, mask)).astype(jnp.int32)


def _wander(key: Key, mask: Array) -> Array:
    """A random allowed move, all equally likely; 0, which stays, if there is none."""
    # 12 is divisible by 1 to 4, the possible numbers of moves.
    drawn = random.randint(key, (), 12)
    actions = jnp.arange(mask.shape[0])
    moves = mask & (actions != STAY)
    rank = jnp.cumsum(moves, dtype=jnp.int32)
    chosen = moves & (rank == 1 + drawn % jnp.maximum(rank[-1], 1))
    return jnp.sum(jnp.where(chosen, actions, 0))
