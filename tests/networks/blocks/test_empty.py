"""Axes of size 0: results of the right shape, 0 where nothing counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.networks.blocks import (
    GlobalAveragePoolingBlock,
    GNNBlock,
    GraphAttentionBlock,
    GraphConvBlock,
    MaskedGlobalPoolingBlock,
    MultiHeadAttentionBlock,
    PointNetFeatureBlock,
    SelfAttentionConvBlock,
    SelfAttentionSeqBlock,
)

ATTENTION = MultiHeadAttentionBlock(("q", "k", "k"), ("y", "w"), 2, residual=False)
MASKED_ATTENTION = MultiHeadAttentionBlock(("q", "k", "k", "m"), ("y", "w"), 2, residual=False)
SEQUENCE = SelfAttentionSeqBlock(("x", "m"), "y", 2, mask="keys", residual=False)


@pytest.mark.parametrize(
    "block, shapes, out",
    [
        (ATTENTION, {"q": (2, 3, 4), "k": (2, 0, 4)}, {"y": (2, 3, 4), "w": (2, 3, 0)}),
        (
            MASKED_ATTENTION,
            {"q": (2, 3, 4), "k": (2, 0, 4), "m": (2, 3, 0)},
            {"y": (2, 3, 4), "w": (2, 3, 0)},
        ),
        (GlobalAveragePoolingBlock("x", "y"), {"x": (2, 0, 3, 4)}, {"y": (2, 4)}),
        *[
            case
            for how in ("max", "mean", "sum")
            for case in (
                (MaskedGlobalPoolingBlock("x", "y", how), {"x": (2, 0, 4)}, {"y": (2, 4)}),
                (
                    MaskedGlobalPoolingBlock(("x", "m"), "y", how),
                    {"x": (2, 0, 4), "m": (2, 0)},
                    {"y": (2, 4)},
                ),
                (
                    PointNetFeatureBlock("x", ("y", "each"), (3,), 4, pooling=how),
                    {"x": (2, 0, 3)},
                    {"y": (2, 4), "each": (2, 0, 4)},
                ),
            )
        ],
        (
            PointNetFeatureBlock(("x", "m"), "y", (3,), 4),
            {"x": (2, 0, 3), "m": (2, 0)},
            {"y": (2, 4)},
        ),
    ],
)
def test_what_is_found_in_nothing_is_zero(draw_weights, run_block, block, shapes, out):
    inputs = {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
    outputs = run_block(block, draw_weights(block, **inputs), **inputs)
    assert {key: x.shape for key, x in outputs.items()} == out
    assert all(not np.any(x) for x in outputs.values())


@pytest.mark.parametrize(
    "block, shapes, out",
    [
        (SEQUENCE, {"x": (0, 3, 4), "m": (0, 3)}, (0, 3, 4)),
        (SEQUENCE, {"x": (2, 0, 4), "m": (2, 0)}, (2, 0, 4)),
        (SelfAttentionConvBlock("x", "y", 2), {"x": (0, 2, 3, 4)}, (0, 2, 3, 4)),
        (SelfAttentionConvBlock("x", "y", 2), {"x": (2, 0, 3, 4)}, (2, 0, 3, 4)),
        (
            GraphAttentionBlock(("x", "a"), "y", (5,), num_heads=2),
            {"x": (0, 3, 4), "a": (0, 3, 3)},
            (0, 3, 10),
        ),
        (
            GraphAttentionBlock(("x", "a"), "y", (5,), num_heads=2),
            {"x": (2, 0, 4), "a": (2, 0, 0)},
            (2, 0, 10),
        ),
        (GraphConvBlock(("x", "a"), "y", (5,)), {"x": (0, 3, 4), "a": (0, 3, 3)}, (0, 3, 5)),
        (GNNBlock(("x", "e"), "y", hidden=(5,)), {"x": (0, 3, 4), "e": (0, 2, 2)}, (0, 3, 5)),
        (GNNBlock(("x", "e"), "y", hidden=(5,)), {"x": (2, 3, 4), "e": (2, 0, 2)}, (2, 3, 5)),
        (PointNetFeatureBlock("x", "y", (3,), 4), {"x": (0, 2, 3)}, (0, 4)),
    ],
)
def test_no_samples_and_no_entries_keep_the_other_sizes(block, shapes, out):
    inputs = {key: jnp.zeros(shape) for key, shape in shapes.items()}
    outputs = jax.eval_shape(block.init_with_output, jax.random.key(0), inputs)[0]
    assert outputs["y"].shape == out
