"""`HostEnvSpec`: what learners know of an environment that is stepped outside JAX.

An algorithm needs spaces and a schedule, not the env itself; this is an `Env` of just
those, so that networks, losses and `learn` are the same for compiled and for host envs.
"""

from typing import NoReturn

from mazejax.base import static
from mazejax.envs.base import Env
from mazejax.errors import EnvError
from mazejax.spaces.base import Space
from mazejax.types import Key, PyTree


class HostEnvSpec(Env):
    """An env's name and spaces; resetting, stepping and observing it here is an EnvError."""

    env_id: str = static()
    """Its name in the library that it comes from."""
    spaces: tuple[Space, Space] = static()
    """Of observations and actions."""

    @property
    def observation_space(self) -> Space:
        """Of a single env."""
        return self.spaces[0]

    @property
    def action_space(self) -> Space:
        """Of a single env."""
        return self.spaces[1]

    @property
    def name(self) -> str:
        """Its name in the library that it comes from."""
        return self.env_id

    def reset_state(self, key: Key) -> NoReturn:
        """An EnvError."""
        self._refuse("reset")

    def step_state(self, key: Key, state: PyTree, action: PyTree) -> NoReturn:
        """An EnvError."""
        self._refuse("stepped")

    def observe(self, state: PyTree) -> NoReturn:
        """An EnvError."""
        self._refuse("observed")

    def time(self, state: PyTree) -> NoReturn:
        """An EnvError."""
        self._refuse("asked for its time")

    def _refuse(self, what: str) -> NoReturn:
        raise EnvError(
            f"{self.env_id}: cannot be {what} by compiled code, for it lives on the host; "
            f"use mazejax.runners.train_on_host and evaluate_on_host with its HostVectorEnv"
        )
