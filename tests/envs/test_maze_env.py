"""A core env, its conversions and the env that they make."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import CoreEnv, CoreReset, CoreStep, MazeEnv, ObservationConversion, Scene, Shape
from mazejax.envs import probe
from mazejax.envs.base import flag
from mazejax.errors import ConfigError, EnvError, SpaceError
from mazejax.spaces import Box, Discrete


class Stock(CoreEnv):
    """A stock that loses one unit a step and is refilled by the maze action."""

    start: float = 3.0

    def reset(self, key):
        return CoreReset(jnp.asarray(self.start, jnp.float32))

    def step(self, key, state, maze_action, actor):
        left = state + maze_action - 1.0
        events = {"refilled": maze_action}
        return CoreStep(left, -jnp.abs(left), left < 0.0, flag(), events)

    def draw(self, state):
        return Scene((0.0, 0.0, 1.0, 1.0), (Shape("circle", ((0.5, 0.5),), width=0.1),))


class Level(ObservationConversion):
    """The level as a share of ten."""

    def space(self):
        return Box(-1.0, 10.0, (1,))

    def maze_to_space(self, state, agent):
        return state[None] / 10.0


class Refill(mazejax.ActionConversion):
    """0 to 2 crates of `crate` units."""

    crate: float = 0.5

    def space(self):
        return Discrete(3)

    def space_to_maze(self, action, state, agent):
        return action * jnp.float32(self.crate)


ENV = MazeEnv(Stock(), Level(), Refill())
KEY = jax.random.key(0)


def test_actions_and_states_pass_through_the_conversions():
    obs, state = ENV.reset(KEY)
    np.testing.assert_allclose(obs, [0.3])
    obs, state, reward, terminated, truncated, info = ENV.step(KEY, state, 2)
    np.testing.assert_allclose(obs, [0.3])
    assert (float(reward), bool(terminated), bool(truncated)) == (-3.0, False, False)
    assert float(info["events"]["refilled"]) == 1.0
    assert int(state.time) == 1


def test_the_task_ends_when_the_core_says_so():
    _, state = ENV.reset(KEY)
    ended = []
    for _ in range(4):
        step = ENV.step(KEY, state, 0)
        state = step.state
        ended.append(bool(step.terminated))
    assert ended == [False, False, False, True]
    assert float(step.discount) == 0.0
    assert bool(step.done)


def test_spaces_names_and_drawing_are_those_of_the_parts():
    assert ENV.observation_space == Box(-1.0, 10.0, (1,))
    assert ENV.action_space == Discrete(3)
    assert str(ENV) == ENV.name == "Stock"
    assert ENV.draw(ENV.reset(KEY)[1]).shapes[0].kind == "circle"
    mazejax.check_env(mazejax.TimeLimit(ENV, 5))


def test_what_is_optional_says_what_it_is_for():
    with pytest.raises(EnvError, match="Refill defines no maze_to_space"):
        ENV.action_conversion.maze_to_space(1.0)
    with pytest.raises(EnvError, match=r"Refill defines no noop_action\(\)"):
        ENV.action_conversion.noop_action()
    with pytest.raises(EnvError, match="cannot be drawn"):
        probe.ConstantReward().draw(None)


def test_nan_and_wrong_actions_are_refused():
    with pytest.raises(ConfigError, match="start: must be a number, got nan, in Stock"):
        MazeEnv(Stock(start=float("nan")), Level(), Refill())
    with pytest.raises(ConfigError, match="crate: must be a number, got nan"):
        MazeEnv(Stock(), Level(), Refill(crate=float("nan")))
    _, state = ENV.reset(KEY)
    with pytest.raises(SpaceError, match="action: got 3, expected from 0 to 2"):
        ENV.step(KEY, state, 3)
    with pytest.raises(SpaceError, match=r"action: got shape \(1,\), expected \(\)"):
        jax.jit(ENV.step)(KEY, state, jnp.zeros(1, jnp.int32))
