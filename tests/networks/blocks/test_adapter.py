"""Modules of linen and nnx as blocks."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mazejax.errors import ConfigError
from mazejax.networks.blocks.adapter import ModuleBlock
from mazejax.networks.policy import weights


def _random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


class Scores(nn.Module):
    """Of tables [B, N, D] and rows [B, D], for one batch axis and no other number of them."""

    features: int = 4
    output: str = "array"

    @nn.compact
    def __call__(self, table, row):
        assert table.ndim == 3 and row.shape == (table.shape[0], table.shape[2])
        keys = nn.Dense(self.features, name="table")(table)
        scores = jnp.einsum("bnf,bf->bn", keys, nn.Dense(self.features, name="row")(row))
        outputs = {"score": scores, "best": scores.max(1)}
        return {"array": scores, "tuple": tuple(outputs.values()), "dict": outputs}[self.output]


@pytest.mark.parametrize(
    "batch, output",
    [((), "array"), ((3,), "tuple"), ((2, 3), "dict"), ((2, 3), "array"), ((0,), "tuple")],
)
def test_a_module_of_one_batch_axis_works_with_any_number(draw_weights, run_block, batch, output):
    inputs = {"table": _random(*batch, 5, 3), "row": _random(*batch, 3, seed=1)}
    out_keys = ("score",) if output == "array" else ("score", "best")
    block = ModuleBlock(("table", "row"), out_keys, Scores(output=output), in_ndims=(2, 1))
    variables = draw_weights(block, **inputs)
    outputs = run_block(block, variables, **inputs)
    weights = variables["params"]["module"]
    assert {*weights} == {"table", "row"} and {*outputs} == {*out_keys}
    for i in np.ndindex(*batch):
        keys = inputs["table"][i] @ weights["table"]["kernel"] + weights["table"]["bias"][None]
        score = keys @ (inputs["row"][i] @ weights["row"]["kernel"] + weights["row"]["bias"])
        np.testing.assert_allclose(outputs["score"][i], score, rtol=1e-4, atol=1e-5)
        if "best" in outputs:
            np.testing.assert_allclose(outputs["best"][i], score.max(), rtol=1e-4, atol=1e-5)
    assert outputs["score"].shape == (*batch, 5)


def test_a_dict_gives_the_keys_that_are_asked_for(apply_block):
    inputs = {"table": _random(2, 5, 3), "row": _random(2, 3)}
    block = ModuleBlock(("table", "row"), "best", Scores(output="dict"), in_ndims=(2, 1))
    outputs, _ = apply_block(block, **inputs)
    assert {*outputs} == {"best"} and outputs["best"].shape == (2,)


def test_a_linen_module_is_as_by_itself(apply_block):
    batch = (2, 3)
    x = _random(*batch, 4)
    module = nn.Sequential((nn.Dense(5), nn.tanh, nn.Dense(2)))
    outputs, variables = apply_block(ModuleBlock("x", "y", module), len(batch), x=x)
    expected = module.apply({"params": variables["params"]["module"]}, x)
    np.testing.assert_allclose(outputs["y"], expected, rtol=1e-5, atol=1e-6)


class Perceptron(nnx.Module):
    def __init__(self, inputs, width, outputs, *, rngs):
        self.first = nnx.Linear(inputs, width, rngs=rngs)
        self.last = nnx.Linear(width, outputs, rngs=rngs)

    def __call__(self, x):
        assert x.ndim == 2
        return self.last(nnx.relu(self.first(x)))


def test_an_nnx_module_has_its_weights_among_the_parameters(apply_block):
    batch = (2, 3)
    x = _random(*batch, 4)
    block = ModuleBlock("x", "y", nnx.bridge.to_linen(Perceptron, 4, 5, 2))
    outputs, variables = apply_block(block, len(batch), x=x)
    assert {*variables} == {"params"}
    weights = variables["params"]["module"]
    assert jax.tree.map(jnp.shape, weights) == {
        "first": {"kernel": (4, 5), "bias": (5,)},
        "last": {"kernel": (5, 2), "bias": (2,)},
    }
    first = x.reshape(-1, 4) @ weights["first"]["kernel"] + weights["first"]["bias"][None]
    last = np.maximum(first, 0) @ weights["last"]["kernel"] + weights["last"]["bias"][None]
    np.testing.assert_allclose(outputs["y"], last.reshape(*batch, 2), rtol=1e-5, atol=1e-6)


def test_an_nnx_module_learns_under_jit():
    block = ModuleBlock("x", "y", nnx.bridge.to_linen(Perceptron, 4, 16, 1))
    x = _random(32, 4)
    target = jnp.sin(x.sum(-1, keepdims=True))
    variables = block.init(jax.random.key(0), {"x": x})

    def loss(variables):
        return jnp.mean((block.apply(variables, {"x": x})["y"] - target) ** 2)

    @jax.jit
    def fit(variables):
        def one_step(variables, _):
            gradient = jax.grad(loss)(variables)
            return jax.tree.map(lambda p, g: p - 0.1 * g, variables, gradient), None

        return jax.lax.scan(one_step, variables, length=50)[0]

    gradient = jax.jit(jax.grad(loss))(variables)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))
    before, after = map(jax.jit(loss), (variables, fit(variables)))
    assert after < 0.5 * before


def test_an_nnx_module_starts_from_the_key():
    block = ModuleBlock("x", "y", nnx.bridge.to_linen(nnx.Linear, 4, 2))
    one, same, other = (
        block.init(jax.random.key(seed), {"x": jnp.ones(4)})["params"]["module"]["kernel"]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).all()


class Chain(nn.Module):
    blocks: tuple

    def __call__(self, values):
        for block in self.blocks:
            values = {**values, **block(values)}
        return values


def test_blocks_of_modules_are_parts_of_networks_and_hashable():
    def chain():
        linear = nnx.bridge.to_linen(nnx.Linear, 4, 3)
        return Chain((ModuleBlock("x", "y", linear), ModuleBlock("y", "z", nn.Dense(2))))

    assert chain() == chain() and hash(chain()) == hash(chain())
    init = chain().init_with_output
    outputs, variables = jax.eval_shape(init, jax.random.key(0), {"x": jnp.ones((2, 4))})
    assert outputs["z"].shape == (2, 2)
    shapes = jax.tree.map(jnp.shape, variables["params"])
    assert shapes["blocks_0"]["module"]["kernel"] == (4, 3)
    assert shapes["blocks_1"]["module"]["kernel"] == (3, 2)


@pytest.mark.parametrize("module", [nn.Dense(3), nnx.bridge.to_linen(nnx.Linear, 4, 3)])
def test_a_table_of_a_network_shows_what_is_inside(module):
    block = ModuleBlock("x", "y", module)
    table = nn.tabulate(block, jax.random.key(0))({"x": jnp.ones((2, 4))})
    assert "module" in table and "Total Parameters: 15" in table


class Total(nn.Module):
    """Forgets the batch axis."""

    def __call__(self, x):
        return x.sum()


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: ModuleBlock("x", "y", nn.Dense), "module: expected a linen module, got a type"),
        (
            lambda: ModuleBlock("x", "y", nnx.Linear(2, 2, rngs=nnx.Rngs(0))),
            "module: expected a linen module, got a Linear; for one of nnx give flax.nnx.bridge",
        ),
        (lambda: ModuleBlock("x", "y", nn.Sequential([nn.Dense(2)])), "module: must be hashable"),
        (lambda: ModuleBlock("x", "y", nn.Dense(2), in_ndims=(-1,)), "in_ndims: must be integers"),
        (lambda: ModuleBlock("x", "y", nn.Dense(2), in_ndims=1), "in_ndims: expected a tuple"),
        (
            lambda: ModuleBlock(("x", "y", "z"), "u", nn.Dense(2), in_ndims=(1, 1)),
            "in_ndims: expected a tuple of 1 or 3",
        ),
    ],
)
def test_fields_that_make_no_block_are_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


@pytest.mark.parametrize(
    "module, out_keys, row, said",
    [
        (Scores(), "y", (3, 3), r"'row' has shape \(3, 3\) and so the batch axes \(3,\), expected"),
        (Scores(), ("y", "z"), (2, 3), "the module returned 1 arrays, expected 2"),
        (Scores(output="tuple"), "y", (2, 3), "the module returned 2 arrays, expected 1"),
        (Scores(output="dict"), "y", (2, 3), "returned no 'y'; there are 'score', 'best'"),
    ],
)
def test_inputs_and_outputs_that_do_not_fit_are_refused(module, out_keys, row, said):
    block = ModuleBlock(("table", "row"), out_keys, module, in_ndims=(2, 1))
    with pytest.raises(ConfigError, match=said):
        inputs = {"table": jnp.ones((2, 5, 3)), "row": jnp.ones(row)}
        jax.eval_shape(block.init, jax.random.key(0), inputs)


def test_an_output_without_the_batch_axis_is_refused():
    with pytest.raises(ConfigError, match=r"made 'y' of shape \(\), expected a first axis of 6"):
        ModuleBlock("x", "y", Total()).apply({}, {"x": jnp.ones((2, 3, 4))})


class Norm(nnx.Module):
    def __init__(self, running, *, rngs):
        self.norm = nnx.BatchNorm(4, use_running_average=running, rngs=rngs)

    def __call__(self, x):
        return self.norm(x)


class Drop(nnx.Module):
    def __init__(self, *, rngs):
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.drop(x)


class Counter(nnx.Module):
    def __init__(self, *, rngs):
        self.calls = nnx.Variable(jnp.zeros(()))

    def __call__(self, x):
        self.calls[...] += 1
        return x


class Tuned(nnx.Module):
    """A kind of parameter, and a variable that is none."""

    def __init__(self, *, rngs):
        self.adapter = nnx.LoRA(4, 2, 4, rngs=rngs)
        self.scale = nnx.Variable(jnp.full((4,), 2.0))

    def __call__(self, x):
        return self.scale[...][None] * self.adapter(x)


def test_params_of_nnx_are_weights_and_nothing_else_is():
    names = [({"params", "batch_stats"}, {"params"}, (Norm, True)),
             ({"LoRAParam", "Variable"}, {"LoRAParam"}, (Tuned,))]  # fmt: skip
    for collections, learned, (kind, *arguments) in names:
        block = ModuleBlock("x", "y", nnx.bridge.to_linen(kind, *arguments))
        variables = block.init(jax.random.key(0), {"x": _random(6, 4)})
        assert {*variables} == collections and {*weights(variables)} == learned


@pytest.mark.parametrize(
    "module",
    [nn.BatchNorm(use_running_average=True), nnx.bridge.to_linen(Norm, True)],
    ids=["linen", "nnx"],
)
def test_statistics_that_stand_still_are_those_that_are_given(module):
    block, x = ModuleBlock("x", "y", module), _random(2, 3, 4)
    variables = jax.device_get(block.init(jax.random.key(0), {"x": x}))
    variables["batch_stats"] = jax.tree.map(lambda s: s + 1.5, variables["batch_stats"])
    y = jax.jit(block.apply)(variables, {"x": x})["y"]
    np.testing.assert_allclose(y, (x - 1.5) / np.sqrt(2.5 + 1e-5), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "module, said",
    [
        (nn.BatchNorm(use_running_average=False), "would change batch_stats/mean while it acts"),
        (
            nn.Sequential((nn.Dense(4), nn.BatchNorm(use_running_average=False))),
            "would change batch_stats/layers_1/mean while .* give a BatchNorm use_running_average",
        ),
        (nnx.bridge.to_linen(Norm, False), "would change batch_stats/norm/mean while it acts"),
        (nnx.bridge.to_linen(Counter), "would change Variable/calls while it acts"),
        (
            nn.Sequential((nnx.bridge.to_linen(Norm, False), nn.tanh)),
            "would change batch_stats/layers_0/norm/mean while it acts",
        ),
        (nn.Dropout(0.5, deterministic=False), "draws from the rng 'dropout', .* deterministic"),
        (
            nnx.bridge.to_linen(Drop),
            "draws from the rng 'dropout', .* and give a Dropout of nnx no",
        ),
    ],
    ids=["linen", "in a sequence", "nnx", "counter", "nnx in linen", "dropout", "nnx dropout"],
)
def test_a_module_that_changes_or_draws_while_it_acts_is_refused(module, said):
    block, inputs = ModuleBlock("x", "y", module), {"x": jnp.ones((6, 4))}
    with pytest.raises(ConfigError, match=rf"^ModuleBlock\(x -> y\): {said}"):
        # Linen lets modules draw and change while they are initialized, nnx draws at no time.
        jax.eval_shape(block.apply, block.init(jax.random.key(0), inputs), inputs)


class Telling(nn.Module):
    """Sows what learners do not ask for."""

    @nn.compact
    def __call__(self, x):
        self.sow("losses", "list", jnp.sum(x))
        self.sow("losses", "sum", jnp.sum(x), reduce_fn=jnp.add, init_fn=lambda: jnp.zeros(()))
        return x


def test_what_a_module_sows_is_no_change():
    block, inputs = ModuleBlock("x", "y", Telling()), {"x": jnp.ones((2, 4))}
    variables = block.init(jax.random.key(0), inputs)
    assert {*variables} == {"losses"} and weights(variables) == {}
    np.testing.assert_array_equal(block.apply(variables, inputs)["y"], inputs["x"])


def test_who_lets_it_change_and_gives_it_an_rng_may_have_both():
    module = nn.Sequential(
        (nn.BatchNorm(use_running_average=False), nn.Dropout(0.5, deterministic=False))
    )
    block, inputs = ModuleBlock("x", "y", module), {"x": jnp.asarray(_random(6, 4))}
    variables = block.init(jax.random.key(0), inputs)
    rngs = {"dropout": jax.random.key(1)}
    outputs, new = block.apply(variables, inputs, rngs=rngs, mutable=["batch_stats"])
    assert np.any(np.asarray(outputs["y"]) == 0)
    assert np.all(new["batch_stats"]["module"]["layers_0"]["mean"] != 0)


def test_a_key_that_is_missing_in_a_module_is_no_matter_of_rngs():
    class Broken(nn.Module):
        def __call__(self, x):
            return {}["streams"]

    with pytest.raises(KeyError, match="streams"):
        ModuleBlock("x", "y", Broken()).apply({}, {"x": jnp.ones((2, 4))})
