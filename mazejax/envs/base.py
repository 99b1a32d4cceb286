"""`Env`: pure reset and step over a state that travels by value.

An env is a frozen dataclass of its own numbers. Authors give three functions, of which
the state is the heart: `reset_state`, `step_state` and `observe`; `reset` and `step`
are those put together, and vectorization uses the parts, to observe only once.
"""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from mazejax.base import Pytree, is_concrete
from mazejax.errors import EnvError
from mazejax.spaces.base import Space
from mazejax.spaces.shapes import check_shapes
from mazejax.types import SINGLE_ACTOR, ActorID, Array, Key, PyTree, Scene, Step


class StateStep(NamedTuple):
    """A step before it is observed."""

    state: PyTree
    reward: Array
    """float32."""
    terminated: Array
    """bool: the task ended."""
    truncated: Array
    """bool: the clock ended the episode."""
    info: dict[str, PyTree]
    """Declared extras of one fixed structure."""


class Env(Pytree):
    """Base of all environments and wrappers; a single env, without a batch axis.

    A subclass defines `observation_space`, `action_space`, `reset_state`, `step_state`,
    `observe` and `time`, and may define `draw`. It does not reset itself when an
    episode ends: `VectorEnv` does.
    """

    compile_time: ClassVar[bool] = True

    @property
    def observation_space(self) -> Space:
        """Space of every observation; it depends on static fields only."""
        raise NotImplementedError

    @property
    def action_space(self) -> Space:
        """Space of every action; it depends on static fields only."""
        raise NotImplementedError

    def reset_state(self, key: Key) -> PyTree:
        """First state of an episode; same structure, dtypes and weak types as after a step."""
        raise NotImplementedError

    def step_state(self, key: Key, state: PyTree, action: PyTree) -> StateStep:
        """The state after the action, with reward and flags, not yet observed."""
        raise NotImplementedError

    def observe(self, state: PyTree) -> PyTree:
        """Observation of a state, for the actor that acts next."""
        raise NotImplementedError

    def time(self, state: PyTree) -> Array:
        """Flat steps since the reset, int32."""
        raise NotImplementedError

    def draw(self, state: PyTree) -> Scene:
        """The state as a scene of primitives, on the host; EnvError if the env draws nothing."""
        raise EnvError(f"{self} cannot be drawn: it defines no draw(state) -> Scene")

    def actor_id(self, state: PyTree) -> ActorID:
        """Who acts next; known while tracing."""
        return SINGLE_ACTOR

    def reset(self, key: Key) -> tuple[PyTree, PyTree]:
        """First observation and state of an episode."""
        state = self.reset_state(key)
        return self.observe(state), state

    def step(self, key: Key, state: PyTree, action: PyTree) -> Step:
        """One step without auto-reset. What happens after the end is not defined.

        Raises SpaceError for an action of the wrong structure or shape, and outside jit
        for one that is not in the action space.
        """
        check_action(self.action_space, action)
        state, reward, terminated, truncated, info = self.step_state(key, state, action)
        return Step(self.observe(state), state, reward, terminated, truncated, info)

    @property
    def unwrapped(self) -> "Env":
        """The innermost env, without its wrappers."""
        return self

    @property
    def name(self) -> str:
        """Short name for tables and files."""
        return type(self).__name__

    def __str__(self) -> str:
        """The stack of wrappers, as in `TimeLimit<CartPole>`."""
        return self.name


def check_action(space: Space, action: PyTree, batch_shape: tuple[int, ...] = ()) -> None:
    """Raise SpaceError if the action does not fit: shapes always, values where concrete."""
    check_shapes(space, action, "action", batch_shape)
    if not batch_shape and is_concrete(action):
        space.validate(jax.device_get(action), where="action")


def select(chosen: Array, when_true: PyTree, when_false: PyTree) -> PyTree:
    """Leafwise `where` over [N, ...] leaves by a mask [N]; typed keys are leaves like others."""

    def pick(yes: Array, no: Array) -> Array:
        return jnp.where(chosen.reshape(chosen.shape + (1,) * (yes.ndim - chosen.ndim)), yes, no)

    return jax.tree.map(pick, when_true, when_false)


def flag(value: Any = False) -> Array:
    """A bool scalar that is not weakly typed."""
    return jnp.asarray(value, dtype=bool)
