"""`Pytree`: the frozen dataclass that every environment, wrapper, algorithm and state is.

Fields are leaves unless they are declared `static()`; constructors validate once and
unflattening never does; equality, hash and repr go by value. `jit` here treats such
objects as compile-time constants when all their leaves are concrete.
"""

import collections.abc
import dataclasses
import enum
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

import jax
import numpy as np

from mazejax.errors import ConfigError, did_you_mean

F = TypeVar("F", bound=Callable[..., Any])

_NEVER_LEAVES = (int, str, bytes, enum.Enum, type, np.dtype)  # bool is an int


def static(*, default: Any = dataclasses.MISSING, **options: Any) -> Any:
    """Field that decides shapes or code: part of the tree's structure, hashable, never traced."""
    metadata = {**options.pop("metadata", {}), "static": True}
    return dataclasses.field(default=default, metadata=metadata, **options)


@dataclass_transform(frozen_default=True, field_specifiers=(static, dataclasses.field))
class Pytree:
    """Frozen dataclass registered as a JAX pytree by subclassing alone.

    A subclass lists its fields with annotations. A field is a leaf (or a subtree)
    unless it is `static()`. Fields annotated `int`, `bool`, `str` or as a callable, also
    with `| None` or in a tuple, must be static: traced they would silently become arrays.
    One annotated `float` holds a number, integers become floats.
    `validate` runs once, when the object is constructed by its class. Equality goes by
    value and type, down to the bits: 1 is not 1.0, 0.0 is not -0.0, nan is nan.
    """

    compile_time: ClassVar[bool] = False
    """Whether `mazejax.jit` bakes a concrete instance into the program, keyed by its value."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)  # type: ignore[type-var]
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]
        own = inspect.get_annotations(cls)
        for field in fields:
            if field.name in own and not field.metadata.get("static"):
                _refuse_unstable_leaf(cls, field)
        cls._static_names = tuple(f.name for f in fields if f.metadata.get("static"))
        cls._leaf_names = tuple(f.name for f in fields if not f.metadata.get("static"))
        cls._float_names = tuple(f.name for f in fields if f.type in (float, "float"))
        cls.__init__ = _naming_unknown_fields(cls.__init__)  # type: ignore[method-assign]
        jax.tree_util.register_pytree_with_keys(
            cls,
            flatten_with_keys=_flatten_with_keys,
            unflatten_func=functools.partial(_unflatten, cls),
            flatten_func=_flatten,
        )

    _static_names: ClassVar[tuple[str, ...]] = ()
    _leaf_names: ClassVar[tuple[str, ...]] = ()
    _float_names: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name in self._float_names:
            object.__setattr__(self, name, _as_number(type(self), name, getattr(self, name)))
        for name in self._static_names:
            _refuse_unhashable(type(self), name, getattr(self, name))
        self.validate()

    def validate(self) -> None:
        """Raise a ConfigError if a field is wrong; traced values must be let through."""

    def replace(self, **changes: Any) -> Self:
        """Copy with some fields changed; an unknown name is a ConfigError."""
        _refuse_unknown(type(self), changes)
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        mine, theirs = jax.tree.flatten(self), jax.tree.flatten(other)
        return mine[1] == theirs[1] and [*map(_token, mine[0])] == [*map(_token, theirs[0])]

    def __hash__(self) -> int:
        leaves, structure = jax.tree.flatten(self)
        return hash((type(self), structure, *map(_token, leaves)))

    def __repr__(self) -> str:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        leaves = jax.tree.map(_shown, {name: getattr(self, name) for name in self._leaf_names})
        values = {f.name: leaves.get(f.name, getattr(self, f.name)) for f in fields if f.repr}
        shown = ", ".join(f"{name}={value!r}" for name, value in values.items())
        return f"{type(self).__name__}({shown})"


def is_concrete(value: Any) -> bool:
    """Whether no leaf of the value is a tracer: only then may its numbers be looked at."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def is_number(value: Any) -> bool:
    """Whether it is a real number or an array of such, also a traced one; bool is none."""
    if not hasattr(value, "dtype"):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    kind = getattr(value.dtype, "kind", None)
    return kind in ("f", "i", "u") or (kind == "V" and _is_narrow_number(value.dtype))


def jit(
    function: F, *, static_argnames: Sequence[str] = (), donate_argnames: Sequence[str] = ()
) -> F:
    """`jax.jit`, in which concrete environments and algorithms are constants cached by value.

    An argument whose class says `compile_time` and whose leaves are all concrete is
    baked into the program: XLA folds its numbers, and an equal object built anew hits
    the same compiled program. With traced leaves (under `vmap`) it stays an ordinary
    argument. Arguments inside containers are always ordinary. Other static and donated
    arguments are given by name, whether calls pass them by position or by name.
    """

    @functools.wraps(function)
    def call(_constants: tuple[tuple[int | str, Any], ...], *args: Any, **kwargs: Any) -> Any:
        known: dict[Any, Any] = dict(_constants)
        args = tuple(known.pop(i, arg) for i, arg in enumerate(args))
        return function(*args, **kwargs, **known)

    # jax reads there which position a name has, and how arguments are called in its errors.
    call.__signature__ = _with_constants(inspect.signature(function))  # type: ignore[attr-defined]
    compiled = jax.jit(
        call,
        static_argnames=("_constants", *_names(static_argnames)),
        donate_argnames=_names(donate_argnames),
    )

    @functools.wraps(function)
    def jitted(*args: Any, **kwargs: Any) -> Any:
        named = [*enumerate(args), *kwargs.items()]
        constants = tuple((name, value) for name, value in named if _is_constant(value))
        names = {name for name, _ in constants}
        open_args = (None if i in names else arg for i, arg in enumerate(args))
        open_kwargs = {name: arg for name, arg in kwargs.items() if name not in names}
        return compiled(constants, *open_args, **open_kwargs)

    return jitted  # type: ignore[return-value]


def _naming_unknown_fields(init: Callable[..., None]) -> Callable[..., None]:
    """The constructor, with a ConfigError for a keyword that is no field."""

    @functools.wraps(init)
    def __init__(self: Pytree, *args: Any, **kwargs: Any) -> None:
        try:
            init(self, *args, **kwargs)
        except TypeError:
            known = inspect.signature(init).parameters
            if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in known.values()):
                _refuse_unknown(type(self), kwargs.keys() - known.keys())
            raise

    return __init__


def _refuse_unknown(cls: type[Pytree], names: Iterable[str]) -> None:
    """Raise ConfigError for the first name that is no field, or is not for callers to set."""
    may_be_set = {field.name: field.init for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in sorted(names):
        if name not in may_be_set:
            known = [known for known, may in may_be_set.items() if may]
            raise ConfigError(f"{cls.__name__} has no field {name!r}; {did_you_mean(name, known)}")
        if not may_be_set[name]:
            raise ConfigError(
                f"{cls.__name__}.{name}: follows from other fields; set those instead"
            )


def _with_constants(signature: inspect.Signature) -> inspect.Signature:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [
        p.replace(kind=kind) if p.kind is inspect.Parameter.POSITIONAL_ONLY else p
        for p in signature.parameters.values()
    ]
    return signature.replace(parameters=[inspect.Parameter("_constants", kind), *parameters])


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _is_constant(value: Any) -> bool:
    return isinstance(value, Pytree) and value.compile_time and is_concrete(value)


def _flatten_with_keys(tree: Pytree) -> tuple[list[tuple[Any, Any]], tuple]:
    children = [(jax.tree_util.GetAttrKey(n), getattr(tree, n)) for n in tree._leaf_names]
    return children, _Statics(getattr(tree, name) for name in tree._static_names)


def _flatten(tree: Pytree) -> tuple[tuple[Any, ...], tuple]:
    children = tuple(getattr(tree, name) for name in tree._leaf_names)
    return children, _Statics(getattr(tree, name) for name in tree._static_names)


def _unflatten(cls: type[Pytree], statics: tuple, children: Any) -> Pytree:
    # Not through the constructor: JAX unflattens with tracers, None and sentinels as leaves.
    tree = object.__new__(cls)
    for name, value in zip(cls._static_names, statics, strict=True):
        object.__setattr__(tree, name, value)
    for name, value in zip(cls._leaf_names, children, strict=True):
        object.__setattr__(tree, name, value)
    return tree


class _Statics(tuple):
    """Values of the static fields; unequal where types differ, since 1 traces unlike 1.0."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, _Statics) and _token(self) == _token(other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(_token(self))


def _is_narrow_number(dtype: Any) -> bool:
    """Whether a dtype that is none of NumPy's own is one such as bfloat16 or int4."""
    return any(jax.dtypes.issubdtype(dtype, kind) for kind in (np.floating, np.integer))


def _as_number(cls: type, name: str, value: Any) -> Any:
    """The value of a field that is annotated float: arrays as they are, integers as floats."""
    if not is_number(value):
        raise ConfigError(f"{name}: must be a number, got {_shown(value)!r}, in {cls.__name__}")
    return value if hasattr(value, "dtype") else float(value)


def _refuse_unhashable(cls: type, name: str, value: Any) -> None:
    try:
        hash(value)
    except TypeError:
        raise ConfigError(
            f"{name}: must be hashable, for it is a static field of {cls.__name__}, got "
            f"a {type(value).__name__}; give a tuple instead of a list or an array"
        ) from None


def _refuse_unstable_leaf(cls: type, field: dataclasses.Field) -> None:
    annotation: Any = field.type
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, vars(sys.modules[cls.__module__]))
        except (NameError, AttributeError, TypeError, SyntaxError):
            return  # names what is not there yet, such as the class itself
    if _is_never_leaf(annotation):
        shown = annotation.__name__ if isinstance(annotation, type) else annotation
        raise TypeError(
            f"{cls.__name__}.{field.name}: a field of type {shown} must be declared static() "
            f"or be annotated as an Array"
        )


def _is_never_leaf(annotation: Any) -> bool:
    """Whether values of this annotation decide shapes or code and are no numbers to trace."""
    kind, args = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if kind in (typing.Union, types.UnionType):
        return all(_is_never_leaf(arg) for arg in args if arg is not types.NoneType)
    if kind in (tuple, list, dict):
        values = args[1:] if kind is dict else args
        return any(_is_never_leaf(value) for value in values)
    if kind in (typing.Annotated, typing.Final):
        return any(map(_is_never_leaf, args[:1]))
    if kind in (typing.Literal, collections.abc.Callable):
        return True
    return isinstance(kind, type) and issubclass(kind, _NEVER_LEAVES)


def _token(value: Any) -> Any:
    """Hashable stand-in: equal for two leaves or static values that trace alike."""
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        weak = getattr(value, "weak_type", False)
        return (value.dtype, value.shape, weak, _numbers(value).tobytes())
    if isinstance(value, (float, complex)):
        return (type(value), repr(value))
    if isinstance(value, tuple):
        return (type(value), *map(_token, value))
    return (type(value), value)


def _numbers(array: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(array) if _is_key(array) else array)


def _is_key(value: Any) -> bool:
    return jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)


class _Text(str):
    __slots__ = ()
    __repr__ = str.__str__


def _shown(leaf: Any) -> Any:
    """An array in one line: small ones with their values, keys with their words."""
    if not isinstance(leaf, (jax.Array, np.ndarray)):
        return leaf
    known = not isinstance(leaf, jax.core.Tracer) and leaf.size <= 4
    if not known or (isinstance(leaf, jax.Array) and leaf.is_deleted()):
        return _Text(f"{leaf.dtype}{list(leaf.shape)}")
    if _is_key(leaf):
        return _Text(f"{leaf.dtype}{_numbers(leaf).tolist()}")
    return _Text(" ".join(repr(leaf).split()))
