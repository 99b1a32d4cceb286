"""The configurations of a sweep: an algorithm object for each point of a grid.

Keys are fields of the algorithm, dotted for what lies within (`network.hidden`,
`env.gravity`); every object is built by its own constructor, which checks its values, so
that nothing is compiled before everything is known to be right.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mazejax.algos.base import Algorithm
from mazejax.envs.parameters import leaf_path
from mazejax.errors import ConfigError, did_you_mean

Grid = Mapping[str, Iterable[Any]] | Sequence[Mapping[str, Any]]
"""Values by key, of which all combinations are meant; or the configurations, one by one."""


@dataclasses.dataclass(frozen=True)
class Configuration:
    """One point of the grid."""

    values: dict[str, Any]
    """Of every key of the sweep, as the algorithm holds them."""
    algorithm: Algorithm

    def __str__(self) -> str:
        """`learning_rate=0.001, num_envs=16`; the algorithm's name if nothing was varied."""
        shown = ", ".join(f"{key}={format_value(value)}" for key, value in self.values.items())
        return shown or type(self.algorithm).__name__


def expand(algorithm: Algorithm, grid: Grid) -> list[Configuration]:
    """The configurations in the grid's order, the last key varying fastest.

    What a configuration of a list does not mention keeps the algorithm's own value.
    Raises ConfigError for unknown keys, values that the classes refuse, and duplicates.
    """
    points = _points(grid)
    keys = list(dict.fromkeys(key for point in points for key in point))
    paths = {key: _field_path(algorithm, key) for key in keys}
    _refuse_overlaps(paths)
    configurations = []
    for point in points:
        made = _configure(algorithm, point, paths)
        values = {key: _plain(_get(made, paths[key])) for key in keys}
        configurations.append(Configuration(values, made))
    seen: dict[Algorithm, Configuration] = {}
    for configuration in configurations:
        if seen.setdefault(configuration.algorithm, configuration) is not configuration:
            raise ConfigError(f"grid: {configuration} stands twice; remove one of the two")
    return configurations


def format_value(value: Any) -> str:
    """Short text of a value: numbers without digits that say nothing, objects by name."""
    value = _plain(value)
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)


def _points(grid: Grid) -> list[dict[str, Any]]:
    if isinstance(grid, Mapping):
        values = [_values(key, some) for key, some in grid.items()]
        return [dict(zip(grid, row, strict=True)) for row in itertools.product(*values)]
    points = list(grid) if isinstance(grid, Sequence) else []
    if not points or not all(isinstance(point, Mapping) for point in points):
        raise ConfigError(
            f"grid: got {grid!r}, expected lists of values by field, such as "
            f"{{'learning_rate': [1e-3, 3e-3]}}, or a list of configurations"
        )
    return [{key: _plain(value) for key, value in point.items()} for point in points]


def _values(key: str, values: Any) -> list[Any]:
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise ConfigError(f"grid: {key}: expected a list of values, got {values!r}")
    plain = [_plain(value) for value in values]
    if not plain:
        raise ConfigError(f"grid: {key}: has no values; give one at least, or leave it out")
    return plain


def _plain(value: Any) -> Any:
    """A number of NumPy or JAX as Python's, anything else as it is."""
    if not hasattr(value, "dtype") or np.ndim(value) > 0:
        return value
    number = np.asarray(value)[()]
    # By its text: the float32 nearest to 0.001 is 0.001, and not 0.0010000000474974513.
    return float(str(number)) if isinstance(number, np.floating) else number.item()


def _field_path(algorithm: Algorithm, key: str) -> tuple[str, ...]:
    """Field names from the algorithm inwards; within its env a bare name finds its number."""
    tree: Any = algorithm
    names = str(key).split(".")
    for depth, name in enumerate(names):
        fields = {field.name: field for field in _fields(tree)}
        if name not in fields and depth and names[0] == "env":
            return ("env", *leaf_path(algorithm.env, ".".join(names[1:])))
        if name not in fields:
            raise ConfigError(f"grid: {key}: unknown key; {did_you_mean(name, fields)}")
        if not fields[name].init:
            raise ConfigError(f"grid: {key}: follows from other fields; vary those instead")
        tree = getattr(tree, name)
    return tuple(names)


def _fields(tree: Any) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(tree) if dataclasses.is_dataclass(tree) else ()


def _refuse_overlaps(paths: dict[str, tuple[str, ...]]) -> None:
    for (one, outer), (other, inner) in itertools.permutations(paths.items(), 2):
        if inner[: len(outer)] == outer:
            raise ConfigError(f"grid: {other} is a part of {one}; give one of the two")


def _configure(
    algorithm: Algorithm, point: Mapping[str, Any], paths: dict[str, tuple[str, ...]]
) -> Algorithm:
    changes: dict[str, Any] = {}
    for key, value in point.items():
        *outer, last = paths[key]
        inner = changes
        for name in outer:
            inner = inner.setdefault(name, _Within())
        inner[last] = value
    try:
        return _replace(algorithm, changes)
    except ConfigError as error:
        shown = ", ".join(f"{key}={format_value(value)}" for key, value in point.items())
        raise ConfigError(f"grid: {shown}: {error}") from None


class _Within(dict):
    """Changes of an object's fields, where a plain dict would be a value."""


def _replace(tree: Any, changes: dict[str, Any]) -> Any:
    """Copy with changed fields; all of one object at once, for some are checked together."""
    values = {
        name: _replace(getattr(tree, name), change) if isinstance(change, _Within) else change
        for name, change in changes.items()
    }
    return dataclasses.replace(tree, **values)


def _get(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = getattr(tree, name)
    return tree
