"""Sine and cosine that use what an env knows of its angles.

`jnp.sin` reduces any argument to a quarter turn first, which costs more than the rest
of a small env's step. Where an angle is bounded, the kernels of that reduction alone
are exact to float32.
"""

import math

import jax.numpy as jnp

from mazejax.base import is_concrete
from mazejax.types import Array


def sin_cos(angle: Array, bound: float | Array) -> tuple[Array, Array]:
    """Sine and cosine of angles known to stay within `bound` radians, float32.

    Up to an eighth turn and a margin, minimax polynomials with an error below one ulp
    (Moshier, Cephes single precision, 1989); with a wider or traced bound `jnp.sin` and
    `jnp.cos`.
    """
    if not is_concrete(bound) or float(bound) > math.pi / 4:
        return jnp.sin(angle), jnp.cos(angle)
    square = jnp.square(angle)
    sin = ((-1.9515295891e-4 * square + 8.3321608736e-3) * square - 1.6666654611e-1) * square
    cos = (2.443315711809948e-5 * square - 1.388731625493765e-3) * square + 4.166664568298827e-2
    return angle + angle * sin, 1.0 - 0.5 * square + square * square * cos
