"""`Wrapper`: an env around an env, and the usual kinds of it.

A wrapper changes one thing and passes the rest on; its numbers are leaves like an
env's. One that needs memory keeps a typed state of its own around the inner state, and
every kind works the same way in flat envs, in schedules and for agents at once.
"""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from mazejax import random
from mazejax.base import Pytree
from mazejax.envs.base import Env, StateStep, select
from mazejax.envs.structured import map_agents
from mazejax.errors import EnvError
from mazejax.events.kpi import KPICalculator
from mazejax.spaces.base import Space
from mazejax.types import ActorID, Array, Key, PyTree, Scene

W = TypeVar("W", bound=Env)


class WrapperState(Pytree):
    """State of a wrapper that remembers something."""

    inner: PyTree
    """The wrapped env's state."""
    memory: PyTree
    """What the wrapper remembers; of one structure in all sub-steps."""


class Wrapper(Env):
    """Passes everything on to the wrapped env; a subclass overrides what it changes."""

    env: Env
    """The wrapped env."""

    def inner(self, state: PyTree) -> PyTree:
        """The wrapped env's state within this one's."""
        return state

    def with_inner(self, state: PyTree, inner: PyTree) -> PyTree:
        """This env's state with another state of the wrapped env."""
        return inner

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
        return self.env.observe(self.inner(state))

    def time(self, state: PyTree) -> Array:
        """The wrapped env's."""
        return self.env.time(self.inner(state))

    def draw(self, state: PyTree) -> Scene:
        """The wrapped env's."""
        return self.env.draw(self.inner(state))

    def substep(self, state: PyTree) -> int:
        """The wrapped env's."""
        return self.env.substep(self.inner(state))

    def at_substep(self, state: PyTree, substep: int) -> PyTree:
        """The same state at another place of the schedule."""
        return self.with_inner(state, self.env.at_substep(self.inner(state), substep))

    def maze_state(self, state: PyTree) -> PyTree:
        """The wrapped env's."""
        return self.env.maze_state(self.inner(state))

    def actor_active(self, state: PyTree) -> Array:
        """The wrapped env's."""
        return self.env.actor_active(self.inner(state))

    @property
    def has_carry_over(self) -> bool:
        """The wrapped env's."""
        return self.env.has_carry_over

    def carry_over(self, ended: PyTree, fresh: PyTree) -> PyTree:
        """The wrapped env's, around which the memory is the fresh one."""
        if not self.env.has_carry_over:
            return fresh
        carried = self.env.carry_over(self.inner(ended), self.inner(fresh))
        return self.with_inner(fresh, carried)

    def kpi_calculator(self) -> KPICalculator | None:
        """The wrapped env's."""
        return self.env.kpi_calculator()

    def noop_action(self, step_key: str) -> PyTree:
        """The wrapped env's."""
        return self.env.noop_action(step_key)

    def from_maze_state(
        self, maze_state: PyTree, time: Array | int, substep: int = 0, previous: PyTree = None
    ) -> PyTree:
        """The state that stands at a recorded maze state, `previous` at the one before it."""
        before = None if previous is None else self.inner(previous)
        return self.env.from_maze_state(maze_state, time, substep, before)

    def from_maze_action(self, maze_action: PyTree, state: PyTree) -> PyTree:
        """The action of the next actor that stands for a recorded maze action."""
        return self.env.from_maze_action(maze_action, self.inner(state))

    def around_observations(self, env: Env) -> Env:
        """What stands for this wrapper where observations come from outside, around `env`.

        It changes observations and actions as the wrapper does, of what it can know there.
        """
        return self.replace(env=env)

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


class StatefulWrapper(Wrapper):
    """A wrapper with a memory: what `first` makes of a reset and `next` of every sub-step."""

    def first(self, key: Key, inner: PyTree) -> PyTree:
        """The memory at the beginning of an episode that starts in this inner state."""
        raise NotImplementedError

    def next(self, memory: PyTree, before: PyTree, action: PyTree, step: StateStep) -> PyTree:
        """The memory after the wrapped env's step from the inner state `before`.

        Same structure, shapes and dtypes as of `first`, in every sub-step.
        """
        raise NotImplementedError

    def inner(self, state: WrapperState) -> PyTree:
        """The wrapped env's state."""
        return state.inner

    def with_inner(self, state: WrapperState, inner: PyTree) -> WrapperState:
        """The same memory around another state of the wrapped env."""
        return state.replace(inner=inner)

    def reset_state(self, key: Key) -> WrapperState:
        """The wrapped env's, with the first memory around it."""
        inner = self.env.reset_state(key)
        return WrapperState(inner, self.first(key, inner))

    def step_state(self, key: Key, state: WrapperState, action: PyTree) -> StateStep:
        """The wrapped env's step, remembered."""
        step = self.env.step_state(key, state.inner, action)
        memory = self.next(state.memory, state.inner, action, step)
        return step._replace(state=WrapperState(step.state, memory))

    def from_maze_state(
        self, maze_state: PyTree, time: Array | int, substep: int = 0, previous: PyTree = None
    ) -> WrapperState:
        """The state that stands at a recorded maze state, with what `recall` remembers of it."""
        before = None if previous is None else previous.inner
        inner = self.env.from_maze_state(maze_state, time, substep, before)
        return WrapperState(
            inner, self.recall(None if previous is None else previous.memory, inner)
        )

    def recall(self, memory: PyTree, inner: PyTree) -> PyTree:
        """The memory at a recorded state, from that of the one before, None at the first.

        As it was, unless a subclass can tell from the state alone.
        """
        # Nothing is drawn of a recorded episode, so any key will do.
        return self.first(random.key(0), inner) if memory is None else memory


class ObservationWrapper(Wrapper):
    """Changes observations; a subclass defines `observation` and the space that comes of it."""

    def observation(self, obs: PyTree, step_key: str) -> PyTree:
        """What one agent sees instead."""
        raise NotImplementedError

    def map_observation_space(self, space: Space, step_key: str) -> Space:
        """Space of what one agent sees instead; it depends on static fields only."""
        raise NotImplementedError

    @property
    def observation_spaces(self) -> dict[str, Space]:
        """The wrapped env's, changed."""
        spaces = self.env.observation_spaces
        return {key: self.map_observation_space(space, key) for key, space in spaces.items()}

    def observe(self, state: PyTree) -> PyTree:
        """The wrapped env's observation, changed; of agents at once for each of them."""
        actor = self.actor_id(state)

        def change(agent: int | Array, obs: PyTree) -> PyTree:
            return self.observation(obs, actor.step_key)

        obs = self.env.observe(self.inner(state))
        return map_agents(change, actor, self.agent_counts[actor.step_key], obs)


class ActionWrapper(Wrapper):
    """Changes actions; a subclass defines `action`, the space of what it takes, and the way back.

    Actions outside the space are clipped to it before they are changed, as in `MazeEnv`.
    """

    def action(self, action: PyTree, step_key: str) -> PyTree:
        """The wrapped env's action for one agent's."""
        raise NotImplementedError

    def reverse_action(self, action: PyTree, step_key: str) -> PyTree:
        """One agent's action for the wrapped env's; where several fit, the nearest."""
        raise EnvError(
            f"{type(self).__name__} defines no reverse_action: needed to train from recorded "
            f"maze actions"
        )

    def noop_action(self, step_key: str) -> PyTree:
        """The wrapped env's, as an action of this one."""
        return self.reverse_action(self.env.noop_action(step_key), step_key)

    def map_action_space(self, space: Space, step_key: str) -> Space:
        """Space of the actions that it takes; it depends on static fields only."""
        raise NotImplementedError

    @property
    def action_spaces(self) -> dict[str, Space]:
        """The wrapped env's, changed."""
        spaces = self.env.action_spaces
        return {key: self.map_action_space(space, key) for key, space in spaces.items()}

    def step_state(self, key: Key, state: PyTree, action: PyTree) -> StateStep:
        """The wrapped env's step under the changed action."""
        return self.env.step_state(key, state, self.inner_action(action, state))

    def inner_action(self, action: PyTree, state: PyTree) -> PyTree:
        """The wrapped env's action, of agents at once for each of them."""
        actor = self.actor_id(state)
        space = self.action_spaces[actor.step_key]

        def change(agent: int | Array, action: PyTree) -> PyTree:
            return self.action(space.clip(action), actor.step_key)

        return map_agents(change, actor, self.agent_counts[actor.step_key], action)

    def from_maze_action(self, maze_action: PyTree, state: PyTree) -> PyTree:
        """The action of the next actor that stands for a recorded maze action."""
        actor = self.actor_id(state)

        def change(agent: int | Array, action: PyTree) -> PyTree:
            return self.reverse_action(action, actor.step_key)

        inner = self.env.from_maze_action(maze_action, self.inner(state))
        return map_agents(change, actor, self.agent_counts[actor.step_key], inner)


class RewardWrapper(Wrapper):
    """Changes rewards one by one; a subclass defines `reward`.

    What the env itself gave stays in `info["reward_original"]`; credit that the env
    redistributes (`info["actor_rewards"]`) is changed alike.
    """

    def reward(self, reward: Array) -> Array:
        """The changed reward, float32, of the same shape: [] or [A]."""
        raise NotImplementedError

    def step_state(self, key: Key, state: PyTree, action: PyTree) -> StateStep:
        """The wrapped env's step with the changed reward."""
        step = self.env.step_state(key, state, action)
        return with_reward(step, self.reward(step.reward), self.reward)


def with_reward(step: StateStep, reward: Array, change: Any) -> StateStep:
    """The step with another reward; `change` turns what `actor_rewards` holds likewise."""
    info = {"reward_original": step.reward, **step.info}
    if "actor_rewards" in info:
        info["actor_rewards"] = tuple(change(credit) for credit in info["actor_rewards"])
    return step._replace(reward=reward, info=info)


def active_action(env: Env, state: PyTree, action: PyTree) -> PyTree:
    """The action of the next actor, zeros where it is not active: what it does has no effect."""
    action = jax.tree.map(jnp.asarray, action)
    if not env.has_inactive_actors:
        return action
    return select(env.actor_active(state), action, jax.tree.map(jnp.zeros_like, action))


def find(env: Env, kind: type[W]) -> W:
    """The outermost wrapper of this class in the stack, or the innermost env itself if it is one.

    Raises EnvError where there is none.
    """
    at: Env = env
    while not isinstance(at, kind):
        if not isinstance(at, Wrapper):
            raise EnvError(f"{env}: has no {kind.__name__} in its stack")
        at = at.env
    return at


def find_state(env: Env, kind: type[Env], state: PyTree) -> PyTree:
    """The part of the env's state that is the state of `find(env, kind)`."""
    wanted, at = find(env, kind), env
    while at is not wanted and isinstance(at, Wrapper):
        state = at.inner(state)
        at = at.env
    return state
