"""Attention blocks beside loops over samples, heads and queries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.errors import ConfigError
from mazejax.networks.blocks.attention import (
    MultiHeadAttentionBlock,
    SelfAttentionConvBlock,
    SelfAttentionSeqBlock,
    masked_softmax,
)


def softmax(logits):
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def project(weights, x):
    return x @ np.asarray(weights["kernel"]) + np.asarray(weights.get("bias", 0.0))


def attention_of_sample(weights, num_heads, q, k, v, mask, added=()):
    """Output [Lq, D] and weights [Lq, Lk], a query and a head at a time."""
    width = q.shape[1] // num_heads
    query, key, value = (
        project(weights[name], x) for name, x in (("query", q), ("key", k), ("value", v))
    )
    for more_key, more_value in added:
        key, value = np.vstack([key, more_key]), np.vstack([value, more_value])
        mask = np.hstack([mask, np.ones((len(q), 1), bool)])
    out, mean = np.zeros_like(q), np.zeros((len(q), len(k)), np.float32)
    for i in range(len(q)):
        if not mask[i].any():
            continue
        heads = []
        for h in range(num_heads):
            part = slice(h * width, (h + 1) * width)
            logits = key[mask[i], part] @ query[i, part] / np.sqrt(width)
            row = np.zeros(len(key))
            row[mask[i]] = softmax(logits)
            heads.append(row @ value[:, part])
            mean[i] += row[: len(k)] / num_heads
        out[i] = project(weights["out"], np.concatenate(heads))
    return out, mean


def every_sample(function, *arrays):
    leading = arrays[0].shape[:-2]
    flat = [x.reshape(-1, *x.shape[len(leading) :]) for x in arrays]
    outputs = [function(*sample) for sample in zip(*flat, strict=True)]
    return [np.stack(x).reshape(*leading, *x[0].shape) for x in zip(*outputs, strict=True)]


def sequences(leading, seed, empty=True):
    rng = np.random.default_rng(seed)
    q, k, v = (
        rng.normal(size=(*leading, *shape)).astype(np.float32) for shape in ((3, 4), (5, 6), (5, 2))
    )
    mask = rng.random((*leading, 3, 5)) < 0.5
    if empty:
        mask[..., 1, :] = False
    return {"q": q, "k": k, "v": v, "mask": mask}


@pytest.mark.parametrize("leading, num_heads", [((3,), 1), ((2, 3), 2)])
def test_each_query_attends_to_what_its_own_mask_allows(apply_block, leading, num_heads):
    inputs = sequences(leading, seed=num_heads)
    block = MultiHeadAttentionBlock(("q", "k", "v", "mask"), ("y", "w"), num_heads, residual=False)
    outputs, variables = apply_block(block, len(leading), **inputs)
    weights = variables["params"]["attention"]
    y, w = every_sample(
        lambda *sample: attention_of_sample(weights, num_heads, *sample), *inputs.values()
    )
    np.testing.assert_allclose(outputs["y"], y, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs["w"], w, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(outputs["y"][..., 1, :], 0.0)
    np.testing.assert_array_equal(outputs["w"][..., 1, :], 0.0)


def test_without_a_mask_all_keys_are_attended_to(apply_block):
    inputs = sequences((2,), seed=3)
    mask = np.ones_like(inputs.pop("mask"))
    block = MultiHeadAttentionBlock(("q", "k", "v"), "y", 2, residual=False, bias=False)
    outputs, variables = apply_block(block, **inputs)
    weights = variables["params"]["attention"]
    y, _ = every_sample(
        lambda *sample: attention_of_sample(weights, 2, *sample), *inputs.values(), mask
    )
    np.testing.assert_allclose(outputs["y"], y, rtol=1e-4, atol=1e-5)


def test_added_entries_are_attended_to_whatever_the_mask(apply_block):
    inputs = sequences((2,), seed=4)
    block = MultiHeadAttentionBlock(
        ("q", "k", "v", "mask"),
        ("y", "w"),
        2,
        residual=False,
        add_bias_kv=True,
        add_zero_attn=True,
    )
    outputs, variables = apply_block(block, **inputs)
    weights = variables["params"]["attention"]
    added = [(weights["added_key"], weights["added_value"]), (np.zeros(4), np.zeros(4))]
    y, w = every_sample(
        lambda *sample: attention_of_sample(weights, 2, *sample, added), *inputs.values()
    )
    np.testing.assert_allclose(outputs["y"], y, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs["w"], w, rtol=1e-4, atol=1e-5)


def test_the_residual_begins_as_the_input_and_grows_by_gamma(apply_block, run_block):
    inputs = sequences((2,), seed=5)
    block = MultiHeadAttentionBlock(("q", "k", "v", "mask"), "y", 2)
    outputs, variables = apply_block(block, fresh=True, **inputs)
    np.testing.assert_array_equal(outputs["y"], inputs["q"])
    plain = MultiHeadAttentionBlock(("q", "k", "v", "mask"), "y", 2, residual=False)
    attention = run_block(plain, variables, **inputs)["y"]
    variables = {"params": {**variables["params"], "gamma": jnp.float32(0.5)}}
    y = run_block(block, variables, **inputs)["y"]
    np.testing.assert_allclose(y, inputs["q"] + 0.5 * attention, rtol=1e-5)


def test_a_sequence_attends_to_itself(apply_block):
    leading = (2, 3)
    rng = np.random.default_rng(6)
    x = rng.normal(size=(*leading, 4, 6)).astype(np.float32)
    mask = rng.random((*leading, 4, 4)) < 0.5
    block = SelfAttentionSeqBlock(("x", "mask"), ("y", "w"), 3, residual=False)
    outputs, variables = apply_block(block, len(leading), x=x, mask=mask)
    weights = variables["params"]["attention"]
    y, w = every_sample(lambda x, mask: attention_of_sample(weights, 3, x, x, x, mask), x, mask)
    np.testing.assert_allclose(outputs["y"], y, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs["w"], w, rtol=1e-4, atol=1e-5)


def test_a_mask_of_keys_is_the_same_for_all_queries(apply_block, run_block):
    rng = np.random.default_rng(7)
    x = rng.normal(size=(3, 4, 6)).astype(np.float32)
    keys = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]], np.float32)
    block = SelfAttentionSeqBlock(("x", "mask"), "y", 2, "keys", residual=False)
    outputs, variables = apply_block(block, x=x, mask=keys)
    pairs = SelfAttentionSeqBlock(("x", "mask"), "y", 2, "pairs", residual=False)
    mask = np.repeat(keys[:, None], 4, axis=1)
    expected = run_block(pairs, variables, x=x, mask=mask)["y"]
    np.testing.assert_allclose(outputs["y"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(outputs["y"][1], 0.0)


def test_a_sequence_of_queries_keys_and_values_is_self_attention(draw_weights, run_block):
    x = np.random.default_rng(8).normal(size=(2, 4, 6)).astype(np.float32)
    block = SelfAttentionSeqBlock("x", "y", 2, residual=False)
    variables = draw_weights(block, x=x)
    outputs = run_block(block, variables, x=x)
    three = MultiHeadAttentionBlock(("x", "x", "x"), "y", 2, residual=False)
    expected = run_block(three, variables, x=x)["y"]
    np.testing.assert_allclose(outputs["y"], expected, rtol=1e-5, atol=1e-6)


def test_places_of_an_image_attend_to_each_other(apply_block):
    leading = (2, 3)
    rng = np.random.default_rng(10)
    x = rng.normal(size=(*leading, 2, 3, 4)).astype(np.float32)
    mask = rng.random((*leading, 2, 3)) < 0.6
    mask[-1] = False
    block = SelfAttentionConvBlock(("x", "mask"), ("y", "w"), 2, residual=False)
    outputs, variables = apply_block(block, len(leading), x=x, mask=mask)
    weights = variables["params"]

    def sample(x, mask):
        y, w = np.zeros_like(x), np.zeros((6, 6), np.float32)
        if mask.any():
            query, key, value = (project(weights[n], x) for n in ("query", "key", "value"))
            for i in range(6):
                w[i, mask[0]] = softmax(key[mask[0]] @ query[i])
                y[i] = project(weights["out"], w[i] @ value)
        return y, w

    flat = x.reshape(*leading, 6, 4), mask.reshape(*leading, 1, 6)
    y, w = every_sample(sample, *flat)
    np.testing.assert_allclose(outputs["y"], y.reshape(x.shape), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs["w"], w, rtol=1e-4, atol=1e-5)


def test_an_image_begins_as_it_is(apply_block):
    x = np.random.default_rng(11).normal(size=(2, 3, 3, 4)).astype(np.float32)
    outputs, variables = apply_block(SelfAttentionConvBlock("x", "y"), fresh=True, x=x)
    np.testing.assert_array_equal(outputs["y"], x)
    assert variables["params"]["gamma"] == 0.0


@pytest.mark.parametrize(
    "block",
    [
        SelfAttentionSeqBlock("x", "y", residual=False, dropout=0.5),
        SelfAttentionConvBlock("x", "y", residual=False, dropout=0.5),
    ],
)
def test_weights_are_dropped_only_with_an_rng(draw_weights, run_block, block):
    x = np.random.default_rng(12).normal(size=(1, 4, 4, 6)).astype(np.float32)
    variables = draw_weights(block, x=x)
    plain = run_block(block, variables, x=x)

    def drop(key):
        return block.apply(variables, {"x": x}, rngs={"dropout": key})["y"]

    dropped = jax.jit(jax.vmap(drop))(jax.random.split(jax.random.key(1), 300))
    assert np.abs(dropped[0] - plain["y"]).max() > 0.01
    np.testing.assert_allclose(np.mean(dropped, axis=0), plain["y"], atol=0.4)


def test_the_gradient_of_attention_to_nothing_is_zero():
    def loss(logits):
        return jnp.sum(masked_softmax(logits, jnp.zeros((2, 3), bool)) ** 2)

    np.testing.assert_array_equal(jax.jit(jax.grad(loss))(jnp.ones((2, 3)) * 1e30), 0.0)


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: SelfAttentionSeqBlock("x", "y", 0), "SelfAttentionSeqBlock.num_heads: must be"),
        (lambda: SelfAttentionSeqBlock("x", "y", (1, 2)), "num_heads: must be a positive integer"),
        (lambda: SelfAttentionConvBlock("x", "y", (1,)), "features: must be a positive integer"),
        (lambda: SelfAttentionSeqBlock("x", "y", mask="key"), "did you mean 'keys'"),
        (lambda: SelfAttentionConvBlock("x", "y", -1), "SelfAttentionConvBlock.features: must"),
        (lambda: SelfAttentionConvBlock("x", "y", dropout=1.0), "dropout: must be at least 0"),
        (lambda: MultiHeadAttentionBlock("q", "y"), "in_keys: expected 3 or 4, got 1: q"),
    ],
)
def test_fields_that_make_no_block_are_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


@pytest.mark.parametrize(
    "change, said",
    [
        ({"q": np.zeros((2, 3, 5))}, r"'q' has shape \(2, 3, 5\), .* num_heads=2 divides"),
        ({"k": np.zeros((3, 5, 6))}, r"'k' has shape \(3, 5, 6\), expected \(2, 5, 6\)"),
        ({"v": np.zeros((2, 4, 2))}, r"'v' has shape \(2, 4, 2\), expected \(2, 5, 2\)"),
        ({"mask": np.zeros((2, 5))}, r"'mask' has shape \(2, 5\), expected \(2, 3, 5\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(change, said):
    block = MultiHeadAttentionBlock(("q", "k", "v", "mask"), "y", 2)
    with pytest.raises(ConfigError, match=said):
        jax.eval_shape(block.init, jax.random.key(0), {**sequences((2,), 0), **change})
