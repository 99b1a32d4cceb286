"""`Interface`: the wrappers of an env without the env, between a policy and the world.

A trained policy takes observations of the wrapped env and gives its actions. The world
outside knows only those of the innermost env: the interface turns one into the other.
"""

from typing import Any

import jax.numpy as jnp

from mazejax.base import Pytree, static
from mazejax.envs.base import Env
from mazejax.types import Array, PyTree
from mazejax.wrappers.base import ActionWrapper, Wrapper


class Interface:
    """Observations and actions through the wrappers of an env.

        interface = Interface(run.env)
        obs, memory = interface.observe(raw_obs)             # None begins an episode
        action = interface.act(run.policy.act(obs), memory)
        obs, memory = interface.observe(raw_obs, memory)     # the next one, and so on

    `memory` is what wrappers remember, such as a stack of observations. In a schedule every
    call is the turn of the next actor. What wrappers do by chance or by the clock is left out.
    Both methods are pure and may be jitted.
    """

    def __init__(self, env: Env) -> None:
        self._env = _around(env, _Outside(env.unwrapped))

    def observe(self, obs: PyTree, memory: PyTree = None) -> tuple[PyTree, PyTree]:
        """What the policy sees for an observation of the innermost env, and the new memory."""
        time, substep = jnp.zeros((), jnp.int32), 0
        if memory is not None:
            substep = (self._env.substep(memory) + 1) % len(self._env.actors)
            time = self._env.time(memory) + (substep == 0)
        state = self._env.from_maze_state(obs, time, substep, memory)
        return self._env.observe(state), state

    def act(self, action: PyTree, memory: PyTree) -> PyTree:
        """The innermost env's action for the policy's, which answers the latest observation."""
        env: Env = self._env
        state = memory
        while isinstance(env, Wrapper):
            if isinstance(env, ActionWrapper):
                action = env.inner_action(action, state)
            state = env.inner(state)
            env = env.env
        return action

    def __repr__(self) -> str:
        return f"Interface({self._env})"


class _Brought(Pytree):
    """An observation that somebody brings, where a state stands else."""

    obs: Any
    time: Array
    at: int = static(default=0)
    """The sub-step."""


class _Outside(Wrapper):
    """The innermost env's spaces and schedule; its states are observations from outside."""

    def from_maze_state(
        self, maze_state: PyTree, time: Array | int, substep: int = 0, previous: PyTree = None
    ) -> _Brought:
        """The observation as it is brought."""
        return _Brought(maze_state, jnp.asarray(time, jnp.int32), substep)

    def observe(self, state: _Brought) -> PyTree:
        """What was brought."""
        return state.obs

    def time(self, state: _Brought) -> Array:
        """Flat steps since the first observation."""
        return state.time

    def substep(self, state: _Brought) -> int:
        """Whose turn it is."""
        return state.at

    def at_substep(self, state: _Brought, substep: int) -> _Brought:
        """The same observation at another place of the schedule."""
        return state.replace(at=substep)

    def __str__(self) -> str:
        return str(self.env)


def _around(env: Env, innermost: Env) -> Env:
    """The wrappers of an env around another one."""
    if not isinstance(env, Wrapper):
        return innermost
    return env.around_observations(_around(env.env, innermost))
