"""The numbers of an env, found and replaced by name through its wrappers.

A plain field name reaches the one place in the stack that has it; where several have
it, a dotted path such as `env.core_env.gravity`, or its end, tells them apart.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from mazejax.base import Pytree, is_concrete
from mazejax.errors import ConfigError, did_you_mean

P = TypeVar("P", bound=Pytree)


def leaf_path(tree: Pytree, name: str) -> tuple[str, ...]:
    """Path to the number of this name, as field names from the outside in.

    Raises ConfigError if no leaf field has the name, or if several have.
    """
    fields = {".".join(path): (path, is_static) for path, is_static in _walk(tree, ())}
    ends = [dotted for dotted in fields if f".{dotted}".endswith(f".{name}")]
    found = [dotted for dotted in ends if not fields[dotted][1]]
    if name in found:
        found = [name]
    if len(found) > 1:
        choices = " or ".join(map(repr, found))
        raise ConfigError(f"{name!r} stands in several places; say {choices}")
    if found:
        return fields[found[0]][0]
    where = getattr(tree, "name", type(tree).__name__)
    if ends:
        raise ConfigError(
            f"{where}: {name!r} is no number that may vary but a static field, which decides "
            f"shapes or code; make an env for each value"
        )
    numbers = [dotted for dotted, (_, is_static) in fields.items() if not is_static]
    known = numbers if "." in name else {dotted.rpartition(".")[2] for dotted in numbers}
    raise ConfigError(f"{where}: has no number {name!r}; {did_you_mean(name, known)}")


def get_leaf(tree: Pytree, name: str) -> Any:
    """The number of this name."""
    value: Any = tree
    for field in leaf_path(tree, name):
        value = value[field] if isinstance(value, Mapping) else getattr(value, field)
    return value


def set_leaves(tree: P, values: dict[str, Any]) -> P:
    """Copy of the env with these numbers, by name; traced values are welcome."""
    for name, value in values.items():
        tree = _set(tree, leaf_path(tree, name), value)
    return tree


def check_batched(tree: Pytree, name: str, values: Any, num_envs: int) -> None:
    """Raise ConfigError unless there is a number for every env, of the kind it replaces."""
    number = get_leaf(tree, name)
    wanted = (num_envs, *np.shape(number))
    if np.shape(values) != wanted:
        raise ConfigError(
            f"batched[{name!r}]: got shape {np.shape(values)}, expected {wanted}, "
            f"one value for every env"
        )
    if not is_concrete((values, number)):
        return
    given, like = np.asarray(values), np.asarray(number)
    if given.dtype.kind not in "iuf" or (like.dtype.kind in "iu" and given.dtype.kind == "f"):
        raise ConfigError(
            f"batched[{name!r}]: got {given.dtype}, expected numbers such as {number!r}"
        )
    for extreme in (given.min(axis=0), given.max(axis=0)):
        set_leaves(tree, {name: extreme.item() if extreme.ndim == 0 else extreme})


def _walk(tree: Any, prefix: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], bool]]:
    """(path, whether static) of every field that has no fields of its own, nor names in a dict."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            path = (*prefix, str(name))
            is_inner = dataclasses.is_dataclass(value) or isinstance(value, Mapping)
            yield from _walk(value, path) if is_inner else [(path, False)]
        return
    for field in dataclasses.fields(tree):
        # Ours say `static`, those of flax `pytree_node=False`.
        is_static = field.metadata.get("static") or field.metadata.get("pytree_node") is False
        path, value = (*prefix, field.name), getattr(tree, field.name)
        if (dataclasses.is_dataclass(value) or isinstance(value, Mapping)) and not is_static:
            yield from _walk(value, path)
        else:
            yield path, bool(is_static)


def _set(tree: Any, path: tuple[str, ...], value: Any) -> Any:
    head, *rest = path
    if isinstance(tree, Mapping):
        return {**tree, head: _set(tree[head], tuple(rest), value) if rest else value}
    inner = _set(getattr(tree, head), tuple(rest), value) if rest else value
    return dataclasses.replace(tree, **{head: inner})
