"""PointNet beside a loop over samples and points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.errors import ConfigError
from mazejax.networks.blocks.point import PointNetFeatureBlock

REDUCE = {"max": np.max, "mean": np.mean, "sum": np.sum}


def clouds(leading, seed=0):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(*leading, 6, 3)).astype(np.float32)
    mask = rng.random((*leading, 6)) < 0.6
    mask[..., 0] = True
    return points, mask


def small(pooling="max", keys=("x", "mask"), **fields):
    return PointNetFeatureBlock(keys, ("y", "each"), (4,), 8, pooling=pooling, **fields)


def features(weights, points, mask, pooling, layer_norm):
    """Of one sample, by the points that count alone."""

    def layer(name, x):
        x = x @ weights[name]["kernel"] + weights[name]["bias"]
        if layer_norm:
            norm = weights[f"{name}_norm"]
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
            x = x * norm["scale"] + norm["bias"]
        return np.maximum(x, 0)

    def transform(name, x):
        seen = x
        for i in range(2):
            seen = layer(f"{name}_dense_{i}", seen)
        seen = layer(f"{name}_pooled_1", layer(f"{name}_pooled_0", seen.max(axis=0)))
        change = seen @ weights[f"{name}_matrix"]["kernel"] + weights[f"{name}_matrix"]["bias"]
        return x @ (np.eye(x.shape[1]) + change.reshape(x.shape[1], -1))

    x = layer("dense_0", transform("input_transform", points[mask]))
    x = layer("dense_1", transform("feature_transform", x))
    each = np.zeros((len(points), 8), np.float32)
    each[mask] = x
    return REDUCE[pooling](x, axis=0), each


@pytest.mark.parametrize(
    "leading, pooling, normalization",
    [((3,), "max", "layer"), ((2, 3), "mean", "none")],
)
def test_points_that_count_are_transformed_and_pooled(apply_block, leading, pooling, normalization):
    points, mask = clouds(leading)
    block = small(pooling, use_feature_transform=True, normalization=normalization)
    outputs, variables = apply_block(block, len(leading), x=points, mask=mask)
    weights = variables["params"]
    for i in np.ndindex(leading):
        y, each = features(weights, points[i], mask[i], pooling, normalization == "layer")
        np.testing.assert_allclose(outputs["y"][i], y, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(outputs["each"][i], each, rtol=1e-3, atol=1e-4)


def test_transforms_begin_as_the_identity(run_block):
    points, _ = clouds((2,))
    block = small(keys=("x",), use_feature_transform=True, kernel_init="lecun_normal")
    variables = jax.jit(block.init)(jax.random.key(0), {"x": points})
    outputs = run_block(block, variables, x=points)
    plain = run_block(small(keys=("x",), use_input_transform=False), variables, x=points)
    np.testing.assert_allclose(outputs["y"], plain["y"], rtol=1e-6)


@pytest.mark.parametrize("pooling", REDUCE)
def test_neither_order_nor_what_is_masked_matters(draw_weights, pooling):
    points, mask = clouds((2,))
    block = small(pooling, use_feature_transform=pooling == "max")
    variables = draw_weights(block, x=points, mask=mask)

    @jax.jit
    @jax.value_and_grad
    def loss(variables, points, mask):
        outputs = block.apply(variables, {"x": points, "mask": mask})
        return jnp.sum(outputs["y"] ** 2) + jnp.sum(outputs["each"] ** 2)

    kept = loss(variables, points, mask)
    hidden = loss(variables, np.where(mask[..., None], points, np.nan), mask)
    jax.tree.map(np.testing.assert_array_equal, kept, hidden)
    order = np.random.default_rng(1).permutation(6)
    turned = loss(variables, points[:, order], mask[:, order])
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-3), kept, turned)


@pytest.mark.parametrize("pooling", REDUCE)
def test_no_points_have_features_of_zero(apply_block, pooling):
    points, mask = clouds((3,))
    mask[1] = False
    block = small(pooling, use_input_transform=pooling == "max")
    outputs, _ = apply_block(block, x=points, mask=mask.astype(np.float32))
    np.testing.assert_array_equal(outputs["y"][1], 0.0)
    np.testing.assert_array_equal(outputs["each"][1], 0.0)
    assert np.abs(outputs["y"][0]).max() > 0


@pytest.mark.parametrize("pooling", REDUCE)
def test_without_a_mask_all_points_count(apply_block, run_block, pooling):
    points, mask = clouds((2,))
    fields = dict(pooling=pooling, use_input_transform=pooling == "max")
    alone, variables = apply_block(PointNetFeatureBlock("x", "y", (4,), 8, **fields), x=points)
    outputs = run_block(small(**fields), variables, x=points, mask=np.ones_like(mask))
    np.testing.assert_allclose(alone["y"], outputs["y"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: small("avg"), "PointNetFeatureBlock.pooling: unknown 'avg'"),
        (lambda: small(normalization="batch"), "PointNetFeatureBlock.normalization: unknown"),
        (lambda: PointNetFeatureBlock("x", "y", embedding=0), "embedding: must be a pos"),
        (lambda: PointNetFeatureBlock("x", "y", (4,), (4,)), "embedding: must be a positive int"),
        (lambda: PointNetFeatureBlock("x", "y", activation="rleu"), "did you mean 'relu'"),
    ],
)
def test_fields_that_make_no_block_are_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


def test_a_mask_that_does_not_fit_is_named():
    points, mask = clouds((2,))
    with pytest.raises(ConfigError, match=r"'mask' has shape \(2, 5\), expected \(2, 6\)"):
        jax.eval_shape(small().init, jax.random.key(0), {"x": points, "mask": mask[:, 1:]})
