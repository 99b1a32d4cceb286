"""Graph blocks beside loops over samples, nodes and edges."""

import jax
import numpy as np
import pytest

from mazejax.errors import ConfigError
from mazejax.networks.blocks.graph import GNNBlock, GraphAttentionBlock, GraphConvBlock

EDGES = ((0, 1), (1, 2), (2, 1), (0, 2), (1, 1))


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


def fresh_biases(variables, seed=9):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: np.asarray(x) + rng.normal(0, 0.3, x.shape).astype(np.float32), variables
    )


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


@pytest.mark.parametrize("leading, importance", [((), 1.0), ((2, 3), 0.0), ((3,), 0.3)])
def test_convolutions_add_up_neighbors_by_their_degrees(apply_block, leading, importance):
    nodes, adjacency = graphs(leading)
    block = GraphConvBlock(
        ("x", "a"), "y", (6, 3), ("relu", "tanh"), node_self_importance=importance
    )
    _, variables = apply_block(block, len(leading), x=nodes, a=adjacency)
    variables = fresh_biases(variables)
    weights = jax.tree.map(np.asarray, variables["params"])
    y = jax.jit(block.apply)(variables, {"x": nodes, "a": adjacency})["y"]
    expected = every_sample(
        lambda *sample: convolved(weights, *sample, importance), leading, nodes, adjacency
    )
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [GraphConvBlock, GraphAttentionBlock])
def test_one_adjacency_may_serve_all_samples(make):
    nodes, adjacency = graphs((2, 3))
    shared = adjacency[0, 0]
    block = make(("x", "a"), "y", (6, 3))
    variables = jax.jit(block.init)(jax.random.key(0), {"x": nodes, "a": shared})
    y = jax.jit(block.apply)(variables, {"x": nodes, "a": shared})["y"]
    each = np.broadcast_to(shared, adjacency.shape)
    expected = jax.jit(block.apply)(variables, {"x": nodes, "a": each})["y"]
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_the_importance_of_a_node_itself_may_be_learned(apply_block):
    nodes, adjacency = graphs((2,))
    fields = dict(hidden=(3,), node_self_importance=0.7)
    block = GraphConvBlock(("x", "a"), "y", trainable_node_self_importance=True, **fields)
    outputs, variables = apply_block(block, x=nodes, a=adjacency)
    assert variables["params"]["node_self_importance"] == np.float32(0.7)
    expected = GraphConvBlock(("x", "a"), "y", **fields).apply(
        variables, {"x": nodes, "a": adjacency}
    )
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


@pytest.mark.parametrize("leading, average", [((), False), ((2, 3), True)])
def test_nodes_attend_to_their_neighbors_and_themselves(apply_block, leading, average):
    nodes, adjacency = graphs(leading, seed=1)
    block = GraphAttentionBlock(("x", "a"), "y", (4, 3), "relu", (2, 3), average_last_heads=average)
    _, variables = apply_block(block, len(leading), x=nodes, a=adjacency)
    variables = fresh_biases(variables)
    weights = jax.tree.map(np.asarray, variables["params"])
    y = jax.jit(block.apply)(variables, {"x": nodes, "a": adjacency})["y"]
    expected = every_sample(
        lambda *sample: attended(weights, *sample, (2, 3), average), leading, nodes, adjacency
    )
    assert y.shape == (*leading, 4, 3 if average else 9)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_weights_of_neighbors_are_dropped_only_with_an_rng():
    nodes, adjacency = graphs((2,))
    inputs = {"x": nodes, "a": adjacency}
    block = GraphAttentionBlock(("x", "a"), "y", (3,), dropout=0.5)
    variables = jax.jit(block.init)(jax.random.key(0), inputs)
    without = GraphAttentionBlock(("x", "a"), "y", (3,)).apply(variables, inputs)["y"]
    np.testing.assert_array_equal(jax.jit(block.apply)(variables, inputs)["y"], without)
    dropped = jax.jit(block.apply)(variables, inputs, rngs={"dropout": jax.random.key(1)})["y"]
    assert np.abs(dropped - without).max() > 0.01


# --- messages -----------------------------------------------------------------------------


def normed(x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-6)


def passed(weights, nodes, features, edges, how, layer_norm):
    finish = (lambda x: np.maximum(normed(x), 0)) if layer_norm else (lambda x: np.maximum(x, 0))
    reduce = {"sum": np.sum, "mean": np.mean, "max": np.max}[how]
    real = [e for e, pair in enumerate(edges) if all(0 <= i < len(nodes) for i in pair)]
    for i in range(2):
        w = {
            part: weights[f"{part}_{i}"] for part in ("sender", "receiver", "edge", "node", "heard")
        }
        sent = np.zeros((len(edges), w["node"]["bias"].shape[0]), np.float32)
        for e in real:
            s, r = edges[e]
            total = nodes[s] @ w["sender"]["kernel"] + w["sender"]["bias"]
            total = total + nodes[r] @ w["receiver"]["kernel"]
            sent[e] = finish(total + features[e] @ w["edge"]["kernel"])
        new = np.zeros((len(nodes), sent.shape[1]), np.float32)
        for n in range(len(nodes)):
            here = [sent[e] for e in real if edges[e][1] == n]
            heard = reduce(here, axis=0) if here else np.zeros(sent.shape[1])
            total = nodes[n] @ w["node"]["kernel"] + w["node"]["bias"]
            new[n] = finish(total + heard @ w["heard"]["kernel"])
        nodes, features = new, sent
    return np.concatenate([nodes, features])


@pytest.mark.parametrize(
    "leading, how, layer_norm", [((), "sum", False), ((2, 3), "mean", False), ((3,), "max", True)]
)
@pytest.mark.parametrize("given", [False, True])
def test_messages_follow_the_edges(apply_block, leading, how, layer_norm, given):
    rng = np.random.default_rng(2)
    nodes, _ = graphs(leading)
    inputs = {"x": nodes, "f": rng.normal(size=(*leading, 5, 2)).astype(np.float32)}
    edges = np.broadcast_to(np.array(EDGES, np.int32), (*leading, 5, 2))
    if given:
        # Numbers that name no node among them.
        edges = inputs["e"] = rng.integers(-1, 5, (*leading, 5, 2)).astype(np.int32)
    block = GNNBlock(
        tuple(inputs),
        ("y", "m"),
        () if given else EDGES,
        (6, 3),
        aggregate=how,
        with_layer_norm=layer_norm,
    )
    outputs, variables = apply_block(block, len(leading), **inputs)
    weights = jax.tree.map(np.asarray, variables["params"])
    expected = every_sample(
        lambda *sample: passed(weights, *sample, how, layer_norm),
        leading,
        nodes,
        inputs["f"],
        edges,
    )
    np.testing.assert_allclose(outputs["y"], expected[..., :4, :], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(outputs["m"], expected[..., 4:, :], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("how", ["mean", "max"])
def test_without_any_edge_nodes_hear_nothing(apply_block, how):
    nodes, _ = graphs((2,))
    nowhere = np.full((2, 3, 2), -1, np.int32)
    block = GNNBlock(("x", "e"), ("y", "m"), hidden=(3,), aggregate=how)
    outputs, variables = apply_block(block, x=nodes, e=nowhere)
    node = variables["params"]["node_0"]
    np.testing.assert_allclose(outputs["y"], np.maximum(nodes @ node["kernel"], 0), rtol=1e-5)
    np.testing.assert_array_equal(outputs["m"], 0.0)


def test_edges_in_the_field_and_in_the_input_are_the_same():
    nodes, _ = graphs((2,))
    edges = np.broadcast_to(np.array(EDGES, np.int32), (2, 5, 2))
    block = GNNBlock("x", "y", EDGES, (3,))
    variables = jax.jit(block.init)(jax.random.key(0), {"x": nodes})
    given = GNNBlock(("x", "e"), "y", (), (3,)).apply(variables, {"x": nodes, "e": edges})["y"]
    y = jax.jit(block.apply)(variables, {"x": nodes})["y"]
    np.testing.assert_allclose(y, given, rtol=1e-6)


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
        (lambda: GraphAttentionBlock(("x", "a"), "y", dropout=-0.1), "dropout: must be at least"),
        (lambda: GNNBlock("x", "y", ((0, 1, 2),)), "GNNBlock.edges: expected pairs of nodes"),
        (lambda: GNNBlock("x", "y", ((0, -1),)), "GNNBlock.edges: expected pairs of nodes"),
        (lambda: GNNBlock("x", "y"), "expected 2 or 3 with 0 edges in the field, got 1"),
        (lambda: GNNBlock("x", "y", EDGES, aggregate="avg"), "GNNBlock.aggregate: unknown"),
    ],
)
def test_fields_that_make_no_block_are_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


X = np.zeros((2, 4, 5), np.float32)


@pytest.mark.parametrize(
    "block, inputs, said",
    [
        (
            GraphConvBlock(("x", "a"), "y"),
            {"x": X, "a": np.zeros((2, 4, 5))},
            r"'a' has shape \(2, 4, 5\), expected \(2, 4, 4\)",
        ),
        (GNNBlock("x", "y", ((0, 4),)), {"x": X}, "edges name node 4, but 'x' has shape"),
        (
            GNNBlock(("x", "f"), "y", EDGES),
            {"x": X, "f": np.zeros((2, 4, 3))},
            r"'f' has shape \(2, 4, 3\), expected \(2, 5, 3\)",
        ),
        (
            GNNBlock(("x", "e"), "y"),
            {"x": X, "e": np.zeros((2, 3, 3), np.int32)},
            r"'e' has shape \(2, 3, 3\), expected \(2, 3, 2\)",
        ),
        (
            GNNBlock(("x", "e"), "y"),
            {"x": X, "e": np.zeros((2, 3, 2), np.float32)},
            "'e' has dtype float32, expected integers",
        ),
    ],
)
def test_inputs_that_do_not_fit_are_named(block, inputs, said):
    with pytest.raises(ConfigError, match=said):
        block.init(jax.random.key(0), inputs)
