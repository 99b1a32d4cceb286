"""Message passing beside loops over samples, nodes and edges."""

import jax
import numpy as np
import pytest

from mazejax.errors import ConfigError
from mazejax.networks.blocks.gnn import GNNBlock

EDGES = ((0, 1), (1, 2), (2, 1), (0, 2), (1, 1))


def nodes_of(leading):
    return np.random.default_rng(0).normal(size=(*leading, 4, 5)).astype(np.float32)


def every_sample(function, leading, *arrays):
    flat = [x.reshape(-1, *x.shape[len(leading) :]) for x in arrays]
    out = np.stack([function(*sample) for sample in zip(*flat, strict=True)])
    return out.reshape(*leading, *out.shape[1:])


def normed(x, weights):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-6) * weights["scale"] + weights["bias"]


def passed(weights, nodes, features, edges, how, layer_norm):
    reduce = {"sum": np.sum, "mean": np.mean, "max": np.max}[how]
    real = [e for e, pair in enumerate(edges) if all(0 <= i < len(nodes) for i in pair)]

    def finish(x, norm):
        return np.maximum(normed(x, weights[norm]) if layer_norm else x, 0)

    for i in range(2):
        w = {
            part: weights[f"{part}_{i}"] for part in ("sender", "receiver", "edge", "node", "heard")
        }
        sent = np.zeros((len(edges), w["node"]["bias"].shape[0]), np.float32)
        for e in real:
            s, r = edges[e]
            total = nodes[s] @ w["sender"]["kernel"] + w["sender"]["bias"]
            total = total + nodes[r] @ w["receiver"]["kernel"]
            sent[e] = finish(total + features[e] @ w["edge"]["kernel"], f"message_norm_{i}")
        new = np.zeros((len(nodes), sent.shape[1]), np.float32)
        for n in range(len(nodes)):
            here = [sent[e] for e in real if edges[e][1] == n]
            heard = reduce(here, axis=0) if here else np.zeros(sent.shape[1])
            total = nodes[n] @ w["node"]["kernel"] + w["node"]["bias"]
            new[n] = finish(total + heard @ w["heard"]["kernel"], f"node_norm_{i}")
        nodes, features = new, sent
    return np.concatenate([nodes, features])


@pytest.mark.parametrize(
    "leading, how, layer_norm, given",
    [
        ((2, 3), "sum", False, True),
        ((3,), "max", True, True),
        ((2, 3), "mean", False, False),
    ],
)
def test_messages_follow_the_edges(apply_block, leading, how, layer_norm, given):
    rng = np.random.default_rng(2)
    nodes = nodes_of(leading)
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
    expected = every_sample(
        lambda *sample: passed(variables["params"], *sample, how, layer_norm),
        leading,
        nodes,
        inputs["f"],
        edges,
    )
    np.testing.assert_allclose(outputs["y"], expected[..., :4, :], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(outputs["m"], expected[..., 4:, :], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("how", ["mean", "max"])
def test_without_any_edge_nodes_hear_nothing(apply_block, how):
    nodes = nodes_of((2,))
    nowhere = np.full((2, 3, 2), -1, np.int32)
    block = GNNBlock(("x", "e"), ("y", "m"), hidden=(3,), aggregate=how)
    outputs, variables = apply_block(block, x=nodes, e=nowhere)
    node = variables["params"]["node_0"]
    expected = np.maximum(nodes @ node["kernel"] + node["bias"][None, None], 0)
    np.testing.assert_allclose(outputs["y"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(outputs["m"], 0.0)


def test_edges_in_the_field_and_in_the_input_are_the_same(draw_weights, run_block):
    nodes = nodes_of((2,))
    edges = np.broadcast_to(np.array(EDGES, np.int32), (2, 5, 2))
    block = GNNBlock("x", "y", EDGES, (3,))
    variables = draw_weights(block, x=nodes)
    fixed = run_block(block, variables, x=nodes)
    given = run_block(GNNBlock(("x", "e"), "y", (), (3,)), variables, x=nodes, e=edges)
    np.testing.assert_allclose(fixed["y"], given["y"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "make, said",
    [
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
    ],
)
def test_inputs_that_do_not_fit_are_named(block, inputs, said):
    with pytest.raises(ConfigError, match=said):
        jax.eval_shape(block.init, jax.random.key(0), inputs)


def test_edges_may_come_as_floats_as_observations_do(run_block, draw_weights):
    block = GNNBlock(("x", "e"), "y", hidden=(3,))
    inputs = {"x": nodes_of((2,)), "e": np.array([EDGES, EDGES], np.int32)}
    weights = draw_weights(block, **inputs)
    whole = run_block(block, weights, **inputs)
    floats = run_block(block, weights, **{**inputs, "e": inputs["e"].astype(np.float32)})
    np.testing.assert_array_equal(whole["y"], floats["y"])
