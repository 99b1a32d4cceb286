"""The rules of `check_env` about single calls: what is declared, called and traced.

A rule looks at a `Trial` and yields findings; rules of a later stage may rely on what
an earlier one has established. Rules about whole episodes are in `runs`, those
about many envs in `vector`.
"""

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.extend.core
import numpy as np

from mazejax.base import Pytree
from mazejax.envs.base import Env
from mazejax.envs.check.findings import (
    TOLERANCE,
    Finding,
    check_arrays,
    check_contained,
    error,
    first_changes,
    first_difference,
    leaves,
    on_host,
    signature,
    warning,
)
from mazejax.envs.check.trial import Rule, Trial
from mazejax.spaces.base import Space
from mazejax.types import Step

_DEFINED = ("observation_space", "action_space", "reset_state", "step_state", "observe", "time")


# --- what is declared -----------------------------------------------------------------


def methods_are_defined(trial: Trial) -> Iterator[Finding]:
    """The class defines everything that `Env` asks for."""
    for name in _DEFINED:
        # A space may be given by its plural too, and every wrapper inherits that.
        names = (name, f"{name}s") if name.endswith("_space") else (name,)
        if all(getattr(type(trial.env), given) is getattr(Env, given) for given in names):
            yield error(f"{type(trial.env).__name__} has no {name}, expected one; define it")


def spaces_are_spaces(trial: Trial) -> Iterator[Finding]:
    """Both spaces are spaces, and the same each time they are asked for."""
    for name in ("observation_space", "action_space"):
        space = getattr(trial, name)
        if not isinstance(space, Space):
            yield error(f"{name}: got {type(space).__name__}, expected a mazejax space; return one")
        elif space != getattr(trial.env, name):
            yield error(
                f"{name}: got two different spaces from two calls, expected equal ones; "
                f"let it depend on static fields only"
            )


def copies_are_equal(trial: Trial) -> Iterator[Finding]:
    """An env built anew is equal and has the same hash, so that it shares compiled programs."""
    for how, build in (("replace()", trial.env.replace), ("copy.deepcopy", _deepcopy(trial.env))):
        twin = trial.call(how, build)
        if twin != trial.env:
            yield error(
                f"{how}: got an env that is not equal to the first, expected equality by value; "
                f"{_unequal_field(trial.env, twin)}"
            )
        elif trial.call("hash", hash, twin) != hash(trial.env):
            yield error(
                f"hash: got two hashes of equal envs ({how}), expected one; "
                f"give the static fields a hash by value"
            )


# --- calls outside jit ----------------------------------------------------------------


def calls_succeed(trial: Trial) -> Iterator[Finding]:
    """Reset and a few steps with sampled actions run outside jit."""
    first, steps = trial.first, trial.steps
    if not (isinstance(first, tuple) and len(first) == 2):
        yield error(f"reset: got {type(first).__name__}, expected (obs, state); return a pair")
    if not isinstance(steps[0], Step):
        yield error(f"step: got {type(steps[0]).__name__}, expected mazejax.types.Step; return it")


def states_are_arrays(trial: Trial) -> Iterator[Finding]:
    """Every leaf of the state is an array of at most 32 bits that is not weakly typed."""
    yield from check_arrays("reset", "state", trial.first[1])
    for step in trial.steps:
        yield from check_arrays("step", "state", step.state)


def states_keep_their_types(trial: Trial) -> Iterator[Finding]:
    """The state has the same structure, shapes and dtypes after a step as after a reset."""
    later = ((step.state, "after reset") for step in trial.steps)
    yield from first_changes("state", trial.first[1], later)


def rewards_and_flags_are_scalars(trial: Trial) -> Iterator[Finding]:
    """The reward is a float32 scalar, the flags are bool scalars, the time is an int32 scalar."""
    for before, step in zip(trial.states_before(), trial.steps, strict=True):
        time = trial.call("time", trial.env.time, before)
        wanted = (
            ("step: reward", step.reward, "float32[]"),
            ("step: terminated", step.terminated, "bool[]"),
            ("step: truncated", step.truncated, "bool[]"),
            ("time", time, "int32[]"),
        )
        for name, value, want in wanted:
            if signature(value) != want:
                yield error(
                    f"{name}: got {signature(value)}, expected {want}; {_cast(value, want)}"
                )


def info_is_constant(trial: Trial) -> Iterator[Finding]:
    """`info` is a dict of arrays with one structure and one set of types in every step."""
    for step in trial.steps:
        if not isinstance(step.info, dict):
            yield error(f"step: info: got {type(step.info).__name__}, expected a dict; return {{}}")
            return
        if "final_obs" in step.info:
            yield error(
                "step: info: got the name 'final_obs', expected it to be left to VectorEnv; "
                "choose another name"
            )
        yield from check_arrays("step", "info", step.info)
    later = ((step.info, "in the first step") for step in trial.steps[1:])
    yield from first_changes("info", trial.steps[0].info, later)


def observations_fit(trial: Trial) -> Iterator[Finding]:
    """Observations have the structure, shapes and dtypes of their space, and lie in it."""
    expected = leaves("obs", jax.eval_shape(trial.observation_space.sample, trial.key))
    for method, obs in (("reset", trial.first[0]), *(("step", step.obs) for step in trial.steps)):
        got = leaves("obs", obs)
        found = list(check_arrays(method, "obs", obs))
        if got.keys() != expected.keys():
            found.append(
                error(
                    f"{method}: obs: got {', '.join(got)}, expected {', '.join(expected)}; "
                    f"make observe and observation_space agree"
                )
            )
        found = found or list(check_contained(trial.observation_space, obs, method))
        yield from found
        if found:
            return


def repeated_calls_agree(trial: Trial) -> Iterator[Finding]:
    """A second call with equal arguments gives the same bits: nothing is kept outside the state."""
    pairs: list[tuple[str, Any, Any]] = [("reset", trial.first, trial.plain_reset())]
    for index, before in enumerate(trial.states_before()[:2]):
        pairs.append(("step", trial.steps[index], trial.plain_step(before, index)))
    for method, one, other in pairs:
        names = ("obs", "state") if method == "reset" else Step._fields
        for name, ours, theirs in zip(names, one, other, strict=True):
            difference = first_difference(name, ours, theirs)
            if difference:
                yield error(
                    f"{method}: {difference}: got two results from equal arguments, expected one; "
                    f"keep nothing on self or in globals, and draw from the key and not np.random"
                )


# --- tracing --------------------------------------------------------------------------


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
    """No key is drawn from twice (a warning: the two draws are equal or correlated)."""
    for method, function, args in _traced_calls(trial):
        try:
            with jax.debug_key_reuse(True):
                jax.make_jaxpr(jax.jit(function))(*args)
        except jax.errors.KeyReuseError as cause:
            yield warning(
                f"{method}: key: got two draws from one key, expected one; split the key or take "
                f"mazejax.random.stream(key, name) for each purpose",
                cause,
            )


def jit_agrees(trial: Trial) -> Iterator[Finding]:
    """Compiled calls give what calls outside jit give, within 1e-6, in the same dtypes."""
    compiled_reset = trial.call("reset", trial.jit_reset, trial.env, trial.key)
    pairs: list[tuple[str, Any, Any]] = [("reset", trial.first, compiled_reset)]
    for index, before in enumerate(trial.states_before()):
        args = (trial.env, trial.keys[index], before, trial.action(index))
        pairs.append(("step", trial.steps[index], trial.call("step", trial.jit_step, *args)))
    for method, plain, compiled in pairs:
        names = ("obs", "state") if method == "reset" else Step._fields
        for name, ours, theirs in zip(names, plain, compiled, strict=True):
            difference = first_difference(name, ours, theirs, TOLERANCE)
            if difference:
                yield error(
                    f"{method}: {difference}: outside and under jit differ, expected equality "
                    f"within {TOLERANCE}; let no Python code ask whether it is traced"
                )


def one_trace_suffices(trial: Trial) -> Iterator[Finding]:
    """Chained compiled steps and copies of the env reuse one program."""
    state = trial.jit_reset(trial.env, trial.key)[1]
    for index in range(min(10, trial.num_steps)):
        twin = trial.env.replace() if index % 2 else copy.deepcopy(trial.env)
        args = (twin, trial.keys[index], state, trial.action(index))
        step = trial.call("step", trial.jit_step, *args)
        state = trial.jit_reset(twin, trial.key)[1] if bool(step.done) else step.state
    for method, count in trial.traces.items():
        if count > 1:
            yield error(
                f"{method}: was traced {count} times in a few calls, expected once; keep the types "
                f"of the state, and give static fields equality and hash by value"
            )


STAGES: tuple[tuple[Rule, ...], ...] = (
    (methods_are_defined, spaces_are_spaces, copies_are_equal),
    (calls_succeed,),
    (
        states_are_arrays,
        states_keep_their_types,
        rewards_and_flags_are_scalars,
        info_is_constant,
        observations_fit,
        repeated_calls_agree,
    ),
    (calls_trace,),
    (traces_agree, programs_stay_on_the_device, keys_are_used_once),
    (jit_agrees, one_trace_suffices),
)
"""Rules in the order in which a person would debug; a stage relies on those before it."""


def _cast(value: Any, want: str) -> str:
    if np.shape(value) != ():
        return "return a scalar: sum or squeeze it"
    return f"convert it with jnp.asarray(value, {want.removesuffix('[]')!r})"


def _deepcopy(env: Env) -> Callable[[], Env]:
    return lambda: copy.deepcopy(env)


def _unequal_field(env: Env, twin: Env) -> str:
    ours, theirs = dict(_static_fields("env", env)), dict(_static_fields("env", twin))
    unequal = [name for name, value in ours.items() if value != theirs[name]]
    return f"give what {unequal[0] if unequal else 'its fields'} holds an equality by value"


def _static_fields(name: str, tree: Pytree) -> Iterator[tuple[str, object]]:
    for field in tree._static_names:
        yield f"{name}.{field}", getattr(tree, field)
    for field in tree._leaf_names:
        if isinstance(getattr(tree, field), Pytree):
            yield from _static_fields(f"{name}.{field}", getattr(tree, field))


def _traced_calls(trial: Trial) -> Iterator[tuple[str, Callable, tuple]]:
    yield "reset", trial.env.reset, (trial.key,)
    yield "step", trial.env.step, (trial.keys[0], trial.first[1], trial.action(0))


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
