"""Joint blocks: what their parts make of each other's outputs, with the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.errors import ConfigError
from mazejax.networks.blocks.convolution import StridedConvolutionBlock, VGGConvolutionBlock
from mazejax.networks.blocks.dense import DenseBlock
from mazejax.networks.blocks.joint import (
    FlattenDenseBlock,
    StridedConvolutionDenseBlock,
    VGGConvolutionDenseBlock,
    VGGConvolutionGAPBlock,
)

BATCH = (2, 3)


def _random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.fixture
def part(run_block):
    """The output of a block with the weights of this name."""

    def run(block, variables, name, x):
        return run_block(block, {"params": variables.get("params", {}).get(name, {})}, x=x)["y"]

    return run


@pytest.mark.parametrize("hidden", [(), (4, 3)])
def test_flatten_dense_is_dense_layers_on_a_flat_input(apply_block, part, hidden):
    x = _random(*BATCH, 2, 3)
    outputs, variables = apply_block(FlattenDenseBlock("x", "y", 2, hidden), len(BATCH), x=x)
    dense = DenseBlock("x", "y", hidden)
    expected = part(dense, variables, "dense", x.reshape(*BATCH, 6))
    np.testing.assert_allclose(outputs["y"], expected, rtol=1e-5, atol=1e-6)


def test_vgg_ends_in_dense_layers_or_in_means(apply_block, part):
    batch = (2, 3)
    x = _random(*batch, 4, 5, 2)
    choices = {"activation": "elu", "normalization": "layer"}
    convolution = VGGConvolutionBlock("x", "y", (3,), **choices)

    block = VGGConvolutionDenseBlock("x", "y", (3,), (4,), **choices)
    outputs, variables = apply_block(block, len(batch), x=x)
    images = part(convolution, variables, "convolution", x)
    flat = images.reshape(*batch, -1)
    expected = part(DenseBlock("x", "y", (4,), "elu"), variables, "dense", flat)
    np.testing.assert_allclose(outputs["y"], expected, rtol=1e-4, atol=1e-5)

    block = VGGConvolutionGAPBlock("x", "y", (3,), **choices)
    outputs, variables = apply_block(block, len(batch), x=x)
    images = part(convolution, variables, "convolution", x)
    np.testing.assert_allclose(outputs["y"], images.mean((-3, -2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "batch, hidden, dimension", [((2, 3), (), 1), ((2,), (4,), 2), ((3,), (), 3)]
)
def test_strided_convolutions_end_in_dense_layers(apply_block, part, batch, hidden, dimension):
    x = _random(*batch, *(5, 4, 4)[:dimension], 2)
    fields = {"kernel_sizes": (3, 2), "strides": (2, 1), "padding": (1, 0), "dimension": dimension}
    block = StridedConvolutionDenseBlock("x", "y", (3, 2), hidden=hidden, **fields)
    outputs, variables = apply_block(block, len(batch), x=x)
    convolution = StridedConvolutionBlock("x", "y", (3, 2), **fields)
    flat = part(convolution, variables, "convolution", x).reshape(*batch, -1)
    expected = part(DenseBlock("x", "y", hidden, "relu"), variables, "dense", flat)
    np.testing.assert_allclose(outputs["y"], expected, rtol=1e-4, atol=1e-5)


def test_the_default_is_a_pixel_model_of_three_strided_layers():
    block = StridedConvolutionDenseBlock("image", "latent")
    images = {"image": jnp.ones((2, 96, 96, 4), jnp.uint8)}
    shapes = jax.eval_shape(block.init, jax.random.key(0), images)["params"]
    kernels = [shapes["convolution"][f"conv_{i}"]["kernel"].shape for i in range(3)]
    assert kernels == [(8, 8, 4, 8), (4, 4, 8, 16), (4, 4, 16, 32)]
    assert shapes["dense"]["dense_0"]["kernel"].shape == (4 * 4 * 32, 256)


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: FlattenDenseBlock("x", "y", -1), "FlattenDenseBlock.num_flatten_dims: must be"),
        (lambda: FlattenDenseBlock("x", "y", 1, (0,)), "FlattenDenseBlock.hidden: must be"),
        (lambda: VGGConvolutionDenseBlock("x", "y", (0,)), "conv_hidden: must be positive"),
        (lambda: VGGConvolutionDenseBlock("x", "y", hidden=(0,)), "Block.hidden: must be positive"),
        (lambda: VGGConvolutionGAPBlock("x", "y", normalization="batch"), "normalization: unknown"),
        (
            lambda: StridedConvolutionDenseBlock("x", "y", (8, 8)),
            "DenseBlock.kernel_sizes: has 3 entries, expected 2 as of 'conv_hidden'",
        ),
        (lambda: StridedConvolutionDenseBlock("x", "y", dimension=0), "dimension: must be 1, 2"),
        (lambda: StridedConvolutionDenseBlock("x", "y", kernel_init="norm"), "kernel_init: unk"),
    ],
)
def test_fields_that_make_no_block_are_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


@pytest.mark.parametrize(
    "block, said",
    [
        (VGGConvolutionGAPBlock("image", "y"), "'image' with images .* layer 2 gets 1 x 1"),
        (VGGConvolutionDenseBlock("image", "y"), "'image' with images .* layer 2 gets 1 x 1"),
        (StridedConvolutionDenseBlock("image", "y"), "'image' with images .* layer 0 gets 4 x 4"),
    ],
)
def test_an_image_too_small_is_refused(block, said):
    with pytest.raises(ConfigError, match=said):
        jax.eval_shape(block.init, jax.random.key(0), {"image": jnp.ones((2, 4, 4, 1))})
