"""Wrappers that record episodes into their state: actions, whole steps, or what is drawn.

A tape of fixed length has two sides: the running episode is written to one, while the one
before it stays readable on the other, also after a `VectorEnv` has reset the env. Nothing
is copied or cleared at a reset. Files are written by `mazejax.runners.recordings`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.base import Pytree, static
from mazejax.envs.base import StateStep
from mazejax.envs.structured import agent_axis, flat_reward
from mazejax.errors import ConfigError
from mazejax.types import Array, Key, PyTree
from mazejax.wrappers.base import StatefulWrapper, WrapperState, active_action


class Ending(Pytree):
    """How long an episode is, and how it ended."""

    length: Array
    """Flat steps, int32 []."""
    episode_return: Array
    """Sum of the rewards, float32 []."""
    terminated: Array
    """bool []."""
    truncated: Array
    """bool []."""


class Tape(Pytree):
    """What a recording wrapper remembers of one env."""

    rows: tuple[PyTree, ...]
    """By sub-step, [2 * max_steps, ...]: one half for each side."""
    side: Array
    """The side of the running episode: 0 or 1, int32 []."""
    running: Ending
    finished: Ending
    """Of the episode before; its length is 0 if there is none."""
    last: PyTree
    """What the wrapper keeps of the last state of the episode before."""


class Recording(Pytree):
    """One episode as it was recorded."""

    rows: tuple[PyTree, ...]
    """By sub-step, [max_steps, ...], of which those up to the length are meaningful."""
    ending: Ending
    last: PyTree
    """What the wrapper keeps of the last state."""

    @property
    def max_steps(self) -> int:
        """Flat steps that there is room for."""
        return jax.tree.leaves(self.rows)[0].shape[0]


class SpacesRow(Pytree):
    """One sub-step as policies and learners see it."""

    obs: PyTree
    """Observation that the action answered, [...] or [A, ...]."""
    action: PyTree
    """Zeros of actors that are not active."""
    reward: Array
    """float32 [] or [A]."""
    active: Array
    """bool [] or [A]."""


class Recorder(StatefulWrapper):
    """Base of recording wrappers: a subclass says what a row is, and what of the last state.

    Rewards and flags are those that the wrapper sees; an episode that is ended from
    outside counts as truncated. Steps after `max_steps` are not kept, but counted.
    """

    max_steps: int = static(default=1000)
    """Flat steps of an episode that there is room for."""

    def validate(self) -> None:
        """Raise ConfigError unless there is room for a step."""
        room = self.max_steps
        if isinstance(room, bool) or not isinstance(room, (int, np.integer)) or room < 1:
            raise ConfigError(
                f"{type(self).__name__}.max_steps: must be a positive integer, got {room!r}"
            )

    def row(self, before: PyTree, action: PyTree, step: StateStep) -> PyTree:
        """What is kept of the wrapped env's step from the inner state `before`."""
        raise NotImplementedError

    def blank(self, inner: PyTree, substep: int) -> PyTree:
        """A row of a sub-step, of any values; `inner` is the first state of an episode."""
        raise NotImplementedError

    def keep_last(self, inner: PyTree) -> PyTree:
        """What is kept of the last state of an episode."""
        return ()

    def finished(self, state: WrapperState) -> Recording:
        """The episode that ended before the running one; its length is 0 if there is none."""
        tape = state.memory
        return Recording(self._side(tape, 1 - tape.side), tape.finished, tape.last)

    def running(self, state: WrapperState) -> Recording:
        """The episode of this state, so far."""
        tape = state.memory
        return Recording(self._side(tape, tape.side), tape.running, self.keep_last(state.inner))

    def first(self, key: Key, inner: PyTree) -> Tape:
        """Nothing recorded."""
        nothing = Ending(
            jnp.zeros((), jnp.int32), jnp.zeros(()), jnp.zeros((), bool), jnp.zeros((), bool)
        )
        rows = [self.blank(inner, substep) for substep in range(len(self.actors))]
        room = jax.tree.map(lambda x: jnp.broadcast_to(x, (2 * self.max_steps, *x.shape)), rows)
        last = self.keep_last(inner)
        return Tape(tuple(room), jnp.zeros((), jnp.int32), nothing, nothing, last)

    def next(self, memory: Tape, before: PyTree, action: PyTree, step: StateStep) -> Tape:
        """The tape with one row more."""
        substep, is_last = self.env.substep(before), self.env.substep(step.state) == 0
        ending = memory.running
        beyond = ending.length >= self.max_steps
        # What finds no room is written out of bounds, and dropped.
        at = jnp.where(beyond, 2 * self.max_steps, memory.side * self.max_steps + ending.length)
        row = self.row(before, action, step)

        def write(kept: Array, new: Array) -> Array:
            new = new if random.is_key(kept) else jnp.asarray(new, kept.dtype)
            return kept.at[at].set(new, mode="drop", unique_indices=True)

        rows = list(memory.rows)
        rows[substep] = jax.tree.map(write, rows[substep], row)
        running = Ending(
            length=ending.length + is_last,
            episode_return=ending.episode_return + flat_reward([step.reward]),
            terminated=step.terminated,
            truncated=step.truncated,
        )
        return memory.replace(rows=tuple(rows), running=running)

    @property
    def has_carry_over(self) -> bool:
        """The tape outlives episodes."""
        return True

    def carry_over(self, ended: WrapperState, fresh: WrapperState) -> WrapperState:
        """The same tape, turned to its other side."""
        tape, ending = ended.memory, ended.memory.running
        turned = Tape(
            rows=tape.rows,
            side=1 - tape.side,
            running=fresh.memory.running,
            finished=ending.replace(truncated=ending.truncated | ~ending.terminated),
            last=self.keep_last(ended.inner),
        )
        return super().carry_over(ended, fresh).replace(memory=turned)

    def _side(self, tape: Tape, side: Array) -> tuple[PyTree, ...]:
        def cut(rows: Array) -> Array:
            return jax.lax.dynamic_slice_in_dim(rows, side * self.max_steps, self.max_steps)

        return jax.tree.map(cut, tape.rows)

    def _blank_action(self, substep: int) -> PyTree:
        actor = self.actors[substep]
        space, axis = self.action_spaces[actor.step_key], agent_axis(actor, self.agent_counts)
        like = jax.eval_shape(lambda: space.sample(random.key(0)))
        return jax.tree.map(lambda x: jnp.zeros((*axis, *x.shape), x.dtype), like)


class ActionRecording(Recorder):
    """Records actions: with the key of the episode, all that is needed to play it again.

    A row is the action, [...] or [A, ...]. To be replayed, it must stand around all wrappers
    that draw or skip steps by themselves (RandomReset, StepSkip): there the actions are
    those that the env was given, at the times that the keys were made for.
    """

    def row(self, before: PyTree, action: PyTree, step: StateStep) -> PyTree:
        """The action."""
        return active_action(self.env, before, action)

    def blank(self, inner: PyTree, substep: int) -> PyTree:
        """Zeros."""
        return self._blank_action(substep)


class SpacesRecording(Recorder):
    """Records what learners see: rows are a `SpacesRow`, of the end all final observations.

    `last` is a tuple of what each actor of the schedule would see of the last state.
    """

    def row(self, before: PyTree, action: PyTree, step: StateStep) -> SpacesRow:
        """Observation, action, reward, and whether the actor acted."""
        return SpacesRow(
            obs=self.env.observe(before),
            action=active_action(self.env, before, action),
            reward=step.reward,
            active=self.env.actor_active(before),
        )

    def blank(self, inner: PyTree, substep: int) -> SpacesRow:
        """Zeros."""
        axis = agent_axis(self.actors[substep], self.agent_counts)
        like = jax.eval_shape(lambda s: self._seen_by(s, substep), inner)
        return SpacesRow(
            obs=jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like),
            action=self._blank_action(substep),
            reward=jnp.zeros(axis),
            active=jnp.zeros(axis, bool),
        )

    def keep_last(self, inner: PyTree) -> tuple[PyTree, ...]:
        """Its observations."""
        return tuple(self._seen_by(inner, substep) for substep in range(len(self.actors)))

    def _seen_by(self, inner: PyTree, substep: int) -> PyTree:
        return self.env.observe(self.env.at_substep(inner, substep))


class GIFExport(Recorder):
    """Records what is drawn: the problem's own state before every flat step, and the last one."""

    def row(self, before: PyTree, action: PyTree, step: StateStep) -> PyTree:
        """The state, in the first sub-step; nothing in the others."""
        return () if self.env.substep(before) else self.env.maze_state(before)

    def blank(self, inner: PyTree, substep: int) -> PyTree:
        """The first state."""
        return () if substep else self.env.maze_state(inner)

    def keep_last(self, inner: PyTree) -> PyTree:
        """The problem's own state."""
        return self.env.maze_state(inner)
