"""Episodes of a policy, step by step on the host, as frames that a person can look at."""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mazejax import random
from mazejax.algos import collect as collecting
from mazejax.algos.base import Algorithm
from mazejax.envs.vector import VectorEnv
from mazejax.errors import ConfigError
from mazejax.types import PyTree

MAX_FRAMES = 250
"""Frames of a rendered episode; of longer ones every second, third, ... step is drawn."""


def episode_states(algorithm: Algorithm, variables: PyTree, seed: int, max_steps: int) -> list[Any]:
    """Env states of one episode of the best actions, on the host, up to its last action."""
    step = _jitted_step(algorithm)
    state = collecting.start(
        VectorEnv(algorithm.env, 1),
        random.stream(random.key(seed), "rollout"),
        algorithm.initial_carry(1),
    )
    states: list[Any] = []
    done = False
    while not done and len(states) < max_steps:
        states.append(jax.tree.map(lambda leaf: np.asarray(leaf)[0], state.envs.envs))
        state, done = step(variables, state)
    return states


def render_episode(
    algorithm: Algorithm, variables: PyTree, path: Path, seed: int = 0, max_steps: int = 1000
) -> Path:
    """Write one episode as `.gif` or `.html`."""
    from mazejax.rendering.frames import write_gif, write_html
    from mazejax.rendering.rasterizer import rasterize

    writers = {".gif": write_gif, ".html": write_html}
    if path.suffix not in writers:
        raise ConfigError(f"{path}: unknown ending {path.suffix!r}; use .gif or .html")
    states = episode_states(algorithm, variables, seed, max_steps)
    stride = -(-len(states) // MAX_FRAMES)
    drawn = states[::stride]
    frames = [rasterize(algorithm.env.draw(state), width=480) for state in drawn]
    writers[path.suffix](path, frames, fps=30)
    return path


@functools.lru_cache(maxsize=8)
def _jitted_step(algorithm: Algorithm) -> Any:
    env = VectorEnv(algorithm.env, 1)

    def one_step(variables: PyTree, state: collecting.CollectState) -> tuple[Any, Any]:
        policies = algorithm.policies(variables, deterministic=True)
        state, now = collecting.step(env, policies, state, algorithm.initial_carry(1))
        return state, now.episodes.ended[0]

    return jax.jit(one_step)
