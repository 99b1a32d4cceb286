"""Masks of allowed actions: found in observations by name, and sampled under.

The mask of an action `NAME` of a Dict space is the observation `NAME_mask`, that of a
single action is `action_mask`: bool, with one entry for every category.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from mazejax import random
from mazejax.errors import SpaceError
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.spaces.distributions import Categorical, MultiCategorical, mask_logits
from mazejax.spaces.simple import Discrete, MultiDiscrete
from mazejax.types import Array, Key, PyTree

Masks = Any
"""None, a mask [..., categories], or a dict of masks by the names of a Dict space."""


def mask_names(action_space: Space) -> dict[str, Space]:
    """Names under which observations may hold masks, with the action space that each masks."""
    if isinstance(action_space, Dict):
        return {f"{name}_mask": space for name, space in action_space.items()}
    return {"action_mask": action_space}


def action_masks(action_space: Space, obs: PyTree) -> Masks:
    """The masks [..., categories] that observations [..., *obs] hold; None if there are none."""
    if not isinstance(obs, Mapping):
        return None
    found = {name: obs[name] for name in mask_names(action_space) if name in obs}
    if not isinstance(action_space, Dict):
        return found.get("action_mask")
    return {name.removesuffix("_mask"): mask for name, mask in found.items()} or None


def check_mask_spaces(observation_space: Space, action_space: Space, where: str) -> None:
    """Raise SpaceError for a mask that does not have one entry for every category."""
    for name, space in mask_names(action_space).items():
        if not isinstance(observation_space, Dict) or name not in observation_space:
            continue
        if not isinstance(space, (Discrete, MultiDiscrete)):
            raise SpaceError(
                f"{where}[{name!r}]: masks a {type(space).__name__}, expected a Discrete or "
                f"MultiDiscrete action; rename the observation if it is no mask"
            )
        got = observation_space[name].shape
        if got != (space.flat_size,):
            raise SpaceError(
                f"{where}[{name!r}]: got shape {got}, expected {(space.flat_size,)}, one entry "
                f"for every category of the action"
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
    logits = masked_logits(space, jnp.zeros(masks.shape, jnp.float32), masks)
    if isinstance(space, Discrete):
        return Categorical(logits, space.start).sample(key)
    nvec, start = _flat(space.nvec), _flat(space.start)
    return MultiCategorical(logits, nvec, start, space.shape).sample(key)


def masked_logits(space: Space, logits: Array, mask: Array) -> Array:
    """Logits [..., categories] with the lowest number where the mask is false.

    A category of which nothing is allowed stays as it was. Raises SpaceError for a space
    that has no categories.
    """
    if isinstance(space, Discrete):
        return mask_logits(logits, mask)
    if isinstance(space, MultiDiscrete):
        return MultiCategorical.masked(logits, mask, _flat(space.nvec)).logits
    raise SpaceError(f"{type(space).__name__}: cannot be masked; mask Discrete or MultiDiscrete")


def is_allowed(space: Space, action: PyTree, masks: Masks) -> Array:
    """Whether the masks allow an action, bool []; what lies outside the categories is not."""
    if masks is None:
        return jnp.ones((), bool)
    if isinstance(space, Dict):
        parts = [is_allowed(part, action[name], masks.get(name)) for name, part in space.items()]
        return jnp.stack(parts).all()
    # An entry of which nothing is allowed excludes nothing: as `masked_logits` has it.
    free = masked_logits(space, jnp.zeros(masks.shape, jnp.float32), masks) == 0
    chosen = space.flatten(action) > 0.5
    return jnp.sum(free & chosen, dtype=jnp.int32) == math.prod(space.shape)


def _flat(numbers: Any) -> tuple[int, ...]:
    return tuple(numbers.ravel().tolist())
