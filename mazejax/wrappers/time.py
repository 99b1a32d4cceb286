"""Wrappers about when episodes begin and end: limits of time, and random beginnings."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.base import is_concrete
from mazejax.envs.base import StateStep
from mazejax.envs.episode import Policy, random_policy
from mazejax.errors import ConfigError
from mazejax.types import Array, Key, PyTree
from mazejax.wrappers.base import StatefulWrapper, Wrapper, WrapperState


class TimeLimit(Wrapper):
    """Truncates an episode after `max_steps` flat steps.

    A natural end in the last allowed step sets both flags, so nothing is bootstrapped.
    The limit is read from the env's own time and costs no state.
    """

    max_steps: Array | int = 1000
    """Flat steps an episode may last; a leaf, so it may differ between vectorized envs."""

    def validate(self) -> None:
        """Raise ConfigError unless the limit is a positive whole number."""
        limit = self.max_steps
        if is_concrete(limit) and not np.all(np.asarray(limit) >= 1):
            raise ConfigError(f"TimeLimit.max_steps: must be at least 1, got {limit}")

    def step_state(self, key: Key, state: PyTree, action: PyTree) -> StateStep:
        """The wrapped env's step, truncated when the time is up."""
        step = self.env.step_state(key, state, action)
        return step._replace(truncated=step.truncated | (self.time(step.state) >= self.max_steps))


class _Skipping(NamedTuple):
    """How far the beginning of an episode was skipped."""

    state: PyTree
    skipped: Array
    """Flat steps, int32 []."""
    goes_on: Array
    """bool []: the next flat step did not end the episode."""


class RandomReset(StatefulWrapper):
    """Begins episodes after a random number of random allowed flat steps.

    The number is uniform from `min_skip_steps` to `max_skip_steps`, and every allowed action
    equally likely. A step that would end the episode is not taken: the episode begins in the
    state before it, after fewer steps. All follows from the key of the reset.

    What was skipped is not the agent's: its rewards and events, with them those of the
    reset, count nowhere, and time starts at 0. So a TimeLimit around it limits the steps
    of the agent, one within it those of the whole episode, and neither ends it before it begins.
    """

    min_skip_steps: Array | int = 0
    """Fewest flat steps; a leaf, so it may differ between vectorized envs."""
    max_skip_steps: Array | int = 0
    """Most flat steps; a leaf too."""

    def validate(self) -> None:
        """Raise ConfigError unless the numbers are whole, in order and not negative."""
        fewest, most = self.min_skip_steps, self.max_skip_steps
        for name, number in (("min_skip_steps", fewest), ("max_skip_steps", most)):
            if not jnp.issubdtype(jnp.result_type(number), jnp.integer):
                raise ConfigError(f"RandomReset.{name}: must be a whole number, got {number}")
        if not is_concrete((fewest, most)):
            return
        if not np.all((np.asarray(fewest) >= 0) & (np.asarray(fewest) <= np.asarray(most))):
            raise ConfigError(
                f"RandomReset.min_skip_steps: must be from 0 to max_skip_steps, got {fewest} and "
                f"{most}"
            )

    def reset_state(self, key: Key) -> WrapperState:
        """The state after the skipped steps, and their number as memory."""
        policy = random_policy(self.env)

        def one_flat_step(now: _Skipping) -> _Skipping:
            step_key = jax.random.fold_in(skip_key, now.skipped)
            state, ends = self._skip(policy, step_key, now.state)
            kept = jax.tree.map(lambda old, new: jnp.where(ends, old, new), now.state, state)
            return _Skipping(kept, now.skipped + ~ends, ~ends)

        skip_key = random.stream(key, "skip")
        span = jnp.asarray(self.max_skip_steps - self.min_skip_steps + 1, jnp.int32)
        word = jax.random.bits(random.stream(skip_key, "number"), (), jnp.uint32)
        # Of 31 bits: a number is likelier than others by less than 2^-31 of it.
        wanted = self.min_skip_steps + (word >> 1).astype(jnp.int32) % jnp.maximum(span, 1)
        begin = _Skipping(self.env.reset_state(key), jnp.zeros((), jnp.int32), jnp.ones((), bool))
        end = jax.lax.while_loop(
            lambda now: now.goes_on & (now.skipped < wanted), one_flat_step, begin
        )
        return WrapperState(end.state, end.skipped)

    def first(self, key: Key, inner: PyTree) -> Array:
        """Nothing skipped, as of a recorded episode."""
        return jnp.zeros((), jnp.int32)

    def next(self, memory: Array, before: PyTree, action: PyTree, step: StateStep) -> Array:
        """As it was."""
        return memory

    def time(self, state: WrapperState) -> Array:
        """Flat steps since the skipped ones."""
        return self.env.time(state.inner) - state.memory

    def _skip(self, policy: Policy, key: Key, state: PyTree) -> tuple[PyTree, Array]:
        """The state after one flat step of random actions, and whether it ends the episode."""
        for substep, actor in enumerate(self.env.actors):
            own = jax.random.fold_in(key, substep)
            obs, maze_state = self.env.observe(state), self.env.maze_state(state)
            action = policy(random.stream(own, "policy"), obs, maze_state, actor)
            step = self.env.step_state(random.stream(own, "env"), state, action)
            state, ends = step.state, step.terminated | step.truncated
        return state, ends
