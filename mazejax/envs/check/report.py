"""`check_env`: whether an env keeps its contract, found out by calling, tracing and running it.

The rules stand in modules of one subject each; here they are put in the order in which
a person would debug, run and reported, with what the env costs.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from mazejax import random
from mazejax.envs.base import Env
from mazejax.envs.check import actors, extras, rules, runs, sweeps, tracing, vector
from mazejax.envs.check.findings import CallFailed, Finding, failure
from mazejax.envs.check.trial import Rule, Trial, jit_once
from mazejax.envs.reset import primitive_cost
from mazejax.envs.vector import VectorEnv, VectorState
from mazejax.errors import ConfigError, EnvError
from mazejax.types import Array, Key

_STAGES: tuple[tuple[Rule, ...], ...] = (
    (rules.methods_are_defined,),
    actors.SCHEDULE,
    (*rules.DECLARED, *actors.DECLARED),
    (rules.calls_succeed,),
    (*rules.CALLED, *actors.CALLED, *extras.CALLED),
    *tracing.STAGES,
    (*runs.EPISODES, *actors.EPISODES, *extras.EPISODES),
    (*runs.TOGETHER, *sweeps.RULES),
    vector.RULES,
)
"""A stage relies on what those before it have established."""


@dataclasses.dataclass(frozen=True)
class Costs:
    """What the env costs to carry, reset and step; a step is a whole flat step."""

    state_bytes: int
    """Bytes of one state."""
    reset_primitives: float
    """Elements that a reset computes, as `mazejax.envs.reset` counts them."""
    reset_flops: float | None
    """Floating point operations of a reset, observation included, as lowered; None where XLA
    does not count."""
    step_primitives: float
    """Elements that a step computes, counted alike."""
    step_flops: float | None
    """Floating point operations of a step, observations included, counted alike."""
    auto_reset: str
    """Strategy that `VectorEnv` would choose."""
    num_envs: int
    """Envs that were stepped together to measure the speed."""
    steps_per_second: float
    """Steps of single envs in one short compiled run, random actions included."""


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """What `check_env` found; printed as a table."""

    env: str
    """Name of the env."""
    schedule: tuple[str, ...]
    """Who acts in the sub-steps of a flat step, as text; empty for a flat env."""
    errors: tuple[str, ...]
    """Breaches of the contract, one line each."""
    warnings: tuple[str, ...]
    """What is allowed but seldom meant, one line each."""
    checked: tuple[str, ...]
    """Names of the rules that ran."""
    skipped: tuple[str, ...]
    """Names of the rules that wait until the errors are mended."""
    costs: Costs | None
    """Measured when there are no errors."""

    def __str__(self) -> str:
        lines = [
            f"check_env({self.env}): {_count(self.checked, 'rule')} checked, "
            f"{_count(self.errors, 'error')}, {_count(self.warnings, 'warning')}"
        ]
        lines += [f"  schedule {', '.join(self.schedule)}"] if self.schedule else []
        lines += [f"  error    {message}" for message in self.errors]
        lines += [f"  warning  {message}" for message in self.warnings]
        lines += [f"  checked  {', '.join(map(_spoken, self.checked))}"] if self.checked else []
        lines += [f"  skipped  {', '.join(map(_spoken, self.skipped))}"] if self.skipped else []
        if self.costs:
            lines += [f"  {name:<20}{value}" for name, value in _cost_rows(self.costs)]
        return "\n".join(lines)


def check_env(
    env: Env,
    num_steps: int = 200,
    num_envs: int = 8,
    key: int | Key = 0,
    strict: bool = True,
    tolerance: float = 1e-6,
) -> CheckReport:
    """Report of what is wrong with an env, and what it costs; wrappers and adapters are envs too.

    It is reset and stepped with random allowed actions: outside jit, compiled, vmapped
    over `num_envs`, and vectorized with auto-reset, for `num_steps` flat steps. Rules run
    in stages, and a stage with errors is the last. With `strict`, errors raise one EnvError
    of a line each, whose cause is the first exception of the author's code. `tolerance` is
    the largest relative difference between two programs, by default a few roundings of
    float32: stiff physics needs more.
    """
    if not isinstance(env, Env):
        raise ConfigError(f"check_env: got {type(env).__name__}, expected a mazejax Env; adapt it")
    if num_steps < 1 or num_envs < 1:
        raise ConfigError(
            f"check_env: got num_steps={num_steps} and num_envs={num_envs}, expected at least 1"
        )
    if not (isinstance(key, int) or random.is_key(key)):
        raise ConfigError(f"check_env: got the key {key!r}, expected a seed or a typed key")
    root = random.key(key) if isinstance(key, int) else key
    trial = Trial(env, num_steps, num_envs, root, tolerance)
    checked: list[str] = []
    findings: dict[tuple[str, str], Finding] = {}
    for stage in _STAGES:
        for rule in stage:
            checked.append(rule.__name__)
            for finding in _run(rule, trial):
                findings.setdefault(finding[:2], finding)
        if any(level == "error" for level, _ in findings):
            break
    report = _report(trial, checked, list(findings.values()))
    if strict and report.errors:
        causes = [f.cause for f in findings.values() if f.level == "error" and f.cause]
        raise EnvError(f"{report.env} breaks its contract:\n  " + "\n  ".join(report.errors)) from (
            causes[0] if causes else None
        )
    return report


def _run(rule: Rule, trial: Trial) -> Iterator[Finding]:
    """The rule's findings; an unexpected exception is one of them, not a crash."""
    try:
        yield from rule(trial)
    except CallFailed as failed:
        yield failure(failed)
    except Exception as cause:  # noqa: BLE001 (an author's code may raise anything)
        yield failure(CallFailed(_spoken(rule.__name__), cause))


def _report(trial: Trial, checked: list[str], findings: list[Finding]) -> CheckReport:
    errors = tuple(message for level, message, _ in findings if level == "error")
    every = [rule.__name__ for stage in _STAGES for rule in stage]
    return CheckReport(
        env=_name(trial.env),
        schedule=_schedule(trial),
        errors=errors,
        warnings=tuple(message for level, message, _ in findings if level == "warning"),
        checked=tuple(checked),
        skipped=tuple(every[len(checked) :]),
        costs=None if errors else _measure(trial),
    )


def _measure(trial: Trial) -> Costs:
    env = trial.env
    calls = [(call.key, call.state, call.action) for call in trial.calls[: trial.num_substeps]]
    step_flops = [_flops(env.step, *call) for call in calls]
    return Costs(
        state_bytes=sum(leaf.nbytes for leaf in jax.tree.leaves(trial.first[1])),
        reset_primitives=primitive_cost(env.reset_state, trial.key),
        reset_flops=_flops(env.reset, trial.key),
        step_primitives=sum(primitive_cost(env.step_state, *call) for call in calls),
        step_flops=None if None in step_flops else sum(filter(None, step_flops)),
        auto_reset=VectorEnv(env, trial.num_envs).strategy(),
        num_envs=trial.num_envs,
        steps_per_second=_steps_per_second(trial),
    )


def _flops(function: Callable, *args: Any) -> float | None:
    return (jax.jit(function).lower(*args).cost_analysis() or {}).get("flops")


def _steps_per_second(trial: Trial) -> float:
    envs = VectorEnv(trial.env, trial.num_envs)

    def one_flat_step(state: VectorState, _: None) -> tuple[VectorState, list[Array]]:
        rewards = []
        for _actor in envs.actors:
            step = envs.step(state, vector.random_actions(envs, state))
            state = step.state
            rewards.append(step.reward)
        return state, rewards

    @jax.jit
    def run(state: VectorState) -> tuple[VectorState, list[Array]]:
        return jax.lax.scan(one_flat_step, state, length=trial.num_steps)

    state = jit_once(envs.reset)(trial.key)[1]
    jax.block_until_ready(run(state))
    start = time.perf_counter()
    jax.block_until_ready(run(state))
    return trial.num_envs * trial.num_steps / (time.perf_counter() - start)


def _cost_rows(costs: Costs) -> list[tuple[str, str]]:
    reset, step = (
        "not counted" if flops is None else f"{flops:,.0f}"
        for flops in (costs.reset_flops, costs.step_flops)
    )
    return [
        ("state", f"{costs.state_bytes:,} bytes"),
        ("reset", f"{costs.reset_primitives:,.0f} elements computed, {reset} flops"),
        ("step", f"{costs.step_primitives:,.0f} elements computed, {step} flops"),
        ("auto-reset", costs.auto_reset),
        ("speed", f"{costs.steps_per_second:,.0f} steps/s with {costs.num_envs} envs"),
    ]


def _schedule(trial: Trial) -> tuple[str, ...]:
    """`cut`, `move 0` or `walk (3 at once)`, by sub-step; nothing where it cannot be read."""
    try:
        is_flat = trial.num_substeps == 1 and not trial.axis(0)
        return () if is_flat else tuple(map(trial.spoken_actor, range(trial.num_substeps)))
    except Exception:  # noqa: BLE001 (the report must come out for any env)
        return ()


def _name(env: Env) -> str:
    try:
        return str(env.name)
    except Exception:  # noqa: BLE001 (the report must come out for any env)
        return type(env).__name__


def _count(entries: tuple[str, ...], noun: str) -> str:
    return f"{len(entries)} {noun}{'' if len(entries) == 1 else 's'}"


def _spoken(name: str) -> str:
    return name.replace("_", " ")
