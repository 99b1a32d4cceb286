"""Pooling against loops over what the masks count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.errors import ConfigError
from mazejax.networks.blocks.pooling import GlobalAveragePoolingBlock, MaskedGlobalPoolingBlock

BATCH = (2, 3)


def _random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("num_spatial", [1, 2, 3])
def test_global_averages_are_means_over_pixels(apply_block, num_spatial):
    x = _random(*BATCH, *(2, 4, 3)[:num_spatial], 5)
    outputs, _ = apply_block(GlobalAveragePoolingBlock("x", "y", num_spatial), len(BATCH), x=x)
    expected = x.reshape(*BATCH, -1, 5).sum(-2) / np.prod(x.shape[-num_spatial - 1 : -1])
    np.testing.assert_allclose(outputs["y"], expected, rtol=1e-5, atol=1e-6)


def _pooled(x, mask, pooling, axis):
    """One sample: what the mask counts along the axis, entry by entry."""
    trailing = x.ndim + axis + 1
    rest = x.shape[: trailing - 1]
    out = np.zeros(rest + x.shape[trailing:])
    for place in np.ndindex(*rest):
        counted = [x[(*place, i)] for i in range(x.shape[axis]) if mask[(*place, i)]]
        if counted:
            out[place] = getattr(np.stack(counted), pooling)(0)
    return out


@pytest.mark.parametrize("pooling", ["mean", "sum", "max"])
@pytest.mark.parametrize("axis, own", [(-2, (5, 3)), (-1, (5,)), (-1, (2, 5)), (-3, (5, 2, 3))])
def test_only_what_the_mask_counts_is_pooled(apply_block, pooling, axis, own):
    x = _random(*BATCH, *own)
    rng = np.random.default_rng(1)
    mask = rng.random(x.shape[: x.ndim + axis + 1]) < 0.5
    mask[..., 0] |= rng.random(mask.shape[:-1]) < 0.5
    mask[(0,) * len(BATCH)] = False
    expected = np.reshape(
        np.stack([_pooled(x[i], mask[i], pooling, axis) for i in np.ndindex(*BATCH)]),
        BATCH + own[:axis] + own[len(own) + axis + 1 :],
    )
    block = MaskedGlobalPoolingBlock(("x", "mask"), "y", pooling, axis)
    outputs, _ = apply_block(block, len(BATCH), x=x, mask=mask)
    np.testing.assert_allclose(outputs["y"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "sum", "max"])
@pytest.mark.parametrize("as_type", [np.float32, np.int32])
def test_a_mask_may_be_of_zeros_and_ones(run_block, pooling, as_type):
    x, mask = _random(2, 5, 3), np.random.default_rng(1).random((2, 5)) < 0.5
    block = MaskedGlobalPoolingBlock(("x", "mask"), "y", pooling)
    outputs = run_block(block, {}, x=x, mask=mask)
    alike = run_block(block, {}, x=x, mask=mask.astype(as_type))
    np.testing.assert_allclose(alike["y"], outputs["y"], rtol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "sum", "max"])
def test_without_a_mask_all_counts(apply_block, pooling):
    x = _random(4, 5, 3)
    alone, _ = apply_block(MaskedGlobalPoolingBlock("x", "y", pooling), x=x)
    np.testing.assert_allclose(alone["y"], getattr(x, pooling)(1), rtol=1e-5, atol=1e-6)
    masked, _ = apply_block(
        MaskedGlobalPoolingBlock(("x", "mask"), "y", pooling), x=x, mask=np.ones((4, 5), bool)
    )
    np.testing.assert_allclose(alone["y"], masked["y"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("pooling", ["mean", "sum", "max"])
def test_what_is_not_counted_has_no_influence_and_no_gradient(pooling):
    x = _random(3, 4, 2)
    mask = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]], bool)
    block = MaskedGlobalPoolingBlock(("x", "mask"), "y", pooling)

    @jax.jit
    def pooled(x):
        return block.apply({}, {"x": x, "mask": jnp.asarray(mask)})["y"]

    spoiled = np.where(mask[..., None], x, np.float32(1e30))
    np.testing.assert_array_equal(pooled(spoiled), pooled(x))
    np.testing.assert_array_equal(pooled(x)[1], 0)
    gradient_of = jax.jit(jax.grad(lambda x: pooled(x).sum()))
    for array in (x, spoiled):
        gradient = np.asarray(gradient_of(array))
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(gradient[~mask], 0)
        share = {"sum": mask.sum(1), "mean": mask.any(1), "max": mask.any(1)}[pooling]
        np.testing.assert_allclose(gradient.sum(1), np.repeat(share[:, None], 2, 1), rtol=1e-6)


@pytest.mark.parametrize("of_type", ["float16", "bfloat16", "uint8"])
def test_a_mean_is_of_numbers_whose_sum_would_be_too_large(of_type):
    size = 200 if of_type == "uint8" else 2000
    inputs = {"x": jnp.full((1, 64, 1), size, of_type), "mask": jnp.ones((1, 64), bool)}
    mean = MaskedGlobalPoolingBlock(("x", "mask"), "y").apply({}, inputs)["y"]
    assert mean.item() == size and mean.dtype == (jnp.float32 if size == 200 else of_type)


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: GlobalAveragePoolingBlock("x", "y", 0), "num_spatial: must be a positive"),
        (lambda: GlobalAveragePoolingBlock("x", "y", (1, 2)), "num_spatial: must be a positive"),
        (lambda: MaskedGlobalPoolingBlock("x", "y", "maen"), "did you mean 'mean'"),
        (lambda: MaskedGlobalPoolingBlock("x", "y", axis=1), "axis: must be negative"),
        (lambda: MaskedGlobalPoolingBlock(("x", "m", "n"), "y"), "in_keys: expected 1 or 2, got 3"),
    ],
)
def test_fields_that_make_no_block_are_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


def test_a_mask_that_does_not_fit_is_refused():
    block = MaskedGlobalPoolingBlock(("x", "mask"), "y")
    said = r"'mask' has shape \(3, 5\), expected \(3, 4\) for 'x' of \(3, 4, 2\)"
    with pytest.raises(ConfigError, match=said):
        block.apply({}, {"x": jnp.ones((3, 4, 2)), "mask": jnp.ones((3, 5))})
