"""Pendulum: swing a rod up by a torque at its axle and hold it there.

    observation  Box(3): cosine and sine of the angle, angular velocity (rad/s)
    action       Box(1) from -2 to 2: torque (N m), counter-clockwise
    reward       -(angle^2 + 0.1 angular_velocity^2 + 0.001 torque^2), before the step
    terminated   never
    reset        angle uniform in (-pi, pi), angular velocity in (-1, 1)

The angle is 0 upright and grows counter-clockwise. The same numbers as Gymnasium's
Pendulum-v1, which adds a limit of 200 steps.
"""

import math

import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.base import Pytree, is_concrete, static
from mazejax.envs.base import flag
from mazejax.envs.classic import angles
from mazejax.envs.classic.drawing import draw_pendulum
from mazejax.envs.conversion import ActionConversion, ObservationConversion
from mazejax.envs.core import CoreEnv, CoreReset, CoreStep
from mazejax.errors import ConfigError
from mazejax.spaces.simple import Box
from mazejax.types import ActorID, Array, Key, Scene


class PendulumState(Pytree):
    """Angle and velocity, and the torque that led here; float32."""

    angle: Array
    """From -pi to pi: whole turns are taken off, so a position has one angle."""
    angular_velocity: Array
    torque: Array
    """Of the step before, 0 at first; only drawn."""


class Pendulum(CoreEnv):
    """Dynamics of the rod; the maze action is the torque in N m, cut at the largest."""

    gravity: float = 10.0
    mass: float = 1.0
    length: float = 1.0
    time_step: float = 0.05
    """Seconds between two states; semi-implicit Euler integration."""
    max_speed: float = 8.0
    """Largest angular velocity, rad/s."""
    max_torque: float = 2.0
    velocity_cost: float = 0.1
    """Weight of the squared angular velocity; that of the squared angle is 1."""
    torque_cost: float = 0.001
    """Weight of the squared torque."""
    reset_angle: float = math.pi
    """Bound of the first angle on both sides."""
    reset_velocity: float = 1.0
    """Bound of the first angular velocity on both sides."""

    def validate(self) -> None:
        """Raise ConfigError unless mass, length, time step and limits are positive."""
        for name in ("mass", "length", "time_step", "max_speed", "max_torque"):
            value = getattr(self, name)
            if is_concrete(value) and not np.all(np.asarray(value) > 0):
                raise ConfigError(f"Pendulum.{name}: must be positive, got {value}")

    def reset(self, key: Key) -> CoreReset:
        """Angle and velocity uniform around 0."""
        bounds = jnp.array([self.reset_angle, self.reset_velocity], jnp.float32)
        start = random.symmetric_uniform(key, (2,), bounds)
        return CoreReset(PendulumState(start[0], start[1], jnp.zeros((), jnp.float32)))

    def step(self, key: Key, state: PendulumState, maze_action: Array, actor: ActorID) -> CoreStep:
        """One step under the torque: first the velocity, then the angle with it."""
        torque = jnp.clip(maze_action, -self.max_torque, self.max_torque)
        cost = (
            jnp.square(state.angle)
            + self.velocity_cost * jnp.square(state.angular_velocity)
            + self.torque_cost * jnp.square(torque)
        )
        sin, _ = angles.sin_cos(state.angle)
        inertia = self.mass * self.length**2 / 3.0
        acceleration = 1.5 * self.gravity / self.length * sin + torque / inertia
        velocity = state.angular_velocity + self.time_step * acceleration
        velocity = jnp.clip(velocity, -self.max_speed, self.max_speed)
        angle = angles.wrap(state.angle + self.time_step * velocity)
        return CoreStep(PendulumState(angle, velocity, torque), -cost, flag(), flag())

    def draw(self, state: PendulumState) -> Scene:
        """The rod, with the torque as an arc around the axle."""
        return draw_pendulum(float(state.angle), float(state.torque), float(self.max_torque))


class PendulumObservation(ObservationConversion):
    """The tip's position on the unit circle, and the velocity."""

    max_speed: float = static(default=Pendulum.max_speed)
    """Bound of the velocity in the space."""

    def space(self) -> Box:
        """The unit circle and the velocity's bounds."""
        high = np.array([1.0, 1.0, self.max_speed], np.float32)
        return Box(-high, high)

    def maze_to_space(self, state: PendulumState, agent: int) -> Array:
        """[3] float32."""
        sin, cos = angles.sin_cos(state.angle)
        return jnp.stack([cos, sin, state.angular_velocity])


class PendulumTorque(ActionConversion):
    """The action is the torque."""

    max_torque: float = static(default=Pendulum.max_torque)
    """Bound in the space."""

    def space(self) -> Box:
        """One torque."""
        return Box(-self.max_torque, self.max_torque, (1,))

    def space_to_maze(self, action: Array, state: PendulumState, agent: int) -> Array:
        """The torque, float32."""
        return jnp.asarray(action, jnp.float32).reshape(())

    def maze_to_space(self, maze_action: Array) -> Array:
        """[1] float32."""
        return maze_action.reshape(1)

    def noop_action(self) -> Array:
        """No torque."""
        return jnp.zeros(1, jnp.float32)
