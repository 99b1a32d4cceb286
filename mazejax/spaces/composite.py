"""`Dict`: the space of dicts of values, nested at will.

JAX sorts the keys of dicts, so flattening goes by sorted keys and two spaces are
equal whatever the order in which their keys were given; printing keeps that order.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mazejax.errors import ConfigError, SpaceError, did_you_mean
from mazejax.spaces.base import Space

if TYPE_CHECKING:
    from mazejax.types import Array, Key, PyTree


class Dict(Space, Mapping[str, Space]):
    """Dicts with a value of its own space under every key; a mapping from key to space."""

    shape: dict[str, Any]
    dtype: dict[str, Any]
    _spaces: dict[str, Space]

    def __init__(self, spaces: Mapping[str, Space]) -> None:
        if not isinstance(spaces, Mapping) or not spaces:
            raise ConfigError(
                f"Dict spaces: got {spaces!r}, expected a dict of at least one space; "
                f"write Dict({{'name': space}})"
            )
        for key, space in spaces.items():
            if not isinstance(key, str):
                raise ConfigError(
                    f"Dict spaces: got key {key!r}, expected a str; write {str(key)!r}"
                )
            if not isinstance(space, Space):
                raise ConfigError(
                    f"Dict spaces[{key!r}]: got {type(space).__name__}, expected a space; "
                    f"wrap a plain dict in Dict, convert other spaces with from_gymnasium"
                )
        super().__init__(
            _spaces=dict(spaces),
            shape={key: space.shape for key, space in spaces.items()},
            dtype={key: space.dtype for key, space in spaces.items()},
            flat_size=sum(space.flat_size for space in spaces.values()),
        )

    def __getitem__(self, key: str) -> Space:
        if key not in self._spaces:
            raise KeyError(f"Dict has no key {key!r}; {did_you_mean(str(key), self._spaces)}")
        return self._spaces[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._spaces)

    def __len__(self) -> int:
        return len(self._spaces)

    def __contains__(self, key: object) -> bool:
        return key in self._spaces

    def without(self, keys: Iterable[str]) -> "Dict":
        """The space that has all but these keys."""
        left_out = {*keys}
        return Dict({key: space for key, space in self.items() if key not in left_out})

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (self._spaces,), {}

    @property
    def summary(self) -> str:
        return ", ".join(f"{name}: {space.summary}" for name, space in self.items())

    def validate(self, value: Any, where: str = "action") -> None:
        if not isinstance(value, Mapping):
            raise SpaceError(
                f"{where}: got {type(value).__name__}, expected a dict with the keys "
                f"{', '.join(map(repr, self))}; name each value"
            )
        for key in value.keys() - self.keys():
            raise SpaceError(f"{where}: got an unknown key {key!r}; {did_you_mean(str(key), self)}")
        for key, space in self.items():
            if key not in value:
                raise SpaceError(
                    f"{where}: got the keys {', '.join(map(repr, value))}, expected {key!r} too; "
                    f"give every key of the space"
                )
            space.validate(value[key], f"{where}[{key!r}]")

    def sample(self, key: "Key") -> dict[str, Any]:
        """A dict of random values, each from a stream of random numbers named after its key."""
        from mazejax import random

        return {name: space.sample(random.stream(key, name)) for name, space in self.items()}

    def clip(self, value: "PyTree") -> dict[str, Any]:
        return {name: space.clip(value[name]) for name, space in self.items()}

    def flatten(self, value: "PyTree") -> "Array":
        """The values' vectors in the order of the sorted keys, float32 [..., flat_size]."""
        import jax.numpy as jnp

        return jnp.concatenate([self[key].flatten(value[key]) for key in sorted(self)], axis=-1)

    def unflatten(self, vector: "Array") -> dict[str, Any]:
        """The dict whose values' vectors, in the order of the sorted keys, are the vector."""
        import jax.numpy as jnp

        keys = sorted(self)
        ends = np.cumsum([self[key].flat_size for key in keys])[:-1]
        vectors = dict(zip(keys, jnp.split(vector, ends, axis=-1), strict=True))
        return {key: space.unflatten(vectors[key]) for key, space in self.items()}
