"""Foraging environments from their parts."""

from typing import Any

from mazejax.envs.foraging.conversions import LocalView, StayOrMove
from mazejax.envs.foraging.core import Foraging
from mazejax.envs.maze_env import MazeEnv


def make_foraging(radius: int = LocalView.radius, **numbers: Any) -> MazeEnv:
    """Foraging by agents who see `radius` cells far; numbers are fields of `Foraging`.

    Episodes end by themselves, for energy falls in every step and food runs out.
    """
    core_env = Foraging().replace(**numbers)
    view = LocalView(core_env.size, float(core_env.max_energy), radius)
    return MazeEnv(core_env, view, StayOrMove())
