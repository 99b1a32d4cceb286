"""`InferenceGraph`: a graph of blocks for inputs of certain shapes, to read and to see.

Shapes and counts come from `jax.eval_shape`: nothing is allocated and nothing compiled.
Where things stand is for `layered`, how they are painted for `diagrams`.
"""

import dataclasses
import functools
import itertools
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn

from mazejax import files
from mazejax.errors import ConfigError
from mazejax.networks.blocks.base import Block
from mazejax.networks.builder import HIDDEN, LATENT, unused
from mazejax.networks.inference import InferenceBlock, Traced, shape_text
from mazejax.networks.joined import WithMemory
from mazejax.networks.policy import ActorCritic
from mazejax.networks.recurrent import GRU, LSTM
from mazejax.rendering.diagrams import Arrow, Box, Curve, Diagram, text_width, to_png, to_svg
from mazejax.rendering.layered import PORT_GAP, Layout, Node, Segment, layered
from mazejax.types import Array

_WITH_WEIGHTS = ("#e6f0fa", "#2f6db0")
_WITHOUT = ("#f6f7f9", "#7b8794")
_INPUT = ("#fdf3e1", "#b7791f")
_OUTPUT = ("#e7f5ec", "#2e8555")
_LARGE, _SMALL = 13.0, 11.0
_MARGIN = 20.0
_LABEL_ROW, _LABEL = 26.0, 16.0
"""Heights of what a box keeps free below it for labels, and of a label."""


@dataclasses.dataclass(frozen=True, eq=False)
class InferenceGraph:
    """A graph of blocks together with the shapes of its inputs.

        graph = InferenceGraph(block, {"observation": (84, 84, 4)})
        print(graph)            # a table
        graph                   # in a notebook: a picture
        graph.save("net.svg")   # or .png

    Blocks with weights are blue, graphs within the graph have a double outline. Raises
    ConfigError that names the block whose inputs do not fit.
    """

    block: InferenceBlock
    """The graph."""
    inputs: Mapping[str, Any]
    """Shapes by key: tuples, `jax.ShapeDtypeStruct`s or arrays, with any leading axes."""

    def __post_init__(self) -> None:
        if not isinstance(self.block, InferenceBlock):
            raise ConfigError(
                f"InferenceGraph.block: expected an InferenceBlock, got "
                f"{type(self.block).__name__}; join blocks by one"
            )
        _ = self._traced  # so that what does not fit is refused here

    def __str__(self) -> str:
        """The table of what is computed, in order."""
        rows: list[tuple[str, ...]] = []
        for name, block in self.block.computed:
            takes, gives = map(self._labeled, block.in_keys), map(self._labeled, block.out_keys)
            count = f"{self._traced.parameters[name]:,}"
            cells = ([name], [_kind(block)], takes, gives, [count])
            rows += itertools.zip_longest(*cells, fillvalue="")
        head, *body, last = _aligned(
            ("block", "kind", "takes", "gives", "parameters"),
            *rows,
            ("total", "", "", "", f"{self.num_parameters:,}"),
        )
        rule = "-" * len(head)
        lines = [self._signature, "", head, rule, *body, rule, last]
        if self.block.pruned:
            lines += ["", f"not computed, for no output needs it: {', '.join(self.block.pruned)}"]
        return "\n".join(lines)

    def to_svg(self) -> str:
        """The picture as an SVG document."""
        return to_svg(self.diagram)

    def save(self, path: str | os.PathLike) -> None:
        """Write the picture, whole or not at all; the name ends with `.svg` or `.png`."""
        suffix = Path(path).suffix.lower()
        if suffix == ".svg":
            files.write_text(path, self.to_svg())
        elif suffix == ".png":
            files.write_bytes(path, to_png(self.diagram))
        else:
            raise ConfigError(f"InferenceGraph.save: {path}: the name must end with .svg or .png")

    @property
    def num_parameters(self) -> int:
        """Weights of all blocks."""
        return sum(self._traced.parameters.values())

    @property
    def diagram(self) -> Diagram:
        """The picture as plain data."""
        parts = self._parts()
        layout = layered({part.name: part.node for part in parts})
        count = len(self.block.computed)
        said = f"{count} block{'s' * (count != 1)}, {_counted(self.num_parameters)}"
        width = max(layout.width, text_width(said, _SMALL)) + 2 * _MARGIN
        height = layout.height + 2 * _MARGIN + _LABEL_ROW
        footer = Box(0.0, height - 34.0, width, _LABEL, ((said, _SMALL, False),), fill="none")
        shapes = _placed(parts, layout, (width - layout.width) / 2, _MARGIN)
        return Diagram(width, height, f"{self._signature}: {said}", [*shapes, footer])

    def _parts(self) -> list["_Part"]:
        """What is drawn, each part after those that it takes from."""
        taken = {key for _, block in self.block.computed for key in block.in_keys}
        parts = [_end(key, self._shape(key), is_input=True) for key in self.block.in_keys]
        for name, block in self.block.computed:
            count = self._traced.parameters[name]
            texts = ((name, _LARGE, True), (_kind(block), _SMALL, False),
                     (_counted(count), _SMALL, False))  # fmt: skip
            # What goes to outputs alone, these say.
            labels = tuple(
                (key, "" if key in self.block.out_keys and key not in taken else self._labeled(key))
                for key in block.out_keys
            )
            gives = tuple((key, max(text_width(label, _SMALL), 16.0)) for key, label in labels)
            below = sum(width + PORT_GAP for _, width in gives) - PORT_GAP
            box = _box(texts, 5.0, *(_WITH_WEIGHTS if count else _WITHOUT))
            box = box._replace(
                width=max(box.width, below), is_double=isinstance(block, InferenceBlock)
            )
            row = _LABEL_ROW if any(label for _, label in labels) else 0.0
            node = Node(box.width, box.height + row, tuple(block.in_keys), gives)
            parts.append(_Part(f"block {name}", node, box, labels))
        return parts + [_end(key, self._shape(key), is_input=False) for key in self.block.out_keys]

    @functools.cached_property
    def _traced(self) -> Traced:
        return self.block.traced(self.inputs)

    @property
    def _signature(self) -> str:
        """Inputs and outputs in a line."""
        sides = (self.block.in_keys, self.block.out_keys)
        return " -> ".join(", ".join(map(self._labeled, side)) for side in sides)

    def _labeled(self, key: str) -> str:
        return f"{key} {self._shape(key)}"

    def _shape(self, key: str) -> str:
        return shape_text(self._traced.shapes[key])

    def _repr_svg_(self) -> str:
        return self.to_svg()


def network_graphs(network: ActorCritic) -> dict[str, InferenceGraph]:
    """The graphs of a network of blocks: "policy" and "critic".

    A memory is a block between "hidden" and "latent", for one step. Raises ConfigError for a
    network that is not made of blocks.
    """
    graphs: dict[str, InferenceGraph] = {}
    shapes = network.input_shapes()
    parts = {name: getattr(network.module, name, None) for name in ("policy", "critic")}
    taken = getattr(parts["critic"], "in_keys", ())
    for name, part in parts.items():
        graph = _in_one(part, taken) if isinstance(part, WithMemory) else part
        if isinstance(graph, InferenceBlock):
            graphs[name] = InferenceGraph(graph, shapes)
            shapes = shapes | graph.shapes(shapes)
    if not graphs:
        raise ConfigError(
            f"network_graphs: {type(network.module).__name__} is not made of blocks; build the "
            f"network by PerceptionActorCritic or of InferenceBlocks"
        )
    return graphs


class _MemoryBlock(Block):
    """One step of a recurrent cell, from an empty memory."""

    cell: LSTM | GRU

    def forward(self, x: Array) -> Array:
        """[..., H]."""
        empty: Any = self.cell.initial_carry(x.shape[:-1])
        return self.cell(x[None], empty, None)[0][0]


def _in_one(part: WithMemory, taken: Collection[str]) -> nn.Module:
    """Both graphs around a memory and the memory as one graph, if both are of blocks.

    Of what it gives besides, "latent" is an output only if it is `taken`.
    """
    if not isinstance(part.front, InferenceBlock) or not isinstance(part.head, InferenceBlock):
        return part
    blocks = {**dict(part.front.blocks), **dict(part.head.blocks)}
    blocks[unused("memory", blocks)] = _MemoryBlock(HIDDEN, LATENT, part.cell)
    embeddings = [key for key in part.front.out_keys if key != HIDDEN]
    latent = [LATENT] if LATENT in taken else []
    return InferenceBlock(part.front.in_keys, (*part.head.out_keys, *embeddings, *latent), blocks)


def _kind(block: Block) -> str:
    """What a block is, in a word."""
    return type(block.cell if isinstance(block, _MemoryBlock) else block).__name__


class _Part(NamedTuple):
    """A box that has no place yet, and what is written on the lines below it."""

    name: str
    node: Node
    box: Box
    labels: tuple[tuple[str, str], ...] = ()
    """(line, text)."""


def _end(key: str, shape: str, is_input: bool) -> _Part:
    """An input or an output of the graph."""
    box = _box(
        ((key, 12.0, True), (shape, _SMALL, False)), 22.0, *(_INPUT if is_input else _OUTPUT)
    )
    if is_input:
        return _Part(f"input {key}", Node(box.width, box.height, (), ((key, 16.0),)), box)
    return _Part(f"output {key}", Node(box.width, box.height, (key,), is_last=True), box)


def _box(texts: tuple[tuple[str, float, bool], ...], radius: float, fill: str, stroke: str) -> Box:
    """A box of the size of its texts, without a place."""
    width = max(text_width(text, size) for text, size, _ in texts) + 28.0
    height = sum(1.3 * size for _, size, _ in texts) + 14.0
    return Box(0.0, 0.0, width, height, texts, radius, fill, stroke)


def _placed(
    parts: Sequence[_Part], layout: Layout, left: float, top: float
) -> list[Box | Curve | Arrow]:
    """What is drawn, lines first; the layout begins at (left, top)."""
    pieces = [piece for line in layout.lines.values() for piece in line]
    arrows = [Arrow(left + x, top + y) for x, y in layout.ends]
    boxes = []
    for part in parts:
        middle, y = layout.nodes[part.name]
        boxes.append(part.box._replace(x=left + middle - part.box.width / 2, y=top + y))
        for line, text in part.labels:
            x, bottom = layout.lines[line][0].x0, y + part.node.height
            pieces.append(Segment(x, y + part.box.height, x, bottom))
            if text:
                width, lower = text_width(text, _SMALL), bottom - (_LABEL_ROW - _LABEL) / 2
                label = ((text, _SMALL, False),)
                boxes.append(Box(left + x - width / 2, top + lower - _LABEL, width, _LABEL, label))
    curves = [Curve(left + x0, top + y0, left + x1, top + y1) for x0, y0, x1, y1 in pieces]
    return [*curves, *arrows, *boxes]


def _aligned(*rows: Sequence[str]) -> list[str]:
    """Lines with the cells of each column below each other, the last column to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for *row, last in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, last.rjust(widths[-1])]).rstrip())
    return lines


def _counted(parameters: int) -> str:
    return f"{parameters:,} parameter{'s' * (parameters != 1)}" if parameters else "no parameters"
