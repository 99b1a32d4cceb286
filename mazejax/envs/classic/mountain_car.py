"""MountainCar: leave a valley in a car too weak to climb straight out of it.

    observation  Box(2): position, velocity
    action       Discrete(3): 0 accelerates to the left, 1 not at all, 2 to the right
    reward       -1 for every step, the last included
    terminated   position >= 0.5 and velocity >= 0
    reset        position uniform in [-0.6, -0.4], velocity 0

MountainCarContinuous: the same hill with another engine.

    action       Box(1) from -1 to 1: acceleration
    reward       -0.1 action^2, and 100 at the goal
    terminated   position >= 0.45 and velocity >= 0

Moore, 1990. The same numbers as Gymnasium's MountainCar-v0 and MountainCarContinuous-v0,
which add limits of 200 and 999 steps.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.base import Pytree, is_concrete, static
from mazejax.envs.base import flag
from mazejax.envs.classic import angles
from mazejax.envs.classic.drawing import draw_mountain_car
from mazejax.envs.conversion import ActionConversion, ObservationConversion
from mazejax.envs.core import CoreEnv, CoreReset, CoreStep
from mazejax.errors import ConfigError
from mazejax.spaces.simple import Box, Discrete
from mazejax.types import ActorID, Array, Key, Scene


class MountainCarState(Pytree):
    """Position and velocity, float32."""

    position: Array
    velocity: Array


class MountainCar(CoreEnv):
    """Dynamics of the car; the maze action is the throttle, from -1 to 1."""

    force: float = 0.001
    """Acceleration at full throttle."""
    gravity: float = 0.0025
    max_speed: float = 0.07
    min_position: float = -1.2
    """Of a wall that stops the car."""
    max_position: float = 0.6
    goal_position: float = 0.5
    goal_velocity: float = 0.0
    """Least velocity at the goal."""
    reset_low: float = static(default=-0.6)
    """Leftmost first position."""
    reset_high: float = static(default=-0.4)
    """Rightmost first position."""

    def validate(self) -> None:
        """Raise ConfigError for an empty range of positions or velocities."""
        speed = self.max_speed
        if is_concrete(speed) and not np.all(np.asarray(speed) > 0):
            raise ConfigError(f"{type(self).__name__}.max_speed: must be positive, got {speed}")
        ends = (self.min_position, self.max_position)
        if is_concrete(ends) and not np.all(np.less(*ends)):
            raise ConfigError(
                f"{type(self).__name__}.min_position: got {ends[0]}, expected less than "
                f"max_position, which is {ends[1]}; exchange or correct them"
            )

    def reset(self, key: Key) -> CoreReset:
        """Somewhere at the bottom of the valley, at rest."""
        position = random.uniform(key, (), self.reset_low, self.reset_high)
        return CoreReset(MountainCarState(position, jnp.zeros((), jnp.float32)))

    def step(
        self, key: Key, state: MountainCarState, maze_action: Array, actor: ActorID
    ) -> CoreStep:
        """One step of the engine against the slope of the hill sin(3 position)."""
        _, slope = angles.sin_cos(3.0 * state.position)
        push = self.force * jnp.clip(maze_action, -1.0, 1.0)
        velocity = state.velocity + push - self.gravity * slope
        velocity = jnp.clip(velocity, -self.max_speed, self.max_speed)
        position = jnp.clip(state.position + velocity, self.min_position, self.max_position)
        into_wall = (position <= self.min_position) & (velocity < 0)
        velocity = jnp.where(into_wall, 0.0, velocity)
        arrived = (position >= self.goal_position) & (velocity >= self.goal_velocity)
        reward = self.reward(maze_action, arrived)
        return CoreStep(MountainCarState(position, velocity), reward, arrived, flag())

    def reward(self, throttle: Array, arrived: Array) -> Array:
        """-1, float32."""
        return jnp.full((), -1.0, jnp.float32)

    def draw(self, state: MountainCarState) -> Scene:
        """The car on its hill, with a flag at the goal."""
        return draw_mountain_car(
            float(state.position),
            float(self.goal_position),
            float(self.min_position),
            float(self.max_position),
        )


class MountainCarContinuous(MountainCar):
    """The car with a stronger engine that costs, and a nearer goal that pays."""

    # A class of its own below MountainCar: the two tasks differ in the reward alone.
    force: float = 0.0015
    goal_position: float = 0.45
    goal_reward: float = 100.0
    throttle_cost: float = 0.1
    """Weight of the squared throttle, which is not cut at 1 here."""

    def reward(self, throttle: Array, arrived: Array) -> Array:
        """The goal's reward less the throttle's cost, float32."""
        return jnp.where(arrived, self.goal_reward, 0.0) - self.throttle_cost * jnp.square(throttle)


class MountainCarObservation(ObservationConversion):
    """Both numbers as they are."""

    min_position: float = static(default=MountainCar.min_position)
    """Bounds in the space, here and below."""
    max_position: float = static(default=MountainCar.max_position)
    max_speed: float = static(default=MountainCar.max_speed)

    def space(self) -> Box:
        """The road and the speeds that are possible on it."""
        low = np.array([self.min_position, -self.max_speed], np.float32)
        return Box(low, np.array([self.max_position, self.max_speed], np.float32))

    def maze_to_space(self, state: MountainCarState, agent: int) -> Array:
        """[2] float32."""
        return jnp.stack([state.position, state.velocity])


class LeftNeutralRight(ActionConversion):
    """0 is full throttle to the left, 1 none, 2 full throttle to the right."""

    def space(self) -> Discrete:
        """Three actions."""
        return Discrete(3)

    def space_to_maze(self, action: Array, state: Any, agent: int) -> Array:
        """-1, 0 or 1, float32."""
        return jnp.asarray(action - 1, jnp.float32)

    def maze_to_space(self, maze_action: Array) -> Array:
        """The direction of the throttle."""
        return jnp.sign(maze_action).astype(jnp.int32) + 1

    def noop_action(self) -> Array:
        """Neutral."""
        return jnp.ones((), jnp.int32)


class Throttle(ActionConversion):
    """The action is the throttle."""

    def space(self) -> Box:
        """One throttle."""
        return Box(-1.0, 1.0, (1,))

    def space_to_maze(self, action: Array, state: Any, agent: int) -> Array:
        """The throttle, float32."""
        return jnp.asarray(action, jnp.float32).reshape(())

    def maze_to_space(self, maze_action: Array) -> Array:
        """[1] float32."""
        return maze_action.reshape(1)

    def noop_action(self) -> Array:
        """Neutral."""
        return jnp.zeros(1, jnp.float32)
