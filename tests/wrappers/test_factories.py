"""The registered environments: numbers find the parts that have them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.errors import ConfigError
from mazejax.wrappers import factories
from mazejax.wrappers.time import TimeLimit

FACTORIES = [
    factories.make_acrobot,
    factories.make_cartpole,
    factories.make_mountain_car,
    factories.make_mountain_car_continuous,
    factories.make_pendulum,
]


@pytest.mark.parametrize("make", FACTORIES)
def test_equal_calls_make_equal_envs_with_the_time_limit_outermost(make):
    env = make(max_steps=3)
    assert isinstance(env, TimeLimit) and env.max_steps == 3
    assert make() == make() and hash(make()) == hash(make())
    assert make() != env


@pytest.mark.parametrize("make", FACTORIES)
def test_an_unknown_number_is_an_error_with_the_nearest_names(make):
    with pytest.raises(ConfigError, match=r"has no number 'max_stepz'; did you mean 'max_steps'"):
        make(max_stepz=3)


def test_numbers_go_to_the_core_env_or_to_the_action():
    env = factories.make_cartpole(gravity=5.0, force=3.0)
    assert env.env.core_env.gravity == 5.0 and env.env.action_conversion.force == 3.0


def test_a_limit_of_the_physics_is_the_bound_of_its_space():
    env = factories.make_pendulum(max_torque=np.float32(5.0), max_speed=jnp.float32(3.0))
    assert env.action_space.high == 5.0 and env.env.core_env.max_torque == 5.0
    assert env.observation_space.high[2] == 3.0 and env.env.core_env.max_speed == 3.0
    assert hash(env) == hash(
        factories.make_pendulum(max_torque=np.float32(5), max_speed=jnp.float32(3))
    )
    road = factories.make_mountain_car(min_position=-2.0, max_speed=0.5).observation_space
    np.testing.assert_allclose(road.low, [-2.0, -0.5])


def test_numbers_may_be_traced_unless_they_decide_a_space():
    angle = jax.vmap(
        lambda bound: factories.make_acrobot(reset_bound=bound).reset(random.key(0))[0]
    )
    obs = angle(jnp.array([0.1, 0.2]))
    np.testing.assert_allclose(obs[1, 4:], 2 * obs[0, 4:], rtol=1e-6)
    with pytest.raises(ConfigError, match=r"Pendulum.max_speed: got a traced value"):
        jax.jit(lambda speed: factories.make_pendulum(max_speed=speed).reset(random.key(0)))(3.0)


def test_the_clock_truncates_at_the_limit():
    env = factories.make_mountain_car(max_steps=3)
    _, state = env.reset(random.key(0))
    flags = []
    for _ in range(3):
        step = env.step(random.key(0), state, jnp.int32(1))
        state = step.state
        flags.append((bool(step.terminated), bool(step.truncated)))
    assert flags == [(False, False), (False, False), (False, True)]
