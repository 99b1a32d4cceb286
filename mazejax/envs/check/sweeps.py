"""The rules of `check_env` about changed numbers: sweeps, and limits of time.

One compiled run walks the env again for every changed number, all at once under `vmap`.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mazejax.base import Pytree
from mazejax.envs.check.findings import Finding, error, leaves, warning
from mazejax.envs.check.trial import Rule, Trial, jit_once, limit_path
from mazejax.envs.check.walk import digest, walk
from mazejax.errors import ConfigError
from mazejax.spaces.composite import Dict
from mazejax.spaces.masks import mask_names
from mazejax.types import Array, PyTree

_CHANGES = (lambda x: 1.1 * x, lambda x: 0.01 * x, lambda x: x + 1.0, lambda x: x - 1.0)
"""Changes of a number: small, to below a threshold, and away from 0 to either side."""
_LONGEST_VARIANT = 100
_LIMITS = (3, 4)


class _Variants(NamedTuple):
    """Walks of envs with one number changed in each; the first row is the env as it is."""

    names: list[str]
    """Field that was changed, [V]."""
    digest: np.ndarray
    """A number that changes with any bit of what a flat step returns, [V, T] uint32."""
    terminated: np.ndarray
    """[V, T] bool."""
    truncated: np.ndarray
    """[V, T] bool."""


def numbers_can_be_swept(trial: Trial) -> Iterator[Finding]:
    """Numbers may be traced, as sweeps do, and each changes something (a warning if not)."""
    if not _changes(trial):
        return
    names, digests, _, _ = trial.once(_run_variants)
    changed = (digests != digests[:1]).any(axis=1)
    inert = set(names[1:]) - {name for name, c in zip(names, changed, strict=True) if c}
    exception = "later, or for actions that masks forbid" if _has_masks(trial) else "later"
    # A limit may be longer than any episode.
    for name in sorted(inert - {_limit_name(trial)}):
        yield warning(
            f"{name}: got no effect of changing it in {digests.shape[1]} random steps, expected "
            f"one; use the field or remove it, unless it matters only {exception}"
        )


def time_limits_truncate(trial: Trial) -> Iterator[Finding]:
    """With another `max_steps`, `truncated` says so at that step, and `terminated` does not."""
    if limit_path(trial.env) is None:
        return
    names, digests, terminated, truncated = trial.once(_run_variants)
    rows = [row for row, name in enumerate(names) if name == _limit_name(trial)]
    last = _LIMITS[0] - 1
    if len(rows) < len(_LIMITS):
        return
    short, longer = rows
    if digests.shape[1] <= last or (terminated | truncated)[longer, : last + 1].any():
        return
    label = trial.label(trial.num_substeps - 1)
    if not truncated[short, last]:
        yield error(
            f"{label}: truncated: got False in step {last} with max_steps={_LIMITS[0]}, expected "
            f"True; hand on the flag of the wrapped env"
        )
    if terminated[short, last]:
        yield error(
            f"{label}: terminated: got True in step {last} because of max_steps={_LIMITS[0]}, "
            f"expected False; only truncated tells of the clock"
        )


RULES: tuple[Rule, ...] = (numbers_can_be_swept, time_limits_truncate)


def _limit_name(trial: Trial) -> str:
    return f"env.{limit_path(trial.env)}"


def _has_masks(trial: Trial) -> bool:
    return any(
        name in space
        for step_key, space in trial.observation_spaces.items()
        if isinstance(space, Dict)
        for name in mask_names(trial.action_spaces[step_key])
    )


def _run_variants(trial: Trial) -> _Variants:
    numbers, structure = jax.tree.flatten(trial.env)
    changes = _changes(trial)
    swept = sorted({row for _, row, _ in changes})
    keys = trial.keys[: min(trial.num_steps, _LONGEST_VARIANT)]

    def run(changed: dict[int, Array]) -> tuple[Array, Array, Array]:
        now = [changed.get(row, number) for row, number in enumerate(numbers)]
        env = jax.tree.unflatten(structure, now)
        for name in ("observation_space", "action_space"):
            trial.spaces(name, env, " with traced numbers")
        steps = [move.step._replace(state=()) for move in walk(env, trial.key, keys)]
        return jax.vmap(_digest)(steps), steps[-1].terminated, steps[-1].truncated

    def column(row: int) -> np.ndarray:
        dtype = jnp.result_type(numbers[row])
        values = [numbers[row], *(value if r == row else numbers[row] for _, r, value in changes)]
        return np.stack([np.asarray(value, dtype) for value in values])

    columns = {row: column(row) for row in swept}
    runs = jit_once(jax.vmap(run, axis_size=len(changes) + 1))
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
    """A number that changes with any bit of the tree's leaves, uint32 []."""
    total = jnp.zeros((), jnp.uint32)
    for leaf in jax.tree.leaves(tree):
        total = total * np.uint32(31) + digest(leaf)
    return total
