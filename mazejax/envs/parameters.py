"""The numbers of an env, found and replaced by name through its wrappers.

A plain field name reaches the one place in the stack that has it; where several have
it, a dotted path such as `env.core_env.gravity` tells them apart.
"""

import dataclasses
from typing import Any

from mazejax.base import Pytree
from mazejax.errors import ConfigError, did_you_mean


def leaf_paths(tree: Pytree, name: str) -> tuple[str, ...]:
    """Path to the number of this name, as field names from the outside in.

    Raises ConfigError if no leaf field has the name, or if several have.
    """
    known = {".".join(path): path for path in _walk(tree, ())}
    found = [path for dotted, path in known.items() if dotted == name or path[-1] == name]
    if name in known:
        found = [known[name]]
    if not found:
        suggestion = did_you_mean(name, {path[-1] for path in known.values()})
        raise ConfigError(
            f"{tree.name if hasattr(tree, 'name') else tree}: has no number {name!r}; {suggestion}"
        )
    if len(found) > 1:
        choices = " or ".join(repr(".".join(path)) for path in found)
        raise ConfigError(f"{name!r} stands in several places; say {choices}")
    return found[0]


def get_leaf(tree: Pytree, name: str) -> Any:
    """The number of this name."""
    value: Any = tree
    for field in leaf_paths(tree, name):
        value = getattr(value, field)
    return value


def set_leaves(tree: Pytree, values: dict[str, Any]) -> Pytree:
    """Copy of the env with these numbers, by name; traced values are welcome."""
    for name, value in values.items():
        tree = _set(tree, leaf_paths(tree, name), value)
    return tree


def _walk(tree: Pytree, prefix: tuple[str, ...]) -> list[tuple[str, ...]]:
    paths = []
    for field in dataclasses.fields(tree):  # type: ignore[arg-type]
        value = getattr(tree, field.name)
        if dataclasses.is_dataclass(value) and not field.metadata.get("static"):
            paths += _walk(value, (*prefix, field.name))
        elif not field.metadata.get("static"):
            paths.append((*prefix, field.name))
    return paths


def _set(tree: Pytree, path: tuple[str, ...], value: Any) -> Pytree:
    head, *rest = path
    inner = _set(getattr(tree, head), tuple(rest), value) if rest else value
    return dataclasses.replace(tree, **{head: inner})  # type: ignore[type-var]
