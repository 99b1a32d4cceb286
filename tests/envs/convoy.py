"""A small structured env of which every number is exact, for tests of episodes.

Three step keys, of one all agents act at once and drop out; an action mask, events, also
of the reset, redistributed rewards, and an end that comes in one of several sub-steps.
"""

import jax.numpy as jnp
import numpy as np

import mazejax
from mazejax import random
from mazejax.base import Pytree
from mazejax.envs.base import flag
from mazejax.envs.conversion import ActionConversion, ObservationConversion
from mazejax.envs.core import CoreEnv, CoreReset, CoreStep
from mazejax.envs.maze_env import MazeEnv
from mazejax.events import Attribute, Event, EventLog, Topic
from mazejax.spaces import Box, Dict, Discrete
from mazejax.types import ActorID, Array
from mazejax.wrappers.time import TimeLimit


class ConvoyEvents(Topic):
    fuelled = Event("The cars were filled up.", {"fuel": Attribute((3,), "int8")})
    stranded = Event("A car has no fuel.", {"car": Attribute((), "int8")}, capacity=3)


class ConvoyState(Pytree):
    fuel: Array
    go: Array
    distance: Array


class Convoy(CoreEnv):
    """One signals, three cars drive at once until their fuel is gone, one helps a car."""

    stride: float = 0.125

    @property
    def actors(self):
        return (ActorID("signal", 0), ActorID("drive", None), ActorID("help", 0))

    @property
    def agent_counts(self):
        return {"signal": 1, "drive": 3, "help": 1}

    def reset(self, key):
        fuel = (random.randint(key, (3,), 4) + 3).astype(jnp.int8)
        events = EventLog.empty(ConvoyEvents.fuelled).fire(ConvoyEvents.fuelled, fuel=fuel)
        return CoreReset(ConvoyState(fuel, flag(), jnp.zeros((), jnp.float32)), events)

    def step(self, key, state, maze_action, actor):
        events, fuel = EventLog.empty(ConvoyEvents), state.fuel
        if actor.step_key == "signal":
            ambush = random.randint(key, (), 10) == 0
            return CoreStep(
                state.replace(go=maze_action == 1), jnp.float32(0.0), ambush, flag(), events
            )
        if actor.step_key == "drive":
            used = jnp.where(state.go, maze_action, 0).astype(jnp.int8)
            left = fuel - used
            events = events.fire_each(
                ConvoyEvents.stranded, (left == 0) & (fuel > 0), car=jnp.arange(3)
            )
            way = used * jnp.float32(self.stride)
            new = state.replace(fuel=left, distance=state.distance + way.sum())
            return CoreStep(new, way, (left == 0).all(), flag(), events)
        car = random.randint(key, (), 3)
        helped = (jnp.arange(3) == car) & (fuel > 0) & (maze_action == 1)
        reward = jnp.float32(-0.25) * maze_action
        return CoreStep(state.replace(fuel=fuel + helped), reward, flag(), flag(), events)

    def actor_active(self, state, actor):
        return state.fuel > 0 if actor.step_key == "drive" else flag(True)

    def actor_done(self, state, actor):
        return state.fuel == 0 if actor.step_key == "drive" else flag()

    def actor_rewards(self, state, rewards):
        return (rewards[1].sum() + rewards[2], rewards[1], rewards[2])


class Fuel(ObservationConversion):
    step_key: str = mazejax.static(default="signal")

    def space(self):
        fuel = Box(0, 60, (3,), np.int8)
        if self.step_key != "drive":
            return fuel
        return Dict({"fuel": fuel, "action_mask": Box(False, True, (3,), bool)})

    def maze_to_space(self, state, agent):
        if self.step_key != "drive":
            return state.fuel
        own = jnp.where(jnp.arange(3) == agent, state.fuel, 0).max()
        return {"fuel": state.fuel, "action_mask": jnp.arange(3) <= own}


class Choice(ActionConversion):
    n: int = mazejax.static(default=2)

    def space(self):
        return Discrete(self.n)

    def space_to_maze(self, action, state, agent):
        return action


CONVOY = TimeLimit(
    MazeEnv(
        Convoy(),
        {name: Fuel(name) for name in ("signal", "drive", "help")},
        {"signal": Choice(2), "drive": Choice(3), "help": Choice(2)},
    ),
    7,
)
