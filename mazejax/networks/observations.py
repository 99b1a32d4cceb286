"""Observations as arrays by key: what networks of blocks take, whatever the space.

Every array is float32 and has the layout of its space, images [H, W, C]; only masks of
actions stay bool.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mazejax.errors import ConfigError
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.spaces.masks import mask_names
from mazejax.spaces.simple import Box, MultiBinary
from mazejax.types import Array, PyTree

KEY = "observation"
"""Under this key stands an observation that is no dict."""


def arrays_by_key(space: Space, action_space: Space, obs: PyTree) -> dict[str, Array]:
    """Observations [..., *obs] as arrays [..., *shape]; keys of nested Dicts are "outer/inner".

    A category becomes a one-hot vector, several of them one such vector after the other.
    Boxes of uint8 are scaled from their bounds to [0, 1], unless they come as floats
    because they were normalized; other numbers stay as they are. `NAME_mask` is bool.
    Raises ConfigError where two observations would have one key.
    """
    masks = mask_names(action_space)
    return {
        key: values.astype(bool) if key in masks else _as_array(part, values)
        for key, (part, values) in _leaves(space, obs).items()
    }


def input_shapes(space: Space, action_space: Space) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of `arrays_by_key` for one observation."""

    def arrays(obs: PyTree) -> dict[str, Array]:
        return arrays_by_key(space, action_space, obs)

    return jax.eval_shape(arrays, jax.eval_shape(space.sample, jax.random.key(0)))


def _leaves(space: Space, obs: PyTree, prefix: str = "") -> dict[str, tuple[Space, Any]]:
    if not isinstance(space, Dict):
        return {prefix or KEY: (space, obs)}
    leaves: dict[str, tuple[Space, Any]] = {}
    origins: dict[str, str] = {}
    for name, part in space.items():
        path = f"{prefix}/{name}" if prefix else name
        found = _leaves(part, obs[name], path)
        for key in found:
            if key in leaves:
                raise ConfigError(
                    f"observation {key!r}: what stands under {origins[key]!r} and under {path!r} "
                    f"would both have this key; rename one of them"
                )
        leaves |= found
        origins |= dict.fromkeys(found, path)
    return leaves


def _as_array(space: Space, values: Array) -> Array:
    if not isinstance(space, (Box, MultiBinary)):
        return space.flatten(values)
    is_whole = jnp.issubdtype(values.dtype, jnp.integer)
    if space.dtype != np.uint8 or isinstance(space, MultiBinary) or not is_whole:
        return values.astype(jnp.float32)
    low, high = space.low.astype(np.float32), space.high.astype(np.float32)
    span = np.where(high > low, high - low, 1.0).astype(np.float32)
    return (values.astype(jnp.float32) - _like(low, values)) * _like(1.0 / span, values)


def _like(numbers: np.ndarray, values: Array) -> Array:
    """Bounds [*shape] with the batch axes of the values, one number where all are alike."""
    same = numbers.size > 0 and np.all(numbers == numbers.flat[0])
    return (
        jnp.float32(numbers.flat[0])
        if same
        else jnp.expand_dims(jnp.asarray(numbers), range(values.ndim - numbers.ndim))
    )
