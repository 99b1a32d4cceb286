"""The pendulum's wrapping, limits, numbers and drawing; one step: test_against_gymnasium."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.envs.classic.pendulum import Pendulum, PendulumState, PendulumTorque
from mazejax.envs.vector import VectorEnv
from mazejax.errors import ConfigError
from mazejax.types import SINGLE_ACTOR, Scene
from mazejax.wrappers import factories

KEY = random.key(0)


def state(angle, velocity):
    return PendulumState(jnp.float32(angle), jnp.float32(velocity), jnp.float32(0))


def step(core_env, start, torque):
    return core_env.step(KEY, start, jnp.float32(torque), SINGLE_ACTOR)


def test_an_episode_of_full_turns_follows_gymnasium_that_counts_them():
    env, theirs = factories.make_pendulum(), gymnasium.make("Pendulum-v1").unwrapped
    torque = jnp.full(1, 2.0)

    def one_step(state, _):
        step = env.step(KEY, state, torque)
        return step.state, (step.obs, step.reward, step.state.core.angle)

    start = env.reset_state(KEY)
    start = start.replace(core=state(0.5, 7.0))
    _, (obs, reward, angle) = jax.jit(lambda s: jax.lax.scan(one_step, s, length=100))(start)
    theirs.reset(seed=0)
    theirs.state = np.array([0.5, 7.0])
    wanted = [theirs.step(np.full(1, 2.0, np.float32))[:2] for _ in range(100)]
    assert abs(theirs.state[0]) > 4 * np.pi
    assert np.abs(angle).max() < np.pi + 1e-6
    np.testing.assert_allclose(obs, [o for o, _ in wanted], atol=5e-4)
    np.testing.assert_allclose(reward, [r for _, r in wanted], atol=5e-3)


def test_torque_and_speed_are_cut_at_their_limits():
    core_env = Pendulum()
    cut, largest = step(core_env, state(1, 0), 7.0), step(core_env, state(1, 0), 2.0)
    assert cut.state == largest.state and cut.reward == largest.reward
    assert cut.state.torque == 2.0
    assert step(core_env, state(np.pi / 2, 7.9), 2.0).state.angular_velocity == 8.0


def test_the_cost_is_of_the_state_before_the_step():
    core_env = Pendulum(velocity_cost=0.3, torque_cost=0.05)
    reward = step(core_env, state(-2.0, 3.0), 1.5).reward
    assert reward == pytest.approx(-(4.0 + 0.3 * 9.0 + 0.05 * 2.25), rel=1e-6)


@pytest.mark.parametrize(
    "changes", [{"gravity": 3.0}, {"mass": 2.5}, {"length": 0.7}, {"time_step": 0.01}]
)
def test_the_numbers_of_the_physics_enter_the_motion(changes):
    numbers = {"gravity": 10.0, "mass": 1.0, "length": 1.0, "time_step": 0.05} | changes
    g, m, length, dt = numbers.values()
    new = step(Pendulum(**changes), state(0.8, -0.4), 1.2).state
    moment = m * length**2 / 3
    velocity = -0.4 + dt * (m * g * length / 2 * np.sin(0.8) + 1.2) / moment
    assert new.angular_velocity == pytest.approx(velocity, abs=1e-6)
    assert new.angle == pytest.approx(0.8 + dt * velocity, abs=1e-6)


def test_first_states_lie_within_the_bounds_on_both_sides():
    core_env = Pendulum(reset_angle=0.5, reset_velocity=0.1)
    first = jax.vmap(lambda key: core_env.reset(key).state)(jax.random.split(KEY, 2000))
    for values, bound in ((first.angle, 0.5), (first.angular_velocity, 0.1)):
        assert -bound < values.min() < -0.99 * bound
        assert 0.99 * bound < values.max() < bound


def test_every_vectorized_env_may_have_its_own_gravity():
    env = factories.make_pendulum()
    gravity = jnp.array([2.0, 10.0])
    vector = VectorEnv(env, 2, batched={"gravity": gravity})
    _, before = vector.reset(KEY)
    after = vector.step(before, jnp.zeros((2, 1))).state.envs.core
    old = before.envs.core
    gained = after.angular_velocity - old.angular_velocity
    np.testing.assert_allclose(gained, 0.05 * 1.5 * gravity * jnp.sin(old.angle), atol=1e-6)


@pytest.mark.parametrize("name", ["mass", "length", "time_step", "max_speed", "max_torque"])
def test_numbers_that_must_be_positive_are_checked(name):
    with pytest.raises(ConfigError, match=f"Pendulum.{name}: must be positive, got 0"):
        Pendulum(**{name: 0.0})


def test_torques_convert_both_ways():
    conversion = PendulumTorque()
    assert conversion.space_to_maze(np.array([1.5]), None, 0) == 1.5
    np.testing.assert_array_equal(conversion.maze_to_space(jnp.float32(1.5)), [1.5])
    assert conversion.space_to_maze(conversion.noop_action(), None, 0) == 0
    assert conversion.space().contains(np.asarray(conversion.noop_action()))


def test_it_can_be_drawn_at_first_and_later():
    env = factories.make_pendulum()
    first = env.reset_state(KEY)
    later = env.step_state(KEY, first, jnp.full(1, -2.0)).state
    assert isinstance(env.draw(first), Scene)
    assert len(env.draw(later).shapes) > len(env.draw(first).shapes)  # the arrow of the torque
