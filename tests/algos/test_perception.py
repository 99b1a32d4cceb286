"""Every block learns inside PPO, on pixels, vectors, sequences, graphs and sets."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import mazejax
from mazejax import random, registry
from mazejax.envs.probe import ProbeEnv
from mazejax.networks import (
    ConcatModelBuilder,
    CustomActorCritic,
    InferenceBlock,
    PerceptionActorCritic,
    PerceptionPolicy,
)
from mazejax.networks import blocks as b
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box, Discrete, MultiBinary

SHAPES = {
    "image": (8, 8, 1),
    "vector": (3,),
    "sequence": (4, 2),
    "nodes": (3, 2),
    "points": (4, 3),
}


class Senses(ProbeEnv):
    """Tell whether the signal is positive: every sense shows it, and nothing else matters."""

    @property
    def observation_space(self):
        boxes = {name: Box(-1.0, 1.0, shape) for name, shape in SHAPES.items()}
        masks = {"adjacency": MultiBinary((3, 3)), "points_there": MultiBinary(4)}
        return Dict({**boxes, **masks, "sign": Discrete(2)})

    def signal(self, key):
        return jnp.where(jax.random.bernoulli(key), 1.0, -1.0)

    def reward(self, state, action):
        return (action == (state.signal > 0)).astype(jnp.float32)

    def observe(self, state):
        shown = {name: jnp.full(shape, state.signal) for name, shape in SHAPES.items()}
        ring = jnp.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]], jnp.int8)
        there = jnp.array([1, 1, 0, 1], jnp.int8)
        sign = (state.signal > 0).astype(jnp.int32)
        return {**shown, "adjacency": ring, "points_there": there, "sign": sign}


ENV = Senses()
IN_KEYS = (*SHAPES, "adjacency", "points_there", "sign")


class Row(nn.Module):
    """A vector as a matrix of one row."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x)[..., None, :]


def everything(x):
    """A mask that allows both actions."""
    return jnp.ones((*x.shape[:-1], 2), bool)


# One graph of all blocks: they end in vectors that are joined.
EVERY = {
    "strided": b.StridedConvolutionDenseBlock(
        "image", "v0", conv_hidden=(2,), kernel_sizes=3, strides=2, hidden=(2,)
    ),
    "vgg": b.VGGConvolutionBlock("image", "map", (2,)),
    "attention_conv": b.SelfAttentionConvBlock("map", "seen", 2),
    "gap": b.GlobalAveragePoolingBlock("seen", "v1"),
    "vgg_gap": b.VGGConvolutionGAPBlock("image", "v2", (2,)),
    "vgg_dense": b.VGGConvolutionDenseBlock("image", "v3", (2,), (2,)),
    "strided_line": b.StridedConvolutionBlock(
        "sequence", "line", (2,), (2,), (1,), dimension=1
    ),
    "flat_line": b.FlattenBlock("line", "v4", 2),
    "dense": b.DenseBlock("vector", "v5", (2,)),
    "linear": b.LinearOutputBlock("vector", "v6", 2, kernel_scale=1.0),
    "lstm": b.LSTMBlock("sequence", "lstm", 2, bidirectional=True),
    "last": b.SliceBlock("lstm", "v7", -2, -1),
    "gru": b.GRUBlock("sequence", "gru", 2),
    "gru_flat": b.FlattenDenseBlock("gru", "v8", 2, (2,)),
    "lstm_last": b.LSTMLastStepBlock("sequence", "v9", 2),
    "graph_conv": b.GraphConvBlock(("nodes", "adjacency"), "gc", (2,)),
    "graph_pool": b.MaskedGlobalPoolingBlock("gc", "v10"),
    "graph_attention": b.GraphAttentionBlock(("nodes", "adjacency"), "ga", (2,)),
    "first_node": b.SliceBlock("ga", "v11", -2, 0),
    "messages": b.GNNBlock("nodes", "gnn", edges=((0, 1), (1, 2), (2, 0)), hidden=(2,)),
    "message_pool": b.MaskedGlobalPoolingBlock("gnn", "v12", "max"),
    "point": b.PointNetFeatureBlock(
        ("points", "points_there"), "v13", (2,), 2, use_feature_transform=True
    ),
    "heads": b.MultiHeadAttentionBlock(("gc", "gnn", "gnn"), "attended", residual=False),
    "self_attention": b.SelfAttentionSeqBlock("sequence", "self", residual=False),
    "self_flat": b.FlattenBlock("self", "v14", 2),
    "attended_pool": b.MaskedGlobalPoolingBlock("attended", "v15", "sum"),
    "correlation": b.CorrelationBlock(("gc", "v5"), "v16", in_ndims=(2, 1), reduce=True),
    "some": b.MultiIndexSlicingBlock("vector", "v17", indices=(0, 2)),
    "one": b.SliceBlock("sequence", "one_step", -2, 0),
    "widened": b.FunctionalBlock("one_step", "thin", jnp.tanh),
    "thin": b.FlattenBlock("thin", "v18", 1),
    "repeated": b.RepeatToMatchBlock(("one_row", "nodes"), "rows"),
    "module": b.ModuleBlock("vector", "one_row", Row()),
    "row": b.SliceBlock("rows", "v19", -2, 2),
    "join": b.ConcatenationBlock(tuple(f"v{i}" for i in range(20)), "all"),
    "logits": b.LinearOutputBlock("all", "logits", 2),
    "masking": b.ActionMaskingBlock(("logits", "allowed"), "action"),
    "allowed": b.FunctionalBlock("vector", "allowed", everything),
}  # fmt: skip


def test_a_graph_of_every_block_learns_and_every_weight_takes_part():
    assert {type(block).__name__ for block in EVERY.values()} == {*registry.blocks.names()}
    template = CustomActorCritic(InferenceBlock(IN_KEYS, "action", EVERY))
    network = template.build(ENV.observation_space, ENV.action_space)
    states = jax.vmap(ENV.reset_state)(jax.random.split(random.key(0), 32))
    obs, wanted = jax.vmap(ENV.observe)(states), (states.signal > 0).astype(jnp.int32)
    adam = optax.adam(1e-2)

    def loss(variables):
        return -jnp.mean(network.apply(variables, obs)[0].distribution.log_prob(wanted))

    @jax.jit
    def descend(variables, optimizer):
        value, gradient = jax.value_and_grad(loss)(variables)
        change, optimizer = adam.update(gradient, optimizer)
        return optax.apply_updates(variables, change), optimizer, value

    before = variables = jax.jit(network.init)(random.key(1))
    optimizer = adam.init(variables)
    for _ in range(30):
        variables, optimizer, value = descend(variables, optimizer)
    assert value < 0.1
    for name, weights in before["params"]["policy"].items():
        now = variables["params"]["policy"][name]
        moved = jax.tree.map(lambda x, y: np.any(x != y), weights, now)
        assert any(jax.tree.leaves(moved)), f"{name} never moved"


@pytest.mark.parametrize(
    "network",
    [
        PerceptionActorCritic(),
        PerceptionActorCritic(
            ConcatModelBuilder(
                {
                    "image": {"block": "StridedConvolutionDenseBlock", "conv_hidden": [2],
                              "kernel_sizes": [3], "strides": [2], "hidden": [4]},
                    "steps": {"block": "LSTMLastStepBlock", "hidden_size": 4},
                },
                {"sequence": "steps", "adjacency": "none"},
            ),
            shared_embedding_keys="image_image",
            recurrence="gru",
            memory_size=8,
        ),
    ],
    ids=["default", "strided, stacked, shared and remembered"],
)  # fmt: skip
def test_a_template_learns_from_all_kinds_of_observations(network):
    ppo = mazejax.PPO(
        env=ENV, network=network, num_envs=32, num_steps=8, total_steps=32 * 8 * 12,
        learning_rate=1e-2,
    )  # fmt: skip
    _, metrics = jax.jit(ppo.train)(random.key(0))
    returns = np.asarray(metrics["train/episode_return"].mean)
    assert returns[-3:].mean() > 0.95 > returns[0]


def test_es_perturbs_a_policy_of_blocks():
    es = mazejax.ES(
        env=ENV, network=PerceptionPolicy(ConcatModelBuilder(hidden={"block": "none"})),
        population_size=64, max_steps=1, total_steps=64 * 100, noise_stddev=0.3,
    )  # fmt: skip
    _, metrics = jax.jit(es.train)(random.key(0))
    returns = np.asarray(metrics["population/return"].mean)
    assert returns[-1] > 0.8 > returns[0]
