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


def both(sizes, window, stride, dilation, padding):
    """An image, a kernel, and the convolution as ours and as XLA's."""
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

    return x, kernel, ours, theirs


def weighted(function):
    """A number of the convolution that is not linear in it."""

    def loss(x, kernel):
        out = function(x, kernel)
        return jnp.sum(jnp.sin(out) * jnp.cos(jnp.arange(out.size)).reshape(out.shape))

    return loss


def agree(derivatives, *case):
    x, kernel, ours, theirs = both(*case)
    got, wanted = (jax.jit(derivatives(f))(x, kernel) for f in (ours, theirs))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)  # noqa: E731
    jax.tree.map(close, got, wanted)


@pytest.mark.parametrize("sizes, window, stride, dilation, padding", CASES)
def test_it_is_the_convolution_of_xla(sizes, window, stride, dilation, padding):
    def value_and_gradients(function):
        gradients = jax.grad(weighted(function), (0, 1))
        return lambda *inputs: (function(*inputs), gradients(*inputs))

    agree(value_and_gradients, sizes, window, stride, dilation, padding)


@pytest.mark.parametrize("case", CASES)
def test_forward_mode_is_that_of_xla_by_image_by_kernel_and_by_both(case):
    def tangents(function):
        def all_of_them(x, kernel):
            by_kernel = jax.jvp(lambda k: function(x, k), (kernel,), (jnp.cos(kernel),))
            by_image = jax.jvp(lambda x: function(x, kernel), (x,), (jnp.cos(x),))
            linear = jax.linearize(function, x, kernel)[1]
            return by_kernel, by_image, linear(jnp.sin(x), jnp.sin(kernel))

        return all_of_them

    agree(tangents, *case)


@pytest.mark.parametrize("case", [((4, 4), (2, 2), 2, 1, "SAME"), ((4, 3), (2, 2), 1, 1, "VALID")])
def test_second_derivatives_are_those_of_xla_in_either_order(case):
    def second(function):
        loss = weighted(function)

        def slope(x, kernel):
            return sum(jnp.sum(g**2) for g in jax.grad(loss, (0, 1))(x, kernel))

        gradient_of_gradient = jax.grad(slope, (0, 1))
        hessian = jax.hessian(loss, argnums=1)
        return lambda *inputs: (gradient_of_gradient(*inputs), hessian(*inputs))

    agree(second, *case)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_gradients_of_many_images_or_kernels_at_once_are_those_of_each(axes):
    x, kernel, ours, _ = both((5, 4), (2, 2), 1, 1, "SAME")
    many = [
        a if axis is None else jnp.stack([a, -a, 2 * a])
        for a, axis in zip((x, kernel), axes, strict=True)
    ]
    gradient = jax.jit(jax.grad(weighted(ours), (0, 1)))
    got = jax.jit(jax.vmap(gradient, axes))(*many)
    for i in range(3):
        one = [a if axis is None else a[i] for a, axis in zip(many, axes, strict=True)]
        for mine, alone in zip(got, gradient(*one), strict=True):
            np.testing.assert_allclose(mine[i], alone, rtol=1e-4, atol=1e-4)


def test_what_the_gradient_keeps_is_the_image_and_not_its_patches():
    x, kernel, ours, _ = both((9, 9), (3, 3), 1, 1, "VALID")
    kept = jax.tree.leaves(jax.eval_shape(lambda *inputs: jax.vjp(ours, *inputs)[1], x, kernel))
    assert max(leaf.size for leaf in kept) <= x.size
