"""`MazeEnv`: a core env seen through its conversions.

It keeps the time, converts actions on the way in and states on the way out, and is a
plain `Env` to everything else.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mazejax.base import Pytree
from mazejax.envs.base import Env, StateStep
from mazejax.envs.conversion import ActionConversion, ObservationConversion
from mazejax.envs.core import CoreEnv
from mazejax.errors import ConfigError
from mazejax.spaces.base import Space
from mazejax.types import SINGLE_ACTOR, Array, Key, PyTree, Scene


class EnvState(Pytree):
    """State of a `MazeEnv`."""

    core: PyTree
    """The core env's own state."""
    time: Array
    """Flat steps since the reset, int32."""


class MazeEnv(Env):
    """A core env with its observation and action conversion."""

    core_env: CoreEnv
    observation_conversion: ObservationConversion
    action_conversion: ActionConversion

    def validate(self) -> None:
        """Raise ConfigError for a number that is nan, in the core env or a conversion."""
        for path, leaf in jax.tree_util.tree_leaves_with_path(self):
            if isinstance(leaf, (float, np.ndarray)) and np.isnan(leaf).any():
                name = jax.tree_util.keystr(path, simple=True, separator=".").split(".")[-1]
                raise ConfigError(f"{name}: must be a number, got nan, in {self.name}")

    @property
    def observation_space(self) -> Space:
        """The observation conversion's space."""
        return self.observation_conversion.space()

    @property
    def action_space(self) -> Space:
        """The action conversion's space."""
        return self.action_conversion.space()

    def reset_state(self, key: Key) -> EnvState:
        """The core env's first state at time 0."""
        return EnvState(core=self.core_env.reset(key).state, time=jnp.zeros((), jnp.int32))

    def step_state(self, key: Key, state: EnvState, action: PyTree) -> StateStep:
        """Convert the action, step the core env, advance the time."""
        actor = self.actor_id(state)
        maze_action = self.action_conversion.space_to_maze(action, state.core, actor.agent_id)
        core, reward, terminated, truncated, events = self.core_env.step(
            key, state.core, maze_action, actor
        )
        info = {"events": events} if events != () else {}
        return StateStep(EnvState(core, state.time + 1), reward, terminated, truncated, info)

    def observe(self, state: EnvState) -> PyTree:
        """The observation conversion's view of the core state."""
        return self.observation_conversion.maze_to_space(state.core, SINGLE_ACTOR.agent_id)

    def time(self, state: EnvState) -> Array:
        """Flat steps since the reset, int32."""
        return state.time

    def draw(self, state: EnvState) -> Scene:
        """The core env's drawing of its state."""
        return self.core_env.draw(state.core)

    @property
    def name(self) -> str:
        """Name of the core env's class."""
        return type(self.core_env).__name__
