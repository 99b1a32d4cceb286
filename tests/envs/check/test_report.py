"""What check_env returns, raises, counts and prints, and that what is right passes."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from mazejax import cli, random
from mazejax.envs import probe
from mazejax.envs.check import check_env
from mazejax.envs.classic.cartpole import CartPole, CartPoleObservation, PushLeftOrRight
from mazejax.envs.maze_env import MazeEnv
from mazejax.envs.reset import primitive_cost
from mazejax.errors import ConfigError, EnvError
from mazejax.wrappers.time import TimeLimit
from tests.envs.check import structured, tiny
from tests.envs.check.tiny import Line, line_with


def branch_on_position(step, state):
    return step._replace(reward=jnp.ones(())) if step.state.position > 0 else step


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
    report = tiny.check(env)
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

    report = tiny.check(Rich(), key=jax.random.key(3))  # a key of another implementation
    assert report.errors == report.warnings == ()


def test_strict_raises_one_error_with_a_line_for_each_fault_and_the_first_cause():
    def wrong(step, state):
        return step._replace(reward=jnp.int32(1), terminated=jnp.float32(0))

    with pytest.raises(EnvError) as caught:
        tiny.check(line_with("Crooked", after=wrong))
    first, *lines = str(caught.value).splitlines()
    assert first == "Crooked breaks its contract:"
    assert [line.split(":")[1].strip() for line in lines] == ["reward", "terminated"]

    with pytest.raises(EnvError) as caught:
        tiny.check(line_with(after=branch_on_position))
    assert isinstance(caught.value.__cause__, jax.errors.TracerBoolConversionError)


def test_the_report_prints_as_a_table_and_names_what_was_skipped():
    int_reward = line_with(after=lambda step, s: step._replace(reward=jnp.int32(1)))
    report = tiny.check(int_reward, strict=False)
    text = str(report)
    assert text.startswith("check_env(Mutant): 17 rules checked, 1 error, 0 warnings")
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


def test_the_costs_of_a_structured_env_are_those_of_flat_steps():
    report = tiny.check(structured.GOOD["nim"])
    assert report.schedule == ("take 0", "take 1")
    assert report.costs.state_bytes == 8
    assert report.costs.reset_flops > 0
    once = structured.GOOD["nim"]
    key = random.key(0)
    state = once.reset_state(key)
    step = once.step_state(key, state, jnp.int32(0))
    each = [primitive_cost(once.step_state, key, s, jnp.int32(0)) for s in (state, step.state)]
    assert report.costs.step_primitives == sum(each)
    assert "  schedule take 0, take 1\n" in str(report)
    assert tiny.check(structured.GOOD["trio"]).schedule == ("walk (3 at once)",)


def test_a_structured_env_of_an_own_module_is_checked_from_the_command_line(capsys):
    assert cli.main(["check", "tests.envs.check.structured:nim_with"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("check_env(Nim): ")
    assert "schedule take 0, take 1" in out
