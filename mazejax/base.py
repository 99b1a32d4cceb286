"""`Pytree`: the frozen dataclass that every environment, wrapper, algorithm and state is.

Fields are leaves unless they are declared `static()`; constructors validate once and
unflattening never does; equality, hash and repr go by value. `jit` here treats such
objects as compile-time constants when all their leaves are concrete.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

import jax
import numpy as np

from mazejax.errors import ConfigError, did_you_mean

F = TypeVar("F", bound=Callable[..., Any])

_NEVER_LEAVES = ("int", "bool", "str", "bytes", "Callable")


def static(*, default: Any = dataclasses.MISSING, **options: Any) -> Any:
    """Field that decides shapes or code: part of the tree's structure, hashable, never traced."""
    metadata = {**options.pop("metadata", {}), "static": True}
    return dataclasses.field(default=default, metadata=metadata, **options)


@dataclass_transform(frozen_default=True, field_specifiers=(static, dataclasses.field))
class Pytree:
    """Frozen dataclass registered as a JAX pytree by subclassing alone.

    A subclass lists its fields with annotations. A field is a leaf (or a subtree)
    unless it is `static()`. Fields annotated `int`, `bool`, `str` or as a callable
    must be static, because traced they would silently become arrays.
    `validate` runs once, when the object is constructed by its class.
    """

    compile_time: ClassVar[bool] = False
    """Whether `mazejax.jit` bakes a concrete instance into the program, keyed by its value."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)  # type: ignore[type-var]
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]
        for field in fields:
            _refuse_unstable_leaf(cls, field)
        cls._static_names = tuple(f.name for f in fields if f.metadata.get("static"))
        cls._leaf_names = tuple(f.name for f in fields if not f.metadata.get("static"))
        jax.tree_util.register_pytree_with_keys(
            cls,
            flatten_with_keys=_flatten_with_keys,
            unflatten_func=functools.partial(_unflatten, cls),
            flatten_func=_flatten,
        )

    _static_names: ClassVar[tuple[str, ...]] = ()
    _leaf_names: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raise a ConfigError if a field is wrong; traced values must be let through."""

    def replace(self, **changes: Any) -> Self:
        """Copy with some fields changed; an unknown name is a ConfigError."""
        unknown = changes.keys() - set(self._static_names) - set(self._leaf_names)
        if unknown:
            name = sorted(unknown)[0]
            suggestion = did_you_mean(name, self._static_names + self._leaf_names)
            raise ConfigError(f"{type(self).__name__} has no field {name!r}; {suggestion}")
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        mine, theirs = jax.tree.flatten(self), jax.tree.flatten(other)
        return mine[1] == theirs[1] and all(map(_same_leaf, mine[0], theirs[0]))

    def __hash__(self) -> int:
        leaves, structure = jax.tree.flatten(self)
        return hash((type(self), structure, *map(_leaf_token, leaves)))

    def __repr__(self) -> str:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        shown = ", ".join(f"{f.name}={_short(getattr(self, f.name))}" for f in fields if f.repr)
        return f"{type(self).__name__}({shown})"


def is_concrete(value: Any) -> bool:
    """Whether no leaf of the value is a tracer: only then may its numbers be looked at."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def jit(function: F, **options: Any) -> F:
    """`jax.jit`, in which concrete environments and algorithms are constants cached by value.

    An argument whose class says `compile_time` and whose leaves are all concrete is
    baked into the program: XLA folds its numbers, and an equal object built anew hits
    the same compiled program. With traced leaves (under `vmap`) it stays an ordinary
    argument. Arguments inside containers are always ordinary. Options are `jax.jit`'s.
    """

    @functools.partial(jax.jit, static_argnums=0, **options)
    def call(constants: tuple[tuple[int | str, Any], ...], args: tuple, kwargs: dict) -> Any:
        known = dict(constants)
        args = tuple(known.get(i, arg) for i, arg in enumerate(args))
        kwargs = {**kwargs, **{name: known[name] for name in known if isinstance(name, str)}}
        return function(*args, **kwargs)

    @functools.wraps(function)
    def jitted(*args: Any, **kwargs: Any) -> Any:
        named = [*enumerate(args), *kwargs.items()]
        constants = tuple((name, value) for name, value in named if _is_constant(value))
        names = {name for name, _ in constants}
        open_args = tuple(None if i in names else arg for i, arg in enumerate(args))
        open_kwargs = {name: arg for name, arg in kwargs.items() if name not in names}
        return call(constants, open_args, open_kwargs)

    jitted._compiled = call  # type: ignore[attr-defined]
    return jitted  # type: ignore[return-value]


def _is_constant(value: Any) -> bool:
    return isinstance(value, Pytree) and value.compile_time and is_concrete(value)


def _flatten_with_keys(tree: Pytree) -> tuple[list[tuple[Any, Any]], tuple]:
    children = [(jax.tree_util.GetAttrKey(n), getattr(tree, n)) for n in tree._leaf_names]
    return children, tuple(getattr(tree, name) for name in tree._static_names)


def _flatten(tree: Pytree) -> tuple[tuple[Any, ...], tuple]:
    children = tuple(getattr(tree, name) for name in tree._leaf_names)
    return children, tuple(getattr(tree, name) for name in tree._static_names)


def _unflatten(cls: type[Pytree], statics: tuple, children: Any) -> Pytree:
    # Not through the constructor: JAX unflattens with tracers, None and sentinels as leaves.
    tree = object.__new__(cls)
    for name, value in zip(cls._static_names, statics, strict=True):
        object.__setattr__(tree, name, value)
    for name, value in zip(cls._leaf_names, children, strict=True):
        object.__setattr__(tree, name, value)
    return tree


def _refuse_unstable_leaf(cls: type, field: dataclasses.Field) -> None:
    if field.metadata.get("static"):
        return
    name = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", "")
    if name.split("[")[0].split(".")[-1] in _NEVER_LEAVES:
        raise TypeError(
            f"{cls.__name__}.{field.name}: a field of type {name} must be declared static() "
            f"or be annotated as an Array"
        )


def _leaf_token(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if isinstance(leaf, (jax.Array, np.ndarray)):
        array = np.asarray(leaf)
        return (array.shape, array.dtype.str, array.tobytes())
    return (type(leaf), leaf)


def _same_leaf(mine: Any, theirs: Any) -> bool:
    return bool(_leaf_token(mine) == _leaf_token(theirs))


def _short(value: Any) -> str:
    if isinstance(value, (jax.Array, np.ndarray)) and value.size > 4:
        return f"{value.dtype}{list(value.shape)}"
    return repr(value)
