"""`Env`: pure reset and step over a state that travels by value.

An env is a frozen dataclass of its own numbers. Authors give three functions, of which
the state is the heart: `reset_state`, `step_state` and `observe`; `reset` and `step`
are those put together, and vectorization uses the parts, to observe only once.
"""

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mazejax.base import Pytree, is_concrete
from mazejax.envs.structured import agent_axis, count_agents
from mazejax.errors import EnvError
from mazejax.events.kpi import KPICalculator
from mazejax.spaces.base import Space
from mazejax.spaces.shapes import check_shapes
from mazejax.types import SINGLE_ACTOR, ActorID, Array, Key, PyTree, Scene, Step

if TYPE_CHECKING:
    from mazejax.envs.episode import Episode


class StateStep(NamedTuple):
    """A step before it is observed."""

    state: PyTree
    reward: Array
    """float32 [], or [A] of agents that act at once."""
    terminated: Array
    """bool: the task ended."""
    truncated: Array
    """bool: the clock ended the episode."""
    info: dict[str, PyTree]
    """Declared extras, of one fixed structure for every sub-step of the schedule.

    `events` (an `EventLog`), `actor_done` (of the actor that stepped, bool [] or [A]),
    and after the last sub-step `actor_rewards` (credit by sub-step), where the env has them.
    """


class Env(Pytree):
    """Base of all environments and wrappers; a single env, without a batch axis.

    A subclass defines `observation_space`, `action_space`, `reset_state`, `step_state`,
    `observe` and `time`, and may define `draw`. It does not reset itself when an
    episode ends: `VectorEnv` does. A structured env has several sub-steps in a flat step:
    `actors` lists who acts in them, and spaces go by step key.
    """

    compile_time: ClassVar[bool] = True

    @property
    def observation_space(self) -> Space:
        """Space of one agent's observation, where there is a single step key."""
        return _only(self, self.observation_spaces, "observation_spaces")

    @property
    def action_space(self) -> Space:
        """Space of one agent's action, where there is a single step key."""
        return _only(self, self.action_spaces, "action_spaces")

    @property
    def observation_spaces(self) -> dict[str, Space]:
        """Space of one agent's observation by step key; it depends on static fields only."""
        return self._by_step_key("observation_space")

    @property
    def action_spaces(self) -> dict[str, Space]:
        """Space of one agent's action by step key; it depends on static fields only."""
        return self._by_step_key("action_space")

    @property
    def actors(self) -> tuple[ActorID, ...]:
        """The schedule: who acts in which sub-step of a flat step."""
        return (SINGLE_ACTOR,)

    @property
    def agent_counts(self) -> dict[str, int]:
        """Agents per step key."""
        return count_agents(self.actors)

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
        return self.actors[self.substep(state)]

    def substep(self, state: PyTree) -> int:
        """Sub-steps of the current flat step that are over; known while tracing."""
        return 0

    @property
    def has_inactive_actors(self) -> bool:
        """Whether `actor_active` may ever be false; decides what is stored of every step."""
        return False

    @property
    def has_actor_rewards(self) -> bool:
        """Whether `info["actor_rewards"]` tells whose merit each flat step's rewards are."""
        return False

    @property
    def has_carry_over(self) -> bool:
        """Whether `carry_over` keeps anything; where not, auto-resets do not ask it."""
        return False

    def carry_over(self, ended: PyTree, fresh: PyTree) -> PyTree:
        """The fresh first state of an episode, with what outlives episodes.

        `VectorEnv` asks it where an episode `ended` and another follows. Structure and dtypes
        are those of the fresh state.
        """
        return fresh

    def at_substep(self, state: PyTree, substep: int) -> PyTree:
        """The state as if it were the turn of this sub-step's actor: to observe as it would."""
        if substep != self.substep(state):
            raise EnvError(f"{self}: has a single sub-step, got {substep}")
        return state

    def maze_state(self, state: PyTree) -> PyTree:
        """The problem's own state within the env's: the core env's, where there is one."""
        return state

    def actor_active(self, state: PyTree) -> Array:
        """Whether the next actor acts, bool [] or [A]; else its action has no effect."""
        return jnp.ones(agent_axis(self.actor_id(state), self.agent_counts), bool)

    def kpi_calculator(self) -> KPICalculator | None:
        """What computes the KPIs of an episode; None if there are none."""
        return None

    def noop_action(self, step_key: str) -> PyTree:
        """One agent's action that changes nothing; EnvError where the env has none."""
        raise EnvError(f"{self}: has no noop action for step key {step_key!r}; define noop_action")

    def from_maze_state(
        self, maze_state: PyTree, time: Array | int, substep: int = 0, previous: PyTree = None
    ) -> PyTree:
        """The state that stands at a recorded maze state, to be observed as it would have been.

        `time` counts the flat steps before it. Wrappers that remember go on from the
        `previous` state, made of the maze state one sub-step earlier; None begins an episode.
        """
        if substep:
            raise EnvError(f"{self}: has a single sub-step, got {substep}")
        return maze_state

    def from_maze_action(self, maze_action: PyTree, state: PyTree) -> PyTree:
        """The action of the state's next actor that stands for a recorded maze action."""
        return maze_action

    def reset(self, key: Key) -> tuple[PyTree, PyTree]:
        """First observation and state of an episode."""
        state = self.reset_state(key)
        return self.observe(state), state

    def step(self, key: Key, state: PyTree, action: PyTree) -> Step:
        """One sub-step without auto-reset. What happens after the end is not defined.

        Raises SpaceError for an action of the wrong structure or shape, and outside jit
        for one that is not in the action space.
        """
        actor = self.actor_id(state)
        space = self.action_spaces[actor.step_key]
        check_action(space, action, agent_axis(actor, self.agent_counts))
        state, reward, terminated, truncated, info = self.step_state(key, state, action)
        return Step(self.observe(state), state, reward, terminated, truncated, info)

    def replay(self, key: Key, actions: PyTree) -> "Episode":
        """The episode of this key and these actions, simulated again: `mazejax.envs.replay`."""
        from mazejax.envs import episode

        return episode.replay(self, key, actions)

    @property
    def unwrapped(self) -> "Env":
        """The innermost env, without its wrappers."""
        return self

    @property
    def name(self) -> str:
        """Short name for tables and files."""
        return type(self).__name__

    def _by_step_key(self, name: str) -> dict[str, Space]:
        """The space that a class with a single step key defines under this name."""
        if not self._defines(name):
            raise NotImplementedError(f"{type(self).__name__} defines neither {name} nor {name}s")
        return {next(iter(self.agent_counts)): getattr(self, name)}

    def _defines(self, name: str) -> bool:
        return getattr(type(self), name) is not getattr(Env, name)

    def __str__(self) -> str:
        """The stack of wrappers, as in `TimeLimit<CartPole>`."""
        return self.name


def check_action(space: Space, action: PyTree, batch_shape: tuple[int, ...] = ()) -> None:
    """Raise SpaceError if an action fails to fit: shapes always, values where concrete."""
    check_shapes(space, action, "action", batch_shape)
    if is_concrete(action) and 0 not in batch_shape:
        values = jax.tree.map(np.asarray, jax.device_get(action))
        # Spaces are products of intervals: they contain all rows if they contain the extremes.
        axes = tuple(range(len(batch_shape)))
        extremes = [jax.tree.map(lambda x, f=f: f(x, axis=axes), values) for f in (np.min, np.max)]
        if batch_shape and all(map(space.contains, extremes)):
            return
        for row in np.ndindex(*batch_shape):
            where = "action" + "".join(f"[{i}]" for i in row)
            space.validate(jax.tree.map(lambda x, row=row: x[row], values), where=where)


def select(chosen: Array, when_true: PyTree, when_false: PyTree) -> PyTree:
    """Leafwise `where` over leaves [*mask, ...] by a mask [], [N], ...; keys are leaves too."""

    def pick(yes: Array, no: Array) -> Array:
        return jnp.where(chosen.reshape(chosen.shape + (1,) * (yes.ndim - chosen.ndim)), yes, no)

    return jax.tree.map(pick, when_true, when_false)


def flag(value: Any = False) -> Array:
    """A bool scalar that is not weakly typed."""
    return jnp.asarray(value, dtype=bool)


def _only(env: Env, spaces: dict[str, Space], name: str) -> Space:
    if len(spaces) > 1:
        choices = " or ".join(f"{name}[{key!r}]" for key in spaces)
        raise EnvError(f"{env}: has a space for each of its step keys; ask for {choices}")
    return next(iter(spaces.values()))
