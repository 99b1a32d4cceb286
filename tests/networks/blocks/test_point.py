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
    return PointNetFeatureBlock(keys, ("y", "each"), (4, 5), 8, pooling=pooling, **fields)


def disturbed(variables, seed=9):
    """Weights none of which are zero: transforms are then no identities."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: np.asarray(x) + rng.normal(0, 0.3, x.shape).astype(np.float32), variables
    )


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
        for i in range(3):
            seen = layer(f"{name}_dense_{i}", seen)
        seen = layer(f"{name}_pooled_1", layer(f"{name}_pooled_0", seen.max(axis=0)))
        change = seen @ weights[f"{name}_matrix"]["kernel"] + weights[f"{name}_matrix"]["bias"]
        return x @ (np.eye(x.shape[1]) + change.reshape(x.shape[1], -1))

    x = layer("dense_0", transform("input_transform", points[mask]))
    x = layer("dense_2", layer("dense_1", transform("feature_transform", x)))
    each = np.zeros((len(points), 8), np.float32)
    each[mask] = x
    return REDUCE[pooling](x, axis=0), each


@pytest.mark.parametrize(
    "leading, pooling, normalization",
    [((), "max", "layer"), ((2, 3), "mean", "none"), ((3,), "sum", "none")],
)
def test_points_that_count_are_transformed_and_pooled(apply_block, leading, pooling, normalization):
    points, mask = clouds(leading)
    block = small(pooling, use_feature_transform=True, normalization=normalization)
    _, variables = apply_block(block, len(leading), x=points, mask=mask)
    variables = disturbed(variables)
    outputs = jax.jit(block.apply)(variables, {"x": points, "mask": mask})
    weights = jax.tree.map(np.asarray, variables["params"])
    for i in np.ndindex(leading):
        y, each = features(weights, points[i], mask[i], pooling, normalization == "layer")
        np.testing.assert_allclose(outputs["y"][i], y, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(outputs["each"][i], each, rtol=1e-3, atol=1e-4)


def test_transforms_begin_as_the_identity():
    points, _ = clouds((2,))
    block = small(keys=("x",), use_feature_transform=True)
    variables = jax.jit(block.init)(jax.random.key(0), {"x": points})
    plain = jax.jit(small(keys=("x",), use_input_transform=False).apply)(variables, {"x": points})
    np.testing.assert_array_equal(jax.jit(block.apply)(variables, {"x": points})["y"], plain["y"])


@pytest.mark.parametrize("pooling", REDUCE)
def test_the_order_of_points_does_not_matter(pooling):
    points, mask = clouds((2,))
    block = small(pooling, use_feature_transform=True)
    variables = disturbed(jax.jit(block.init)(jax.random.key(0), {"x": points, "mask": mask}))
    order = np.random.default_rng(1).permutation(6)
    outputs = jax.jit(block.apply)(variables, {"x": points, "mask": mask})
    turned = jax.jit(block.apply)(variables, {"x": points[:, order], "mask": mask[:, order]})
    np.testing.assert_allclose(outputs["y"], turned["y"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs["each"][:, order], turned["each"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", REDUCE)
def test_masked_points_do_not_matter_whatever_they_hold(pooling):
    points, mask = clouds((2,))
    block = small(pooling, use_feature_transform=True)
    variables = disturbed(jax.jit(block.init)(jax.random.key(0), {"x": points, "mask": mask}))

    def loss(variables, points):
        return jnp.sum(jax.jit(block.apply)(variables, {"x": points, "mask": mask})["y"] ** 2)

    kept = jax.jit(jax.value_and_grad(loss))(variables, points)
    hidden = jax.jit(jax.value_and_grad(loss))(variables, np.where(mask[..., None], points, np.nan))
    jax.tree.map(np.testing.assert_array_equal, kept, hidden)


@pytest.mark.parametrize("pooling", REDUCE)
def test_no_points_have_features_of_zero(apply_block, pooling):
    points, mask = clouds((3,))
    mask[1] = False
    block = small(pooling, use_feature_transform=pooling == "max")
    outputs, variables = apply_block(block, x=points, mask=mask.astype(np.float32))
    outputs = jax.jit(block.apply)(disturbed(variables), {"x": points, "mask": mask})
    np.testing.assert_array_equal(outputs["y"][1], 0.0)
    np.testing.assert_array_equal(outputs["each"][1], 0.0)
    assert np.abs(outputs["y"][0]).max() > 0


@pytest.mark.parametrize("pooling", REDUCE)
def test_without_a_mask_all_points_count(pooling):
    points, mask = clouds((2,))
    variables = jax.jit(small().init)(jax.random.key(0), {"x": points, "mask": mask})
    alone = PointNetFeatureBlock("x", "y", (4, 5), 8, pooling=pooling).apply(
        variables, {"x": points}
    )
    outputs = jax.jit(small(pooling).apply)(variables, {"x": points, "mask": np.ones_like(mask)})
    np.testing.assert_allclose(alone["y"], outputs["y"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: small("avg"), "PointNetFeatureBlock.pooling: unknown 'avg'"),
        (lambda: small(normalization="batch"), "PointNetFeatureBlock.normalization: unknown"),
        (lambda: PointNetFeatureBlock("x", "y", embedding=0), "embedding: must be positive"),
        (lambda: PointNetFeatureBlock("x", "y", activation="rleu"), "did you mean 'relu'"),
    ],
)
def test_fields_that_make_no_block_are_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


def test_a_mask_that_does_not_fit_is_named():
    points, mask = clouds((2,))
    with pytest.raises(ConfigError, match=r"'mask' has shape \(2, 5\), expected \(2, 6\)"):
        small().init(jax.random.key(0), {"x": points, "mask": mask[:, 1:]})
