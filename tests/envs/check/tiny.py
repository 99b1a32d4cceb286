"""Tiny plain envs without fault, flat and in turn, how to make mutants, and what is asserted."""

from typing import Any

import jax
import jax.numpy as jnp

from mazejax import random
from mazejax.base import Pytree, static
from mazejax.envs.base import Env, StateStep, flag
from mazejax.envs.check import check_env
from mazejax.spaces.simple import Box, Discrete
from mazejax.types import ActorID


def check(env, **options):
    return check_env(env, num_steps=24, num_envs=3, **options)


def assert_found(env, words):
    """A fault is one or a few errors, one of which has all the words."""
    report = check(env, strict=False)
    assert any(all(word in message for word in words) for message in report.errors), report
    assert report.costs is None
    assert len(report.errors) <= 5, "one fault should not be told many times"
    assert all("\n" not in message for message in report.errors)


def assert_warned(env, expected):
    """There are just these warnings and no error; each has all of its words."""
    report = check(env)
    assert len(report.warnings) == len(expected), report
    for words in expected:
        assert any(all(word in message for word in words) for message in report.warnings), report
    assert report.costs is not None


def is_traced(value):
    return isinstance(value, jax.core.Tracer)


# --- flat: a plain Env ----------------------------------------------------------------


class LineState(Pytree):
    position: jax.Array
    time: jax.Array
    extra: Any = ()


class Line(Env):
    """Steps left and right on a line; ends beyond 2."""

    stride: float = 0.5

    @property
    def observation_space(self):
        return Box(-5.0, 5.0, (1,))

    @property
    def action_space(self):
        return Discrete(2)

    def reset_state(self, key):
        return LineState(random.uniform(key, (), -1.0, 1.0), jnp.zeros((), jnp.int32))

    def step_state(self, key, state, action):
        position = state.position + self.stride * jnp.where(action == 1, 1.0, -1.0)
        new = state.replace(position=position, time=state.time + 1)
        return StateStep(new, -jnp.abs(position), jnp.abs(position) > 2.0, flag(), {})

    def observe(self, state):
        return state.position[None]

    def time(self, state):
        return state.time


def with_after(cls, members):
    """Members in which `after(step, state)` stands for a changed `step_state` of the class."""
    if "after" in members:
        after = members.pop("after")
        members["step_state"] = lambda self, key, state, action: after(
            cls.step_state(self, key, state, action), state
        )
    return members


def line_with(name="Mutant", stride=0.5, **members):
    """A mutant of Line: some members replaced; `after(step, state)` changes what a step returns."""
    return type(name, (Line,), with_after(Line, members))(stride=stride)


def change_state(**changes):
    return lambda step, state: step._replace(
        state=step.state.replace(**{k: change(step.state) for k, change in changes.items()})
    )


def reset_with(**changes):
    def reset_state(self, key):
        state = Line.reset_state(self, key)
        return state.replace(**{name: change(state) for name, change in changes.items()})

    return reset_state


# --- in turn: a plain Env with a schedule ---------------------------------------------


class DuelState(Pytree):
    position: jax.Array
    time: jax.Array
    over: jax.Array
    substep: int = static(default=0)


class Duel(Env):
    """Two push one point in turn; the episode ends beyond 1, often before the second's turn."""

    stride: float = 0.5

    @property
    def actors(self):
        return (ActorID("first", 0), ActorID("second", 0))

    @property
    def observation_spaces(self):
        return {"first": Box(-5.0, 5.0, (1,)), "second": Box(-5.0, 5.0, (2,))}

    @property
    def action_spaces(self):
        return {"first": Discrete(2), "second": Box(-1.0, 1.0, ())}

    def reset_state(self, key):
        start = random.uniform(key, (), -0.75, 0.75)
        return DuelState(start, jnp.zeros((), jnp.int32), flag())

    def step_state(self, key, state, action):
        push = jnp.where(action == 1, 1.0, -1.0) if state.substep == 0 else action
        moved = jnp.where(state.over, state.position, state.position + self.stride * push)
        over = state.over | (jnp.abs(moved) > 1.0)
        reward = jnp.where(state.over, 0.0, -jnp.abs(moved))
        if state.substep == 0:
            new = DuelState(moved, state.time, over, 1)
        else:
            new = DuelState(moved, state.time + 1, flag(), 0)
        return StateStep(new, reward, over, flag(), {})

    def observe(self, state):
        width = self.observation_spaces[self.actor_id(state).step_key].shape
        return jnp.broadcast_to(state.position, width)

    def time(self, state):
        return state.time

    def substep(self, state):
        return state.substep

    def at_substep(self, state, substep):
        return state.replace(substep=substep)

    @property
    def has_inactive_actors(self):
        return True

    def maze_state(self, state):
        return {"position": state.position}

    def actor_active(self, state):
        return ~state.over


def duel_with(stride=0.5, **members):
    """A mutant of Duel, made as `line_with` makes those of Line."""
    return type("Mutant", (Duel,), with_after(Duel, members))(stride=stride)
