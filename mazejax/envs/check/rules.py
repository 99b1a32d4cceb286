"""The rules of `check_env` about single calls: what is declared, and what calls return.

A rule looks at a `Trial` and yields findings; rules of a later stage may rely on what
an earlier one has established. What is particular to schedules, masks and agents stands
in `actors`, what an env may have besides in `extras`.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from mazejax.base import Pytree
from mazejax.envs.base import Env
from mazejax.envs.check.findings import (
    Finding,
    check_arrays,
    check_contained,
    error,
    first_changes,
    first_difference,
    leaves,
    signature,
)
from mazejax.envs.check.trial import Call, Rule, Trial
from mazejax.spaces.base import Space
from mazejax.types import PyTree, Step

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
    """All spaces are spaces, and the same each time they are asked for."""
    for name in ("observation_space", "action_space"):
        again = trial.spaces(name, trial.env)
        for step_key, space in getattr(trial, f"{name}s").items():
            where = trial.space_name(name, step_key)
            if not isinstance(space, Space):
                got = type(space).__name__
                yield error(f"{where}: got {got}, expected a mazejax space; return one")
            elif space != again[step_key]:
                yield error(
                    f"{where}: got two different spaces from two calls, expected equal ones; "
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
    """Reset and a few steps with allowed actions run outside jit, and follow the schedule."""
    first = trial.first
    if not (isinstance(first, tuple) and len(first) == 2):
        yield error(f"reset: got {type(first).__name__}, expected (obs, state); return a pair")
        return
    place = trial.call("substep", trial.env.substep, first[1])
    if not isinstance(place, int) or place != 0:
        yield _misplaced(trial, place, 0, "reset")
        return
    call = trial.calls[-1]
    if not isinstance(call.step, Step):
        got = type(call.step).__name__
        yield error(f"{trial.label(call.substep)}: got {got}, expected mazejax.types.Step")
    elif trial.misplaced(call):
        place = trial.env.substep(call.step.state)
        yield _misplaced(trial, place, trial.next_substep(call.substep), trial.label(call.substep))


def states_are_arrays(trial: Trial) -> Iterator[Finding]:
    """Every leaf of the state is an array of at most 32 bits that is not weakly typed."""
    yield from check_arrays("reset", "state", trial.first[1])
    for call in trial.calls:
        yield from check_arrays(trial.label(call.substep), "state", call.step.state)


def states_keep_their_types(trial: Trial) -> Iterator[Finding]:
    """The state has the same structure and dtypes after each flat step as after a reset.

    Within a flat step it has those of the same sub-step before, and the core env's own
    state has one structure throughout.
    """
    for substep, same in _by_substep(trial):
        states = [(trial.label(substep), call.step.state) for call in same]
        if trial.next_substep(substep) == 0:
            yield from first_changes("state", trial.first[1], states, "after reset")
        else:
            first = states[0][1]
            yield from first_changes("state", first, states[1:], "in the flat step before")
    if trial.core_env is not None:
        core = trial.env.maze_state(trial.first[1])
        later = [
            (trial.label(call.substep), trial.env.maze_state(call.step.state))
            for call in trial.calls
            if trial.next_substep(call.substep) != 0
        ]
        yield from first_changes("state.core", core, later, "after reset")


def rewards_flags_and_times_have_their_types(trial: Trial) -> Iterator[Finding]:
    """Rewards are float32 [] or [A], flags bool [], times int32 []."""
    for call in trial.calls:
        label, axis = trial.label(call.substep), list(trial.axis(call.substep))
        wanted = (
            (f"{label}: reward", call.step.reward, f"float32{axis}"),
            (f"{label}: terminated", call.step.terminated, "bool[]"),
            (f"{label}: truncated", call.step.truncated, "bool[]"),
            ("time", trial.call("time", trial.env.time, call.state), "int32[]"),
        )
        for name, value, want in wanted:
            if signature(value) != want:
                yield error(f"{name}: got {signature(value)}, expected {want}; {cast(value, want)}")


def info_is_constant(trial: Trial) -> Iterator[Finding]:
    """`info` is a dict of arrays with one structure and one set of types for each sub-step."""
    for call in trial.calls:
        label, info = trial.label(call.substep), call.step.info
        if not isinstance(info, dict):
            got = type(info).__name__
            yield error(f"{label}: info: got {got}, expected a dict; return {{}}")
            return
        if "final_obs" in info:
            yield error(
                f"{label}: info: got the name 'final_obs', expected it to be left to VectorEnv; "
                f"choose another name"
            )
        yield from check_arrays(label, "info", info)
    for substep, same in _by_substep(trial):
        later = [(trial.label(substep), call.step.info) for call in same[1:]]
        yield from first_changes("info", same[0].step.info, later, "in the first flat step")


def observations_fit(trial: Trial) -> Iterator[Finding]:
    """Observations have the structure, shapes and dtypes of the next actor's space."""
    seen: list[tuple[str, int, PyTree]] = [("reset", 0, trial.first[0])]
    for call in trial.calls:
        next_substep = trial.next_substep(call.substep)
        seen.append((trial.label(call.substep), next_substep, call.step.obs))
    for method, substep, obs in seen:
        space = trial.observation_spaces[trial.actors[substep].step_key]
        after = trial.seer(substep)
        expected = leaves("obs", jax.eval_shape(space.sample, trial.key))
        got = leaves("obs", obs)
        found = list(check_arrays(method, "obs", obs))
        if got.keys() != expected.keys():
            found.append(
                error(
                    f"{method}: obs: got {', '.join(got)}, expected {', '.join(expected)}; "
                    f"make observe and observation_space agree{after}"
                )
            )
        found = found or list(check_contained(space, obs, method, trial.axis(substep), after))
        yield from found
        if found:
            return


def repeated_calls_agree(trial: Trial) -> Iterator[Finding]:
    """A second call with equal arguments gives the same bits: nothing is kept outside the state."""
    pairs: list[tuple[str, Any, Any]] = [("reset", trial.first, trial.plain_reset())]
    for call in trial.calls[: max(2, trial.num_substeps)]:
        again = trial.plain_step(call.substep, call.key, call.state, call.action)
        pairs.append((trial.label(call.substep), call.step, again))
    for method, one, other in pairs:
        names = ("obs", "state") if method == "reset" else Step._fields
        for name, ours, theirs in zip(names, one, other, strict=True):
            difference = first_difference(name, ours, theirs)
            if difference:
                yield error(
                    f"{method}: {difference}: got two results from equal arguments, expected one; "
                    f"keep nothing on self or in globals, and draw from the key and not np.random"
                )


DECLARED: tuple[Rule, ...] = (spaces_are_spaces, copies_are_equal)
CALLED: tuple[Rule, ...] = (
    states_are_arrays,
    states_keep_their_types,
    rewards_flags_and_times_have_their_types,
    info_is_constant,
    observations_fit,
    repeated_calls_agree,
)


def cast(value: Any, want: str) -> str:
    """How to make a value of the wanted signature of this one."""
    dtype, _, shape = want.partition("[")
    if list(np.shape(value)) != [int(n) for n in shape.removesuffix("]").split(",") if n]:
        if shape == "]":
            return "return a scalar: sum or squeeze it"
        return "return one for each of the agents that act at once"
    return f"convert it with jnp.asarray(value, {dtype!r})"


def _by_substep(trial: Trial) -> Iterator[tuple[int, list[Call]]]:
    for substep in range(trial.num_substeps):
        yield substep, [call for call in trial.calls if call.substep == substep]


def _misplaced(trial: Trial, place: Any, wanted: int, after: str) -> Finding:
    if not isinstance(place, int):
        return error(
            f"substep: got {signature(place)}, expected a Python int that is known while tracing; "
            f"keep it in a static field of the state"
        )
    return error(
        f"substep: got {place} after {after}, expected {wanted} of a schedule of "
        f"{trial.num_substeps}; count in a static field of the state, and begin anew after the last"
    )


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
