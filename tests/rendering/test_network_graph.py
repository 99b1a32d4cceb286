"""Graphs of blocks as tables and as pictures."""

import itertools
import re
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import pytest

from mazejax.errors import ConfigError, FileError
from mazejax.networks import ConcatModelBuilder, MLPActorCritic, PerceptionActorCritic
from mazejax.networks.blocks import Block, DenseBlock, LinearOutputBlock
from mazejax.networks.inference import InferenceBlock
from mazejax.rendering.diagrams import Box, Curve, text_width
from mazejax.rendering.network_graph import InferenceGraph, network_graphs
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box as BoxSpace
from mazejax.spaces.simple import Discrete

SVG = "{http://www.w3.org/2000/svg}"


class JoinBlock(Block):
    num_inputs = ()

    def forward(self, *inputs):
        return jnp.concatenate(inputs, axis=-1)


class HalvesBlock(Block):
    num_outputs = (2,)

    def forward(self, x):
        return tuple(jnp.split(x, 2, axis=-1))


class CorrelationBlock(Block):
    num_inputs = (2,)

    def forward(self, query, keys):
        return jnp.einsum("...d,...nd->...n", query, keys)


class MaskBlock(Block):
    num_inputs = (2,)

    def forward(self, logits, mask):
        return jnp.where(mask, logits, -1e9)


CHAIN = InferenceGraph(
    InferenceBlock(
        "observation", "logits",
        {
            "torso": DenseBlock("observation", "latent", (256, 256)),
            "head": LinearOutputBlock("latent", "logits", 18),
        },
    ),
    {"observation": (8,)},
)  # fmt: skip
JOIN = InferenceGraph(
    InferenceBlock(
        ("position", "goal"), ("policy", "value", "joined", "right"),
        {
            "position_net": DenseBlock("position", "position_latent"),
            "goal_net": DenseBlock("goal", "goal_latent"),
            "join": JoinBlock(("position_latent", "goal_latent"), "joined"),
            "torso": DenseBlock("joined", "deep", (16, 16)),
            "skip": JoinBlock(("deep", "joined", "goal"), "all"),
            "split": HalvesBlock("deep", ("left", "right")),
            "policy_head": LinearOutputBlock("all", "policy", 6),
            "value_head": LinearOutputBlock("all", "value"),
            "unused": DenseBlock("deep", "nothing"),
        },
    ),
    {"position": (12,), "goal": (3,)},
)  # fmt: skip
POINTER = InferenceGraph(
    InferenceBlock(
        ("order", "inventory", "inventory_mask"), ("logits", "value"),
        {
            "order_net": InferenceBlock(
                "order", "query", {"dense": DenseBlock("order", "query", (32,))}
            ),
            "inventory_net": DenseBlock("inventory", "keys", (32,)),
            "correlation": CorrelationBlock(("query", "keys"), "scores"),
            "masking": MaskBlock(("scores", "inventory_mask"), "logits"),
            "a <b> & \"c\" 'd'": LinearOutputBlock("query", "value"),
        },
    ),
    {
        "order": (8, 2), "inventory": jnp.zeros((8, 20, 2)),
        "inventory_mask": jax.ShapeDtypeStruct((8, 20), bool),
    },
)  # fmt: skip
GRAPHS = pytest.mark.parametrize("graph", [CHAIN, JOIN, POINTER], ids=["chain", "join", "pointer"])


def test_the_table_has_a_row_for_each_block_with_shapes_and_counts():
    assert str(CHAIN).splitlines() == [
        "observation [8] -> logits [18]",
        "",
        "block  kind               takes            gives         parameters",
        "-------------------------------------------------------------------",
        "torso  DenseBlock         observation [8]  latent [256]      68,096",
        "head   LinearOutputBlock  latent [256]     logits [18]        4,626",
        "-------------------------------------------------------------------",
        "total                                                        72,722",
    ]


def test_the_table_lists_several_keys_below_each_other():
    lines = str(JOIN).splitlines()
    (row,) = (i for i, line in enumerate(lines) if line.startswith("skip "))
    assert [line.split()[-2:] for line in lines[row + 1 : row + 3]] == [
        ["joined", "[128]"],
        ["goal", "[3]"],
    ]
    assert "inventory_mask [8, 20] bool" in str(POINTER)
    assert not any(line != line.rstrip() for line in lines)


def test_the_table_names_what_is_not_computed():
    assert str(JOIN).splitlines()[-1] == "not computed, for no output needs it: unused"
    assert "unused" not in JOIN.to_svg()


@GRAPHS
def test_counts_are_those_of_the_weights(graph):
    inputs = {key: graph.block.shapes(graph.inputs)[key] for key in graph.block.in_keys}
    variables = jax.eval_shape(graph.block.init, jax.random.key(0), inputs)
    assert graph.num_parameters == sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert f"{graph.num_parameters:,}" in str(graph).splitlines()[-1 - 2 * bool(graph.block.pruned)]


@GRAPHS
def test_the_picture_holds_every_block_key_and_shape(graph):
    root = ElementTree.fromstring(graph.to_svg())
    texts = [element.text for element in root.iter(f"{SVG}text")]
    for name, block in graph.block.computed:
        assert name in texts and type(block).__name__ in texts
    for key, shape in graph.block.shapes(graph.inputs).items():
        said = f"[{', '.join(map(str, shape.shape))}]"
        said += " bool" if shape.dtype == bool else ""
        is_end = key in (*graph.block.in_keys, *graph.block.out_keys)
        assert (key in texts and said in texts) if is_end else (f"{key} {said}" in texts)
    for count in graph.block.parameters(graph.inputs).values():
        assert (f"{count:,} parameter{'s' * (count != 1)}" if count else "no parameters") in texts


@GRAPHS
def test_boxes_do_not_overlap_and_hold_their_texts(graph):
    diagram = graph.diagram
    boxes = [shape for shape in diagram.shapes if isinstance(shape, Box)]
    for a, b in itertools.combinations(boxes, 2):
        aside = a.x + a.width <= b.x or b.x + b.width <= a.x
        assert aside or a.y + a.height <= b.y or b.y + b.height <= a.y
    for box in boxes:
        assert 0 <= box.x and box.x + box.width <= diagram.width
        assert 0 <= box.y and box.y + box.height <= diagram.height
        assert sum(size for _, size, _ in box.texts) < box.height
        assert all(text_width(text, size) <= box.width for text, size, _ in box.texts)


@GRAPHS
def test_no_line_runs_behind_a_box_of_several_texts(graph):
    boxes = [s for s in graph.diagram.shapes if isinstance(s, Box) and len(s.texts) > 1]
    for x0, y0, x1, y1 in (s for s in graph.diagram.shapes if isinstance(s, Curve)):
        for box in boxes:
            # A curve lies within the rectangle between its ends.
            aside = max(x0, x1) <= box.x or box.x + box.width <= min(x0, x1)
            assert aside or y1 <= box.y + 1e-6 or box.y + box.height <= y0 + 1e-6


def test_graphs_within_the_graph_have_a_double_outline():
    double = [s for s in POINTER.diagram.shapes if isinstance(s, Box) and s.is_double]
    assert [box.texts[0][0] for box in double] == ["order_net"]


def test_a_name_may_be_that_of_a_key_and_an_input_an_output():
    block = InferenceBlock(("x", "spare"), ("x", "y"), {"x": DenseBlock("x", "y", (2,))})
    graph = InferenceGraph(block, {"x": (3,), "spare": ()})
    texts = [e.text for e in ElementTree.fromstring(graph._repr_svg_()).iter(f"{SVG}text")]
    assert texts.count("x") == 3 and texts.count("y") == 1 and "[]" in texts
    assert texts[-1] == "1 block, 8 parameters"


def test_an_output_that_nobody_takes_is_still_named():
    block = InferenceBlock("x", "a", {"split": HalvesBlock("x", ("a", "b"))})
    svg = InferenceGraph(block, {"x": (4,)}).to_svg()
    assert ">b [2]</text>" in svg and ">a [2]</text>" not in svg


def test_the_picture_does_not_depend_on_the_order_of_listing():
    block = JOIN.block
    other = InferenceBlock(block.in_keys, block.out_keys, block.blocks[::-1])
    assert InferenceGraph(other, JOIN.inputs).to_svg() == JOIN.to_svg()


@pytest.mark.parametrize("name, begin", [("net.svg", b"<svg "), ("net.PNG", b"\x89PNG")])
def test_pictures_are_saved_by_the_ending_of_the_name(tmp_path, name, begin):
    POINTER.save(tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begin)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_other_endings_and_missing_folders_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"net\.pdf: the name must end with \.svg or \.png"):
        CHAIN.save(tmp_path / "net.pdf")
    with pytest.raises(FileError, match="there is no folder"):
        CHAIN.save(tmp_path / "missing" / "net.svg")


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: InferenceGraph(JOIN.block, {"goal": (3,)}), "no shape of input 'position'"),
        (
            lambda: InferenceGraph(JOIN.block, {"goal": (3,), "position": ()}),
            "block 'position_net' on position []: ",
        ),
        (
            lambda: InferenceGraph(DenseBlock("x", "y"), {"x": (3,)}),
            "InferenceGraph.block: expected an InferenceBlock, got DenseBlock",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_refused_at_once(make, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        make()


@pytest.mark.parametrize("recurrence", ["none", "lstm", "gru"])
@pytest.mark.parametrize("shared", [(), "latent", "observation_feature"])
def test_a_network_of_blocks_shows_all_of_its_weights(recurrence, shared):
    builder = ConcatModelBuilder(modalities={"feature": {"block": "DenseBlock", "hidden": [5]}})
    template = PerceptionActorCritic(builder, recurrence, 4, shared_embedding_keys=shared)
    network = template.build(BoxSpace(-1.0, 1.0, (3,)), Discrete(2))
    graphs = network_graphs(network)
    assert [*graphs] == ["policy", "critic"]
    assert sum(graph.num_parameters for graph in graphs.values()) == network.num_parameters()


def rows(graph):
    """Of the table, the words of each row by its first."""
    return {line.split()[0]: line.split() for line in str(graph).splitlines() if line}


def test_a_memory_is_a_block_between_hidden_and_latent():
    template = PerceptionActorCritic(recurrence="gru", memory_size=4)
    graphs = network_graphs(template.build(BoxSpace(-1.0, 1.0, (3,)), Discrete(2)))
    count = 64 * 12 + 4 * 12 + 12 + 4  # kernels, biases, and that of the candidate's own product
    for name in ("policy", "critic"):
        assert rows(graphs[name])["memory"] == [
            "memory",
            "GRU",
            "hidden",
            "[64]",
            "latent",
            "[4]",
            str(count),
        ]
        svg = graphs[name].to_svg()
        assert all(f">{text}</text>" in svg for text in ("memory", "GRU", f"{count} parameters"))
        assert all(f">{text}</text>" in svg for text in ("hidden [64]", "latent [4]"))


def test_an_observation_may_be_called_memory_too():
    space = Dict({"memory": BoxSpace(-1.0, 1.0, (3, 2))})
    builder = ConcatModelBuilder(modalities={"feature": {"block": "DenseBlock"}})
    network = PerceptionActorCritic(builder, recurrence="lstm").build(space, Discrete(2))
    graphs = network_graphs(network)
    table = rows(graphs["policy"])
    assert table["memory"][1] == "DenseBlock" and table["memory_"][1] == "LSTM"
    assert sum(graph.num_parameters for graph in graphs.values()) == network.num_parameters()


def test_a_network_without_blocks_has_no_graph():
    network = MLPActorCritic().build(BoxSpace(-1.0, 1.0, (3,)), Discrete(2))
    with pytest.raises(ConfigError, match="network_graphs: _TwinMLP is not made of blocks"):
        network_graphs(network)
