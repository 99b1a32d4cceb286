"""Masks of allowed actions: found in observations by name, and sampled under.

The mask of an action `NAME` of a Dict space is the observation `NAME_mask`, that of a
single action is `action_mask`: bool, with one entry for every category or bit. Where no
category is allowed all are, since one must be; a bit that is not allowed is 0.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from mazejax import random
from mazejax.errors import SpaceError
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.spaces.distributions import Bernoulli, Categorical, MultiCategorical, mask_logits
from mazejax.spaces.simple import Discrete, MultiBinary, MultiDiscrete
from mazejax.types import Array, Key, PyTree

Masks = Any
"""None, a mask [..., flat_size], or a dict of masks by the names of a Dict space."""

MASKABLE = (Discrete, MultiDiscrete, MultiBinary)
"""Kinds of spaces whose actions may be masked."""

_MASKABLE = "Discrete, MultiDiscrete or MultiBinary"


def mask_names(action_space: Space) -> dict[str, Space]:
    """Names under which observations may hold masks, with the action space that each masks."""
    if isinstance(action_space, Dict):
        return {f"{name}_mask": space for name, space in action_space.items()}
    return {"action_mask": action_space}


def action_masks(action_space: Space, obs: PyTree) -> Masks:
    """The masks [..., flat_size] that observations [..., *obs] hold; None if there are none."""
    if not isinstance(obs, Mapping):
        return None
    found = {name: obs[name] for name in mask_names(action_space) if name in obs}
    if not isinstance(action_space, Dict):
        return found.get("action_mask")
    return {name.removesuffix("_mask"): mask for name, mask in found.items()} or None


def check_mask_spaces(observation_space: Space, action_space: Space, where: str) -> None:
    """Raise SpaceError for a mask that does not have one entry for every category or bit."""
    for name, space in mask_names(action_space).items():
        if not isinstance(observation_space, Dict) or name not in observation_space:
            continue
        if not isinstance(space, MASKABLE):
            raise SpaceError(
                f"{where}[{name!r}]: masks a {type(space).__name__}, expected a {_MASKABLE} "
                f"action; rename the observation if it is no mask"
            )
        got = observation_space[name].shape
        if got != (space.flat_size,):
            raise SpaceError(
                f"{where}[{name!r}]: got shape {got}, expected {(space.flat_size,)}, one entry "
                f"for every {'bit' if isinstance(space, MultiBinary) else 'category'} of the action"
            )


def sample_masked(space: Any, key: Key, masks: Masks) -> PyTree:
    """A random action among those allowed, all equally likely; unmasked parts from the space."""
    if isinstance(space, Dict):
        by_name = masks or {}
        return {
            name: sample_masked(part, random.stream(key, name), by_name.get(name))
            for name, part in space.items()
        }
    if masks is None:
        return space.sample(key)
    logits = masked_logits(space, _equal_logits(space, masks), masks)
    if isinstance(space, MultiBinary):
        return Bernoulli(logits, len(space.shape)).sample(key)
    if isinstance(space, Discrete):
        return Categorical(logits, space.start).sample(key)
    nvec, start = _flat(space.nvec), _flat(space.start)
    return MultiCategorical(logits, nvec, start, space.shape).sample(key)


def masked_logits(space: Space, logits: Array, mask: Array) -> Array:
    """Logits [..., categories] or, of bits, [..., *shape] with the lowest number where masked.

    The mask is [..., flat_size]. Where no category is allowed they stay as they were. Raises
    SpaceError for a space without categories and bits.
    """
    if isinstance(space, Discrete):
        return mask_logits(logits, mask)
    if isinstance(space, MultiDiscrete):
        return MultiCategorical.masked(logits, mask, _flat(space.nvec)).logits
    if isinstance(space, MultiBinary):
        return Bernoulli.masked(logits, _of_shape(mask, space)).logits
    raise SpaceError(f"{type(space).__name__}: cannot be masked; mask a {_MASKABLE}")


def is_allowed(space: Space, action: PyTree, masks: Masks) -> Array:
    """Whether the masks allow an action, bool []; what lies outside the space is not."""
    if masks is None:
        return jnp.ones((), bool)
    if isinstance(space, Dict):
        parts = [is_allowed(part, action[name], masks.get(name)) for name, part in space.items()]
        return jnp.stack(parts).all()
    if isinstance(space, MultiBinary):
        bits = space.flatten(action)
        return jnp.all((bits == 0) | ((bits == 1) & masks.astype(bool)))
    # An entry of which nothing is allowed excludes nothing: as `masked_logits` has it.
    free = masked_logits(space, _equal_logits(space, masks), masks) == 0
    chosen = space.flatten(action) > 0.5
    return jnp.sum(free & chosen, dtype=jnp.int32) == math.prod(space.shape)


def _equal_logits(space: Space, mask: Array) -> Array:
    """Logits by which all categories or both values of bits are equally likely."""
    logits = jnp.zeros(mask.shape, jnp.float32)
    return _of_shape(logits, space) if isinstance(space, MultiBinary) else logits


def _of_shape(flat: Array, space: Space) -> Array:
    """[..., flat_size] as [..., *shape]."""
    return flat.reshape(*flat.shape[:-1], *space.shape)


def _flat(numbers: Any) -> tuple[int, ...]:
    return tuple(numbers.ravel().tolist())
