"""The cart's ends, numbers and drawing; one step: test_against_gymnasium."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.envs.classic.cartpole import CartPole, CartPoleState, PushLeftOrRight
from mazejax.errors import ConfigError
from mazejax.types import SINGLE_ACTOR, Scene
from mazejax.wrappers import factories

KEY = random.key(0)


def step(core_env, start, force=10.0):
    start = CartPoleState(*(jnp.float32(number) for number in start))
    return core_env.step(KEY, start, jnp.float32(force), SINGLE_ACTOR)


@pytest.mark.parametrize(
    "changes",
    [
        {"mass_cart": 3.0},
        {"mass_pole": 0.4},
        {"half_length": 1.5},
        {"gravity": 3.0},
        {"time_step": 0.1},
    ],
)
def test_the_numbers_of_the_physics_enter_the_motion(changes):
    numbers = {"gravity": 9.8, "mass_cart": 1.0, "mass_pole": 0.1, "half_length": 0.5}
    numbers |= {"time_step": 0.02} | changes
    g, cart, pole, half, dt = numbers.values()
    x, v, a, w = start = (0.1, -0.2, 0.15, 0.3)
    new = step(CartPole(**changes), start).state
    sin, cos, total = np.sin(a), np.cos(a), cart + pole
    push = (10.0 + pole * half * w**2 * sin) / total
    angular = (g * sin - cos * push) / (half * (4 / 3 - pole * cos**2 / total))
    wanted = (
        x + dt * v,
        v + dt * (push - pole * half * angular * cos / total),
        a + dt * w,
        w + dt * angular,
    )
    np.testing.assert_allclose(jax.tree.leaves(new), wanted, atol=1e-6)


def test_the_episode_ends_beyond_the_thresholds_and_not_on_them():
    threshold = np.float32(2.4)
    assert not step(CartPole(), (threshold, 0, 0, 0)).terminated
    assert step(CartPole(), (np.nextafter(threshold, np.float32(3)), 0, 0, 0)).terminated
    threshold = np.float32(CartPole().angle_threshold)
    assert not step(CartPole(), (0, 0, -threshold, 0)).terminated
    assert step(CartPole(), (0, 0, -np.nextafter(threshold, np.float32(3)), 0)).terminated


def test_every_step_pays_one_the_last_too():
    assert step(CartPole(), (0, 0, 0, 0)).reward == step(CartPole(), (3, 0, 0, 0)).reward == 1


def test_first_states_lie_within_the_bound_on_both_sides():
    first = jax.vmap(lambda key: CartPole().reset(key).state)(jax.random.split(KEY, 2000))
    for values in jax.tree.leaves(first):
        assert -0.05 < values.min() < -0.0495 and 0.0495 < values.max() < 0.05


@pytest.mark.parametrize("name", ["mass_cart", "mass_pole", "half_length", "time_step"])
def test_numbers_that_must_be_positive_are_checked(name):
    with pytest.raises(ConfigError, match=f"CartPole.{name}: must be positive, got 0"):
        CartPole(**{name: 0.0})


def test_pushes_convert_both_ways():
    conversion = PushLeftOrRight(force=4.0)
    for action, force in enumerate((-4, 4)):
        assert conversion.space_to_maze(jnp.int32(action), None, 0) == force
        assert conversion.maze_to_space(jnp.float32(force)) == action


def test_it_can_be_drawn_at_first_and_later():
    env = factories.make_cartpole()
    first = env.reset_state(KEY)
    later = env.step_state(KEY, first, jnp.int32(1)).state
    assert isinstance(env.draw(first), Scene) and isinstance(env.draw(later), Scene)
