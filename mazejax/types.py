"""The names that all rooms share: arrays, keys, actors, steps, transitions, scenes.

Data only, no behaviour beyond what a field means. A step is gymnax's six-tuple with
names; a scene is what an environment draws, in its own units, free of pixels.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from mazejax.base import Pytree, static

Array = jax.Array
"""A JAX array; shapes stand in brackets in docstrings."""

Key = jax.Array
"""A typed JAX key (`jax.random.key` or `mazejax.random.key`); key arrays `[N]` are typed too."""

PyTree = Any
"""Any nesting of arrays that JAX knows as a tree."""


class ActorID(NamedTuple):
    """Who acts: the key of the sub-step and the agent within it."""

    step_key: str
    """The role: it has spaces, conversions and a policy of its own."""
    agent_id: int | None
    """Which agent in that role; None: all of them at once, along a leading axis [A]."""


SINGLE_ACTOR = ActorID("0", 0)
"""The only actor of a flat environment."""


class Step(NamedTuple):
    """What one step returns; it unpacks like gymnax's six-tuple."""

    obs: PyTree
    """Observation of the actor that acts next."""
    state: PyTree
    """The new state, to be handed to the next step."""
    reward: Array
    """float32."""
    terminated: Array
    """bool: the task ended; nothing follows, the value of the future is 0."""
    truncated: Array
    """bool: the clock ended the episode; both flags may be true at once."""
    info: dict[str, PyTree]
    """Declared extras of one fixed structure; `final_obs` after a vectorized step."""

    @property
    def done(self) -> Array:
        """bool: the episode ended. For control flow only."""
        return self.terminated | self.truncated

    @property
    def discount(self) -> Array:
        """float32: 0 where the task ended, else 1. For the value of the future only."""
        return np.float32(1) - self.terminated  # strongly typed, also for flags of NumPy


class Transition(Pytree):
    """What learners see of the flat steps of one step key, time first: `[T, N, ...]`.

    Where a step key has several slots in a flat step (agents, or several sub-steps), all
    but the two flags have one more axis: `[T, N, S, ...]`.
    """

    obs: PyTree
    """Observation that the action answered, [T, N, ...]."""
    action: PyTree
    """Action as the distribution drew it, [T, N, ...]."""
    reward: Array
    """[T, N] float32: the slot's share of the flat step's rewards."""
    terminated: Array
    """[T, N] bool: the task ended in this flat step."""
    truncated: Array
    """[T, N] bool: the clock ended."""
    log_prob: Array
    """[T, N] float32: joint log-probability of the action when it was drawn."""
    value: Array
    """[T, N] float32: the critic's value of obs when the action was drawn."""
    active: Array | None = None
    """[T, N] bool: whether the action had an effect; None if all always have."""
    actor_done: Array | None = None
    """[T, N] bool: whether the actor never acts again in its episode; None if they all stay."""


class Rollout(Pytree):
    """All that `learn` sees, from compiled and host environments alike."""

    transitions: dict[str, Transition]
    """By step key of the schedule."""
    next_value: dict[str, Array]
    """[T, N] float32: value of the true next observation, of the final one where truncated."""
    carry: dict[str, PyTree] = dataclasses.field(default_factory=dict)
    """Memory of recurrent policies before the first step, [N, ...] by step key; else empty."""


class Shape(Pytree):
    """One primitive of a scene, in world units; colours are (red, green, blue) from 0 to 255."""

    kind: str = static()
    """`polygon`, `line`, `circle` or `text`."""
    points: tuple[tuple[float, float], ...] = static()
    """Corners of a polygon, ends of a line, the centre of a circle, the anchor of a text."""
    color: tuple[int, int, int] = static(default=(0, 0, 0))
    width: float = static(default=0.0)
    """Line width, circle radius or text height in world units."""
    text: str = static(default="")


class Scene(Pytree):
    """What `env.draw` returns: shapes in drawing order within a world rectangle, on the host."""

    bounds: tuple[float, float, float, float] = static()
    """(left, bottom, right, top) of what is visible; y grows upwards."""
    shapes: tuple[Shape, ...] = static()
    background: tuple[int, int, int] = static(default=(255, 255, 255))
    title: str = static(default="")
