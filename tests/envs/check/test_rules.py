"""Faults in what is declared and in what single calls return."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.base import Pytree, static
from mazejax.envs.base import Env
from mazejax.wrappers.base import Wrapper
from tests.envs.check import structured, tiny
from tests.envs.check.tiny import Line, change_state, duel_with, is_traced, line_with, reset_with

calls = []


def count_calls(step, state):
    calls.append(1)
    return step._replace(reward=step.reward + len(calls))


def late_info(step, state):
    late = not is_traced(state.time) and int(state.time) > 0
    return step._replace(info={"late": state.time} if late else {})


class Count(Pytree):
    number: int = static()


class Opaque:
    """Equal to itself only."""


class Unequal(Line):
    helper: Any = static(default=None)


class FirstRow(Wrapper):
    """Shows of agents at once the first only."""

    def observe(self, state):
        return {name: rows[0] for name, rows in self.env.observe(state).items()}


def half_precision_after_pick(self, key, state, maze_action, actor):
    step = structured.Pieces.step(self, key, state, maze_action, actor)
    if actor.step_key == "push":
        return step
    return step._replace(state=step.state.replace(position=step.state.position.astype("float16")))


def show_all_but_the_last_agent(self, state, agent):
    obs = structured.TrioView.maze_to_space(self, state, agent)
    return {**obs, "position": obs["position"] + 10.0 * (agent == 2)}


ERRORS = {
    "no_time": (line_with("NoTime", time=Env.time), ["NoTime has no time"]),
    "space_is_no_space": (
        line_with(action_space=property(lambda self: 2)),
        ["action_space: got int", "expected a mazejax space"],
    ),
    "copy_is_unequal": (Unequal(helper=Opaque()), ["copy.deepcopy", "env.helper", "equality"]),
    "observation_out_of_space": (
        line_with(observe=lambda self, s: 10 * s.position[None]),
        ["obs[0]: got", "-5.0 to 5.0"],
    ),
    "nan_observation": (
        line_with(observe=lambda self, s: (s.position * jnp.nan)[None]),
        ["reset: obs[0]: got nan"],
    ),
    "observation_shape": (
        line_with(observe=lambda self, s: s.position),
        ["reset: obs: got shape (), expected (1,)"],
    ),
    "observation_structure": (
        line_with(observe=lambda self, s: {"position": s.position[None]}),
        ["reset: obs: got obs['position'], expected obs; make observe and observation_space"],
    ),
    "observation_dtype": (
        line_with(observe=lambda self, s: s.position[None].astype(jnp.int32)),
        ["reset: obs: got dtype int32, expected a float"],
    ),
    "state_dtype_drifts": (
        line_with(after=change_state(time=lambda s: s.time.astype(jnp.float32))),
        ["step: state.time: got float32[], expected int32[] as after reset"],
    ),
    "weak_type_drifts": (
        line_with(after=change_state(position=lambda s: jnp.asarray(1.0))),
        ["step: state.position: got weak float32[]", "jnp.asarray(value, dtype)"],
    ),
    "state_grows": (
        line_with(after=change_state(extra=lambda s: (*s.extra, s.time))),
        ["step: state.extra[0]: got it, expected nothing", "fixed size"],
    ),
    "static_state_changes": (
        line_with(
            reset_state=reset_with(extra=lambda s: Count(number=0)),
            after=change_state(extra=lambda s: Count(number=s.extra.number + 1)),
        ),
        ["step: state: got other static fields"],
    ),
    "state_holds_text": (
        line_with(reset_state=reset_with(extra=lambda s: "left")),
        ["reset: state.extra: got str, expected an array"],
    ),
    "state_holds_python_number": (
        line_with(reset_state=reset_with(extra=lambda s: 3)),
        ["reset: state.extra: got weak int[]"],
    ),
    "state_holds_float64": (
        line_with(reset_state=reset_with(extra=lambda s: np.zeros(2))),
        ["reset: state.extra: got float64[2], expected 32 bits"],
    ),
    "reward_shape": (
        line_with(after=lambda step, s: step._replace(reward=step.reward[None])),
        ["step: reward: got float32[1], expected float32[]", "squeeze"],
    ),
    "int_reward": (
        line_with(after=lambda step, s: step._replace(reward=jnp.int32(1))),
        ["step: reward: got int32[], expected float32[]", "jnp.asarray(value, 'float32')"],
    ),
    "weak_reward": (
        line_with(after=lambda step, s: step._replace(reward=jnp.asarray(1.0))),
        ["step: reward: got weak float32[]"],
    ),
    "float_flag": (
        line_with(after=lambda step, s: step._replace(terminated=jnp.float32(0))),
        ["step: terminated: got float32[], expected bool[]"],
    ),
    "truncated_is_python": (
        line_with(after=lambda step, s: step._replace(truncated=False)),
        ["step: truncated: got weak bool[], expected bool[]"],
    ),
    "info_is_no_dict": (
        line_with(after=lambda step, s: step._replace(info=())),
        ["step: info: got tuple, expected a dict"],
    ),
    "info_changes": (
        line_with(after=late_info),
        ["step: info['late']: got it, expected nothing"],
    ),
    "info_takes_final_obs": (
        line_with(after=lambda step, s: step._replace(info={"final_obs": s.position})),
        ["step: info: got the name 'final_obs'"],
    ),
    "step_returns_four": (
        line_with(step_state=lambda self, k, s, a: Line.step_state(self, k, s, a)[:4]),
        ["step: raised ValueError"],
    ),
    "action_not_accepted": (
        line_with(step_state=lambda self, k, s, a: Line.step_state(self, k, s, a["push"])),
        ["step: raised", "mend what raised"],
    ),
    "hidden_python_state": (
        line_with(after=count_calls),
        ["step: reward (", "equal arguments", "keep nothing on self"],
    ),
    "numpy_random": (
        line_with(reset_state=reset_with(position=lambda s: jnp.float32(np.random.rand()))),  # noqa: NPY002
        ["reset: obs[0] (", "np.random"],
    ),
    "time_is_float": (
        line_with(time=lambda self, s: s.time.astype(jnp.float32)),
        ["time: got float32[], expected int32[]"],
    ),
    "substep_is_an_array": (
        duel_with(substep=lambda self, s: s.time),
        ["substep: got int32[], expected a Python int", "static field"],
    ),
    "substep_stands": (
        duel_with(substep=lambda self, s: 0),
        ["substep: got 0 after step 'first', expected 1 of a schedule of 2"],
    ),
    "observation_is_of_the_other_actor": (
        duel_with(observe=lambda self, s: s.position[None]),
        ["step 'first': obs: got shape (1,), expected (2,)", "(seen by 'second')"],
    ),
    "observation_without_the_agent_axis": (
        FirstRow(structured.trio_with()),
        ["reset: obs['position']: got shape (), expected (3,)"],
    ),
    "one_agent_sees_what_is_not_in_its_space": (
        structured.trio_with(view={"maze_to_space": show_all_but_the_last_agent}),
        ["reset: obs[2]['position']: got", "-2.0 to 2.0"],
    ),
    "one_reward_for_all_agents": (
        structured.trio_with(
            step=lambda self, *args: (s := structured.Trio.step(self, *args))._replace(
                reward=s.reward.sum()
            )
        ),
        ["step: reward: got float32[], expected float32[3]; return one for each"],
    ),
    "core_state_differs_between_substeps": (
        structured.pieces_with(step=half_precision_after_pick),
        ["step 'pick': state.core.position: got float16[], expected float32[] as after reset"],
    ),
    "substep_state_is_not_the_same_every_time": (
        duel_with(
            stride=0.1,
            after=lambda step, s: (
                step._replace(state=step.state.replace(position=step.state.position.astype("f2")))
                if s.substep == 0 and not is_traced(s.time) and int(s.time) > 0
                else step
            ),
        ),
        ["step 'first': state.position: got float16[], expected float32[] as in the flat step"],
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_planted_fault_is_an_error_that_names_method_and_field(name):
    tiny.assert_found(*ERRORS[name])
