"""An env of pure noise with any schedule: who acts sees noise, and episodes end in every way.

Nothing follows from anything, so whatever two programs agree on here is not luck: flags
come at any sub-step, alone or both at once, at the first and at the last step of a rollout.
"""

import jax.numpy as jnp

from mazejax import random
from mazejax.base import Pytree, static
from mazejax.envs.conversion import ActionConversion, ObservationConversion
from mazejax.envs.core import CoreEnv, CoreReset, CoreStep
from mazejax.envs.maze_env import MazeEnv
from mazejax.envs.structured import agent_axis, count_agents, step_keys
from mazejax.spaces import Box, Dict, Discrete
from mazejax.types import SINGLE_ACTOR, ActorID, Array

FLAT = (SINGLE_ACTOR,)
MIXED = (ActorID("plan", 0), ActorID("move", None), ActorID("check", 0), ActorID("check", 1))
TWICE = (ActorID("turn", 0), ActorID("turn", 1), ActorID("turn", 0))
AGENTS = 2
"""Of each step key with several."""


class NoiseState(Pytree):
    seen: Array
    """[AGENTS, 3] float32, drawn anew in every sub-step."""
    awake: Array
    """[AGENTS] bool, likewise."""


def drawn(key):
    seen = random.uniform(random.stream(key, "seen"), (AGENTS, 3), -1.0, 1.0)
    return NoiseState(seen, random.uniform(random.stream(key, "awake"), (AGENTS,), 0.0, 1.0) < 0.7)


class Noise(CoreEnv):
    """Rewards are noise, and 1 more for action 1."""

    schedule: tuple[ActorID, ...] = static(default=FLAT)
    ends: float = 0.2
    """Chance of each flag in each sub-step."""

    @property
    def actors(self):
        return self.schedule

    @property
    def agent_counts(self):
        at_once = {key for key, agent in self.schedule if agent is None}
        return count_agents(self.schedule) | dict.fromkeys(at_once, AGENTS)

    def reset(self, key):
        return CoreReset(drawn(key))

    def step(self, key, state, maze_action, actor):
        shape = agent_axis(actor, self.agent_counts)
        reward = random.uniform(random.stream(key, "reward"), shape, -1.0, 1.0)
        flags = random.uniform(random.stream(key, "flags"), (2,), 0.0, 1.0) < self.ends
        return CoreStep(drawn(key), reward + (maze_action == 1), flags[0], flags[1])


class SleepyNoise(Noise):
    """Agents are awake by chance."""

    def actor_active(self, state, actor):
        return state.awake if actor.agent_id is None else state.awake[actor.agent_id]


class See(ObservationConversion):
    masked: bool = static(default=False)

    def space(self):
        numbers = Box(-1.0, 1.0, (3,))
        if not self.masked:
            return numbers
        return Dict({"numbers": numbers, "action_mask": Box(False, True, (3,), bool)})

    def maze_to_space(self, state, agent):
        numbers = state.seen[agent]
        if not self.masked:
            return numbers
        return {"numbers": numbers, "action_mask": (numbers > 0) | (jnp.arange(3) == 0)}


class Choose(ActionConversion):
    def space(self):
        return Discrete(3)

    def space_to_maze(self, action, state, agent):
        return action


def make_noise(schedule=FLAT, masked=False, sleepy=False, ends=0.2):
    core_env = (SleepyNoise if sleepy else Noise)(schedule, ends)
    keys = step_keys(core_env.actors)
    return MazeEnv(core_env, dict.fromkeys(keys, See(masked)), dict.fromkeys(keys, Choose()))
