"""Convolutions against sums over the pixels under each kernel."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.errors import ConfigError
from mazejax.networks.blocks.convolution import StridedConvolutionBlock, VGGConvolutionBlock


def _images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _convolve(image, weights, stride, dilation, padding):
    """One convolution of one image [*sizes, C] in float64, pixel by pixel."""
    kernel = np.asarray(weights["kernel"], np.float64)
    image = np.pad(np.asarray(image, np.float64), [*padding, (0, 0)])
    sizes = kernel.shape[:-2]
    reach = [d * (k - 1) + 1 for k, d in zip(sizes, dilation, strict=True)]
    out_sizes = [(n - r) // s + 1 for n, r, s in zip(image.shape, reach, stride, strict=False)]
    out = np.zeros((*out_sizes, kernel.shape[-1]))
    for place in np.ndindex(*out_sizes):
        for tap in np.ndindex(*sizes):
            at = tuple(
                p * s + t * d for p, s, t, d in zip(place, stride, tap, dilation, strict=True)
            )
            out[place] += image[at] @ kernel[tap]
    return out + np.asarray(weights["bias"], np.float64)


def _same(n, k, s, d):
    """Zeros before and after an axis of size n so that ceil(n / s) places remain."""
    total = max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
    return total // 2, total - total // 2


def _each(function, batch_ndim, x):
    batch = x.shape[:batch_ndim]
    outputs = [function(x[i]) for i in np.ndindex(*batch)]
    return np.reshape(np.stack(outputs), batch + outputs[0].shape)


@pytest.mark.parametrize(
    "dimension, sizes, kernels, strides, dilations, padding",
    [
        (1, (9,), (3, 2), (2, 1), 1, "VALID"),
        (1, (8,), 3, 2, (2, 1), "SAME"),
        (2, (9, 8), (3, (2, 1)), (2, (1, 2)), 1, "VALID"),
        (2, (5, 6), (3, 2), 2, 1, "SAME"),
        (2, (6, 5), (3, (1, 2)), 1, ((1, 2), 1), (1, (0, 2))),
        (2, (4, 4), 3, (1, 2), 1, 1),
        (3, (4, 5, 3), (2, (2, 1, 2)), (1, (1, 2, 1)), 1, "VALID"),
    ],
)
def test_strided_convolutions_are_sums_over_pixels(
    apply_block, dimension, sizes, kernels, strides, dilations, padding
):
    block = StridedConvolutionBlock(
        "x", "y", (3, 4), kernels, strides, dilations, padding, dimension, "elu"
    )
    x = _images(2, *sizes, 2)
    outputs, variables = apply_block(block, x=x)

    def per_axis(field, i):
        entry = field[i] if isinstance(field, tuple) else field
        return entry if isinstance(entry, tuple) else (entry,) * dimension

    def reference(image):
        for i in range(2):
            weights = variables["params"][f"conv_{i}"]
            stride, dilation = per_axis(strides, i), per_axis(dilations, i)
            if padding == "SAME":
                axes = zip(image.shape, per_axis(kernels, i), stride, dilation, strict=False)
                pads = [_same(*axis) for axis in axes]
            else:
                pads = [(p, p) for p in per_axis(0 if padding == "VALID" else padding, i)]
            image = _convolve(image, weights, stride, dilation, pads)
            image = np.where(image > 0, image, np.expm1(image))
        return image

    np.testing.assert_allclose(outputs["y"], _each(reference, 1, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalization", ["none", "layer"])
def test_a_vgg_layer_is_two_convolutions_and_the_largest_of_four_pixels(apply_block, normalization):
    x = _images(2, 7, 4, 2)
    block = VGGConvolutionBlock("x", "y", (3, 2), normalization=normalization)
    outputs, variables = apply_block(block, x=x)
    params = variables["params"]

    def reference(image):
        for i, j in itertools.product(range(2), range(2)):
            pads = ((1, 1), (1, 1))
            image = _convolve(image, params[f"conv_{i}_{j}"], (1, 1), (1, 1), pads)
            if normalization == "layer":
                norm = params[f"norm_{i}_{j}"]
                image = image - image.mean(-1, keepdims=True)
                image = image / np.sqrt((image**2).mean(-1, keepdims=True) + 1e-6)
                image = image * norm["scale"] + norm["bias"]
            image = np.maximum(image, 0)
            if j == 1:
                h, w = image.shape[0] // 2, image.shape[1] // 2
                squares = [image[a : 2 * h : 2, b : 2 * w : 2] for a in (0, 1) for b in (0, 1)]
                image = np.max(squares, axis=0)
        return image

    assert outputs["y"].shape == (2, 1, 1, 2)
    np.testing.assert_allclose(outputs["y"], _each(reference, 1, x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "block",
    [VGGConvolutionBlock("x", "y", (2,)), StridedConvolutionBlock("x", "y", (2,), 3, 1)],
)
@pytest.mark.parametrize("batch", [(), (2, 1, 3), (0,)])
def test_there_may_be_any_number_of_batch_axes(draw_weights, run_block, block, batch):
    x = _images(6, 4, 4, 1)
    variables = draw_weights(block, x=x[0])
    expected = run_block(block, variables, x=x)["y"]
    n = int(np.prod(batch))
    outputs = run_block(block, variables, x=x[:n].reshape(*batch, 4, 4, 1))["y"]
    assert outputs.shape == (*batch, *expected.shape[1:])
    np.testing.assert_allclose(
        outputs.reshape(n, *expected.shape[1:]), expected[:n], rtol=1e-5, atol=1e-6
    )


def test_the_gradient_of_the_pooling_adds_to_that_of_the_output():
    # Constant images tie everywhere: whatever pixel wins, all of the gradient must arrive.
    block = VGGConvolutionBlock("x", "y", (1,))
    x = jnp.ones((1, 6, 6, 1))
    kernel = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0)
    weights = {"kernel": kernel, "bias": jnp.zeros(1)}
    variables = {"params": {"conv_0_0": weights, "conv_0_1": weights}}
    gradient = jax.jit(jax.grad(lambda x: block.apply(variables, {"x": x})["y"].sum()))(x)
    np.testing.assert_allclose(gradient, np.full(x.shape, 0.25))


def test_weights_do_not_depend_on_the_size_of_the_image():
    block = StridedConvolutionBlock("x", "y")
    shapes = [
        jax.eval_shape(block.init, jax.random.key(0), {"x": jnp.ones((n, n, 3))}) for n in (44, 50)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: VGGConvolutionBlock("x", "y", (0,)), "VGGConvolutionBlock.hidden: must be"),
        (lambda: VGGConvolutionBlock("x", "y", normalization="batch"), "normalization: unknown"),
        (lambda: VGGConvolutionBlock("x", "y", activation="rellu"), "did you mean 'relu'"),
        (
            lambda: StridedConvolutionBlock("x", "y", (8, 8)),
            "StridedConvolutionBlock.kernel_sizes: has 3 entries, expected 2 as of 'hidden'",
        ),
        (
            lambda: StridedConvolutionBlock("x", "y", (8,), 3),
            "StridedConvolutionBlock.strides: has 3 entries, expected 1",
        ),
        (
            lambda: StridedConvolutionBlock("x", "y", dilations=(1, 1)),
            "StridedConvolutionBlock.dilations: has 2 entries, expected 3",
        ),
        (
            lambda: StridedConvolutionBlock("x", "y", padding=(1,)),
            "StridedConvolutionBlock.padding: has 1 entries, expected 3",
        ),
        (lambda: StridedConvolutionBlock("x", "y", padding="SAMY"), "did you mean 'SAME'"),
        (lambda: StridedConvolutionBlock("x", "y", padding=-1), "integers of at least 0"),
        (lambda: StridedConvolutionBlock("x", "y", strides=(4, 2, 0)), "integers of at least 1"),
        (lambda: StridedConvolutionBlock("x", "y", strides=(4, 2, 1.5)), "integers of at least 1"),
        (
            lambda: StridedConvolutionBlock("x", "y", kernel_sizes=(8, 4, (4, 4, 4))),
            "kernel_sizes: an entry must be one integer or 2",
        ),
        (lambda: StridedConvolutionBlock("x", "y", dimension=4), "dimension: must be 1, 2 or 3"),
    ],
)
def test_layers_that_do_not_fit_together_are_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


@pytest.mark.parametrize(
    "block, shape, said",
    [
        (
            StridedConvolutionBlock("image", "y"),
            (2, 40, 44, 3),
            r"StridedConvolutionBlock\(image -> y\): 'image' with images \(40, 44, 3\) is too "
            r"small: layer 2 gets 3 x 4, and its kernel needs 4 x 4",
        ),
        (
            StridedConvolutionBlock("image", "y", (4,), 3, 1, 2, 1),
            (2, 2, 9, 1),
            "layer 0 gets 2 x 9, and its kernel needs 3 x 3",
        ),
        (
            VGGConvolutionBlock("image", "y", (2, 2)),
            (2, 4, 3, 1),
            "layer 1 gets 2 x 1, and the pooled square needs 2 x 2",
        ),
        (VGGConvolutionBlock("image", "y"), (4, 4), "'image' has shape .* at least 3 axes"),
        (StridedConvolutionBlock("image", "y", dimension=3), (4, 4, 4), "at least 4 axes"),
    ],
)
def test_an_image_too_small_is_refused_by_layer_and_size(block, shape, said):
    with pytest.raises(ConfigError, match=said):
        jax.eval_shape(block.init, jax.random.key(0), {"image": jnp.ones(shape)})
