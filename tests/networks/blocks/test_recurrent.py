"""Recurrent blocks beside loops over samples and steps."""

import jax
import numpy as np
import pytest

from mazejax.errors import ConfigError
from mazejax.networks.blocks.recurrent import GRUBlock, LSTMBlock, LSTMLastStepBlock


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(weights, x):
    cell = hidden = np.zeros(weights["recurrent_kernel"].shape[0])
    out = []
    for now in x:
        gates = now @ weights["input_kernel"] + hidden @ weights["recurrent_kernel"]
        i, f, g, o = np.split(gates + weights["bias"], 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(cell)
        out.append(hidden)
    return np.stack(out)


def gru(weights, x):
    hidden = np.zeros(weights["recurrent_kernel"].shape[0])
    out = []
    for now in x:
        driven = np.split(now @ weights["input_kernel"] + weights["bias"], 3)
        gates = np.split(hidden @ weights["recurrent_kernel"], 3)
        r, z = sigmoid(driven[0] + gates[0]), sigmoid(driven[1] + gates[1])
        n = np.tanh(driven[2] + r * (gates[2] + weights["recurrent_bias"]))
        hidden = (1 - z) * n + z * hidden
        out.append(hidden)
    return np.stack(out)


def layers(cell, weights, x, num_layers, bidirectional):
    for i in range(num_layers):
        ahead = cell(weights[f"forward_{i}"], x)
        if bidirectional:
            back = cell(weights[f"backward_{i}"], x[::-1])[::-1]
            ahead = np.concatenate([ahead, back], axis=-1)
        x = ahead
    return x


def reference(cell, variables, x, num_layers, bidirectional):
    weights = jax.tree.map(np.asarray, variables["params"])
    flat = x.reshape(-1, *x.shape[-2:])
    out = np.stack([layers(cell, weights, s, num_layers, bidirectional) for s in flat])
    return out.reshape(*x.shape[:-1], -1)


def stacked(leading, seed=0, steps=4):
    return np.random.default_rng(seed).normal(size=(*leading, steps, 5)).astype(np.float32)


@pytest.mark.parametrize(
    "make, cell, leading, num_layers, bidirectional",
    [
        (LSTMBlock, lstm, (2, 3), 1, True),
        (LSTMBlock, lstm, (2,), 2, False),
        (GRUBlock, gru, (2, 3), 1, True),
    ],
)
def test_layers_read_the_steps_in_order(
    apply_block, make, cell, leading, num_layers, bidirectional
):
    x = stacked(leading)
    block = make("x", "y", 3, num_layers, bidirectional)
    outputs, variables = apply_block(block, len(leading), x=x)
    expected = reference(cell, variables, x, num_layers, bidirectional)
    assert outputs["y"].shape == (*leading, 4, 6 if bidirectional else 3)
    np.testing.assert_allclose(outputs["y"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_layers, activation, steps", [(2, "relu", 4), (1, "none", 1)])
def test_the_last_step_is_that_of_all_steps(apply_block, run_block, num_layers, activation, steps):
    x = stacked((2,), seed=1, steps=steps)
    fields = dict(hidden_size=3, num_layers=num_layers, bidirectional=True, activation=activation)
    outputs, variables = apply_block(LSTMLastStepBlock("x", "y", **fields), x=x)
    every = run_block(LSTMBlock("x", "y", **fields), variables, x=x)["y"]
    np.testing.assert_allclose(outputs["y"], every[:, -1], rtol=1e-5, atol=1e-6)


def test_a_dense_layer_may_follow(apply_block):
    x = stacked((2,), seed=2)
    outputs, variables = apply_block(LSTMBlock("x", "y", 3, 1, True, "relu"), x=x)
    dense = variables["params"]["dense"]
    states = reference(lstm, variables, x, 1, True)
    expected = np.maximum(states @ dense["kernel"] + dense["bias"][None, None], 0)
    np.testing.assert_allclose(outputs["y"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: LSTMBlock("x", "y", (3,)), "LSTMBlock.hidden_size: must be a positive integer"),
        (lambda: LSTMBlock("x", "y", 3, (1,)), "LSTMBlock.num_layers: must be a positive integer"),
        (lambda: LSTMBlock("x", "y", 0), "LSTMBlock.hidden_size: must be a positive integer"),
        (lambda: GRUBlock("x", "y", num_layers=0), "GRUBlock.num_layers: must be a positive"),
        (lambda: GRUBlock("x", "y", activation="tahn"), "did you mean 'tanh'"),
        (lambda: LSTMLastStepBlock("x", ("y", "z")), "out_keys: expected 1, got 2"),
    ],
)
def test_fields_that_make_no_block_are_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


def test_an_observation_without_steps_is_named():
    with pytest.raises(ConfigError, match=r"'x' has shape \(5,\), expected at least 2 axes"):
        jax.eval_shape(LSTMBlock("x", "y").init, jax.random.key(0), {"x": np.zeros(5)})
    with pytest.raises(ConfigError, match=r"'x' has shape \(0, 5\), expected at least 1 step"):
        jax.eval_shape(LSTMBlock("x", "y").init, jax.random.key(0), {"x": np.zeros((0, 5))})
