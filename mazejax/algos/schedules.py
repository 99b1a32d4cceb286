"""Schedules: what is left of a number as training goes on, by name or as points."""

import itertools
import math
from typing import Any

import jax.numpy as jnp
import optax

from mazejax.algos.base import Algorithm, check_choice
from mazejax.errors import ConfigError
from mazejax.types import Array

Schedule = str | tuple[tuple[float, float], ...]
"""A name, or points (share of the training, share of the number) with lines between them."""

# Over the share of the updates that are made, since optax counts in int32.
_BY_NAME = {
    "constant": optax.constant_schedule(1.0),
    "linear": optax.linear_schedule(1.0, 0.0, transition_steps=1),
    "cosine": optax.cosine_decay_schedule(1.0, decay_steps=1),
}


def as_points(schedule: Any) -> Any:
    """Lists, as configuration files have them, as tuples of floats; all else as it is."""
    if not isinstance(schedule, (list, tuple)):
        return schedule
    try:
        return tuple((float(done), float(left)) for done, left in schedule)
    except (TypeError, ValueError):
        return tuple(map(str, schedule))  # which is none and is told so


def check_schedule(algorithm: Algorithm, name: str) -> None:
    """Raise ConfigError unless the field is a name, or points in the order of time."""
    schedule = getattr(algorithm, name)
    if isinstance(schedule, str):
        check_choice(algorithm, name, _BY_NAME)
        return
    is_points = isinstance(schedule, tuple) and schedule and isinstance(schedule[0], tuple)
    if not is_points:
        raise ConfigError(
            f"{name}: expected one of {', '.join(_BY_NAME)}, or points such as "
            f"((0, 0), (0.1, 1), (1, 0)), got {schedule!r}"
        )
    shares = [done for done, _ in schedule]
    if not all(0 <= done <= 1 for done in shares) or any(
        later <= done for done, later in itertools.pairwise(shares)
    ):
        raise ConfigError(f"{name}: shares of the training must rise from 0 to 1, got {shares}")
    if not all(math.isfinite(left) and left >= 0 for _, left in schedule):
        raise ConfigError(f"{name}: what is left must be finite and at least 0, got {schedule!r}")


def left_of(schedule: Schedule, done: Array) -> Array:
    """What is left of the number when this share of the training is done, float32."""
    if isinstance(schedule, str):
        return jnp.asarray(_BY_NAME[schedule](done), jnp.float32)
    shares, left = (jnp.array(column, jnp.float32) for column in zip(*schedule, strict=True))
    return jnp.interp(done, shares, left)
