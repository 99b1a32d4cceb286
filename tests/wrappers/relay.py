"""A small structured env for tests of wrappers: who observes what, and when, is in the numbers.

Two lookouts act one after the other under one step key, then two runners at once under
another. All have `signal`, [sub-steps so far, agent, noise]; some have more.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import mazejax
from mazejax import random
from mazejax.base import Pytree
from mazejax.envs.base import Env, flag
from mazejax.envs.conversion import ActionConversion, ObservationConversion
from mazejax.envs.core import CoreEnv, CoreReset, CoreStep
from mazejax.envs.episode import play, random_policy
from mazejax.envs.maze_env import MazeEnv
from mazejax.envs.vector import VectorEnv
from mazejax.spaces import Box, Dict, Discrete
from mazejax.types import ActorID, Array

KEY = random.key(3)


class RelayState(Pytree):
    turns: Array
    noise: Array
    length: Array


class Relay(CoreEnv):
    """Ends after two to four flat steps; actions have no effect."""

    @property
    def actors(self):
        return (ActorID("look", 0), ActorID("look", 1), ActorID("run", None))

    @property
    def agent_counts(self):
        return {"look": 2, "run": 2}

    def reset(self, key):
        length = random.randint(random.stream(key, "length"), (), 3) + 2
        return CoreReset(RelayState(jnp.zeros((), jnp.int32), _noise(key), length), ())

    def step(self, key, state, maze_action, actor):
        new = state.replace(turns=state.turns + 1, noise=_noise(key))
        reward = jnp.zeros(2 if actor.agent_id is None else (), jnp.float32)
        return CoreStep(new, reward, new.turns >= 3 * state.length, flag(), ())


class View(ObservationConversion):
    step_key: str = mazejax.static(default="look")

    def space(self):
        spaces = {"signal": Box(0.0, [12.0, 1.0, 100.0])}
        if self.step_key == "look":
            return Dict(spaces | {"kind": Discrete(3)})
        pixels = Box(0, 255, (2, 2), np.uint8)
        mask = Box(False, True, (3,), bool)
        return Dict(spaces | {"pixels": pixels, "action_mask": mask})

    def maze_to_space(self, state, agent):
        turns = state.turns.astype(jnp.float32)
        signal = {"signal": jnp.stack([turns, jnp.float32(agent), state.noise])}
        if self.step_key == "look":
            return signal | {"kind": state.turns % 3}
        shade = (state.noise.astype(jnp.uint8) + jnp.arange(4, dtype=jnp.uint8)).reshape(2, 2)
        return signal | {"pixels": shade + agent, "action_mask": jnp.arange(3) >= agent}


class Move(ActionConversion):
    def space(self):
        return Discrete(3)

    def space_to_maze(self, action, state, agent):
        return action


def _noise(key):
    return random.randint(random.stream(key, "noise"), (), 100).astype(jnp.float32)


RELAY = MazeEnv(
    Relay(), {"look": View("look"), "run": View("run")}, {"look": Move(), "run": Move()}
)


def observed(env: Env, num_steps: int = 5):
    """[(actor, obs)] of the sub-steps of one episode, on the host, and the recorded states."""
    episode = _played(env, num_steps)
    length = min(int(episode.length), num_steps)
    seen, states = [], []
    for t in range(length):
        for actor, substep in zip(env.actors, episode.substeps, strict=True):
            seen.append((actor, row(substep.obs, t)))
            states.append(row(substep.state, t))
    return seen, states


@functools.lru_cache(maxsize=64)
def _played(env, num_steps):
    return jax.device_get(jax.jit(lambda: play(env, random_policy(env), KEY, num_steps))())


@functools.lru_cache(maxsize=64)
def recorded(env: Env, num_envs: int = 3, num_steps: int = 9):
    """Of every flat step of vectorized envs (obs by sub-step, done, final_obs), on the host."""
    envs, act = VectorEnv(env, num_envs), random_policy(env)

    def one_flat_step(now, _):
        state, obs, seen = *now, []
        for actor in envs.actors:
            seen.append(obs)
            keys = envs.keys(state, "policy")
            action = jax.vmap(lambda k, o, actor=actor: act(k, o, None, actor))(keys, obs)
            step = envs.step(state, action)
            state, obs = step.state, step.obs
        return (state, obs), (tuple(seen), step.done, step.info["final_obs"])

    def run():
        obs, state = envs.reset(KEY)
        return jax.lax.scan(one_flat_step, (state, obs), None, length=num_steps)[1]

    return jax.device_get(jax.jit(run)())


def row(tree, *index):
    return jax.tree.map(lambda leaf: leaf[index], tree)
