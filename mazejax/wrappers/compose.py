"""`wrap`: a stack of wrappers from names and fields, and `wrappers_config`, the way back.

    wrap(env, {"RewardScaling": {"scale": 0.1}, "TimeLimit": {"max_steps": 100}})

The order is that of application: the first is innermost. Where a wrapper is used twice,
a list of such mappings says it. Wrappers are found by name in `mazejax.registry.wrappers`.
"""

import contextlib
import dataclasses
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mazejax import registry
from mazejax.base import Pytree
from mazejax.envs.base import Env
from mazejax.envs.reward import RewardAggregator
from mazejax.errors import ConfigError, MazejaxError, did_you_mean
from mazejax.wrappers import aggregation
from mazejax.wrappers.base import Wrapper
from mazejax.wrappers.fields import convert, field_types, located, takes_arrays, to_array

Factory = Callable[..., Env]
"""A wrapper's class, or a function of an env and fields that wraps it."""

Config = Mapping[Any, Mapping[str, Any] | None] | Sequence[Any]
"""Fields by wrapper, or a list of such mappings, of wrappers' names and of factories alone."""


def wrap(env: Env, config: Config | None, where: str = "wrappers") -> Env:
    """The env in its wrappers, the first of them innermost; None and nothing leave it as it is.

    Keys are registered names, classes, or functions of an env. Fields may be plain data, as
    in files, or the objects themselves. Raises ConfigError with the dotted key for an unknown
    name or field, a wrong type, and what a wrapper itself refuses.
    """
    for entry in _entries(config, where):
        env = _apply(env, entry)
    return env


def wrappers_config(env: Env, inside: Env | None = None) -> list[dict[str, Any]]:
    """The wrappers of an env, innermost first, with all their fields as plain data.

    `wrap(env.unwrapped, wrappers_config(env))` is an equal env. With `inside`, a part of the
    stack, only what is around it. Raises ConfigError for a wrapper without a registered name
    and for a field that no file can hold.
    """
    found: list[dict[str, Any]] = []
    while env is not inside and isinstance(env, Wrapper):
        name = registry.wrappers.name_in_files(type(env))
        found.append({name: _plain(_own_fields(env), f"wrappers.{name}")})
        env = env.env
    if inside is not None and env is not inside:
        raise ConfigError(
            "wrappers: what they are around is no longer the env that was wrapped, so that no run "
            "could be read back; wrap it yourself and pass the wrapped env"
        )
    return found[::-1]


def as_configured(env: Env, config: Config | None) -> tuple[Env, list[dict[str, Any]]]:
    """The wrapped env, and its wrappers as plain data of which the very same env is made again."""
    stored = wrappers_config(wrap(env, config), inside=env)
    return wrap(env, stored), stored


def field_names(factory: Factory) -> set[str] | None:
    """Names of the fields that may be set; None if there may be any."""
    if isinstance(factory, type) and issubclass(factory, Pytree):
        return {field.name for field in dataclasses.fields(factory)} - {"env"}  # type: ignore[arg-type]
    parameters = [*inspect.signature(factory).parameters.values()][1:]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return {parameter.name for parameter in parameters}


class _Entry(NamedTuple):
    """One wrapper of a configuration."""

    factory: Factory
    fields: Mapping[str, Any]
    where: str
    """The dotted key, for messages."""


def _entries(config: Config | None, where: str) -> Iterator[_Entry]:
    """The wrappers of a configuration, innermost first."""
    if isinstance(config, Mapping):
        for key, fields in config.items():
            yield _entry(key, fields, where)
    elif isinstance(config, Sequence) and not isinstance(config, str):
        for i, item in enumerate(config):
            if isinstance(item, Mapping):
                yield from _entries(item, f"{where}[{i}]")
            else:
                yield _entry(item, {}, f"{where}[{i}]")
    elif config is not None:
        raise ConfigError(
            f"{where}: expected wrappers with their fields, such as "
            f"{{'TimeLimit': {{'max_steps': 100}}}}, got {config!r}"
        )


def _entry(key: Any, fields: Any, where: str) -> _Entry:
    name = key if isinstance(key, str) else getattr(key, "__name__", repr(key))
    where = f"{where}.{name}"
    if isinstance(key, str):
        try:
            key = registry.wrappers.get(key)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
    if not callable(key):
        raise ConfigError(f"{where}: got {key!r}, expected a name, a class or a function of an env")
    fields = {} if fields is None else fields
    if not isinstance(fields, Mapping):
        raise ConfigError(f"{where}: expected fields with their values, got {fields!r}")
    return _Entry(key, fields, where)


def _apply(env: Env, entry: _Entry) -> Env:
    factory, fields, where = entry
    if isinstance(factory, type) and issubclass(factory, Pytree):
        wrapped = _made(factory, fields, f"{where}.", env=env)
    else:
        wrapped = _called(factory, fields, where, env)  # type: ignore[arg-type]
    with _located_errors(where):  # an env that it does not fit is often found out only now
        _ = wrapped.observation_spaces, wrapped.action_spaces
    return wrapped


def _called(function: Factory, fields: Mapping[str, Any], where: str, env: Env) -> Env:
    known = field_names(function)
    for name in fields:
        if known is not None and name not in known:
            raise ConfigError(f"{where}.{name}: unknown key; {did_you_mean(str(name), known)}")
    try:
        inspect.signature(function).bind(env, **fields)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from None
    with _located_errors(where):
        wrapped = function(env, **fields)
    if not isinstance(wrapped, Env):
        raise ConfigError(f"{where}: made {wrapped!r}, expected an env")
    return wrapped


@contextlib.contextmanager
def _located_errors(where: str) -> Iterator[None]:
    try:
        yield
    except MazejaxError as error:
        raise type(error)(f"{where}: {error}") from error


def _made(cls: type, data: Mapping[str, Any], where: str, **given: Any) -> Any:
    """Object of the class from fields as files or as Python have them."""
    fields = {f.name: f for f in dataclasses.fields(cls) if f.name not in given}
    hints = field_types(cls)
    for name in data:
        if name not in fields:
            raise ConfigError(f"{where}{name}: unknown key; {did_you_mean(str(name), fields)}")
    for name, field in fields.items():
        missing = field.default is field.default_factory is dataclasses.MISSING
        if missing and name not in data:
            raise ConfigError(f"{where}{name}: missing; {cls.__name__} has no default for it")
    values = {name: _value(hints[name], value, f"{where}{name}") for name, value in data.items()}
    try:
        return cls(**given, **values)
    except MazejaxError as error:
        text = str(error).removeprefix(f"{cls.__name__}.")
        said = located(text, where, fields)
        raise type(error)(said if said != text else f"{where[:-1]}: {error}") from None


def _value(hint: Any, value: Any, where: str) -> Any:
    """The field's value; what no file could hold is taken as it is."""
    if not _is_plain(value):
        return value
    value = _with_infinities(value)
    if isinstance(value, (list, tuple)) and takes_arrays(hint):
        return to_array(value, where)
    return convert(hint, value, where, _made)


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _with_infinities(value: Any) -> Any:
    """The value with numbers for the words that JSON has in their place."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(_with_infinities, value))
    return float(value) if value in ("inf", "-inf") else value


def _own_fields(wrapper: Pytree) -> dict[str, Any]:
    fields = [f for f in dataclasses.fields(wrapper) if f.metadata.get("config", True)]  # type: ignore[arg-type]
    return {f.name: getattr(wrapper, f.name) for f in fields if f.name != "env"}


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, RewardAggregator):
        value = {
            aggregation.NAME: registry.rewards.name_in_files(type(value)),
            **_own_fields(value),
        }
    elif isinstance(value, Pytree):
        value = _own_fields(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and math.isinf(value):
        return str(value)  # JSON has no infinite numbers
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "tolist"):
        return _plain(value.tolist(), where)
    raise ConfigError(
        f"{where}: cannot be written as configuration: {value!r}; wrap the env yourself and pass "
        f"the wrapped one"
    )
