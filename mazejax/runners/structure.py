"""What a checkpoint must know of a tree besides its numbers: leaves, classes, static fields.

`describe` lists them as plain text that is the same in every process, so that a saved
tree and a template can be compared, and the first difference named, before any content
is read. Where and how the numbers are stored is left to `checkpoint`.
"""

import dataclasses
import enum
import functools
import hashlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.errors import ConfigError
from mazejax.types import PyTree

_LONGEST_TEXT = 500
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class Leaf(NamedTuple):
    """What is stored of one leaf: its place, and the type of its array or of its key words."""

    path: str
    """As `jax.tree_util.keystr` writes it, `.params['w'][0]`."""
    shape: tuple[int, ...]
    dtype: str
    key: str | None
    """Implementation of a typed key, whose raw words are stored; None for numbers."""

    @property
    def nbytes(self) -> int:
        """Bytes of the array in memory."""
        return int(np.prod(self.shape, dtype=object)) * jnp.dtype(self.dtype).itemsize


class Structure(NamedTuple):
    """All that decides whether one tree's numbers fit another tree."""

    leaves: tuple[Leaf, ...]
    """In tree order."""
    statics: dict[str, str]
    """Place of every node and every static field -> canonical text of its class or value."""

    @property
    def fingerprint(self) -> str:
        """sha256 of the static part: equal for equal classes and equal static fields."""
        text = "\n".join(f"{place} = {value}" for place, value in self.statics.items())
        return hashlib.sha256(text.encode()).hexdigest()


def describe(tree: PyTree) -> Structure:
    """Structure of a tree of arrays, numbers, typed keys or `jax.ShapeDtypeStruct`s.

    Raises ConfigError for a leaf that is none of these.
    """
    paths = jax.tree_util.tree_leaves_with_path(tree)
    leaves = tuple(_leaf(jax.tree_util.keystr(path), leaf) for path, leaf in paths)
    return Structure(leaves, dict(_statics((), tree)))


def first_difference(saved: Structure, wanted: Structure) -> str | None:
    """Sentence naming the first leaf or static field in which the two differ, or None.

    "got" is what was saved, "wanted" what the template has.
    """
    return _leaf_difference(saved, wanted) or _static_difference(saved, wanted)


def canonical(value: Any) -> str:
    """Text of a static value, the same in every process: no addresses, sets in order.

    Functions and classes go by module and name, dataclasses by class and fields.
    """
    text = _text(value, ())
    if len(text) <= _LONGEST_TEXT:
        return text
    return f"{text[:_LONGEST_TEXT]}... sha256 {hashlib.sha256(text.encode()).hexdigest()}"


def key_impl(leaf: Any) -> tuple[Any, str]:
    """(what `jax.random.wrap_key_data` takes as impl, its name) for a key or its shape struct."""
    found = []
    # Only a traced key tells its implementation when all there is of it is a shape struct.
    jax.eval_shape(lambda k: found.append((jax.random.key_impl(k), random.impl_name(k))), leaf)
    return found[0]


def is_key(leaf: Any) -> bool:
    """Whether a leaf, or what a shape struct stands for, is a typed key."""
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def _leaf(path: str, leaf: Any) -> Leaf:
    name = None
    if is_key(leaf):
        name = key_impl(leaf)[1]
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    elif not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
        leaf = np.asarray(leaf)
    if not (jnp.issubdtype(leaf.dtype, np.number) or jnp.issubdtype(leaf.dtype, np.bool_)):
        raise ConfigError(
            f"leaf {path or '(root)'}: got {leaf.dtype}, expected numbers or keys; "
            f"declare such a field static()"
        )
    return Leaf(path, tuple(int(size) for size in leaf.shape), leaf.dtype.name, name)


def _leaf_difference(saved: Structure, wanted: Structure) -> str | None:
    old = {leaf.path: leaf for leaf in saved.leaves}
    new = {leaf.path: leaf for leaf in wanted.leaves}
    for path in old:
        if path not in new:
            return f"leaf {path or '(root)'}: got one, the template has none"
    for path in new:
        if path not in old:
            return f"leaf {path or '(root)'}: got none, the template has one"
    for path, leaf in new.items():
        for field in ("key", "dtype", "shape"):
            got, want = getattr(old[path], field), getattr(leaf, field)
            if got != want:
                what = "key implementation" if field == "key" else field
                return f"leaf {path or '(root)'}: got {what} {got}, wanted {want}"
    if list(old) != list(new):
        return "order of the leaves: got another one than the template's"
    return None


def _static_difference(saved: Structure, wanted: Structure) -> str | None:
    for place in [*wanted.statics, *saved.statics]:
        got, want = saved.statics.get(place, "nothing"), wanted.statics.get(place, "nothing")
        if got != want:
            return f"static {place}: got {got}, wanted {want}"
    return None


def _statics(path: tuple, node: Any) -> list[tuple[str, str]]:
    """(place, text) of the node's class and static fields and of all below it, in tree order."""
    children, structure = jax.tree_util.tree_flatten_with_path(
        node, is_leaf=lambda entry: entry is not node
    )
    data = structure.node_data()
    if data is None:  # a leaf
        return []
    kind, aux = data
    place = jax.tree_util.keystr(path)
    names = _static_names(node)
    entries = [(f"node {place or '(root)'}", _name(kind))]
    if isinstance(aux, tuple) and len(names) == len(aux):
        entries += [
            (f"field {place}.{name}", canonical(value))
            for name, value in zip(names, aux, strict=True)
        ]
    elif aux is not None and kind is not dict:  # a dict's are the keys, which the paths tell
        entries.append((f"data of node {place or '(root)'}", canonical(aux)))
    for keys, entry in children:
        entries += _statics((*path, *keys), entry)
    return entries


def _static_names(node: Any) -> list[str]:
    """Static fields of a dataclass of ours (`static`) or of flax (`pytree_node=False`)."""
    if not dataclasses.is_dataclass(node):
        return []
    return [
        field.name
        for field in dataclasses.fields(node)
        if field.metadata.get("static") or field.metadata.get("pytree_node") is False
    ]


def _text(value: Any, parents: tuple) -> str:
    if any(value is parent for parent in parents):
        return "<cycle>"
    inner = functools.partial(_text, parents=(*parents, value))
    if isinstance(value, enum.Enum):
        return f"{_name(type(value))}.{value.name}"
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        owner = getattr(value, "__self__", None)
        bound = owner is not None and not isinstance(owner, (type, type(sys)))
        return f"{_name(value)} of {inner(owner)}" if bound else _name(value)
    if isinstance(value, functools.partial):
        return f"partial({inner(value.func)}, {inner(value.args)}, {inner(value.keywords)})"
    if isinstance(value, (jax.Array, np.ndarray)):
        array = np.asarray(jax.random.key_data(value) if is_key(value) else value)
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        return f"array({array.dtype.name}, {list(array.shape)}, {digest})"
    if isinstance(value, Mapping):
        return f"{_name(type(value))}{{{', '.join(sorted(map(inner, value.items())))}}}"
    if isinstance(value, (set, frozenset)):
        return f"{_name(type(value))}{{{', '.join(sorted(map(inner, value)))}}}"
    if isinstance(value, (list, tuple)):
        plain = {list: "list", tuple: ""}.get(type(value), _name(type(value)))
        return f"{plain}({', '.join(map(inner, value))})"
    return _object_text(value, inner)


def _object_text(value: Any, inner: Any) -> str:
    if dataclasses.is_dataclass(value):
        fields = [f.name for f in dataclasses.fields(value) if f.compare and hasattr(value, f.name)]
        shown = ", ".join(f"{name}={inner(getattr(value, name))}" for name in fields)
        return f"{_name(type(value))}({shown})"
    if type(value).__repr__ is object.__repr__:  # type: ignore[comparison-overlap]
        shown = ", ".join(
            f"{k}={inner(v)}" for k, v in sorted(getattr(value, "__dict__", {}).items())
        )
        return f"{_name(type(value))}({shown})"
    return _ADDRESS.sub("", repr(value))


def _name(value: Any) -> str:
    """module:qualname, the module as others import it: a script's by its file, no private parts."""
    module = getattr(value, "__module__", None) or ""
    if module == "__main__":
        main = sys.modules["__main__"]
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        module = spec.name if spec else Path(file).stem if file else module
    # Libraries move things between their private modules from version to version.
    module = module.split("._")[0]
    return value.__qualname__ if module == "builtins" else f"{module}:{value.__qualname__}"
