"""Acrobot: swing the tip of two linked rods above a line by a torque at their joint.

    observation  Box(6): cosine and sine of angle 1, of angle 2, both angular velocities (rad/s)
    action       Discrete(3): torque -1, 0 or 1 N m on the joint between the rods
    reward       -1 for every step, 0 for the one that ends above the line
    terminated   -cos(angle_1) - cos(angle_1 + angle_2) > 1
    reset        all four numbers uniform in (-0.1, 0.1)

Angle 1 is 0 hanging down, angle 2 is relative to rod 1. The equations of Sutton and Barto's
book (2018, section 11.3), not those of Sutton's paper of 1996; the same numbers as
Gymnasium's Acrobot-v1, which adds a limit of 500 steps.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.base import Pytree, is_concrete, static
from mazejax.envs.base import flag
from mazejax.envs.classic import angles
from mazejax.envs.classic.drawing import draw_acrobot
from mazejax.envs.conversion import ActionConversion, ObservationConversion
from mazejax.envs.core import CoreEnv, CoreReset, CoreStep
from mazejax.errors import ConfigError
from mazejax.spaces.simple import Box, Discrete
from mazejax.types import ActorID, Array, Key, Scene


class AcrobotState(Pytree):
    """Angles from -pi to pi and their velocities, float32; also their rates of change."""

    angle_1: Array
    angle_2: Array
    angular_velocity_1: Array
    angular_velocity_2: Array


class Acrobot(CoreEnv):
    """Dynamics of the two rods; the maze action is the torque in N m."""

    gravity: float = 9.8
    mass_1: float = 1.0
    mass_2: float = 1.0
    length_1: float = 1.0
    center_1: float = 0.5
    """Distance of rod 1's center of mass from its axle."""
    center_2: float = 0.5
    """Distance of rod 2's center of mass from the joint."""
    inertia_1: float = 1.0
    """Moment of inertia of rod 1 about its center of mass."""
    inertia_2: float = 1.0
    """The same of rod 2."""
    time_step: float = 0.2
    """Seconds between two states; one classical Runge-Kutta step of fourth order."""
    max_speed_1: float = 4 * math.pi
    """Largest angular velocity of rod 1, rad/s."""
    max_speed_2: float = 9 * math.pi
    torque_noise: float = 0.0
    """Bound of a uniform disturbance of the torque on both sides."""
    reset_bound: float = 0.1

    def validate(self) -> None:
        """Raise ConfigError unless masses, inertias, lengths, time step and limits fit."""
        positive = ("mass_1", "mass_2", "length_1", "inertia_1", "inertia_2", "time_step")
        for name in (*positive, "max_speed_1", "max_speed_2"):
            value = getattr(self, name)
            if is_concrete(value) and not np.all(np.asarray(value) > 0):
                raise ConfigError(f"Acrobot.{name}: must be positive, got {value}")

    def reset(self, key: Key) -> CoreReset:
        """All four numbers uniform around 0."""
        start = random.symmetric_uniform(key, (4,), self.reset_bound)
        return CoreReset(AcrobotState(start[0], start[1], start[2], start[3]))

    def step(self, key: Key, state: AcrobotState, maze_action: Array, actor: ActorID) -> CoreStep:
        """One Runge-Kutta step under the torque."""
        torque = maze_action
        if not is_concrete(self.torque_noise) or self.torque_noise > 0:
            torque = torque + random.symmetric_uniform(key, (), self.torque_noise)
        rate_1 = self.rates(state, torque)
        rate_2 = self.rates(_along(state, rate_1, self.time_step / 2), torque)
        rate_3 = self.rates(_along(state, rate_2, self.time_step / 2), torque)
        rate_4 = self.rates(_along(state, rate_3, self.time_step), torque)
        moved = _along(_along(state, rate_1, self.time_step / 6), rate_2, self.time_step / 3)
        moved = _along(_along(moved, rate_3, self.time_step / 3), rate_4, self.time_step / 6)
        new = AcrobotState(
            angles.wrap(moved.angle_1),
            angles.wrap(moved.angle_2),
            jnp.clip(moved.angular_velocity_1, -self.max_speed_1, self.max_speed_1),
            jnp.clip(moved.angular_velocity_2, -self.max_speed_2, self.max_speed_2),
        )
        sin_1, cos_1 = angles.sin_cos(new.angle_1)
        sin_2, cos_2 = angles.sin_cos(new.angle_2)
        above = -cos_1 - (cos_1 * cos_2 - sin_1 * sin_2) > 1.0
        return CoreStep(new, jnp.where(above, jnp.float32(0), jnp.float32(-1)), above, flag())

    def rates(self, state: AcrobotState, torque: Array) -> AcrobotState:
        """Rates of change of the four numbers.

        The accelerations a solve [[d1, d2], [d2, d3]] a = b, with the book's d1 and d2, by
        Cramer's rule.
        """
        sin_1, cos_1 = angles.sin_cos(state.angle_1)
        sin_2, cos_2 = angles.sin_cos(state.angle_2)
        speed_1, speed_2 = state.angular_velocity_1, state.angular_velocity_2
        coupling = self.mass_2 * self.length_1 * self.center_2
        d3 = self.mass_2 * self.center_2**2 + self.inertia_2
        d2 = d3 + coupling * cos_2
        d1 = self._inertia_of_both() + 2.0 * coupling * cos_2
        weight_2 = self.mass_2 * self.center_2 * self.gravity * (sin_1 * cos_2 + cos_1 * sin_2)
        weight_1 = (self.mass_1 * self.center_1 + self.mass_2 * self.length_1) * self.gravity
        b1 = coupling * sin_2 * speed_2 * (speed_2 + 2.0 * speed_1) - weight_1 * sin_1 - weight_2
        b2 = torque - coupling * sin_2 * jnp.square(speed_1) - weight_2
        # Two divisions and no common reciprocal: fusions on CPU repeat what they read, but not
        # a division. So each evaluation of four is computed once and not within the next.
        determinant = d1 * d3 - jnp.square(d2)
        return AcrobotState(
            speed_1,
            speed_2,
            (d3 * b1 - d2 * b2) / determinant,
            (d1 * b2 - d2 * b1) / determinant,
        )

    def draw(self, state: AcrobotState) -> Scene:
        """Both rods, and the line to reach."""
        return draw_acrobot(float(state.angle_1), float(state.angle_2))

    def _inertia_of_both(self) -> Any:
        """Moment of inertia about the axle with rod 2 at a right angle."""
        return (
            self.mass_1 * self.center_1**2
            + self.mass_2 * (self.length_1**2 + self.center_2**2)
            + self.inertia_1
            + self.inertia_2
        )


class AcrobotObservation(ObservationConversion):
    """Both angles as points on the unit circle, and the velocities."""

    max_speed_1: float = static(default=Acrobot.max_speed_1)
    """Bounds of the velocities in the space, here and below."""
    max_speed_2: float = static(default=Acrobot.max_speed_2)

    def space(self) -> Box:
        """Unit circles and the velocities' bounds."""
        high = np.array([1.0, 1.0, 1.0, 1.0, self.max_speed_1, self.max_speed_2], np.float32)
        return Box(-high, high)

    def maze_to_space(self, state: AcrobotState, agent: int) -> Array:
        """[6] float32."""
        sin_1, cos_1 = angles.sin_cos(state.angle_1)
        sin_2, cos_2 = angles.sin_cos(state.angle_2)
        return jnp.stack(
            [cos_1, sin_1, cos_2, sin_2, state.angular_velocity_1, state.angular_velocity_2]
        )


class JointTorque(ActionConversion):
    """0 turns the joint clockwise, 1 leaves it, 2 turns it counter-clockwise."""

    torque: float = 1.0
    """N m."""

    def space(self) -> Discrete:
        """Three actions."""
        return Discrete(3)

    def space_to_maze(self, action: Array, state: Any, agent: int) -> Array:
        """The signed torque, float32."""
        return jnp.asarray(action - 1, jnp.float32) * self.torque

    def maze_to_space(self, maze_action: Array) -> Array:
        """The direction of the torque."""
        return jnp.sign(maze_action).astype(jnp.int32) + 1

    def noop_action(self) -> Array:
        """No torque."""
        return jnp.ones((), jnp.int32)


def _along(state: AcrobotState, rate: AcrobotState, time: Any) -> AcrobotState:
    """The state after going on at this rate for this time."""
    return AcrobotState(
        state.angle_1 + time * rate.angle_1,
        state.angle_2 + time * rate.angle_2,
        state.angular_velocity_1 + time * rate.angular_velocity_1,
        state.angular_velocity_2 + time * rate.angular_velocity_2,
    )
