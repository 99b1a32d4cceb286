"""What the rules of `check_env` say, and how they name and compare what they saw.

A finding is one line: method, field, what was got, what was expected, how to mend it.
Leaves are named as a reader would write them, types as `float32[3]`.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.errors import SpaceError
from mazejax.spaces.base import Space
from mazejax.spaces.shapes import check_shapes
from mazejax.types import PyTree

_WIDE = ("int64", "uint64", "float64", "complex128")
_CONTROL_FLOW = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.TracerBoolConversionError,
)


class Finding(NamedTuple):
    """What a rule has to say: one line with method, field, got, expected and how to mend it."""

    level: Literal["error", "warning"]
    message: str
    cause: Exception | None = None
    """The author's own exception, if there was one."""


class CallFailed(Exception):
    """The author's code raised in this method."""

    def __init__(self, method: str, cause: Exception) -> None:
        super().__init__(method, cause)
        self.method = method
        self.cause = cause


def error(message: str, cause: Exception | None = None) -> Finding:
    """A breach of the contract."""
    return Finding("error", message, cause)


def warning(message: str, cause: Exception | None = None) -> Finding:
    """Something that is allowed but seldom meant."""
    return Finding("warning", message, cause)


def failure(failed: CallFailed) -> Finding:
    """The finding for an exception of the author's code."""
    cause = failed.cause
    text = (str(cause).strip().splitlines() or ["no message"])[0]
    if isinstance(cause, NotImplementedError):
        hint = "define the method"
    elif isinstance(cause, jax.errors.UnexpectedTracerError) or "Leaked" in text:
        hint = "keep nothing that is computed under jit on self or in globals"
    elif isinstance(cause, _CONTROL_FLOW):
        hint = "use jnp.where or jax.lax.cond and no Python control flow or float() on arrays"
    elif isinstance(cause, SpaceError):
        hint = "make the env and its space agree"
    else:
        hint = "mend what raised; the traceback is the cause of this error"
    return error(f"{failed.method}: raised {type(cause).__name__}: {text}; {hint}", cause)


def check_contained(
    space: Space, obs: PyTree, method: str, axis: tuple[int, ...] = (), after: str = ""
) -> Iterator[Finding]:
    """A finding if an observation [*axis, ...] is not in its space or is not finite."""
    try:
        check_shapes(space, obs, "obs", axis)
        obs = on_host(obs)
        for row in np.ndindex(*axis):
            one = jax.tree.map(lambda leaf, row=row: leaf[row], obs)
            name = "obs" + "".join(f"[{i}]" for i in row)
            space.validate(one, where=name)
            for path, leaf in leaves(name, one).items():
                if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
                    message = f"{method}: {path}: got inf, expected finite numbers"
                    yield error(f"{message}; find its source{after}")
                    return
    except SpaceError as outside:
        yield error(f"{method}: {outside}{after}", outside)


def check_rows_contained(
    space: Space, obs: PyTree, method: str, axis: tuple[int, ...], row_name: str, after: str = ""
) -> Iterator[Finding]:
    """A finding about the first of the observations [T, *axis, ...] that is not in its space."""
    axes = tuple(range(1 + len(axis)))
    # Spaces are products of intervals: they contain all rows if they contain the extremes.
    extremes = [jax.tree.map(lambda x, f=f: f(x, axis=axes), obs) for f in (np.min, np.max)]
    if not any(True for extreme in extremes for _ in check_contained(space, extreme, method)):
        return
    for row in range(jax.tree.leaves(obs)[0].shape[0]):
        one = jax.tree.map(lambda leaf, row=row: leaf[row], obs)
        found = list(check_contained(space, one, method, axis, f" ({row_name} {row}){after}"))
        yield from found
        if found:
            return


def check_arrays(method: str, name: str, tree: PyTree) -> Iterator[Finding]:
    """Findings about leaves that are no arrays, or whose dtype is weak or too wide."""
    for path, leaf in leaves(name, tree).items():
        got = signature(leaf)
        if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, bool, int, float)):
            yield error(
                f"{method}: {path}: got {type(leaf).__name__}, expected an array; use numbers, "
                f"or a static field for what never changes"
            )
        elif got.startswith("weak"):
            yield error(
                f"{method}: {path}: got {got}, expected a dtype of its own; "
                f"write jnp.asarray(value, dtype)"
            )
        elif got.split("[")[0] in _WIDE:
            yield error(f"{method}: {path}: got {got}, expected 32 bits or fewer; give a dtype")


def first_changes(
    name: str, first: PyTree, later: Iterable[tuple[str, PyTree]], when: str
) -> Iterator[Finding]:
    """Findings about the first of the later trees whose types are not those of the first.

    Later trees come with the method that gave them; `when` says what the first is.
    """
    for method, tree in later:
        found = list(_same_types(method, name, first, tree, when))
        yield from found
        if found:
            return


def _same_types(
    method: str, name: str, first: PyTree, later: PyTree, when: str
) -> Iterator[Finding]:
    ours, theirs = leaves(name, first), leaves(name, later)
    for path in ours | theirs:
        if path not in theirs or path not in ours:
            got, want = ("nothing", "it") if path in ours else ("it", "nothing")
            yield error(
                f"{method}: {path}: got {got}, expected {want} as {when}; "
                f"keep one structure: an array of fixed size and a count"
            )
        elif signature(ours[path]) != signature(theirs[path]):
            yield error(
                f"{method}: {path}: got {signature(theirs[path])}, expected "
                f"{signature(ours[path])} as {when}; keep shapes and dtypes, with .astype where "
                f"needed"
            )
    if ours.keys() == theirs.keys() and jax.tree.structure(first) != jax.tree.structure(later):
        yield error(
            f"{method}: {name}: got other static fields or containers than {when}, expected the "
            f"same; make what changes an array"
        )


# --- comparing and naming -------------------------------------------------------------


def leaves(name: str, tree: PyTree) -> dict[str, Any]:
    """Leaves of a tree by what a reader would call them: `state.core.time`, `obs['speed']`."""
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {name + jax.tree_util.keystr(path): leaf for path, leaf in found}


def signature(leaf: Any) -> str:
    """Type of a leaf as `float32[3]`, with `weak` before it where it is weakly typed."""
    if not hasattr(leaf, "dtype"):
        return f"weak {type(leaf).__name__}[]"
    weak = getattr(leaf, "weak_type", False)
    return f"{'weak ' if weak else ''}{leaf.dtype}{list(leaf.shape)}"


def without_keys(tree: PyTree) -> PyTree:
    """The tree with the words of typed keys in their place."""
    return jax.tree.map(
        lambda leaf: jax.random.key_data(leaf) if random.is_key(leaf) else leaf, tree
    )


def on_host(tree: PyTree) -> PyTree:
    """The tree as numpy arrays, typed keys as their words."""
    return jax.tree.map(np.asarray, jax.device_get(without_keys(tree)))


def first_difference(name: str, one: PyTree, other: PyTree, tolerance: float = 0.0) -> str | None:
    """`obs[2] (0.5 and 0.7)` for the first entry that differs by more than the tolerance.

    Floats are compared relative to the largest number of their leaf, or to 1 if that is
    larger; all else exactly. NaN equals NaN. None if the trees agree.
    """
    ours, theirs = leaves(name, on_host(one)), leaves(name, on_host(other))
    for path in ours | theirs:
        if path not in ours or path not in theirs:
            return f"{path} (one of them lacks it)"
        left, right = ours[path], theirs[path]
        if left.shape != right.shape or left.dtype != right.dtype:
            return f"{path} ({signature(left)} and {signature(right)})"
        differs = _differs(left, right, tolerance)
        if differs.any():
            index = tuple(int(i) for i in np.argwhere(differs)[0])
            place = path + (str(list(index)) if index else "")
            return f"{place} ({left[index]} and {right[index]})"
    return None


def _differs(left: np.ndarray, right: np.ndarray, tolerance: float) -> np.ndarray:
    if tolerance == 0.0 or not jnp.issubdtype(left.dtype, jnp.floating):
        return (left != right) & ~((left != left) & (right != right))
    left, right = left.astype(np.float64), right.astype(np.float64)
    finite = np.isfinite(left) & np.isfinite(right)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    scale = max(1.0, np.abs(left[finite]).max(initial=0.0))
    gap = np.where(finite, left, 0.0) - np.where(finite, right, 0.0)
    return np.where(finite, np.abs(gap) > tolerance * scale, ~same)
