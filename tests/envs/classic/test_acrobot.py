"""The acrobot's mechanics, end, noise and drawing; one step: test_against_gymnasium."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.base import jit
from mazejax.envs.classic.acrobot import Acrobot, AcrobotState, JointTorque
from mazejax.errors import ConfigError
from mazejax.types import SINGLE_ACTOR, Scene
from mazejax.wrappers import factories

KEY = random.key(0)


def state(*numbers):
    return AcrobotState(*(jnp.float32(number) for number in numbers))


@jit
def step(core_env, start, torque=0.0, key=KEY):
    return core_env.step(key, start, jnp.float32(torque), SINGLE_ACTOR)


def energy(env, s):
    """Kinetic and potential energy of two rods, from the positions of their centers of mass."""
    both = s.angle_1 + s.angle_2
    speed_1, speed_both = s.angular_velocity_1, s.angular_velocity_1 + s.angular_velocity_2
    # Velocity of rod 2's center: that of the joint plus that about the joint.
    joint, about = env.length_1 * speed_1, env.center_2 * speed_both
    squared_2 = joint**2 + about**2 + 2 * joint * about * jnp.cos(s.angle_2)
    kinetic = env.mass_1 * (env.center_1 * speed_1) ** 2 + env.inertia_1 * speed_1**2
    kinetic += env.mass_2 * squared_2 + env.inertia_2 * speed_both**2
    height_1 = -env.center_1 * jnp.cos(s.angle_1)
    height_2 = -env.length_1 * jnp.cos(s.angle_1) - env.center_2 * jnp.cos(both)
    return kinetic / 2 + env.gravity * (env.mass_1 * height_1 + env.mass_2 * height_2)


@functools.partial(jax.jit, static_argnames="num_steps")
def energies(env, start, num_steps=100):
    def one_step(state, _):
        new = env.step(KEY, state, jnp.float32(0), SINGLE_ACTOR).state
        return new, energy(env, new)

    return jax.lax.scan(one_step, start, length=num_steps)[1]


@pytest.mark.parametrize(
    "numbers",
    [
        {},
        {"mass_1": 2.0, "mass_2": 0.6},
        {"length_1": 1.4, "center_1": 0.8, "center_2": 0.3},
        {"inertia_1": 0.4, "inertia_2": 1.7, "gravity": 4.0},
    ],
)
def test_without_torque_the_energy_of_any_two_rods_is_kept(numbers):
    leaves = {name: jnp.float32(value) for name, value in (vars(Acrobot()) | numbers).items()}
    env = Acrobot(**leaves | {"time_step": jnp.float32(0.01), "torque_noise": 0.0})
    start = state(1.5, -1.0, 0.8, -1.4)
    np.testing.assert_allclose(energies(env, start), energy(env, start), atol=2e-3)


def test_the_episode_ends_above_the_line_and_its_last_step_is_free():
    # At rest without weight or torque nothing moves: the tip stays where it is put.
    still = Acrobot(gravity=0.0)
    above, below = (step(still, state(np.pi - angle, 0, 0, 0)) for angle in (1.04, 1.05))
    assert -2 * np.cos(np.pi - 1.04) > 1 > -2 * np.cos(np.pi - 1.05)
    assert above.terminated and above.reward == 0
    assert not below.terminated and below.reward == -1
    # The line is one link above the axle; on it the episode goes on.
    assert not step(still, state(np.pi / 2, np.pi / 2, 0, 0)).terminated


def test_angles_stay_within_half_a_turn_and_speeds_within_their_limits():
    new = step(Acrobot(), state(3.1, -3.1, 12.5, -28.2), 1.0).state
    fast = step(Acrobot(max_speed_1=2.0, max_speed_2=3.0), state(0.5, 0.5, 9.0, -9.0)).state
    assert abs(new.angle_1) <= np.pi + 1e-6 and abs(new.angle_2) <= np.pi + 1e-6
    assert (abs(fast.angular_velocity_1), abs(fast.angular_velocity_2)) == (2.0, 3.0)


def test_torque_noise_is_off_by_default_and_bounded_when_on():
    start, keys = state(0.1, 0.2, 0.3, 0.4), jax.random.split(KEY, 200)
    quiet = [step(Acrobot(), start, key=key).state for key in keys[:2]]
    assert quiet[0] == quiet[1]

    @jax.jit
    def speeds(torque, noise):
        env = Acrobot(torque_noise=noise)
        return jax.vmap(
            lambda key: env.step(key, start, torque, SINGLE_ACTOR).state.angular_velocity_2
        )(keys)

    noisy = speeds(jnp.float32(0), jnp.float32(0.5))
    low, high = (speeds(jnp.float32(torque), jnp.float32(0))[0] for torque in (-0.5, 0.5))
    assert low < noisy.min() < low + 0.1 * (high - low)
    assert high - 0.1 * (high - low) < noisy.max() < high


def test_first_states_lie_within_the_bound_on_both_sides():
    first = jax.vmap(lambda key: Acrobot().reset(key).state)(jax.random.split(KEY, 2000))
    for values in jax.tree.leaves(first):
        assert -0.1 < values.min() < -0.099 and 0.099 < values.max() < 0.1


@pytest.mark.parametrize("name", ["mass_1", "inertia_2", "time_step", "max_speed_1"])
def test_numbers_that_must_be_positive_are_checked(name):
    with pytest.raises(ConfigError, match=f"Acrobot.{name}: must be positive, got -1"):
        Acrobot(**{name: -1.0})


def test_torques_convert_both_ways():
    conversion = JointTorque(torque=3.0)
    for action, torque in enumerate((-3, 0, 3)):
        maze_action = conversion.space_to_maze(jnp.int32(action), None, 0)
        assert maze_action == torque and maze_action.dtype == jnp.float32
        assert conversion.maze_to_space(maze_action) == action
    assert conversion.space_to_maze(conversion.noop_action(), None, 0) == 0


def test_it_can_be_drawn_at_first_and_later():
    env = factories.make_acrobot()
    first = env.reset_state(KEY)
    later = env.step_state(KEY, first, jnp.int32(2)).state
    assert isinstance(env.draw(first), Scene) and isinstance(env.draw(later), Scene)
    assert env.draw(first) != env.draw(later)
