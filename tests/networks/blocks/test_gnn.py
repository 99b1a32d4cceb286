"""Message passing beside loops over samples, nodes and edges."""

import itertools

import jax
import jax.numpy as jnp
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


OF_EDGES = ("node_to_edge", "edge_to_edge", "edge_to_itself")
OF_NODES = ("edge_to_node", "node_to_node", "node_to_itself")
COMBINATIONS = list(itertools.product([False, True], repeat=6))


def used_parts(switches, layer, with_messages, with_features):
    """Names of the dense layers that a layer of the block has, by the sums that they are of."""
    ends, before, own, heard, others, itself = switches
    messages = [name for name in ("sender", "receiver") if ends]
    if with_features or layer > 0:
        messages += [name for name, on in (("edge", own), ("before", before)) if on]
    nodes = [n for n, on in (("node", itself), ("heard", heard), ("neighbor", others)) if on]
    has_messages = heard or (with_messages and (own or before or layer == 1))
    return messages if has_messages else [], nodes


def switched(weights, nodes, features, edges, parts):
    """Nodes and messages after two layers with these parts; the mean is the aggregate."""
    real = [e for e, pair in enumerate(edges) if all(0 <= i < len(nodes) for i in pair)]

    def mean_at(node, of_edges):
        here = [of_edges[e] for e in real if edges[e][1] == node]
        return np.mean(here, axis=0) if here else np.zeros(of_edges.shape[1])

    for i, (of_messages, of_nodes) in enumerate(parts):

        def total(names, inputs, i=i):
            layers = [weights[f"{name}_{i}"] for name in names]
            terms = [inputs[n] @ w["kernel"] for n, w in zip(names, layers, strict=True)]
            assert ["bias" in w for w in layers] == [k == 0 for k in range(len(layers))]
            return np.maximum(sum(terms) + layers[0]["bias"], 0)

        sent = features
        if of_messages:
            sent = np.zeros((len(edges), 3), np.float32)
            for e in real:
                s, r = edges[e]
                inputs = {"sender": nodes[s], "receiver": nodes[r]}
                if features is not None:
                    inputs |= {"edge": features[e], "before": mean_at(s, features)}
                sent[e] = total(of_messages, inputs)
        new = np.zeros((len(nodes), 3), np.float32)
        senders = np.stack([nodes[s if 0 <= s < len(nodes) else 0] for s, _ in edges])
        for n in range(len(nodes)):
            inputs = {"node": nodes[n], "neighbor": mean_at(n, senders)}
            inputs["heard"] = None if sent is None else mean_at(n, sent)
            new[n] = total(of_nodes, inputs)
        nodes, features = new, sent
    return nodes, features


def makes_a_block(switches, with_messages, with_features):
    of_edges, of_nodes = switches[:3], switches[3:]
    if not any(of_nodes):
        return False
    if not (switches[3] or with_messages):
        return not with_features
    enough = switches[0] or with_features
    return enough and (any(of_edges) or not with_messages)


@pytest.mark.parametrize("with_features", [False, True])
@pytest.mark.parametrize("with_messages", [False, True])
def test_every_combination_of_switches_has_its_terms_and_no_other_weights(
    draw_weights, with_messages, with_features
):
    rng = np.random.default_rng(3)
    inputs = {"x": nodes_of((1,))}
    if with_features:
        inputs["f"] = rng.normal(size=(1, 6, 2)).astype(np.float32)
    inputs["e"] = np.array([[*EDGES, (2, -1)]], np.int32)
    made = 0
    for switches in COMBINATIONS:
        fields = dict(zip(OF_EDGES + OF_NODES, switches, strict=True))
        outs = ("y", "m") if with_messages else ("y",)
        if not makes_a_block(switches, with_messages, with_features):
            with pytest.raises(ConfigError, match=r"GNNBlock\."):
                GNNBlock(tuple(inputs), outs, hidden=(3, 3), aggregate="mean", **fields)
            continue
        made += 1
        block = GNNBlock(tuple(inputs), outs, hidden=(3, 3), aggregate="mean", **fields)
        weights = draw_weights(block, **inputs)
        parts = [used_parts(switches, i, with_messages, with_features) for i in range(2)]
        names = {f"{name}_{i}" for i in range(2) for part in parts[i] for name in part}
        assert weights["params"].keys() == names, fields
        outputs = block.apply(weights, {key: jnp.asarray(value) for key, value in inputs.items()})
        sample = inputs["f"][0] if with_features else None
        nodes, messages = switched(weights["params"], inputs["x"][0], sample, inputs["e"][0], parts)
        np.testing.assert_allclose(outputs["y"][0], nodes, rtol=1e-3, atol=1e-4)
        if with_messages:
            np.testing.assert_allclose(outputs["m"][0], messages, rtol=1e-3, atol=1e-4)
    assert made > 20


@pytest.mark.parametrize("how", ["sum", "max"])
def test_all_switches_at_once_work_on_fixed_edges_and_any_batch_axes(apply_block, how):
    nodes, switches = nodes_of((2, 3)), dict.fromkeys(OF_EDGES + OF_NODES, True)
    features = np.random.default_rng(4).normal(size=(2, 3, 5, 2)).astype(np.float32)
    block = GNNBlock(("x", "f"), ("y", "m"), EDGES, (3, 2), aggregate=how, **switches)
    outputs, _ = apply_block(block, 2, x=nodes, f=features)
    assert outputs["y"].shape == (2, 3, 4, 2) and outputs["m"].shape == (2, 3, 5, 2)


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
        (
            lambda: GNNBlock("x", "y", EDGES, edge_to_edge="yes"),
            "GNNBlock.edge_to_edge: must be true or false, got 'yes'",
        ),
        (
            lambda: GNNBlock("x", "y", EDGES, edge_to_node=False, node_to_itself=False),
            "GNNBlock.edge_to_node: switch on one of edge_to_node, node_to_node, node_to_itself",
        ),
        (
            lambda: GNNBlock(("x", "f"), "y", EDGES, edge_to_node=False),
            "GNNBlock.edge_to_node: false, so that features of edges 'f' reach no output",
        ),
        (
            lambda: GNNBlock("x", "y", EDGES, node_to_edge=False),
            "GNNBlock.node_to_edge: false, so that messages need features of edges",
        ),
        (
            lambda: GNNBlock(
                ("x", "f"), ("y", "m"), EDGES, node_to_edge=False, edge_to_itself=False
            ),
            "GNNBlock.out_keys: 'm' would be the features of edges as they are given",
        ),
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


@pytest.mark.parametrize("how", ["sum", "mean", "max"])
def test_bools_are_the_numbers_that_they_stand_for(run_block, draw_weights, how):
    block = GNNBlock(("x", "f", "e"), "y", hidden=(3,), aggregate=how, node_to_node=True)
    bools = {"x": nodes_of((2,)) > 0, "f": np.ones((2, 3, 2), bool), "e": np.eye(3, 2) > 0}
    bools["e"] = np.stack([bools["e"]] * 2)
    numbers = {key: x.astype(np.float32) for key, x in bools.items()}
    weights = draw_weights(block, **numbers)
    whole = run_block(block, weights, **numbers)
    np.testing.assert_array_equal(run_block(block, weights, **bools)["y"], whole["y"])


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_layers_are_normalized_to_the_last_digit_however_large(run_block, draw_weights, offset):
    block = GNNBlock("x", "y", EDGES, (8,), "tanh", with_layer_norm=True, edge_to_node=False)
    x = nodes_of((2,)) + np.float32(offset)
    weights = draw_weights(block, x=x)
    p = jax.tree.map(np.float64, weights["params"])
    inner = x.astype(np.float64) @ p["node_0"]["kernel"] + p["node_0"]["bias"]
    flat = np.stack([normed(row, p["node_norm_0"]) for row in inner.reshape(-1, 8)])
    wanted = np.tanh(flat).reshape(2, 4, 8)
    tolerance = 1e-6 if offset == 0.0 else 2e-4
    np.testing.assert_allclose(run_block(block, weights, x=x)["y"], wanted, atol=tolerance)
