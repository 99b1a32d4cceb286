"""Random episodes of vectorized envs, compiled once for each, for tests of wrappers."""

import functools

import jax

from mazejax import random
from mazejax.envs.check.vector import random_actions

KEY = random.key(3)


@functools.partial(jax.jit, static_argnums=2)
def played(envs, key, num_steps):
    """Moves (state, action, step) [T, N, ...] by sub-step, with random allowed actions."""

    def one_flat_step(state, _):
        moves = []
        for _ in envs.actors:
            action = random_actions(envs, state)
            step = envs.step(state, action)
            moves.append((state, action, step))
            state = step.state
        return state, tuple(moves)

    return jax.lax.scan(one_flat_step, envs.reset(key)[1], length=num_steps)[1]
