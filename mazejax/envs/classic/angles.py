"""Angles on the whole circle: wrapping, and sine and cosine together.

Both reduce by a rounded number of turns in a few elementwise operations without
branches, so that they fuse into a step; `jnp.sin` prepares for arguments of any size
and `jnp.fmod` divides. What is known to stay within an eighth turn needs neither.
"""

import math

import jax.numpy as jnp
import numpy as np

from mazejax.envs.classic import trigonometry
from mazejax.types import Array

# Parts of pi / 2 with few bits each, so that products with small integers are exact
# (Cody and Waite, 1980; the splitting of Moshier, Cephes single precision, 1989).
_QUARTER_TURN = tuple(np.float32(2 * part) for part in (0.78515625, 2.4187564849853515625e-4, 3.77489497744594108e-8))


def wrap(angle: Array) -> Array:
    """The same direction in [-pi, pi], float32; for angles within a thousand turns."""
    turns = jnp.round(angle * np.float32(0.5 / math.pi))
    for part in _QUARTER_TURN:
        angle = angle - turns * (4 * part)
    return angle


def sin_cos(angle: Array) -> tuple[Array, Array]:
    """Sine and cosine of angles within a thousand turns, float32, to 1e-7."""
    quarters = jnp.round(angle * np.float32(2.0 / math.pi))
    for part in _QUARTER_TURN:
        angle = angle - quarters * part
    sin, cos = trigonometry.sin_cos(angle, math.pi / 4)
    quadrant = quarters.astype(jnp.int32)
    is_odd = quadrant & 1 == 1
    sin, cos = jnp.where(is_odd, cos, sin), jnp.where(is_odd, sin, cos)
    sin = jnp.where(quadrant & 2 == 2, -sin, sin)
    return sin, jnp.where((quadrant + 1) & 2 == 2, -cos, cos)
