"""Blocks and templates of networks beside plain flax modules of the same mathematics.

Each pair runs jitted and in turn, forward and gradient; what counts is the ratio of medians,
below 1 where ours is slower. `python -m benchmarks.networks [word ...]` takes words that
select cases, prints the table and writes it as JSON.
"""

import dataclasses
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from benchmarks.measure import time_in_turn, write

import jax  # isort: skip  # after the XLA flags that measure sets
import flax.linen as nn
import jax.numpy as jnp
import numpy as np

import mazejax
from benchmarks import plain_networks as plain
from mazejax import networks
from mazejax.networks import blocks
from mazejax.types import Array

ROUNDS = 11
GRADIENTS = 4
"""In one loop, as in training: XLA compiles for loops on the CPU what it calls elsewhere."""
LEAST_SECONDS = 0.03
"""Of one round; shorter ones would measure the clock and the neighbors."""

Case = tuple[Any, dict[str, Array], Callable[..., Any]]
"""Our block or network, its inputs by key, and what the plain module makes of them in order."""


@dataclasses.dataclass
class Compared:
    """One case: how many times as fast ours is as plain flax, and milliseconds of ours."""

    case: str
    forward: float
    gradient: float
    forward_ms: float
    gradient_ms: float
    trace_seconds: float
    """Of both gradients, to StableHLO."""
    compile_seconds: float
    """Of both gradients, from there."""


def normal(*shape: int) -> Array:
    """Numbers of this shape, the same in every run."""
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def _masks(*shape: int) -> Array:
    return jnp.asarray(np.random.default_rng(1).random(shape) < 0.7)


def cases() -> dict[str, Callable[[], Case]]:
    """All cases by name."""
    return _vectors() | _images() | _sets() | _templates()


def _vectors() -> dict[str, Callable[[], Case]]:
    x, rows = {"x": normal(2048, 64)}, 2048
    two = {"x": normal(rows, 64), "z": normal(rows, 32)}
    entries = {"x": normal(rows, 16, 32)}
    masked = {"x": normal(rows, 18), "m": _masks(rows, 18)}
    function = blocks.FunctionalBlock("x", "y", jnp.square)
    scored = entries | {"z": normal(rows, 32)}
    correlation = blocks.CorrelationBlock(("x", "z"), "y", (2, 1), True)
    repeated = {"x": normal(rows, 1, 32), "z": entries["x"]}
    pooled = entries | {"m": _masks(rows, 16)}
    two_keys = ("x", "z")
    return {
        "DenseBlock": lambda: (blocks.DenseBlock("x", "y"), x, plain.dense((64, 64), "tanh")),
        "LinearOutputBlock": lambda: (blocks.LinearOutputBlock("x", "y", 6), x, plain.linear(6)),
        "FlattenDenseBlock": lambda: (
            blocks.FlattenDenseBlock("x", "y", 2),
            entries,
            lambda x: plain.dense((64, 64), "tanh")(x.reshape(rows, -1)),
        ),
        "ModuleBlock": lambda: (
            blocks.ModuleBlock("x", "y", nn.Dense(64)),
            x,
            plain.linear(64),
        ),
        "FlattenBlock": lambda: (
            blocks.FlattenBlock("x", "y", 2),
            entries,
            lambda x: x.reshape(rows, -1),
        ),
        "ConcatenationBlock": lambda: (
            blocks.ConcatenationBlock(two_keys, "y"),
            two,
            lambda x, z: jnp.concatenate([x, z], -1),
        ),
        "SliceBlock": lambda: (blocks.SliceBlock("x", "y"), entries, lambda x: x[:, 0]),
        "MultiIndexSlicingBlock": lambda: (
            blocks.MultiIndexSlicingBlock("x", "y", -2, (0, 3, 7)),
            entries,
            lambda x: x[:, np.array([0, 3, 7])],
        ),
        "RepeatToMatchBlock": lambda: (
            blocks.RepeatToMatchBlock(two_keys, "y"),
            repeated,
            lambda x, z: jnp.repeat(x, z.shape[-2], -2),
        ),
        "CorrelationBlock": lambda: (
            correlation,
            scored,
            lambda x, z: (x * z[:, None]).sum(-1),
        ),
        "FunctionalBlock": lambda: (function, x, jnp.square),
        "ActionMaskingBlock": lambda: (
            blocks.ActionMaskingBlock(("x", "m"), "y"),
            masked,
            plain.masked_logits,
        ),
        "MaskedGlobalPoolingBlock": lambda: (
            blocks.MaskedGlobalPoolingBlock(("x", "m"), "y"),
            pooled,
            plain.masked_mean,
        ),
        "ValueHeadBlock": lambda: (
            blocks.ValueHeadBlock("x", "y"),
            x,
            lambda x: plain.linear(1)(x)[:, 0],
        ),
    }


def _images() -> dict[str, Callable[[], Case]]:
    # 84 x 84 pixels in fewer rows: a round is to stay below a second on one core.
    small, large = {"x": normal(512, 10, 10, 4)}, {"x": normal(64, 84, 84, 4)}

    def dense(body: Callable) -> Callable:
        return lambda x: plain.dense((256,), "relu")(body(x).reshape(x.shape[0], -1))

    def means(x: Array) -> Array:
        return plain.vgg((8, 16, 32))(x).mean((1, 2))

    return {
        "VGGConvolutionBlock": lambda: (
            blocks.VGGConvolutionBlock("x", "y"),
            small,
            plain.vgg((8, 16, 32)),
        ),
        "VGGConvolutionDenseBlock": lambda: (
            blocks.VGGConvolutionDenseBlock("x", "y"),
            small,
            dense(plain.vgg((8, 16, 32))),
        ),
        "VGGConvolutionGAPBlock": lambda: (
            blocks.VGGConvolutionGAPBlock("x", "y"),
            small,
            means,
        ),
        "StridedConvolutionBlock": lambda: (
            blocks.StridedConvolutionBlock("x", "y"),
            large,
            plain.strided,
        ),
        "StridedConvolutionDenseBlock": lambda: (
            blocks.StridedConvolutionDenseBlock("x", "y"),
            large,
            dense(plain.strided),
        ),
        "GlobalAveragePoolingBlock": lambda: (
            blocks.GlobalAveragePoolingBlock("x", "y"),
            small,
            lambda x: x.mean((1, 2)),
        ),
        "SelfAttentionConvBlock": lambda: (
            blocks.SelfAttentionConvBlock("x", "y"),
            {"x": normal(64, 10, 10, 32)},
            plain.attention_of_places,
        ),
    }


def _sets() -> dict[str, Callable[[], Case]]:
    x, rows = {"x": normal(512, 16, 32)}, 512
    queries = {"q": x["x"], "k": normal(rows, 32, 32), "v": normal(rows, 32, 32)}
    graph = x | {"a": _masks(rows, 16, 16).astype(jnp.float32)}
    points = {"x": normal(rows, 32, 3)}
    edges = tuple((i, (i + step) % 16) for i in range(16) for step in (1, 3, 5))
    table: dict[str, Callable[[], Case]] = {
        "MultiHeadAttentionBlock": lambda: (
            blocks.MultiHeadAttentionBlock(("q", "k", "v"), "y", 2, residual=False),
            queries,
            nn_attention(2),
        ),
        "SelfAttentionSeqBlock": lambda: (
            blocks.SelfAttentionSeqBlock("x", "y", 2, residual=False),
            x,
            nn_attention(2),
        ),
        "GraphConvBlock": lambda: (
            blocks.GraphConvBlock(("x", "a"), "y", (64, 64)),
            graph,
            plain.graph_convolution,
        ),
        "GraphAttentionBlock": lambda: (
            blocks.GraphAttentionBlock(("x", "a"), "y", (32,), num_heads=2),
            graph,
            plain.graph_attention,
        ),
        "GNNBlock": lambda: (
            blocks.GNNBlock("x", "y", edges),
            x,
            lambda x: plain.messages(x, np.array(edges)),
        ),
        "PointNetFeatureBlock": lambda: (
            blocks.PointNetFeatureBlock("x", "y"),
            points,
            plain.point_net,
        ),
    }
    for name, cell in (("LSTM", nn.OptimizedLSTMCell), ("GRU", nn.GRUCell)):
        table[f"{name}Block"] = lambda name=name, cell=cell: (
            getattr(blocks, f"{name}Block")("x", "y"),
            x,
            lambda x: nn.RNN(cell(64))(x),
        )
    table["LSTMLastStepBlock"] = lambda: (
        blocks.LSTMLastStepBlock("x", "y"),
        x,
        lambda x: nn.RNN(nn.OptimizedLSTMCell(64))(x)[:, -1],
    )
    return table


def nn_attention(num_heads: int) -> Callable[..., Array]:
    """Attention of flax itself."""

    def body(q: Array, k: Array | None = None, v: Array | None = None) -> Array:
        with warnings.catch_warnings():
            # Flax asks whether values without a mask were meant to be the mask.
            warnings.simplefilter("ignore", DeprecationWarning)
            return nn.MultiHeadDotProductAttention(num_heads)(q, inputs_k=k, inputs_v=v)

    return body


def _templates() -> dict[str, Callable[[], Case]]:
    def of(template: Any, env: str, rows: int, body: Callable) -> Case:
        made = mazejax.make(env)
        network = template.build(made.observation_space, made.action_space)
        shape = made.observation_space.shape
        return network, {"x": normal(rows, *shape)}, lambda x: body(x, made.action_space.n)

    breakout = "gymnax/Breakout-MinAtar"
    return {
        "MLPActorCritic": lambda: of(
            networks.MLPActorCritic(), "CartPole-v1", 2048, plain.mlp_actor_critic
        ),
        "PerceptionActorCritic": lambda: of(
            networks.PerceptionActorCritic(), breakout, 512, plain.image_actor_critic
        ),
    }


def compare(name: str, case: Case) -> Compared:
    """Forward and gradient of both, in turn."""
    arrays = tuple(case[1].values())
    pairs = [(apply, jax.jit(init)()) for apply, init in contenders(case)]
    forward = [_bound(jax.jit(apply), weights, arrays) for apply, weights in pairs]
    begin = time.perf_counter()
    lowered = [jax.jit(_gradient(*pair)).lower(pair[1], arrays) for pair in pairs]
    traced = time.perf_counter()
    gradient = [
        _bound(low.compile(), weights, arrays)
        for low, (_, weights) in zip(lowered, pairs, strict=True)
    ]
    compiled = time.perf_counter()
    medians = _race(*forward) + _race(*gradient)
    return Compared(
        name,
        medians[1] / medians[0],
        medians[3] / medians[2],
        1e3 * medians[0],
        1e3 * medians[2] / GRADIENTS,
        traced - begin,
        compiled - traced,
    )


def contenders(case: Case) -> list[tuple[Callable, Callable]]:
    """Ours and the plain one, each as outputs of (weights, inputs in order) and its init."""
    ours, inputs, body = case
    module, key = plain.Plain(body), jax.random.key(0)

    def of_block(variables: Any, arrays: tuple) -> Any:
        # Inputs come as a tuple: a dict comes out of jit sorted by its keys.
        return ours.apply(variables, dict(zip(inputs, arrays, strict=True)))

    def of_network(variables: Any, arrays: tuple) -> Any:
        # Arrays, as the plain one gives: making the distribution's object on the host, 7 us a
        # call, is nothing that a compiled program does.
        return jax.tree.leaves(ours.apply(variables, arrays[0])[0])

    is_block = isinstance(ours, blocks.Block)
    return [
        (
            of_block if is_block else of_network,
            lambda: ours.init(key, inputs) if is_block else ours.init(key),
        ),
        (
            lambda variables, arrays: module.apply(variables, *arrays),
            lambda: module.init(key, *inputs.values()),
        ),
    ]


def _race(*calls: Callable[[], Any]) -> list[float]:
    """Median seconds of each call, in turn; of many calls in a row where one is short."""
    time_in_turn([*calls], [()])
    once = min(min(times) for times in time_in_turn([*calls], [()] * 3))
    times = max(1, int(LEAST_SECONDS / once))
    many = [lambda call=call: [call() for _ in range(times)] for call in calls]
    return [statistics.median(s) / times for s in time_in_turn(many, [()] * ROUNDS)]


def _bound(program: Callable, *arguments: Any) -> Callable[[], Any]:
    return lambda: program(*arguments)


def _gradient(apply: Callable, weights: Any) -> Callable:
    """Gradients by the weights or, of a block without, by its first input, one after another."""

    def loss(variables: Any, first: Array, rest: tuple) -> Array:
        outputs = apply(variables, (first, *rest))
        return sum((jnp.sum(x**2) for x in jax.tree.leaves(outputs)), jnp.zeros(()))

    by_weights = bool(jax.tree.leaves(weights))
    by = jax.grad(loss, argnums=0 if by_weights else 1)

    def descend(variables: Any, arrays: tuple) -> Any:
        def one_step(moved: Any, _: None) -> tuple[Any, None]:
            at = (moved, arrays[0]) if by_weights else (variables, moved)
            # Moved a little by each gradient, so that none can be left out.
            return jax.tree.map(lambda x, g: x - 1e-9 * g, moved, by(*at, arrays[1:])), None

        begin = variables if by_weights else arrays[0]
        return jax.lax.scan(one_step, begin, length=GRADIENTS)[0]

    return descend


def main(words: list[str]) -> list[Compared]:
    """Measure the cases whose names contain any of the words; all without words."""
    from rich.console import Console
    from rich.table import Table

    results = []
    table = Table("case", "forward", "gradient", "ms", "ms", "trace s", "compile s", box=None)
    for name, build in cases().items():
        if words and not any(word in name for word in words):
            continue
        row = compare(name, build())
        print(f"{name}: {row.forward:.2f}x, {row.gradient:.2f}x", flush=True)
        results.append(row)
        table.add_row(
            row.case,
            f"{row.forward:.2f}x",
            f"{row.gradient:.2f}x",
            f"{row.forward_ms:.3g}",
            f"{row.gradient_ms:.3g}",
            f"{row.trace_seconds:.2f}",
            f"{row.compile_seconds:.2f}",
        )
    Console(soft_wrap=True).print(table)
    write("networks", results)
    return results


if __name__ == "__main__":
    main(sys.argv[1:])
