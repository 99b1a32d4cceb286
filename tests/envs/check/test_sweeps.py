"""Faults that show when numbers of the env are changed."""

import pytest

from mazejax.envs.base import flag
from mazejax.spaces.simple import Box
from mazejax.wrappers.base import Wrapper
from mazejax.wrappers.time import TimeLimit
from tests.envs.check import structured, tiny
from tests.envs.check.tiny import Line, duel_with, line_with


class SpaceOfNumber(Line):
    bound: float = 5.0

    @property
    def observation_space(self):
        return Box(-float(self.bound), float(self.bound), (1,))


class DropsTruncation(Wrapper):
    def step_state(self, key, state, action):
        return self.env.step_state(key, state, action)._replace(truncated=flag())


class TerminatesAtTheLimit(Wrapper):
    def step_state(self, key, state, action):
        step = self.env.step_state(key, state, action)
        return step._replace(terminated=step.terminated | step.truncated)


ERRORS = {
    "number_is_not_traceable": (
        line_with(observe=lambda self, s: (s.position + 0.0 * float(self.stride))[None]),
        ["step with traced numbers: raised ConcretizationTypeError", "no Python control flow"],
    ),
    "space_depends_on_number": (
        SpaceOfNumber(),
        ["observation_space with traced numbers", "raised"],
    ),
    "truncation_dropped": (
        DropsTruncation(TimeLimit(Line(), 50)),
        ["step: truncated: got False in step 2 with max_steps=3"],
    ),
    "truncation_terminates": (
        TerminatesAtTheLimit(TimeLimit(Line(), 50)),
        ["step: terminated: got True in step 2 because of max_steps=3"],
    ),
    "space_of_one_actor_depends_on_number": (
        duel_with(
            observation_spaces=property(
                lambda self: {
                    "first": Box(-5.0, 5.0, (1,)),
                    "second": Box(-10.0 * float(self.stride), 5.0, (2,)),
                }
            )
        ),
        ["observation_spaces with traced numbers", "raised"],
    ),
    "truncation_dropped_between_actors": (
        DropsTruncation(TimeLimit(structured.trio_with(), 50)),
        ["step: truncated: got False in step 2 with max_steps=3"],
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_planted_fault_is_an_error_that_names_method_and_field(name):
    tiny.assert_found(*ERRORS[name])
