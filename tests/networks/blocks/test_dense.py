"""Dense blocks, and what all blocks share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.errors import ConfigError
from mazejax.networks.blocks import Block, DenseBlock, LinearOutputBlock
from mazejax.networks.initializers import initializer, normc, probability_bias


def test_dense_layers_are_products_and_activations(apply_block):
    x = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    outputs, variables = apply_block(DenseBlock("x", "y", (4, 6), "relu"), x=x)
    expected = x
    for layer in ("dense_0", "dense_1"):
        weights = variables["params"][layer]
        expected = np.maximum(expected @ weights["kernel"] + weights["bias"][None, None], 0)
    np.testing.assert_allclose(outputs["y"], expected, rtol=1e-5, atol=1e-6)


def test_a_linear_output_begins_at_its_bias(apply_block):
    block = LinearOutputBlock("x", "y", 3, kernel_scale=1e-6, bias_init=probability_bias(0.9))
    outputs, _ = apply_block(block, fresh=True, x=np.ones((2, 4), np.float32))
    np.testing.assert_allclose(jax.nn.sigmoid(outputs["y"]), 0.9, rtol=1e-4)


def test_columns_of_normc_have_the_norm():
    kernel = normc(0.5)(jax.random.key(0), (3, 3, 7, 5))
    norms = jnp.linalg.norm(kernel.reshape(-1, 5), axis=0)
    np.testing.assert_allclose(norms, 0.5, rtol=1e-6)


class ScaleBlock(Block):
    factor: float = 2.0

    def forward(self, x):
        return self.factor * x


def test_a_block_of_ones_own_is_a_few_lines(apply_block):
    outputs, _ = apply_block(ScaleBlock("x", "y"), x=np.ones(3, np.float32))
    np.testing.assert_array_equal(outputs["y"], 2.0)


def test_lists_are_the_tuples_of_them():
    assert DenseBlock(["x"], "y", [4, 4]) == DenseBlock("x", ["y"], (4, 4))
    assert hash(DenseBlock("x", "y", [4, 4])) == hash(DenseBlock("x", "y", (4, 4)))


def test_numbers_of_numpy_are_the_numbers_they_are():
    plain = LinearOutputBlock("x", "y", 3, kernel_scale=0.5, bias_init=2.0)
    block = LinearOutputBlock("x", "y", np.int64(3), "normc", np.float32(0.5), np.float16(2.0))
    assert block == plain and hash(block) == hash(plain)


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: DenseBlock(("a", "b"), "y"), "DenseBlock.in_keys: expected 1, got 2: a, b"),
        (lambda: DenseBlock("x", ()), "DenseBlock.out_keys: expected a key or several"),
        (lambda: DenseBlock("", "y"), "DenseBlock.in_keys: expected a key or several, got"),
        (lambda: DenseBlock("x", ("y", "")), "DenseBlock.out_keys: expected a key or several"),
        (lambda: DenseBlock("x", "y", activation={}), "DenseBlock.activation: unknown {}; known"),
        (lambda: DenseBlock("x", "y", kernel_init={}), "DenseBlock.kernel_init: expected a name"),
        (lambda: LinearOutputBlock("x", "y", (3, 4)), "features: must be a positive integer, got"),
        (lambda: LinearOutputBlock("x", "y", bias_init="x"), "bias_init: must be a finite number"),
        (lambda: LinearOutputBlock("x", "y", bias_init=(1, 2)), "bias_init: must be a finite num"),
        (lambda: LinearOutputBlock("x", "y", bias_init=np.nan), "bias_init: must be a finite num"),
        (lambda: LinearOutputBlock("x", "y", kernel_scale=0), "kernel_scale: must be positive"),
        (lambda: initializer("normc", np.array([1.0, 2.0])), "kernel_scale: must be positive"),
        (lambda: DenseBlock("x", "y", (0,)), "DenseBlock.hidden: must be positive integers"),
        (lambda: DenseBlock("x", "y", activation="tahn"), "did you mean 'tanh'"),
        (lambda: DenseBlock("x", "y", kernel_init="orthogonl"), "did you mean 'orthogonal'"),
        (lambda: probability_bias(1.0), "probability: must be between 0 and 1"),
    ],
)
def test_fields_that_make_no_block_are_refused(make, said):
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        make()


def test_a_missing_input_is_named():
    with pytest.raises(ConfigError, match=r"DenseBlock\(x -> y\): no input 'x'; there are 'obs'"):
        jax.eval_shape(DenseBlock("x", "y").init, jax.random.key(0), {"obs": jnp.ones(3)})
