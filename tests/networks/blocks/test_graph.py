"""Graph blocks beside loops over samples and nodes."""

import jax
import numpy as np
import pytest

from mazejax.errors import ConfigError
from mazejax.networks.blocks.graph import GraphAttentionBlock, GraphConvBlock


def graphs(leading, seed=0, num_nodes=4):
    """Nodes and edges at random; the last node of each graph has no neighbors."""
    rng = np.random.default_rng(seed)
    nodes = rng.normal(size=(*leading, num_nodes, 5)).astype(np.float32)
    adjacency = np.triu(rng.random((*leading, num_nodes, num_nodes)) < 0.6, 1)
    adjacency[..., -1] = False
    return nodes, (adjacency | adjacency.swapaxes(-1, -2)).astype(np.float32)


def every_sample(function, leading, *arrays):
    flat = [x.reshape(-1, *x.shape[len(leading) :]) for x in arrays]
    out = np.stack([function(*sample) for sample in zip(*flat, strict=True)])
    return out.reshape(*leading, *out.shape[1:])


# --- convolution --------------------------------------------------------------------------


def convolved(weights, nodes, adjacency, importance):
    adjacency = adjacency + importance * np.eye(len(nodes))
    degree = adjacency.sum(axis=1)
    for i in range(2):
        x = nodes @ weights[f"dense_{i}"]["kernel"]
        out = np.zeros_like(x)
        for n in range(len(nodes)):
            for m in range(len(nodes)):
                if degree[n] > 0 and degree[m] > 0:
                    out[n] += adjacency[n, m] / np.sqrt(degree[n] * degree[m]) * x[m]
        nodes = (
            np.maximum(out + weights[f"bias_{i}"], 0)
            if i == 0
            else np.tanh(out + weights[f"bias_{i}"])
        )
    return nodes


@pytest.mark.parametrize("importance", [0.0, 0.3])
def test_convolutions_add_up_neighbors_by_their_degrees(apply_block, importance):
    leading = (2, 3)
    nodes, adjacency = graphs(leading)
    block = GraphConvBlock(
        ("x", "a"), "y", (6, 3), ("relu", "tanh"), node_self_importance=importance
    )
    outputs, variables = apply_block(block, len(leading), x=nodes, a=adjacency)
    expected = every_sample(
        lambda *sample: convolved(variables["params"], *sample, importance),
        leading,
        nodes,
        adjacency,
    )
    np.testing.assert_allclose(outputs["y"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [GraphConvBlock, GraphAttentionBlock])
def test_one_adjacency_may_serve_all_samples(draw_weights, run_block, make):
    nodes, adjacency = graphs((2, 3))
    shared = adjacency[0, 0]
    block = make(("x", "a"), "y", (6, 3))
    each = np.broadcast_to(shared, adjacency.shape)
    variables = draw_weights(block, x=nodes, a=each)
    expected = run_block(block, variables, x=nodes, a=each)
    outputs = run_block(block, variables, x=nodes, a=shared)
    np.testing.assert_allclose(outputs["y"], expected["y"], rtol=1e-5, atol=1e-6)


def test_the_importance_of_a_node_itself_may_be_learned(apply_block, run_block):
    nodes, adjacency = graphs((2,))
    fields = dict(hidden=(3,), node_self_importance=0.7)
    block = GraphConvBlock(("x", "a"), "y", trainable_node_self_importance=True, **fields)
    outputs, variables = apply_block(block, fresh=True, x=nodes, a=adjacency)
    assert variables["params"]["node_self_importance"] == np.float32(0.7)
    constant = GraphConvBlock(("x", "a"), "y", **fields)
    expected = run_block(constant, variables, x=nodes, a=adjacency)
    np.testing.assert_allclose(outputs["y"], expected["y"], rtol=1e-6)


def test_an_adjacency_may_be_taken_as_it_is(apply_block):
    nodes, adjacency = graphs((2,))
    block = GraphConvBlock(("x", "a"), "y", (3,), bias=False, preprocess_adjacency=False)
    outputs, variables = apply_block(block, x=nodes, a=adjacency)
    kernel = np.asarray(variables["params"]["dense_0"]["kernel"])
    expected = np.stack([a @ x @ kernel for x, a in zip(nodes, adjacency, strict=True)])
    np.testing.assert_allclose(outputs["y"], np.maximum(expected, 0), rtol=1e-4, atol=1e-5)


# --- attention ----------------------------------------------------------------------------


def attended(weights, nodes, adjacency, heads, average):
    for i, num in enumerate(heads):
        seen = (nodes @ weights[f"dense_{i}"]["kernel"]).reshape(len(nodes), num, -1)
        asks, tells = weights[f"attention_{i}"]
        out = np.zeros_like(seen)
        for n in range(len(nodes)):
            near = [m for m in range(len(nodes)) if adjacency[n, m] or m == n]
            for h in range(num):
                logits = np.array([asks[h] @ seen[n, h] + tells[h] @ seen[m, h] for m in near])
                logits = np.exp(np.where(logits > 0, logits, 0.2 * logits))
                out[n, h] = logits / logits.sum() @ seen[near, h]
        last = average and i == len(heads) - 1
        out = out.mean(axis=1) if last else out.reshape(len(nodes), -1)
        nodes = np.maximum(out + weights[f"bias_{i}"], 0)
    return nodes


@pytest.mark.parametrize("leading, average", [((2,), False), ((2, 3), True)])
def test_nodes_attend_to_their_neighbors_and_themselves(apply_block, leading, average):
    nodes, adjacency = graphs(leading, seed=1)
    block = GraphAttentionBlock(("x", "a"), "y", (4, 3), "relu", (2, 3), average_last_heads=average)
    outputs, variables = apply_block(block, len(leading), x=nodes, a=adjacency)
    expected = every_sample(
        lambda *sample: attended(variables["params"], *sample, (2, 3), average),
        leading,
        nodes,
        adjacency,
    )
    assert outputs["y"].shape == (*leading, 4, 3 if average else 9)
    np.testing.assert_allclose(outputs["y"], expected, rtol=1e-4, atol=1e-5)


def test_weights_of_neighbors_are_dropped_only_with_an_rng(draw_weights, run_block):
    nodes, adjacency = graphs((2,))
    inputs = {"x": nodes, "a": adjacency}
    block = GraphAttentionBlock(("x", "a"), "y", (3,), dropout=0.5)
    variables = draw_weights(block, **inputs)
    outputs = run_block(block, variables, **inputs)
    without = run_block(GraphAttentionBlock(("x", "a"), "y", (3,)), variables, **inputs)["y"]
    np.testing.assert_allclose(outputs["y"], without, rtol=1e-6)
    dropped = run_block(block, variables, {"dropout": jax.random.key(1)}, **inputs)["y"]
    assert np.abs(dropped - without).max() > 0.01


# --- refusals -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: GraphConvBlock(("x", "a"), "y", (0,)), "GraphConvBlock.hidden: must be"),
        (lambda: GraphConvBlock("x", "y"), "in_keys: expected 2, got 1"),
        (
            lambda: GraphConvBlock(("x", "a"), "y", (4,), ("relu", "relu")),
            "GraphConvBlock.activation: expected one, or one for each of 1 layers",
        ),
        (lambda: GraphConvBlock(("x", "a"), "y", (4,), ("tahn",)), "did you mean 'tanh'"),
        (
            lambda: GraphConvBlock(
                ("x", "a"), "y", preprocess_adjacency=False, trainable_node_self_importance=True
            ),
            "GraphConvBlock.trainable_node_self_importance: there is no lambda",
        ),
        (
            lambda: GraphAttentionBlock(("x", "a"), "y", (4,), num_heads=(1, 2)),
            "GraphAttentionBlock.num_heads: expected one",
        ),
        (
            lambda: GraphAttentionBlock(("x", "a"), "y", num_heads=0),
            "num_heads: must be a positive integer or a tuple of them, got 0",
        ),
        (lambda: GraphAttentionBlock(("x", "a"), "y", alpha="x"), "alpha: must be a finite number"),
        (
            lambda: GraphConvBlock(("x", "a"), "y", node_self_importance=np.inf),
            "node_self_importance: must be a finite number, got inf",
        ),
        (lambda: GraphAttentionBlock(("x", "a"), "y", dropout=-0.1), "dropout: must be at least"),
    ],
)
def test_fields_that_make_no_block_are_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


@pytest.mark.parametrize("make", [GraphConvBlock, GraphAttentionBlock])
def test_an_adjacency_that_does_not_fit_is_named(make):
    inputs = {"x": np.zeros((2, 4, 5)), "a": np.zeros((2, 4, 5))}
    with pytest.raises(ConfigError, match=r"'a' has shape \(2, 4, 5\), expected \(2, 4, 4\)"):
        jax.eval_shape(make(("x", "a"), "y").init, jax.random.key(0), inputs)
