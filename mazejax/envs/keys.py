"""Which key draws what: the one derivation that vectorized envs and replays share.

Everything drawn in an episode follows from its key; the keys of episodes follow from a
root key, the global index of the env and the number of the episode.
"""

import jax

from mazejax import random
from mazejax.types import Array, Key


def episode_key(root: Key, env_index: Array, episode: Array) -> Key:
    """Key of an episode of one env."""
    return jax.random.fold_in(jax.random.fold_in(root, env_index), episode)


def reset_key(episode_key: Key) -> Key:
    """Key that the episode's reset draws from."""
    return random.stream(episode_key, "reset")


def moment_key(episode_key: Key, time: Array, substep: int, name: str) -> Key:
    """Key of a sub-step for a purpose: "env", "policy", ..."""
    purpose = name if substep == 0 else f"{name}/{substep}"
    return random.stream(jax.random.fold_in(episode_key, time), purpose)
