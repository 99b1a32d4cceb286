"""The rules of `check_env` about whole episodes and about changed numbers.

They run when the rules about single calls have passed, on three compiled programs: a
vmapped step, a long random walk, and that walk again for every changed number.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mazejax.base import Pytree
from mazejax.envs.check.findings import (
    TOLERANCE,
    Finding,
    check_contained,
    error,
    first_difference,
    leaves,
    warning,
    without_keys,
)
from mazejax.envs.check.trial import Rule, Trial, limit_path, walk
from mazejax.errors import ConfigError
from mazejax.types import Array, PyTree

_CHANGES = (lambda x: 1.1 * x, lambda x: 0.01 * x, lambda x: x + 1.0, lambda x: x - 1.0)
"""Changes of a number: small, to below a threshold, and away from 0 to either side."""
_LONGEST_VARIANT = 100
_LIMITS = (3, 4)
_HASH_MULTIPLIER = np.uint32(0x9E3779B9)  # 2^32 / golden ratio: odd and without pattern


# --- episodes -------------------------------------------------------------------------


def observations_stay_in_their_space(trial: Trial) -> Iterator[Finding]:
    """The observations of all resets and of every step of a random walk lie in the space."""
    starts, _, _ = trial.vectorized
    for method, obs in (("reset", starts), ("step", trial.walks[0].step.obs)):
        for row in range(trial.num_envs if method == "reset" else trial.num_steps):
            one = jax.tree.map(lambda leaf: leaf[row], obs)  # noqa: B023 (called at once)
            at = f" (key {row})" if method == "reset" else f" (step {row})"
            found = list(check_contained(trial.observation_space, one, method, at))
            yield from found
            if found:
                break


def rewards_are_finite(trial: Trial) -> Iterator[Finding]:
    """No reward of a random walk is nan or infinite."""
    reward = trial.walks[0].step.reward
    for index in np.flatnonzero(~np.isfinite(reward))[:1]:
        yield error(
            f"step: reward: got {reward[index]}, expected a finite number; "
            f"find its source (step {index})"
        )


def time_counts_steps(trial: Trial) -> Iterator[Finding]:
    """The time is 0 after a reset and grows by 1 with every step."""
    start = int(trial.env.time(trial.first[1]))
    if start != 0:
        yield error(f"time: got {start} after reset, expected 0; start the count in reset_state")
    before, after = trial.walks[0].time_before, trial.walks[0].time
    for index in np.flatnonzero(after != before + 1)[:1]:
        yield error(
            f"time: got {after[index]} after {before[index]} (step {index}), expected "
            f"{before[index] + 1}; add 1 to it in step_state"
        )


def equal_keys_give_equal_bits(trial: Trial) -> Iterator[Finding]:
    """The same compiled walk run twice gives the same bits."""
    difference = first_difference("walk", *trial.walks)
    if difference:
        yield error(
            f"step: {difference}: two runs with equal keys differ, expected the same bits; "
            f"draw from the key only"
        )


def keys_change_resets(trial: Trial) -> Iterator[Finding]:
    """Resets with other keys differ (a warning: one start may be meant)."""
    rows = leaves("state", trial.vectorized[1]).values()
    if trial.num_envs > 1 and all((row == row[:1]).all() for row in rows):
        yield warning(
            f"reset: state: got equal states from {trial.num_envs} keys, expected different ones; "
            f"draw the start from the key, unless one start is meant"
        )


def vmap_agrees(trial: Trial) -> Iterator[Finding]:
    """Rows of a vmapped reset and step equal single calls within 1e-6."""
    for row in range(trial.num_envs):
        index = row % trial.num_steps
        obs, state = trial.jit_reset(trial.env, trial.reset_keys[row])
        step = trial.jit_step(trial.env, trial.keys[index], state, trial.action(index))
        together = jax.tree.map(lambda leaf: leaf[row], trial.vectorized)  # noqa: B023
        pairs = (
            ("reset", {"obs": obs, "state": state}, {"obs": together[0], "state": together[1]}),
            ("step", step._asdict(), together[2]._asdict()),
        )
        for method, one, other in pairs:
            difference = first_difference("", one, other, TOLERANCE)
            if difference:
                yield error(
                    f"{method}: {difference}: alone and in row {row} under vmap differ, expected "
                    f"equality within {TOLERANCE}; let no env look at the others"
                )
                return


def scan_agrees(trial: Trial) -> Iterator[Finding]:
    """The first steps of a scan equal single compiled steps."""
    state = trial.jit_reset(trial.env, trial.key)[1]
    for index in range(min(5, trial.num_steps)):
        step = trial.jit_step(trial.env, trial.keys[index], state, trial.action(index))
        scanned = jax.tree.map(lambda leaf: leaf[index], trial.walks[0].step)  # noqa: B023
        # Roundings grow with the steps that they pass through.
        tolerance = 10 * (index + 1) * TOLERANCE
        alone = step._replace(state=())._asdict()
        difference = first_difference("", alone, scanned._asdict(), tolerance)
        if difference:
            yield error(
                f"step: {difference}: alone and in a scan differ (step {index}), expected "
                f"equality within {tolerance:.0e}; keep nothing outside the state"
            )
        if difference or bool(step.done):
            return
        state = step.state


def episodes_end(trial: Trial) -> Iterator[Finding]:
    """Some episode ends under random actions (a warning: the task may have no end)."""
    ended = trial.walks[0].step.done.any() or trial.vectorized[2].done.any()
    if not ended and limit_path(trial.env) is None:
        yield warning(
            f"step: terminated: got no end of an episode in {trial.num_steps} random steps, "
            f"expected one; wrap the env in TimeLimit, unless it is meant to go on"
        )


# --- changed numbers ------------------------------------------------------------------


class _Variants(NamedTuple):
    """Walks of envs with one number changed in each; the first row is the env as it is."""

    names: list[str]
    """Field that was changed, [V]."""
    digest: np.ndarray
    """A number that changes with any bit of what `step` returns, [V, T] uint32."""
    terminated: np.ndarray
    """[V, T] bool."""
    truncated: np.ndarray
    """[V, T] bool."""


def numbers_can_be_swept(trial: Trial) -> Iterator[Finding]:
    """Numbers may be traced, as sweeps do, and each changes something (a warning if not)."""
    if not _changes(trial):
        return
    names, digest, _, _ = trial.once(_run_variants)
    changed = (digest != digest[:1]).any(axis=1)
    inert = set(names[1:]) - {name for name, c in zip(names, changed, strict=True) if c}
    # A limit may be longer than any episode.
    for name in sorted(inert - {_limit_name(trial)}):
        yield warning(
            f"{name}: got no effect of changing it in {digest.shape[1]} random steps, expected "
            f"one; use the field or remove it, unless it matters only later"
        )


def time_limits_truncate(trial: Trial) -> Iterator[Finding]:
    """With another `max_steps`, `truncated` says so at that step, and `terminated` does not."""
    if limit_path(trial.env) is None:
        return
    names, digest, terminated, truncated = trial.once(_run_variants)
    rows = [row for row, name in enumerate(names) if name == _limit_name(trial)]
    last = _LIMITS[0] - 1
    if len(rows) < len(_LIMITS):
        return
    short, longer = rows
    if digest.shape[1] <= last or (terminated | truncated)[longer, : last + 1].any():
        return
    if not truncated[short, last]:
        yield error(
            f"step: truncated: got False in step {last} with max_steps={_LIMITS[0]}, expected "
            f"True; hand on the flag of the wrapped env"
        )
    if terminated[short, last]:
        yield error(
            f"step: terminated: got True in step {last} because of max_steps={_LIMITS[0]}, "
            f"expected False; only truncated tells of the clock"
        )


def _limit_name(trial: Trial) -> str:
    return f"env.{limit_path(trial.env)}"


def _run_variants(trial: Trial) -> _Variants:
    numbers, structure = jax.tree.flatten(trial.env)
    changes = _changes(trial)
    swept = sorted({row for _, row, _ in changes})
    length = min(trial.num_steps, _LONGEST_VARIANT)
    actions = jax.tree.map(lambda leaf: leaf[:length], trial.actions)

    def run(changed: dict[int, Array]) -> tuple[Array, Array, Array]:
        now = [changed.get(row, number) for row, number in enumerate(numbers)]
        env = jax.tree.unflatten(structure, now)
        for name in ("observation_space", "action_space"):
            trial.call(f"{name} with traced numbers", getattr, env, name)
        step = walk(env, trial.key, trial.keys[:length], actions).step
        return jax.vmap(_digest)(step), step.terminated, step.truncated

    def column(row: int) -> np.ndarray:
        dtype = jnp.result_type(numbers[row])
        values = [numbers[row], *(value if r == row else numbers[row] for _, r, value in changes)]
        return np.stack([np.asarray(value, dtype) for value in values])

    columns = {row: column(row) for row in swept}
    runs = jax.jit(jax.vmap(run, axis_size=len(changes) + 1))
    outcome = jax.device_get(trial.call("step with traced numbers", runs, columns))
    return _Variants(["", *(name for name, _, _ in changes)], *outcome)


def _changes(trial: Trial) -> list[tuple[str, int, Any]]:
    """(field, index among the env's leaves, new value) of every change that is tried."""
    changes: list[tuple[str, int, Any]] = []
    for row, (name, number) in enumerate(leaves("env", trial.env).items()):
        if name == _limit_name(trial):
            changes += [(name, row, value) for value in _LIMITS]
        elif jnp.issubdtype(jnp.result_type(number), jnp.floating):
            finite = np.nan_to_num(np.asarray(number, np.float32), posinf=1.0, neginf=-1.0)
            changes += [(name, row, change(finite)) for change in _CHANGES]
    return [change for change in changes if _is_valid(trial, *change[1:])]


def _is_valid(trial: Trial, row: int, value: Any) -> bool:
    """Whether the env's own checks accept this value for this leaf."""
    numbers, structure = jax.tree.flatten(trial.env)
    try:
        _validate(jax.tree.unflatten(structure, [*numbers[:row], value, *numbers[row + 1 :]]))
    except ConfigError:
        return False
    return True


def _validate(tree: Pytree) -> None:
    """What the constructors of the tree and of its parts check."""
    tree.validate()
    for name in tree._leaf_names:
        if isinstance(getattr(tree, name), Pytree):
            _validate(getattr(tree, name))


def _digest(tree: PyTree) -> Array:
    """A number that changes with any bit of the tree's leaves, uint32."""
    total = jnp.zeros((), jnp.uint32)
    for leaf in jax.tree.leaves(without_keys(tree)):
        bits = jax.lax.bitcast_convert_type(leaf.astype(jnp.float32), jnp.uint32).reshape(-1)
        weights = (2 * jnp.arange(bits.size, dtype=jnp.uint32) + 1) * _HASH_MULTIPLIER
        total = total * np.uint32(31) + (bits * weights).sum(dtype=jnp.uint32)
    return total


RULES: tuple[Rule, ...] = (
    observations_stay_in_their_space,
    rewards_are_finite,
    time_counts_steps,
    equal_keys_give_equal_bits,
    keys_change_resets,
    vmap_agrees,
    scan_agrees,
    episodes_end,
    numbers_can_be_swept,
    time_limits_truncate,
)
