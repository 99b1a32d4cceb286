"""The rules of `check_env` about tracing and compiling single calls."""

import copy
import re
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import jax
import jax.extend.core
import numpy as np

from mazejax.envs.check.findings import (
    Finding,
    error,
    first_difference,
    on_host,
    warning,
)
from mazejax.envs.check.rules import repeated_calls_agree
from mazejax.envs.check.trial import Rule, Trial
from mazejax.envs.check.walk import substep_keys
from mazejax.types import Step

_DRAWS = ("random_bits", "random_split")


def calls_trace(trial: Trial) -> Iterator[Finding]:
    """Reset and step trace under jit and leave no tracer behind."""
    for method, function, args in _traced_calls(trial):
        with jax.checking_leaks():
            trial.call(method, jax.make_jaxpr(function), *args)
    yield from repeated_calls_agree(trial)


def traces_agree(trial: Trial) -> Iterator[Finding]:
    """Two traces give the same program: no Python side effect is baked in."""
    for method, function, args in _traced_calls(trial):
        one, other = (_program(function, args) for _ in range(2))
        if one != other:
            at = next((pair for pair in zip(one, other, strict=False) if pair[0] != pair[1]), None)
            yield error(
                f"{method}: got two different programs from two traces "
                f"({' and '.join(at) if at else 'of different lengths'}), expected one; "
                f"keep nothing on self or in globals, and draw from the key and not np.random"
            )


def programs_stay_on_the_device(trial: Trial) -> Iterator[Finding]:
    """No callbacks to the host in reset or step (a warning: they cost more than the step)."""
    for method, function, args in _traced_calls(trial):
        names = set(_primitives(jax.make_jaxpr(function)(*args).jaxpr))
        for name in sorted(name for name in names if "callback" in name or name == "debug_print"):
            yield warning(f"{method}: got {name}, expected no call to the host; compute it in jax")


def keys_are_used_once(trial: Trial) -> Iterator[Finding]:
    """No two draws come from one key or from streams of one name (a warning: they are equal)."""
    for method, function, args in _traced_calls(trial):
        try:
            with jax.debug_key_reuse(True):
                traced = jax.make_jaxpr(jax.jit(function))(*args)
        except jax.errors.KeyReuseError as cause:
            yield warning(
                f"{method}: key: got two draws from one key, expected one; split the key or take "
                f"mazejax.random.stream(key, name) for each purpose",
                cause,
            )
            continue
        drawn = list(_drawn_keys(traced.jaxpr, list(range(len(traced.jaxpr.invars)))))
        if len(drawn) > len(set(drawn)):
            yield warning(
                f"{method}: key: got two draws from streams of one name, expected one, since they "
                f"are equal; give each purpose a name of its own in mazejax.random.stream"
            )


def jit_agrees(trial: Trial) -> Iterator[Finding]:
    """Compiled calls give what calls outside jit give, within 1e-6, in the same dtypes."""
    compiled_reset = trial.call("reset", trial.jit_reset, trial.env, trial.key)
    pairs: list[tuple[str, Any, Any]] = [("reset", trial.first, compiled_reset)]
    for call in trial.calls:
        compiled = trial.compiled_step(call.substep, call.key, call.state, call.action)
        pairs.append((trial.label(call.substep), call.step, compiled))
    for method, plain, compiled in pairs:
        names = ("obs", "state") if method == "reset" else Step._fields
        for name, ours, theirs in zip(names, plain, compiled, strict=True):
            difference = first_difference(name, ours, theirs, trial.tolerance)
            if difference:
                yield error(
                    f"{method}: {difference}: outside and under jit differ, expected equality "
                    f"within {trial.tolerance}; let no Python code ask whether it is traced"
                )


def one_trace_suffices(trial: Trial) -> Iterator[Finding]:
    """Chained compiled steps and copies of the env reuse one program for each sub-step."""
    obs, state = trial.jit_reset(trial.env, trial.key)
    for index in range(trial.num_plain_steps):
        twin = trial.env.replace() if index % 2 else copy.deepcopy(trial.env)
        for substep in range(trial.num_substeps):
            env_key, action_key, _ = substep_keys(trial.keys[index], substep)
            action = trial.action(substep, action_key, obs)
            args = (twin, env_key, state, action)
            step = trial.call(trial.label(substep), trial.jit_step, *args)
            obs, state = step.obs, step.state
        if bool(step.done):
            obs, state = trial.jit_reset(twin, trial.key)
    for method, count in trial.traces.items():
        if count > 1:
            yield error(
                f"{method}: was traced {count} times in a few calls, expected once; keep the types "
                f"of the state, and give static fields equality and hash by value"
            )


STAGES: tuple[tuple[Rule, ...], ...] = (
    (calls_trace,),
    (traces_agree, programs_stay_on_the_device, keys_are_used_once),
    (jit_agrees, one_trace_suffices),
)
"""Rules in the order in which a person would debug; a stage relies on those before it."""


def _traced_calls(trial: Trial) -> Iterator[tuple[str, Callable, tuple]]:
    yield "reset", trial.env.reset, (trial.key,)
    for call in trial.calls[: trial.num_substeps]:
        yield trial.label(call.substep), trial.env.step, (call.key, call.state, call.action)


def _program(function: Callable, args: tuple) -> list[str]:
    # A fresh function each time: jax caches traces by function identity.
    closed = jax.make_jaxpr(lambda *inputs: function(*inputs))(*args)
    text = re.sub(r"0x[0-9a-f]+", "", str(closed)).splitlines()
    return [line.strip() for line in text] + [str(np.asarray(c)) for c in on_host(closed.consts)]


def _primitives(jaxpr: jax.extend.core.Jaxpr) -> Iterator[str]:
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from _primitives(inner)


def _drawn_keys(jaxpr: Any, names: list[Hashable]) -> Iterator[Hashable]:
    """What every draw of a program is drawn from, given names of its inputs.

    Keys that are folded from one key with one constant have one name. Loops and branches
    are not looked into: their draws differ by iteration, or only one of them happens.
    """
    known = dict(zip(jaxpr.invars, names, strict=True))

    def name(atom: Any) -> Hashable:
        if isinstance(atom, jax.extend.core.Literal):
            return ("constant", str(atom.val))
        return known.setdefault(atom, object())

    for equation in jaxpr.eqns:
        inputs = [name(atom) for atom in equation.invars]
        primitive = equation.primitive.name
        if primitive == "random_fold_in":
            known[equation.outvars[0]] = ("fold_in", *inputs)
        elif primitive in _DRAWS:
            yield inputs[0]
        elif primitive in ("jit", "pjit"):
            yield from _drawn_keys(equation.params["jaxpr"].jaxpr, inputs)
