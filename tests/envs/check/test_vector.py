"""Faults that show when envs are vectorized and reset by themselves."""

import jax.numpy as jnp
import pytest

from mazejax.envs.base import Env
from tests.envs.check import tiny
from tests.envs.check.tiny import duel_with, line_with

ERRORS = {
    "reset_is_overridden": (
        line_with(reset=lambda self, key: (jnp.zeros(1), self.reset_state(key))),
        ["VectorEnv(auto_reset='always'): obs", "define reset_state"],
    ),
    "step_is_overridden": (
        line_with(
            step=lambda self, *args: (s := Env.step(self, *args))._replace(reward=s.reward + 1)
        ),
        ["VectorEnv(auto_reset='compact'): reward", "define reset_state"],
    ),
    "step_is_overridden_for_one_actor": (
        duel_with(
            step=lambda self, key, state, action: (
                s := Env.step(self, key, state, action)
            )._replace(reward=s.reward + (1.0 if state.substep == 0 else 0.0))
        ),
        ["VectorEnv(auto_reset='compact'): step 'first': reward", "define reset_state"],
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_planted_fault_is_an_error_that_names_method_and_field(name):
    tiny.assert_found(*ERRORS[name])
