"""Our spaces as those of Gymnasium and gymnax, and back.

A space converts if the other library has its counterpart, and comes back equal; where
it has none, a SpaceError says what is supported. Both libraries are imported when used.
"""

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from mazejax.errors import SpaceError
from mazejax.spaces.base import Space, compact
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box, Discrete, MultiBinary, MultiDiscrete

if TYPE_CHECKING:
    import gymnasium
    import gymnax.environments.spaces

_GYMNASIUM = "Box, Discrete, MultiDiscrete, MultiBinary and Dict"
_GYMNAX = "Box, Discrete with start 0, and Dict"


def to_gymnasium(space: Space, where: str = "space") -> "gymnasium.Space[Any]":
    """The Gymnasium space of the same values; categories have its default dtype, int64.

    Errors name the space by `where`, here and below.
    """
    from gymnasium import spaces

    match space:
        case Dict():
            parts = ((key, to_gymnasium(part, _at(where, key))) for key, part in space.items())
            return spaces.Dict(OrderedDict(parts))  # of a plain dict Gymnasium sorts the keys
        case Box():
            return spaces.Box(space.low.copy(), space.high.copy(), space.shape, space.dtype.type)
        case Discrete():
            return spaces.Discrete(space.n, start=space.start)
        case MultiDiscrete():
            return spaces.MultiDiscrete(space.nvec, start=space.start)
        case MultiBinary():
            return spaces.MultiBinary(space.shape if len(space.shape) > 1 else space.shape[0])
    raise _unsupported(space, where, _GYMNASIUM)


def from_gymnasium(space: "gymnasium.Space[Any]", where: str = "space") -> Space:
    """Our space of the same values as a Gymnasium space; its categories become int32."""
    from gymnasium import spaces

    match space:
        case spaces.Dict():
            return Dict({k: from_gymnasium(part, _at(where, k)) for k, part in space.items()})
        case spaces.Box():
            return Box(space.low, space.high, space.shape, space.low.dtype)
        case spaces.Discrete():
            return Discrete(int(space.n), int(space.start))
        case spaces.MultiDiscrete():
            return MultiDiscrete(space.nvec, space.start)
        case spaces.MultiBinary():
            return MultiBinary(space.shape)
    raise _unsupported(space, where, _GYMNASIUM)


def to_gymnax(space: Space, where: str = "space") -> "gymnax.environments.spaces.Space":
    """The gymnax space of the same values; gymnax has no binary or multiple categories."""
    from gymnax.environments import spaces

    match space:
        case Dict():
            return spaces.Dict({k: to_gymnax(part, _at(where, k)) for k, part in space.items()})
        case Box():
            return spaces.Box(compact(space.low), compact(space.high), space.shape, space.dtype)
        case Discrete(start=0):
            return spaces.Discrete(space.n)
    raise _unsupported(space, where, _GYMNAX)


def from_gymnax(space: "gymnax.environments.spaces.Space", where: str = "space") -> Space:
    """Our space of the same values as a gymnax space."""
    from gymnax.environments import spaces

    match space:
        case spaces.Dict():
            parts = space.spaces.items()
            return Dict({key: from_gymnax(part, _at(where, key)) for key, part in parts})
        case spaces.Box():
            low, high = (np.broadcast_to(bound, space.shape) for bound in (space.low, space.high))
            return Box(low, high, space.shape, space.dtype)
        case spaces.Discrete():
            return Discrete(space.n)
    raise _unsupported(space, where, _GYMNAX)


def _at(where: str, key: object) -> str:
    return f"{where}[{key!r}]"


def _unsupported(space: Any, where: str, supported: str) -> SpaceError:
    library = type(space).__module__.split(".")[0]
    return SpaceError(
        f"{where}: got {space!r} of {library}, expected {supported}; "
        f"describe its values with one of these"
    )
