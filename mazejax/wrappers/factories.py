"""Environments as they are registered: core env, conversions and time limit together.

Every function takes numbers by name and hands each to the parts that have a field of
that name, so that a limit of the physics and the bound of the space it decides stay
equal. Defaults stand in the classes; time limits are Gymnasium's and stand here.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from mazejax.base import Pytree, is_concrete
from mazejax.envs import breakout, cutting2d, grid_maze, landmark_tour
from mazejax.envs.classic import acrobot, cartpole, mountain_car, pendulum, t_maze
from mazejax.envs.maze_env import MazeEnv
from mazejax.errors import ConfigError, did_you_mean
from mazejax.wrappers.time import TimeLimit

P = TypeVar("P", bound=Pytree)


def make_cartpole(max_steps: int = 500, **numbers: float) -> TimeLimit:
    """CartPole-v1; numbers are fields of `CartPole` or `PushLeftOrRight`."""
    parts = (cartpole.CartPole(), cartpole.CartPoleObservation(), cartpole.PushLeftOrRight())
    return _assemble(parts, max_steps, numbers)


def make_pendulum(max_steps: int = 200, **numbers: float) -> TimeLimit:
    """Pendulum-v1; numbers are fields of `Pendulum`."""
    parts = (pendulum.Pendulum(), pendulum.PendulumObservation(), pendulum.PendulumTorque())
    return _assemble(parts, max_steps, numbers)


def make_mountain_car(max_steps: int = 200, **numbers: float) -> TimeLimit:
    """MountainCar-v0; numbers are fields of `MountainCar`."""
    observation, action = mountain_car.MountainCarObservation(), mountain_car.LeftNeutralRight()
    return _assemble((mountain_car.MountainCar(), observation, action), max_steps, numbers)


def make_mountain_car_continuous(max_steps: int = 999, **numbers: float) -> TimeLimit:
    """MountainCarContinuous-v0; numbers are fields of `MountainCarContinuous`."""
    observation, action = mountain_car.MountainCarObservation(), mountain_car.Throttle()
    core_env = mountain_car.MountainCarContinuous()
    return _assemble((core_env, observation, action), max_steps, numbers)


def make_acrobot(max_steps: int = 500, **numbers: float) -> TimeLimit:
    """Acrobot-v1; numbers are fields of `Acrobot` or `JointTorque`."""
    parts = (acrobot.Acrobot(), acrobot.AcrobotObservation(), acrobot.JointTorque())
    return _assemble(parts, max_steps, numbers)


def make_t_maze(
    max_steps: int | None = None, length: int = t_maze.TMaze.length, **numbers: float
) -> TimeLimit:
    """TMaze-v0, limited to 5 * length steps by default; numbers are fields of `TMaze`."""
    core_env, observation = t_maze.TMaze(length=length), t_maze.TMazeObservation(length=length)
    limit = 5 * length if max_steps is None else max_steps
    return _assemble((core_env, observation, t_maze.UpDownLeftRight()), limit, numbers)


def _with_time_limit(make: Callable[..., MazeEnv], max_steps: int) -> Callable[..., TimeLimit]:
    """The factory of an env that does not end by itself, with a limit as its first parameter."""

    def make_limited(max_steps: int = max_steps, **options: Any) -> TimeLimit:
        return TimeLimit(make(**options), max_steps)

    functools.update_wrapper(make_limited, make)
    signature = inspect.signature(make)
    limit = inspect.Parameter("max_steps", inspect.Parameter.POSITIONAL_OR_KEYWORD,
                              default=max_steps, annotation=int)  # fmt: skip
    parameters = [limit, *signature.parameters.values()]
    make_limited.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    make_limited.__module__ = __name__
    return make_limited


make_breakout = _with_time_limit(breakout.make_breakout, 1000)
make_cutting2d = _with_time_limit(cutting2d.make_cutting2d, 180)
make_grid_maze = _with_time_limit(grid_maze.make_grid_maze, 100)
make_landmark_tour = _with_time_limit(landmark_tour.make_landmark_tour, 100)


def _assemble(parts: tuple[Any, Any, Any], max_steps: int, numbers: dict[str, float]) -> TimeLimit:
    name = type(parts[0]).__name__
    known = {"max_steps", *(field.name for part in parts for field in dataclasses.fields(part))}
    for number in sorted(numbers.keys() - known):
        raise ConfigError(f"{name} has no number {number!r}; {did_you_mean(number, known)}")
    core_env, observation, action = (_with_own(part, name, numbers) for part in parts)
    return TimeLimit(MazeEnv(core_env, observation, action), max_steps)


def _with_own(part: P, name: str, numbers: dict[str, float]) -> P:
    """The part with those of the numbers that are its fields."""
    own: dict[str, Any] = {}
    for field in dataclasses.fields(part):  # type: ignore[arg-type]
        if field.name not in numbers:
            continue
        value = own[field.name] = numbers[field.name]
        if field.metadata.get("static"):
            if not is_concrete(value):
                raise ConfigError(
                    f"{name}.{field.name}: got a traced value, expected a number, since it is a "
                    f"constant of the program; make the env first, and sweep its core env's number"
                )
            own[field.name] = float(value)  # a 0-d array has no hash
    return part.replace(**own)
