"""CartPole: balance a pole on a cart by pushing the cart left or right.

    observation  Box(4): cart position, cart velocity, pole angle (rad), pole angular velocity
    action       Discrete(2): 0 pushes left, 1 pushes right
    reward       1 for every step, the last included
    terminated   |angle| > 12 degrees or |position| > 2.4
    reset        all four uniform in (-0.05, 0.05)

Barto, Sutton and Anderson, 1983; the same numbers as Gymnasium's CartPole-v1, which
adds a limit of 500 steps.
"""

import math
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.base import Pytree, is_concrete, static
from mazejax.envs.base import flag
from mazejax.envs.classic.angles import sin_cos
from mazejax.envs.classic.drawing import draw_cartpole
from mazejax.envs.conversion import ActionConversion, ObservationConversion
from mazejax.envs.core import CoreEnv, CoreReset, CoreStep
from mazejax.errors import ConfigError
from mazejax.spaces.simple import Box, Discrete
from mazejax.types import ActorID, Array, Key, Scene


class CartPoleState(Pytree):
    """Positions and velocities, float32."""

    position: Array
    velocity: Array
    angle: Array
    angular_velocity: Array


class CartPole(CoreEnv):
    """Dynamics of the cart and the pole; the maze action is the force in newtons."""

    gravity: float = 9.8
    mass_cart: float = 1.0
    mass_pole: float = 0.1
    half_length: float = 0.5
    """Half the pole's length."""
    time_step: float = 0.02
    """Seconds between two states; Euler integration."""
    angle_threshold: float = 12 * 2 * math.pi / 360
    position_threshold: float = 2.4
    reset_bound: float = 0.05

    def validate(self) -> None:
        """Raise ConfigError unless masses, length and time step are positive."""
        for name in ("mass_cart", "mass_pole", "half_length", "time_step"):
            value = getattr(self, name)
            if is_concrete(value) and not np.all(np.asarray(value) > 0):
                raise ConfigError(f"CartPole.{name}: must be positive, got {value}")

    def reset(self, key: Key) -> CoreReset:
        """All four numbers uniform around 0."""
        start = random.symmetric_uniform(key, (4,), self.reset_bound)
        return CoreReset(CartPoleState(start[0], start[1], start[2], start[3]))

    def step(self, key: Key, state: CartPoleState, maze_action: Array, actor: ActorID) -> CoreStep:
        """One Euler step under the force."""
        sin, cos = sin_cos(state.angle, self.angle_threshold)
        total_mass = self.mass_cart + self.mass_pole
        moment = self.mass_pole * self.half_length
        push = (maze_action + moment * jnp.square(state.angular_velocity) * sin) / total_mass
        angular_acceleration = (self.gravity * sin - cos * push) / (
            self.half_length * (4.0 / 3.0 - self.mass_pole * jnp.square(cos) / total_mass)
        )
        acceleration = push - moment * angular_acceleration * cos / total_mass
        new = CartPoleState(
            position=state.position + self.time_step * state.velocity,
            velocity=state.velocity + self.time_step * acceleration,
            angle=state.angle + self.time_step * state.angular_velocity,
            angular_velocity=state.angular_velocity + self.time_step * angular_acceleration,
        )
        fallen = (jnp.abs(new.angle) > self.angle_threshold) | (
            jnp.abs(new.position) > self.position_threshold
        )
        return CoreStep(new, jnp.ones((), jnp.float32), fallen, flag())

    def draw(self, state: CartPoleState) -> Scene:
        """The cart on its track, with the pole."""
        threshold = float(self.position_threshold)
        return draw_cartpole(float(state.position), float(state.angle), threshold)


class CartPoleObservation(ObservationConversion):
    """The four numbers as they are."""

    position_threshold: float = static(default=CartPole.position_threshold)
    angle_threshold: float = static(default=CartPole.angle_threshold)

    def space(self) -> Box:
        """Bounds twice as wide as where episodes end, as Gymnasium's."""
        position, angle = 2 * self.position_threshold, 2 * self.angle_threshold
        high = np.array([position, np.inf, angle, np.inf], np.float32)
        return Box(-high, high)

    def maze_to_space(self, state: CartPoleState, agent: int) -> Array:
        """[4] float32."""
        return jnp.stack([state.position, state.velocity, state.angle, state.angular_velocity])


class PushLeftOrRight(ActionConversion):
    """0 pushes left, 1 pushes right, with one force; what is above 1 pushes right, below 0 left."""

    clip_actions: ClassVar[bool] = False
    force: float = 10.0
    """Newtons."""

    def space(self) -> Discrete:
        """Two actions."""
        return Discrete(2)

    def space_to_maze(self, action: Array, state: Any, agent: int) -> Array:
        """The signed force, float32."""
        return jnp.where(action > 0, self.force, -self.force).astype(jnp.float32)

    def maze_to_space(self, maze_action: Array) -> Array:
        """The direction of the force."""
        return (maze_action > 0).astype(jnp.int32)
