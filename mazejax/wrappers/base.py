"""`Wrapper`: an env around an env, and the three usual kinds of it.

A wrapper changes one thing and passes the rest on; its numbers are leaves like an
env's. One that needs memory keeps a typed state of its own around the inner state.
"""

from mazejax.envs.base import Env, StateStep
from mazejax.spaces.base import Space
from mazejax.types import ActorID, Array, Key, PyTree, Scene


class Wrapper(Env):
    """Passes everything on to the wrapped env; a subclass overrides what it changes."""

    env: Env
    """The wrapped env."""

    @property
    def observation_spaces(self) -> dict[str, Space]:
        """The wrapped env's, unless the wrapper defines an `observation_space`."""
        if self._defines("observation_space"):
            return self._by_step_key("observation_space")
        return self.env.observation_spaces

    @property
    def action_spaces(self) -> dict[str, Space]:
        """The wrapped env's, unless the wrapper defines an `action_space`."""
        if self._defines("action_space"):
            return self._by_step_key("action_space")
        return self.env.action_spaces

    @property
    def actors(self) -> tuple[ActorID, ...]:
        """The wrapped env's."""
        return self.env.actors

    @property
    def agent_counts(self) -> dict[str, int]:
        """The wrapped env's."""
        return self.env.agent_counts

    @property
    def has_inactive_actors(self) -> bool:
        """The wrapped env's."""
        return self.env.has_inactive_actors

    @property
    def has_actor_rewards(self) -> bool:
        """The wrapped env's."""
        return self.env.has_actor_rewards

    def reset_state(self, key: Key) -> PyTree:
        """The wrapped env's."""
        return self.env.reset_state(key)

    def step_state(self, key: Key, state: PyTree, action: PyTree) -> StateStep:
        """The wrapped env's."""
        return self.env.step_state(key, state, action)

    def observe(self, state: PyTree) -> PyTree:
        """The wrapped env's."""
        return self.env.observe(state)

    def time(self, state: PyTree) -> Array:
        """The wrapped env's."""
        return self.env.time(state)

    def draw(self, state: PyTree) -> Scene:
        """The wrapped env's."""
        return self.env.draw(state)

    def substep(self, state: PyTree) -> int:
        """The wrapped env's."""
        return self.env.substep(state)

    def at_substep(self, state: PyTree, substep: int) -> PyTree:
        """The wrapped env's."""
        return self.env.at_substep(state, substep)

    def maze_state(self, state: PyTree) -> PyTree:
        """The wrapped env's."""
        return self.env.maze_state(state)

    def actor_active(self, state: PyTree) -> Array:
        """The wrapped env's."""
        return self.env.actor_active(state)

    @property
    def unwrapped(self) -> Env:
        """The innermost env, without its wrappers."""
        return self.env.unwrapped

    @property
    def name(self) -> str:
        """Name of the innermost env."""
        return self.env.name

    def __str__(self) -> str:
        return f"{type(self).__name__}<{self.env}>"
