"""check_env passes what is right and finds every planted fault, naming method and field."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax.base
from mazejax import random
from mazejax.base import Pytree, static
from mazejax.envs import probe
from mazejax.envs.base import Env, StateStep, flag
from mazejax.envs.check import check_env
from mazejax.envs.classic.cartpole import CartPole, CartPoleObservation, PushLeftOrRight
from mazejax.envs.maze_env import MazeEnv
from mazejax.errors import ConfigError, EnvError
from mazejax.spaces.simple import Box, Discrete
from mazejax.wrappers.base import Wrapper
from mazejax.wrappers.time import TimeLimit


class LineState(Pytree):
    position: jax.Array
    time: jax.Array
    extra: Any = ()


class Line(Env):
    """Steps left and right on a line; ends beyond 2. Without fault."""

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


def step_that(after):
    return lambda self, key, state, action: after(Line.step_state(self, key, state, action), state)


def line_with(name="Mutant", stride=0.5, **members):
    """A mutant of Line: some members replaced; `after(step, state)` changes what a step returns."""
    if "after" in members:
        members["step_state"] = step_that(members.pop("after"))
    return type(name, (Line,), members)(stride=stride)


def is_traced(value):
    return isinstance(value, jax.core.Tracer)


calls, traces, kept = [], [], []


def count_calls(step, state):
    calls.append(1)
    return step._replace(reward=step.reward + len(calls))


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


def late_info(step, state):
    late = not is_traced(state.time) and int(state.time) > 0
    return step._replace(info={"late": state.time} if late else {})


def change_state(**changes):
    return lambda step, state: step._replace(
        state=step.state.replace(**{k: change(step.state) for k, change in changes.items()})
    )


def reset_with(**changes):
    def reset_state(self, key):
        state = Line.reset_state(self, key)
        return state.replace(**{name: change(state) for name, change in changes.items()})

    return reset_state


class Count(Pytree):
    number: int = static()


class Opaque:
    """Equal to itself only."""


class Unequal(Line):
    helper: Any = static(default=None)


class Inert(Line):
    unused: float = 1.0
    """Only 1.0 and what is above it is accepted."""

    def validate(self):
        if mazejax.base.is_concrete(self.unused) and self.unused < 1.0:
            raise ConfigError("Inert.unused: must be at least 1.0")


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


def draw_twice(self, key):
    position = jax.random.uniform(key) + jax.random.uniform(key)
    return LineState(position, jnp.zeros((), jnp.int32))


def call_the_host(step, state):
    jax.debug.callback(lambda x: None, step.reward)
    return step


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
    "observation_leaves_space_later": (
        line_with(stride=0.05, observe=lambda self, s: (s.position + 9.0 * (s.time > 12))[None]),
        ["step: obs[0]: got", "-5.0 to 5.0", "(step 12)"],
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
    "infinite_reward": (
        line_with(stride=0.05, after=lambda step, s: step._replace(reward=1 / (12 - s.time))),
        ["step: reward: got inf, expected a finite number", "(step 12)"],
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
    "time_stands": (
        line_with(after=change_state(time=lambda s: s.time - 1)),
        ["time: got 0 after 0 (step 0), expected 1"],
    ),
    "time_starts_at_one": (
        line_with(time=lambda self, s: s.time + 1),
        ["time: got 1 after reset, expected 0"],
    ),
    "time_is_float": (
        line_with(time=lambda self, s: s.time.astype(jnp.float32)),
        ["time: got float32[], expected int32[]"],
    ),
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
}


WARNINGS = {
    "never_done_and_one_start": (
        probe.EndlessReward(),
        [
            ["reset: state: got equal states from 3 keys"],
            ["step: terminated: got no end of an episode", "TimeLimit"],
        ],
    ),
    "inert_number_and_callback_and_key_used_twice": (
        type("M", (Inert,), {"reset_state": draw_twice, "step_state": step_that(call_the_host)})(),
        [
            ["env.unused: got no effect", "remove it"],
            ["reset: key: got two draws", "split"],
            ["step: got debug_callback"],
        ],
    ),
}


def check(env, **options):
    return check_env(env, num_steps=24, num_envs=3, **options)


@pytest.mark.parametrize("name", ERRORS)
def test_a_planted_fault_is_an_error_that_names_method_and_field(name):
    env, words = ERRORS[name]
    report = check(env, strict=False)
    assert any(all(word in message for word in words) for message in report.errors), report
    assert report.costs is None
    assert len(report.errors) <= 5, "one fault should not be told many times"
    assert all("\n" not in message for message in report.errors)


@pytest.mark.parametrize("name", WARNINGS)
def test_a_doubtful_choice_is_a_warning_and_no_error(name):
    env, expected = WARNINGS[name]
    report = check(env)
    assert len(report.warnings) == len(expected)
    for words in expected:
        assert any(all(word in message for word in words) for message in report.warnings), report
    assert report.costs is not None


CARTPOLE = TimeLimit(MazeEnv(CartPole(), CartPoleObservation(), PushLeftOrRight()), 500)


def test_cartpole_passes_with_no_remark_and_its_costs_are_counted():
    report = check_env(CARTPOLE, num_envs=4)
    assert report.errors == report.warnings == report.skipped == ()
    assert len(report.checked) >= 25
    assert report.costs.state_bytes == 20
    assert report.costs.auto_reset == "always"
    assert report.costs.step_flops > 10
    assert report.costs.steps_per_second > 0
    assert "steps/s with 4 envs" in str(report)


PROBES = [
    probe.ConstantReward(),
    probe.ObservationReward(),
    probe.DelayedReward(),
    probe.ActionReward(),
    probe.ActionReward(continuous=True),
    probe.ObservationActionReward(),
    probe.ObservationActionReward(continuous=True),
    TimeLimit(probe.EndlessReward(), 5),
    probe.WildReset(),
    probe.RampReward(),
    probe.ExpensiveReset(),
]


@pytest.mark.parametrize("env", PROBES, ids=lambda env: f"{env.name}-{env.action_space}")
def test_probes_pass(env):
    report = check(env)
    assert report.errors == () and report.skipped == ()
    assert all("equal states" in message for message in report.warnings)


def test_a_structured_observation_a_key_in_the_state_and_info_pass():
    class Rich(Line):
        def reset_state(self, key):
            return Line.reset_state(self, key).replace(
                extra={"key": key, "grid": jnp.zeros((2, 64))}
            )

        def step_state(self, key, state, action):
            step = Line.step_state(self, key, state, action)
            return step._replace(info={"distance": jnp.abs(state.position)})

    report = check(Rich(), key=jax.random.key(3))  # a key of another implementation
    assert report.errors == report.warnings == ()


def test_strict_raises_one_error_with_a_line_for_each_fault_and_the_first_cause():
    def wrong(step, state):
        return step._replace(reward=jnp.int32(1), terminated=jnp.float32(0))

    with pytest.raises(EnvError) as caught:
        check(line_with("Crooked", after=wrong))
    first, *lines = str(caught.value).splitlines()
    assert first == "Crooked breaks its contract:"
    assert [line.split(":")[1].strip() for line in lines] == ["reward", "terminated"]

    with pytest.raises(EnvError) as caught:
        check(line_with(after=branch_on_position))
    assert isinstance(caught.value.__cause__, jax.errors.TracerBoolConversionError)


def test_the_report_prints_as_a_table_and_names_what_was_skipped():
    report = check(ERRORS["int_reward"][0], strict=False)
    text = str(report)
    assert text.startswith("check_env(Mutant): 10 rules checked, 1 error, 0 warnings")
    assert "  error    step: reward: got int32[]" in text
    assert "  skipped  calls trace," in text
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.errors = ()


def test_arguments_that_make_no_sense_are_config_errors():
    with pytest.raises(ConfigError, match="got CartPole, expected a mazejax Env"):
        check_env(CartPole())
    with pytest.raises(ConfigError, match="expected a seed or a typed key"):
        check_env(Line(), key=jnp.zeros(2, jnp.uint32))
    with pytest.raises(ConfigError, match="num_steps=0"):
        check_env(Line(), num_steps=0)
