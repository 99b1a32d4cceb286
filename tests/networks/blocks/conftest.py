"""What tests of blocks share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def quick_to_compile():
    """What takes the time is compiling, for each program runs once, on a few numbers."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="session")
def run_block():
    """Outputs of a block with these variables, applied under jit."""

    def run(block, variables, rngs=None, **inputs):
        inputs = {key: jnp.asarray(value) for key, value in inputs.items()}
        return jax.jit(block.apply)(variables, inputs, rngs=rngs)

    return run


@pytest.fixture(scope="session")
def draw_weights():
    """Weights of the shapes that the block's have, at random; nothing is compiled."""

    def draw(block, **inputs):
        rng = np.random.default_rng(1)
        return jax.tree.map(
            lambda x: rng.normal(0, 0.5, x.shape).astype(x.dtype),
            jax.eval_shape(block.init, jax.random.key(0), inputs),
        )

    return draw


@pytest.fixture(scope="session")
def apply_block(draw_weights):
    """(outputs, variables) of a block applied under jit.

    Weights are drawn at random, for those that begin at zero would hide mistakes; or are those
    that the block begins with where the test asks for `fresh` ones. Checks what all blocks
    promise: outputs are those of each sample by itself, and are finite, and so is the gradient.
    So of a case with batch axes there need be none without.
    """

    def apply(block, batch_ndim=1, fresh=False, **inputs):
        inputs = {key: jnp.asarray(value) for key, value in inputs.items()}
        variables = (
            jax.jit(block.init)(jax.random.key(0), inputs)
            if fresh
            else draw_weights(block, **inputs)
        )
        one_by_one = block.apply
        for _ in range(min(batch_ndim, *(x.ndim for x in inputs.values()))):
            one_by_one = jax.vmap(one_by_one, in_axes=(None, 0))

        def loss(variables, inputs):
            outputs = block.apply(variables, inputs)
            leaves = [x for x in outputs.values() if jnp.issubdtype(x.dtype, jnp.floating)]
            return sum(jnp.sum(x**2) for x in leaves), outputs

        def everything(variables, inputs):
            gradient, outputs = jax.grad(loss, has_aux=True)(variables, inputs)
            return outputs, one_by_one(variables, inputs), gradient

        outputs, alone, gradient = jax.jit(everything)(variables, inputs)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((outputs, gradient)))
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-5), outputs, alone
        )
        return outputs, variables

    return apply
