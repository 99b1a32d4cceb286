"""Blocks that networks are made of, as linen modules over arrays [..., features]."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from mazejax.types import Array

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
}
"""Activation functions by name."""


class TwinDense(nn.Module):
    """Two networks of dense layers side by side, whose first layers are one product.

    Returns both last layers' activations, [..., hidden[-1]] each. They share the input
    and no weight: the first layer's kernel holds both, because one product of twice the
    width is cheaper than two.
    """

    hidden: tuple[int, ...]
    activation: str = "tanh"
    kernel_scale: float = 2.0**0.5

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Both networks on [..., features]."""
        activate = ACTIVATIONS[self.activation]
        init = nn.initializers.orthogonal(self.kernel_scale)
        if not self.hidden:
            return x, x
        first = nn.Dense(2 * self.hidden[0], kernel_init=_twice(init), name="first")(x)
        # Split before the activation, which then reads its half where it lies: no copies.
        left, right = (activate(half) for half in jnp.split(first, 2, axis=-1))
        for i, width in enumerate(self.hidden[1:], start=1):
            left = activate(nn.Dense(width, kernel_init=init, name=f"left_{i}")(left))
            right = activate(nn.Dense(width, kernel_init=init, name=f"right_{i}")(right))
        return left, right


class OutputDense(nn.Module):
    """Dense layer for few outputs, whose kernel is stored as [outputs, features].

    The gradient of such a kernel is then a product of the outputs' side with the features,
    which XLA on the CPU computes ten times faster than the same numbers the other way
    round: a tenth of the whole gradient of a 64x64 network.
    """

    features: int
    kernel_init: Callable
    bias: tuple[float, ...] = ()
    """Where the biases begin; () for 0 everywhere."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., features] of x [..., D]."""

        def init(key: Array, shape: tuple[int, int], dtype: jnp.dtype = jnp.float32) -> Array:
            return self.kernel_init(key, shape[::-1], dtype).T

        def init_bias(_: Array, shape: tuple[int], dtype: jnp.dtype = jnp.float32) -> Array:
            return jnp.array(self.bias, dtype) if self.bias else jnp.zeros(shape, dtype)

        kernel = self.param("kernel", init, (self.features, x.shape[-1]))
        bias = self.param("bias", init_bias, (self.features,))
        contract_last = (((x.ndim - 1,), (1,)), ((), ()))
        out = jax.lax.dot_general(x, kernel, contract_last)
        return out + jnp.expand_dims(bias, range(out.ndim - 1))


def _twice(init: Callable) -> Callable:
    """Initializer of two kernels of half the width, drawn independently, side by side."""

    def init_both(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
        half = (*shape[:-1], shape[-1] // 2)
        keys = jax.random.split(key)
        return jnp.concatenate([init(k, half, dtype) for k in keys], axis=-1)

    return init_both
