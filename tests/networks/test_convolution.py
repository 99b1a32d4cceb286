"""Convolutions as products are XLA's own, whatever the sizes, and so are their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.networks.convolution import convolve

CASES = [
    ((10, 9), (3, 3), 1, 1, "VALID"),
    ((10, 9), (3, 2), 2, 1, "SAME"),
    ((17, 20), (4, 4), 2, 1, "VALID"),  # blocks of a stride's size, one row left over
    ((12, 12), (4, 2), 2, 1, ((1, 2), (0, 3))),
    ((9, 9), (2, 2), 1, 3, "SAME"),
    ((9, 9), (2, 2), 2, 2, "VALID"),  # a dilated kernel is not made of blocks
    ((15,), (6,), 3, 1, ((2, 2),)),
    ((6, 7, 8), (2, 2, 2), 2, 1, "SAME"),
]


@pytest.mark.parametrize("sizes, window, stride, dilation, padding", CASES)
def test_it_is_the_convolution_of_xla(sizes, window, stride, dilation, padding):
    rng, n = np.random.default_rng(0), len(sizes)
    x = jnp.asarray(rng.normal(size=(2, *sizes, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(*window, 3, 4)), jnp.float32)
    strides, dilations = (stride,) * n, (dilation,) * n
    axes = "DHW"[-n:]

    def ours(x, kernel):
        return convolve(x, kernel, strides, dilations, padding)

    def theirs(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, strides, padding, rhs_dilation=dilations,
            dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        )  # fmt: skip

    def all_of(function):
        def weighted(x, kernel):
            out = function(x, kernel)
            return jnp.sum(out * jnp.cos(jnp.arange(out.size)).reshape(out.shape))

        gradients = jax.grad(weighted, (0, 1))
        return jax.jit(lambda *inputs: (function(*inputs), gradients(*inputs)))(x, kernel)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        all_of(ours), all_of(theirs),
    )  # fmt: skip
