"""Faults that show when calls are traced or compiled."""

import jax
import jax.numpy as jnp
import pytest

from mazejax import random
from mazejax.base import is_concrete
from mazejax.errors import ConfigError
from mazejax.wrappers.time import TimeLimit
from tests.envs.check import tiny
from tests.envs.check.tiny import Line, LineState, is_traced, line_with, with_after

traces, kept = [], []


def count_traces(step, state):
    if is_traced(state.position):
        traces.append(1)
        return step._replace(reward=step.reward + 1e-9 * len(traces))
    return step


def keep_tracer(step, state):
    kept.append(state.position)
    return step


def branch_on_position(step, state):
    return step._replace(reward=jnp.ones(())) if step.state.position > 0 else step


ERRORS = {
    "control_flow_on_tracers": (
        line_with(after=branch_on_position),
        ["step: raised TracerBoolConversionError", "jnp.where"],
    ),
    "leaked_tracer": (line_with(after=keep_tracer), ["step: raised", "Leaked", "keep nothing"]),
    "side_effect_under_trace": (
        line_with(after=count_traces),
        ["step: got two different programs from two traces", "keep nothing on self"],
    ),
    "jit_differs": (
        line_with(
            after=lambda step, s: step._replace(reward=step.reward + 1.0 * is_traced(s.time)),
        ),
        ["step: reward (", "outside and under jit differ"],
    ),
}


class Inert(Line):
    unused: float = 1.0
    """Only 1.0 and what is above it is accepted."""

    def validate(self):
        if is_concrete(self.unused) and self.unused < 1.0:
            raise ConfigError("Inert.unused: must be at least 1.0")


def draw_twice(self, key):
    position = jax.random.uniform(key) + jax.random.uniform(key)
    return LineState(position, jnp.zeros((), jnp.int32))


def draw_from_equal_streams(self, key):
    one, other = random.stream(key, "position"), random.stream(key, "position")
    position = random.uniform(one, (), -0.5, 0.5) + random.uniform(other, (), -0.5, 0.5)
    return LineState(position, jnp.zeros((), jnp.int32))


def call_the_host(step, state):
    jax.debug.callback(lambda x: None, step.reward)
    return step


WARNINGS = {
    "inert_number_and_callback_and_key_used_twice": (
        type(
            "M", (Inert,), with_after(Line, {"reset_state": draw_twice, "after": call_the_host})
        )(),
        [
            ["env.unused: got no effect", "remove it"],
            ["reset: key: got two draws from one key", "split"],
            ["step: got debug_callback"],
        ],
    ),
    "equal_streams": (
        TimeLimit(line_with(reset_state=draw_from_equal_streams), 10),
        [["reset: key: got two draws from streams of one name", "a name of its own"]],
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_planted_fault_is_an_error_that_names_method_and_field(name):
    tiny.assert_found(*ERRORS[name])


@pytest.mark.parametrize("name", WARNINGS)
def test_a_doubtful_choice_is_a_warning_and_no_error(name):
    tiny.assert_warned(*WARNINGS[name])
