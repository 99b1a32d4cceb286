"""Faults that show in episodes only."""

import jax.numpy as jnp
import pytest

from mazejax.envs import probe
from tests.envs.check import tiny
from tests.envs.check.tiny import Duel, change_state, duel_with, line_with

ERRORS = {
    "observation_leaves_space_later": (
        line_with(stride=0.05, observe=lambda self, s: (s.position + 9.0 * (s.time > 12))[None]),
        ["step: obs[0]: got", "-5.0 to 5.0", "(step 12)"],
    ),
    "nan_observation_later": (
        line_with(
            stride=0.05,
            observe=lambda self, s: jnp.where(s.time > 12, jnp.nan, s.position)[None],
        ),
        ["step: obs[0]: got nan", "(step 12)"],
    ),
    "infinite_reward": (
        line_with(stride=0.05, after=lambda step, s: step._replace(reward=1 / (12 - s.time))),
        ["step: reward: got inf, expected a finite number", "(step 12)"],
    ),
    "time_stands": (
        line_with(after=change_state(time=lambda s: s.time - 1)),
        ["time: got 0 after 0 (step 0), expected 1"],
    ),
    "time_starts_at_one": (
        line_with(time=lambda self, s: s.time + 1),
        ["time: got 1 after reset, expected 0"],
    ),
    "time_counts_substeps": (
        duel_with(after=change_state(time=lambda s: s.time + (s.substep == 1))),
        ["time: got 1 after 0 in step 'first' (step 0), expected 0; count flat steps"],
    ),
    "time_counts_with_the_first_actor": (
        duel_with(
            after=change_state(time=lambda s: s.time + jnp.int32(1 if s.substep == 1 else -1))
        ),
        ["time: got 1 after 1 in step 'second' (step 0), expected 2; add 1"],
    ),
    "one_actor_leaves_its_space_later": (
        duel_with(
            stride=0.02,
            observe=lambda self, s: Duel.observe(self, s) + 9.0 * (s.time > 12) * s.substep,
        ),
        ["step 'first': obs[0]: got", "(step 13)", "(seen by 'second')"],
    ),
    "another_actor_may_not_look": (
        duel_with(at_substep=lambda self, s, i: s.replace(substep=i, position=9.0 * s.position)),
        ["at_substep: obs[0]: got", "-5.0 to 5.0", "(seen by 'second')"],
    ),
}

WARNINGS = {
    "never_done_and_one_start": (
        probe.EndlessReward(),
        [
            ["reset: state: got equal states from 3 keys"],
            ["step: terminated: got no end of an episode", "TimeLimit"],
        ],
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_planted_fault_is_an_error_that_names_method_and_field(name):
    tiny.assert_found(*ERRORS[name])


@pytest.mark.parametrize("name", WARNINGS)
def test_a_doubtful_choice_is_a_warning_and_no_error(name):
    tiny.assert_warned(*WARNINGS[name])
