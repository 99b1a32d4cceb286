"""Angles on the whole circle: wrapping, and sine and cosine together.

Both reduce by a rounded number of turns in a few elementwise operations without
branches, so that they fuse into a step; `jnp.sin` prepares for arguments of any size
and `jnp.fmod` divides. What is known to stay within an eighth turn needs neither.
"""

import math

import jax.numpy as jnp
import numpy as np

from mazejax.base import is_concrete
from mazejax.types import Array

# Parts of pi / 2 with few bits each, so that products with small integers are exact
# (Cody and Waite, 1980; the splitting of Moshier, Cephes single precision, 1989).
_QUARTER_TURN = tuple(
    np.float32(2 * part) for part in (0.78515625, 2.4187564849853515625e-4, 3.77489497744594108e-8)
)


def wrap(angle: Array) -> Array:
    """The same direction in [-pi, pi], float32; for angles within a thousand turns."""
    turns = jnp.round(angle * np.float32(0.5 / math.pi))
    for part in _QUARTER_TURN:
        angle = angle - turns * (4 * part)
    return angle


def sin_cos(angle: Array, bound: float | Array = math.inf) -> tuple[Array, Array]:
    """Sine and cosine of angles within a thousand turns, float32, to 1e-7.

    Angles that are known to stay within `bound` radians, an eighth turn at most, are not
    reduced first; a wider or a traced bound does not help.
    """
    if is_concrete(bound) and float(bound) <= math.pi / 4:
        return _kernels(angle)
    quarters = jnp.round(angle * np.float32(2.0 / math.pi))
    for part in _QUARTER_TURN:
        angle = angle - quarters * part
    sin, cos = _kernels(angle)
    quadrant = quarters.astype(jnp.int32)
    is_odd = quadrant & 1 == 1
    sin, cos = jnp.where(is_odd, cos, sin), jnp.where(is_odd, sin, cos)
    sin = jnp.where(quadrant & 2 == 2, -sin, sin)
    return sin, jnp.where((quadrant + 1) & 2 == 2, -cos, cos)


def _kernels(angle: Array) -> tuple[Array, Array]:
    """Minimax polynomials within an eighth turn, below one ulp (Moshier, Cephes, 1989)."""
    square = jnp.square(angle)
    sin = ((-1.9515295891e-4 * square + 8.3321608736e-3) * square - 1.6666654611e-1) * square
    cos = (2.443315711809948e-5 * square - 1.388731625493765e-3) * square + 4.166664568298827e-2
    return angle + angle * sin, 1.0 - 0.5 * square + square * square * cos
