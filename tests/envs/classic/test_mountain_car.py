"""The car's episodes, wall, goal, engines and drawing; one step: test_against_gymnasium."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.envs.classic.mountain_car import (
    LeftNeutralRight,
    MountainCar,
    MountainCarContinuous,
    MountainCarState,
    Throttle,
)
from mazejax.errors import ConfigError
from mazejax.types import SINGLE_ACTOR, Scene
from mazejax.wrappers import factories

KEY = random.key(0)


def step(core_env, position, velocity, throttle):
    start = MountainCarState(jnp.float32(position), jnp.float32(velocity))
    return core_env.step(KEY, start, jnp.float32(throttle), SINGLE_ACTOR)


@pytest.mark.parametrize("name", ["MountainCar-v0", "MountainCarContinuous-v0"])
def test_rocking_out_of_the_valley_takes_as_many_steps_as_in_gymnasium(name):
    is_discrete = name == "MountainCar-v0"
    make = factories.make_mountain_car if is_discrete else factories.make_mountain_car_continuous
    env, theirs = make(), gymnasium.make(name).unwrapped

    def action(velocity):
        return (
            jnp.where(velocity < 0, 0, 2)
            if is_discrete
            else jnp.where(velocity < 0, -1.0, 1.0)[None]
        )

    def one_step(state, _):
        step = env.step(KEY, state, action(state.core.velocity))
        return step.state, (step.obs, step.terminated)

    start = env.reset_state(random.key(3))
    _, (obs, terminated) = jax.jit(lambda s: jax.lax.scan(one_step, s, length=190))(start)
    length = int(np.argmax(terminated)) + 1
    theirs.reset(seed=0)
    theirs.state = np.array([start.core.position, 0.0], np.float64)
    for i in range(length):
        wanted, _, ended, _, _ = theirs.step(np.asarray(action(theirs.state[1])))
        assert ended == (i == length - 1)
        np.testing.assert_allclose(obs[i], wanted, atol=2e-5)
    assert 60 < length < 180


def test_the_wall_on_the_left_stops_the_car():
    new = step(MountainCar(), -1.19, -0.07, -1.0).state
    assert (new.position, new.velocity) == (np.float32(-1.2), 0.0)


def test_on_the_right_the_position_is_cut_but_the_car_keeps_its_velocity():
    new = step(MountainCar(goal_position=10.0), 0.59, 0.06, 1.0).state
    assert new.position == np.float32(0.6) and new.velocity > 0.05


def test_the_goal_counts_from_its_exact_position_and_velocity_on():
    # Without forces the new position is the sum, which is exact here.
    still = {"gravity": 0.0, "force": 0.0}
    assert step(MountainCar(**still), 0.4375, 0.0625, 0.0).terminated
    assert not step(MountainCar(**still), 0.4375, np.float32(0.0625) - 1e-6, 0.0).terminated
    assert step(MountainCar(**still, goal_velocity=0.0625), 0.4375, 0.0625, 0.0).terminated
    assert not step(MountainCar(**still, goal_velocity=0.0626), 0.4375, 0.0625, 0.0).terminated
    # Rolling back over the goal is no arrival.
    assert not step(MountainCar(**still), 0.5625, -0.0625, 0.0).terminated


def test_every_step_costs_one_the_last_too():
    assert step(MountainCar(), -0.5, 0.0, 1.0).reward == -1
    last = step(MountainCar(), 0.49, 0.05, 1.0)
    assert last.terminated and last.reward == -1


def test_the_continuous_car_pays_for_the_action_asked_for_and_moves_by_the_one_possible():
    over, full = (step(MountainCarContinuous(), -0.5, 0.0, throttle) for throttle in (3.0, 1.0))
    assert over.state == full.state
    assert over.reward == pytest.approx(-0.9) and full.reward == pytest.approx(-0.1)
    assert step(MountainCarContinuous(), 0.44, 0.05, 1.0).reward == pytest.approx(99.9)
    other = MountainCarContinuous(goal_reward=7.0, throttle_cost=0.5)
    assert step(other, 0.44, 0.05, 1.0).reward == pytest.approx(6.5)


@pytest.mark.parametrize("changes", [{}, {"force": 0.003}, {"gravity": 0.001}])
def test_the_numbers_of_the_physics_enter_the_motion(changes):
    force, gravity = ({"force": 0.001, "gravity": 0.0025} | changes).values()
    new = step(MountainCar(**changes), -0.7, 0.01, -1.0).state
    velocity = 0.01 - force - gravity * np.cos(-2.1)
    assert new.velocity == pytest.approx(velocity, abs=1e-7)
    assert new.position == pytest.approx(-0.7 + velocity, abs=1e-7)


def test_first_positions_lie_within_their_range_at_rest():
    first = jax.vmap(lambda key: MountainCar().reset(key).state)(jax.random.split(KEY, 2000))
    assert -0.6 <= first.position.min() < -0.599 and -0.401 < first.position.max() <= -0.4
    assert not first.velocity.any()


def test_wrong_numbers_are_refused():
    with pytest.raises(ConfigError, match=r"MountainCar.max_speed: must be positive, got -1"):
        MountainCar(max_speed=-1.0)
    with pytest.raises(ConfigError, match=r"MountainCarContinuous.min_position: got 2.0"):
        MountainCarContinuous(min_position=2.0)


def test_actions_convert_both_ways():
    levers = LeftNeutralRight()
    for action, throttle in enumerate((-1, 0, 1)):
        maze_action = levers.space_to_maze(jnp.int32(action), None, 0)
        assert maze_action == throttle and maze_action.dtype == jnp.float32
        assert levers.maze_to_space(maze_action) == action
    assert levers.space_to_maze(levers.noop_action(), None, 0) == 0
    assert Throttle().space_to_maze(np.array([-0.5]), None, 0) == -0.5
    np.testing.assert_array_equal(Throttle().maze_to_space(jnp.float32(-0.5)), [-0.5])
    assert Throttle().space().contains(np.asarray(Throttle().noop_action()))


@pytest.mark.parametrize(
    "make", [factories.make_mountain_car, factories.make_mountain_car_continuous]
)
def test_it_can_be_drawn_at_first_and_later(make):
    env = make()
    first = env.reset_state(KEY)
    later = env.step_state(KEY, first, env.action_space.sample(KEY)).state
    assert isinstance(env.draw(first), Scene) and isinstance(env.draw(later), Scene)
    assert env.draw(first) != env.draw(later)
