"""Graphs of blocks: their order, their weights, what they refuse."""

import itertools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from mazejax.errors import ConfigError
from mazejax.networks.blocks import Block, DenseBlock, LinearOutputBlock
from mazejax.networks.inference import InferenceBlock


@pytest.fixture(autouse=True)
def quick_to_compile():
    """What takes the time is compiling, for each program runs once, on a few numbers."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


class SumBlock(Block):
    num_inputs = ()

    def forward(self, *inputs):
        return sum(inputs[1:], inputs[0])


class HalvesBlock(Block):
    num_outputs = (2,)
    in_ndims = (1,)

    def forward(self, x):
        return tuple(jnp.split(x, 2, axis=-1))


BLOCKS = {
    "torso": DenseBlock("obs", "latent", (6,), kernel_init="normc"),
    "goal_net": DenseBlock("goal", "goal_latent", (6,), kernel_init="normc"),
    "join": SumBlock(("latent", "goal_latent"), "joined"),
    "deep": DenseBlock("joined", "deep_latent", (6, 6), kernel_init="normc"),
    "skip": SumBlock(("deep_latent", "latent"), "sum"),
    "split": HalvesBlock("sum", ("left", "right")),
    "value_head": LinearOutputBlock("left", "value"),
    "unused": DenseBlock("right", "nothing", (5,)),
}
GRAPH = InferenceBlock(("obs", "goal"), ("value", "right"), BLOCKS)


def inputs_of(*batch):
    rng = np.random.default_rng(0)
    return {
        key: jnp.asarray(rng.normal(size=(*batch, width)), jnp.float32)
        for key, width in (("obs", 4), ("goal", 3))
    }


def test_a_graph_is_its_blocks_called_by_hand():
    inputs = inputs_of(2, 3)
    variables = jax.jit(GRAPH.init)(jax.random.key(0), inputs)
    values = dict(inputs)
    for name in ("torso", "goal_net", "join", "deep", "skip", "split", "value_head"):
        weights = variables["params"].get(name, {})
        values |= BLOCKS[name].apply({"params": weights}, values)
    outputs = GRAPH.apply(variables, inputs)
    assert list(outputs) == ["value", "right"]
    for key, output in outputs.items():
        np.testing.assert_array_equal(output, values[key])


def test_weights_stand_under_the_names_of_the_blocks():
    params = GRAPH.init(jax.random.key(0), inputs_of())["params"]
    assert sorted(params) == ["deep", "goal_net", "torso", "value_head"]
    assert params["torso"]["dense_0"]["kernel"].shape == (4, 6)


def test_names_that_flax_uses_itself_may_be_names_of_blocks():
    names = ("blocks", "blocks_0_1", "apply", "name", "params", "in_keys", "forward")
    keys = ("obs", *names)
    blocks = {name: DenseBlock(key, name, (2,)) for key, name in itertools.pairwise(keys)}
    graph = InferenceBlock("obs", names[-1], blocks)
    params = graph.init(jax.random.key(0), inputs_of())["params"]
    assert sorted(params) == sorted(names)


def test_the_order_of_listing_does_not_matter():
    inputs = inputs_of()
    expected = GRAPH.init_with_output(jax.random.key(0), inputs)
    for seed in range(3):
        names = np.random.default_rng(seed).permutation(list(BLOCKS))
        graph = InferenceBlock(GRAPH.in_keys, GRAPH.out_keys, {str(n): BLOCKS[n] for n in names})
        assert graph == GRAPH and hash(graph) == hash(GRAPH)
        assert graph.blocks == GRAPH.blocks
        got = graph.init_with_output(jax.random.key(0), inputs)
        jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_pairs_are_as_good_as_a_mapping():
    assert InferenceBlock(["obs", "goal"], ["value", "right"], list(BLOCKS.items())) == GRAPH


def test_graphs_of_other_blocks_are_not_equal():
    other = InferenceBlock(
        GRAPH.in_keys, GRAPH.out_keys, BLOCKS | {"torso": DenseBlock("obs", "latent", (6, 6))}
    )
    assert other != GRAPH


def test_one_block_under_two_names_has_weights_of_its_own_in_both_graphs():
    dense = DenseBlock("x", "y", (3,))
    inner = InferenceBlock("x", "y", {"a": dense})
    after = InferenceBlock("y", "z", {"c": DenseBlock("y", "z", (3,))})
    graph = InferenceBlock("x", "z", {"a": dense, "b": after})
    assert dense.name is None
    params = graph.init(jax.random.key(0), {"x": jnp.ones(3)})["params"]
    assert sorted(params) == ["a", "b"] and sorted(params["b"]) == ["c"]
    assert sorted(inner.init(jax.random.key(0), {"x": jnp.ones(3)})["params"]) == ["a"]


def test_blocks_that_lead_nowhere_are_neither_computed_nor_given_weights():
    assert GRAPH.pruned == ("unused",)
    assert "unused" not in dict(GRAPH.computed)
    more = {"more": DenseBlock("latent", "a"), "most": DenseBlock("a", "b")}
    graph = InferenceBlock("obs", "latent", more | {"torso": BLOCKS["torso"]})
    assert graph.pruned == ("more", "most")
    assert list(graph.init(jax.random.key(0), inputs_of())["params"]) == ["torso"]


def test_graphs_nest_to_any_depth():
    inner = InferenceBlock("obs", "latent", {"dense": DenseBlock("obs", "latent", (6,))})
    middle = InferenceBlock("obs", "latent", {"inner": inner})
    nested = InferenceBlock(GRAPH.in_keys, GRAPH.out_keys, BLOCKS | {"torso": middle})
    inputs = inputs_of(5)
    variables = nested.init(jax.random.key(0), inputs)
    torso = variables["params"]["torso"]["inner"]["dense"]
    flat = {"params": {**variables["params"], "torso": torso}}
    jax.tree.map(
        np.testing.assert_array_equal,
        nested.apply(variables, inputs),
        GRAPH.apply(flat, inputs),
    )
    assert nested.parameters({"obs": (4,), "goal": (3,)})["torso"] == 4 * 6 + 6
    assert hash(nested) == hash(nested.clone())


def test_a_graph_keeps_what_all_blocks_promise():
    inputs = inputs_of(2, 3)
    variables = jax.jit(GRAPH.init)(jax.random.key(0), inputs)
    outputs = jax.jit(GRAPH.apply)(variables, inputs)
    alone = jax.jit(jax.vmap(jax.vmap(GRAPH.apply, (None, 0)), (None, 0)))(variables, inputs)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), outputs, alone)
    keys = jax.random.split(jax.random.key(0), 4)
    seeds = jax.jit(jax.vmap(GRAPH.init, (0, None)))(keys, inputs)
    assert seeds["params"]["torso"]["dense_0"]["kernel"].shape == (4, 4, 6)
    gradient = jax.jit(jax.grad(lambda v: GRAPH.apply(v, inputs)["value"].sum()))(variables)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_a_graph_costs_no_operation_beyond_its_blocks():
    inputs = inputs_of(2)
    variables = jax.eval_shape(GRAPH.init, jax.random.key(0), inputs)

    def by_hand(variables, values):
        for name, block in GRAPH.computed:
            block = block.clone(name=None)
            values = values | block.apply({"params": variables["params"].get(name, {})}, values)
        return {key: values[key] for key in GRAPH.out_keys}

    assert str(jax.make_jaxpr(GRAPH.apply)(variables, inputs)) == str(
        jax.make_jaxpr(by_hand)(variables, inputs)
    )


def made_inside():
    latent = InferenceBlock("obs", "latent", {"dense": DenseBlock("obs", "latent", (6,))})
    out = InferenceBlock("latent", "out", {"linear": LinearOutputBlock("latent", "out")})
    return {"net": latent, "head": out}


class MadeInCompact(nn.Module):
    graph: type = InferenceBlock

    @nn.compact
    def __call__(self, inputs):
        return self.graph("obs", "out", made_inside(), name="net")(inputs)


class MadeInSetup(nn.Module):
    def setup(self):
        self.net = InferenceBlock("obs", "out", made_inside())

    def __call__(self, inputs):
        return self.net(inputs)


class Given(nn.Module):
    net: nn.Module

    def __call__(self, inputs):
        return self.net(inputs) | self.net(inputs)


class Mapped(nn.Module):
    net: nn.Module

    @nn.compact
    def __call__(self, inputs):
        axes, rngs = {"params": 0}, {"params": True}
        call = nn.vmap(lambda net, x: net(x), variable_axes=axes, split_rngs=rngs)
        return call(self.net, inputs)


@pytest.mark.parametrize(
    "outer, leading",
    [
        (MadeInCompact(), ()),
        (MadeInCompact(nn.remat(InferenceBlock)), ()),
        (MadeInSetup(), ()),
        (Given(InferenceBlock("obs", "out", made_inside())), ()),
        (Mapped(InferenceBlock("obs", "out", made_inside())), (5,)),
    ],
    ids=["compact", "remat", "setup", "given", "vmap"],
)
def test_names_are_kept_wherever_flax_has_the_graph_made(outer, leading):
    params = jax.eval_shape(outer.init, jax.random.key(0), inputs_of(5))["params"]
    assert {path: leaf.shape for path, leaf in flatten_dict(params, sep="/").items()} == {
        "net/net/dense/dense_0/kernel": (*leading, 4, 6),
        "net/net/dense/dense_0/bias": (*leading, 6),
        "net/head/linear/dense/kernel": (*leading, 6, 1),
        "net/head/linear/dense/bias": (*leading, 1),
    }


class NoiseBlock(Block):
    def forward(self, x):
        return x + jax.random.normal(self.make_rng("noise")) if self.has_rng("noise") else x


def test_blocks_draw_from_the_streams_of_the_caller():
    graph = InferenceBlock("x", "z", {"a": NoiseBlock("x", "y"), "b": NoiseBlock("y", "z")})
    inputs = {"x": jnp.zeros(())}
    keys = [{"noise": jax.random.key(seed)} for seed in (0, 0, 1)]
    first, again, other = (graph.apply({}, inputs, rngs=rngs)["z"] for rngs in keys)
    assert first == again and first != other and graph.apply({}, inputs)["z"] == 0


def test_a_graph_without_blocks_gives_what_it_takes():
    graph = InferenceBlock("x", "x", {})
    assert graph.init_with_output(jax.random.key(0), {"x": 3.0 * jnp.ones(())}) == ({"x": 3.0}, {})


def test_an_input_may_be_an_output():
    graph = InferenceBlock("x", ("x", "y"), {"dense": DenseBlock("x", "y", (2,))})
    x = jnp.ones(3)
    np.testing.assert_array_equal(graph.init_with_output(jax.random.key(0), {"x": x})[0]["x"], x)


@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_shapes_are_those_of_the_arrays(batch):
    inputs = inputs_of(*batch)
    outputs, variables = GRAPH.init_with_output(jax.random.key(0), inputs)
    shapes = GRAPH.shapes({key: x.shape for key, x in inputs.items()})
    given = {key for _, block in GRAPH.computed for key in block.out_keys}
    assert {*shapes} == {"obs", "goal", *given}
    for key, output in outputs.items():
        assert (shapes[key].shape, shapes[key].dtype) == (output.shape, output.dtype)
    counts = GRAPH.parameters(inputs)
    for name, _ in GRAPH.computed:
        weights = jax.tree.leaves(variables["params"].get(name, {}))
        assert counts.pop(name) == sum(leaf.size for leaf in weights)
    assert not counts


def test_arrays_of_numpy_have_the_dtype_that_jax_gives_them():
    shapes = GRAPH.shapes({"obs": np.ones(4), "goal": [np.int64(3)]})
    assert shapes["obs"].dtype == jnp.float32 and shapes["goal"].shape == (3,)


def test_shapes_allocate_nothing():
    graph = InferenceBlock("x", "y", {"wide": DenseBlock("x", "y", (10**6,))})
    inputs = {"x": jax.ShapeDtypeStruct((10**9, 10**6), jnp.float32)}
    assert graph.shapes(inputs)["y"].shape == (10**9, 10**6)
    assert graph.parameters(inputs) == {"wide": 10**12 + 10**6}


DENSE = DenseBlock("x", "y", (2,))


@pytest.mark.parametrize(
    "make, said",
    [
        (
            lambda: InferenceBlock("x", "z", {"a": DENSE, "b": DenseBlock("yy", "z")}),
            "InferenceBlock.blocks: 'b' takes 'yy', which is no input and which no block gives; "
            "did you mean 'y'?",
        ),
        (
            lambda: InferenceBlock("x", "latnt", {"a": DenseBlock("x", "latent")}),
            "InferenceBlock.out_keys: no block gives 'latnt'; did you mean 'latent'?",
        ),
        (
            lambda: InferenceBlock("x", "y", {"a": DENSE, "b": DENSE}),
            "InferenceBlock.blocks: 'a' and 'b' both give 'y'",
        ),
        (
            lambda: InferenceBlock(("x", "y"), "y", {"a": DENSE}),
            "InferenceBlock.blocks: 'a' gives 'y', which is an input already",
        ),
        (
            lambda: InferenceBlock("x", "y", [("a", DENSE), ("a", DenseBlock("y", "z"))]),
            "InferenceBlock.blocks: two blocks are called 'a'",
        ),
        (
            lambda: InferenceBlock(
                "x", "d",
                {
                    "first": SumBlock(("x", "c"), "a"), "second": DenseBlock("a", "b"),
                    "third": DenseBlock("b", "c"), "after": DenseBlock("c", "d"),
                },
            ),
            "InferenceBlock.blocks: a cycle, first -> second -> third -> first",
        ),
        (
            lambda: InferenceBlock("x", "y", {"a": DENSE, "self": SumBlock(("x", "b"), "b")}),
            "InferenceBlock.blocks: a cycle, self -> self",
        ),
        (
            lambda: InferenceBlock(("x", "x"), "y", {"a": DENSE}),
            "InferenceBlock.in_keys: ('x', 'x') names a key twice",
        ),
        (lambda: InferenceBlock("x", "y", {"a": jnp.tanh}), "'a' is a "),
        (lambda: InferenceBlock("x", "y", {"a.b": DENSE}), "without dot and slash, got 'a.b'"),
        (lambda: InferenceBlock("x", "y", {3: DENSE}), "without dot and slash, got 3"),
        (lambda: InferenceBlock("x", "y", [DENSE]), "expected blocks by name, got list"),
        (lambda: InferenceBlock("x", "y", DENSE), "expected blocks by name, got DenseBlock"),
    ],
)  # fmt: skip
def test_blocks_that_make_no_graph_are_refused(make, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        make()


NEGATIVE = "expected the shape of 'obs', such as (4,), got (-1,)"


@pytest.mark.parametrize(
    "inputs, said",
    [
        ({"obs": (4,), "goals": (3,)}, "no shape of input 'goal'; did you mean 'goals'?"),
        ({"obs": (-1,), "goal": (3,)}, NEGATIVE),
        ({"obs": (), "goal": (3,)}, "block 'torso' on obs []: DenseBlock(obs -> latent): 'obs'"),
        ({"obs": (2, 4), "goal": (3, 3)}, "block 'join' on latent [2, 6], goal_latent [3, 6]: "),
    ],
)
def test_shapes_that_do_not_fit_name_the_block(inputs, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        GRAPH.shapes(inputs)


def test_errors_at_a_call_name_the_block():
    outer = InferenceBlock(GRAPH.in_keys, "value", {"inner": GRAPH.clone(out_keys="value")})
    said = "block 'inner': block 'torso': DenseBlock(obs -> latent): 'obs' has shape ()"
    with pytest.raises(ConfigError, match=re.escape(said)):
        outer.init(jax.random.key(0), {"obs": jnp.ones(()), "goal": jnp.ones(3)})
    with pytest.raises(TypeError) as caught:
        GRAPH.init(jax.random.key(0), {"obs": jnp.ones((2, 4)), "goal": jnp.ones((3, 3))})
    assert "This arose in block 'join' of an InferenceBlock." in caught.value.__notes__
