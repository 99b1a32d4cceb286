"""`InferenceBlock`: blocks joined by the keys that they take and give.

The graph is ordered and checked when it is made, before anything compiles. It is a block
itself, so that graphs are blocks of larger graphs. `mazejax.rendering.InferenceGraph`
prints and draws it.
"""

import contextlib
import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import Scope

from mazejax.errors import ConfigError, did_you_mean
from mazejax.networks.blocks.base import Block
from mazejax.types import Array

Shape = jax.ShapeDtypeStruct
"""Shape and dtype of an array."""


class InferenceBlock(Block):
    """A graph of named blocks, from `in_keys` to `out_keys`.

        InferenceBlock(
            in_keys=("position", "velocity"),
            out_keys="value",
            blocks={
                "joined": ConcatenationBlock(("position", "velocity"), "joined"),
                "torso": DenseBlock("joined", "latent"),
                "head": LinearOutputBlock("latent", "value"),
            },
        )

    The order in which blocks are listed does not matter: graphs of the same blocks are
    equal. Weights stand under the names of their blocks, `params["torso"]["dense_0"]`.
    Blocks that lead to none of the `out_keys` are not computed and have no weights.
    """

    blocks: Any
    """Blocks by name: a mapping, or (name, block) pairs; kept as pairs, each after its needs."""

    num_inputs = ()
    num_outputs = ()
    # Without it flax would call the blocks `blocks_0_1` and so on.
    preserve_adopted_names: ClassVar[bool] = True

    def __post_init__(self) -> None:
        pairs = self.blocks.items() if isinstance(self.blocks, Mapping) else self.blocks
        object.__setattr__(self, "blocks", _named(pairs))
        super().__post_init__()

    def validate(self) -> None:
        """Raise ConfigError, naming the block and the key, for blocks that make no graph."""
        if len({*self.in_keys}) < len(self.in_keys):
            raise ConfigError(f"InferenceBlock.in_keys: {self.in_keys} names a key twice")
        givers = _givers(self.blocks, self.in_keys)
        known = (*self.in_keys, *givers)
        for name, block in self.blocks:
            for key in block.in_keys:
                if key not in known:
                    raise ConfigError(
                        f"InferenceBlock.blocks: {name!r} takes {key!r}, which is no input and "
                        f"which no block gives; {did_you_mean(key, known)}"
                    )
        for key in self.out_keys:
            if key not in known:
                raise ConfigError(
                    f"InferenceBlock.out_keys: no block gives {key!r}; {did_you_mean(key, known)}"
                )
        object.__setattr__(self, "blocks", _ordered(self.blocks, givers))

    def forward(self, *inputs: Array) -> tuple[Array, ...]:
        """The `out_keys` in order, of the `in_keys` in order."""
        values = dict(zip(self.in_keys, inputs, strict=True))
        for name, block in self.computed:
            with _blame(name):
                values |= block(values)
        return tuple(values[key] for key in self.out_keys)

    @property
    def computed(self) -> tuple[tuple[str, Block], ...]:
        """The (name, block) pairs that lead to an output, each after those that it needs."""
        needed, computed = {*self.out_keys}, []
        for name, block in reversed(self.blocks):
            if not needed.isdisjoint(block.out_keys):
                needed |= {*block.in_keys}
                computed.append((name, block))
        return tuple(reversed(computed))

    @property
    def pruned(self) -> tuple[str, ...]:
        """Names of the blocks that lead to no output."""
        computed = dict(self.computed)
        return tuple(name for name, _ in self.blocks if name not in computed)

    def shapes(self, inputs: Mapping[str, Any]) -> dict[str, Shape]:
        """Shape and dtype of every key that is computed, nothing being allocated.

        Inputs are shapes (float32 is then meant), `jax.ShapeDtypeStruct`s or arrays, with
        any leading axes. Raises ConfigError that names the block which does not fit.
        """
        return self.traced(inputs).shapes

    def parameters(self, inputs: Mapping[str, Any]) -> dict[str, int]:
        """How many weights each computed block has, by its name, for inputs of these shapes."""
        return self.traced(inputs).parameters

    def traced(self, inputs: Mapping[str, Any]) -> "Traced":
        """Both `shapes` and `parameters`."""
        shapes = {key: _input_shape(self.label, inputs, key) for key in self.in_keys}
        parameters = {}
        for name, block in self.computed:
            outputs, variables = _traced_block(name, block, {k: shapes[k] for k in block.in_keys})
            shapes |= outputs
            weights = jax.tree.leaves(variables.get("params", {}))
            parameters[name] = sum(leaf.size for leaf in weights)
        return Traced(shapes, parameters)


class Traced(NamedTuple):
    """What is known of a graph for inputs of certain shapes."""

    shapes: dict[str, Shape]
    """Of every key."""
    parameters: dict[str, int]
    """Weights of every computed block, by its name."""


def shape_text(shape: Shape) -> str:
    """`[8, 64]`, and the dtype behind it unless that is float32."""
    text = f"[{', '.join(map(str, shape.shape))}]"
    return text if shape.dtype == jnp.float32 else f"{text} {shape.dtype}"


def _named(pairs: Any) -> tuple[tuple[str, Block], ...]:
    """The pairs as a tuple, each block bearing its name; ConfigError unless they are named."""
    try:
        pairs = tuple((name, block) for name, block in pairs)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"InferenceBlock.blocks: expected blocks by name, got {type(pairs).__name__}; write "
            f'{{"torso": DenseBlock("x", "y")}}'
        ) from error
    seen: set[str] = set()
    for name, block in pairs:
        # A dot or a slash would read as a path among weights.
        if not isinstance(name, str) or not name or not {*name}.isdisjoint("./"):
            raise ConfigError(
                f"InferenceBlock.blocks: a name is a string without dot and slash, got {name!r}"
            )
        if not isinstance(block, Block):
            raise ConfigError(
                f"InferenceBlock.blocks: {name!r} is a {type(block).__name__}, expected a Block"
            )
        if name in seen:
            raise ConfigError(f"InferenceBlock.blocks: two blocks are called {name!r}")
        seen.add(name)
    return tuple(
        (name, block if _is_own(block, name) else _freed(block, name)) for name, block in pairs
    )


def _is_own(block: Block, name: str) -> bool:
    """Whether it bears its name already, by itself or as part of a graph that flax clones.

    A part's parent is then its graph, or in flax's transformations its scope.
    """
    return block.name == name and isinstance(block.parent, (InferenceBlock, Scope))


def _freed(block: Block, name: str) -> Block:
    """A copy of this name without the parent that flax gives to what is made in a module.

    It is nobody else's: to flax one module in two places is one set of weights, and graphs
    that are equal would differ in theirs.
    """
    if not isinstance(block, InferenceBlock):
        return block.clone(parent=None, name=name, _deep_clone=True)
    blocks = tuple((inner, _freed(part, inner)) for inner, part in block.blocks)
    return block.clone(parent=None, name=name, blocks=blocks)


def _givers(pairs: Sequence[tuple[str, Block]], in_keys: Sequence[str]) -> dict[str, str]:
    """Which block gives each key; ConfigError where that is not one alone."""
    givers: dict[str, str] = {}
    for name, block in pairs:
        for key in block.out_keys:
            if key in in_keys:
                raise ConfigError(
                    f"InferenceBlock.blocks: {name!r} gives {key!r}, which is an input already"
                )
            if key in givers:
                raise ConfigError(
                    f"InferenceBlock.blocks: {givers[key]!r} and {name!r} both give {key!r}"
                )
            givers[key] = name
    return givers


def _ordered(
    pairs: Sequence[tuple[str, Block]], givers: Mapping[str, str]
) -> tuple[tuple[str, Block], ...]:
    """Each block after those that it needs, otherwise by name; ConfigError for a cycle."""
    blocks = dict(pairs)
    needed = {
        name: {givers[key] for key in block.in_keys if key in givers}
        for name, block in blocks.items()
    }
    ready = sorted(name for name in blocks if not needed[name])
    ordered = []
    while ready:
        first = heapq.heappop(ready)
        ordered.append((first, blocks[first]))
        for name, needs in needed.items():
            if first in needs:
                needs.remove(first)
                if not needs:
                    heapq.heappush(ready, name)
    if len(ordered) < len(blocks):
        raise ConfigError(f"InferenceBlock.blocks: a cycle, {' -> '.join(_cycle(needed))}")
    return tuple(ordered)


def _cycle(needed: Mapping[str, set[str]]) -> list[str]:
    """Names along a cycle, the first of them also last, of blocks that still need others."""
    walk = [min(name for name in needed if needed[name])]
    while walk[0] not in walk[1:]:
        walk.insert(0, min(needed[walk[0]]))
    loop = walk[: walk.index(walk[0], 1)]
    begin = loop.index(min(loop))
    return [*loop[begin:], *loop[: begin + 1]]


def _traced_block(name: str, block: Block, inputs: dict[str, Shape]) -> Any:
    """(outputs, variables) of a block as shapes; ConfigError if it does not fit the inputs."""
    try:
        return jax.eval_shape(block.init_with_output, jax.random.key(0), inputs)
    except Exception as error:
        taken = ", ".join(f"{key} {shape_text(shape)}" for key, shape in inputs.items())
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(f"block {name!r} on {taken}: {first}") from error


@contextlib.contextmanager
def _blame(name: str) -> Iterator[None]:
    """Let errors say in which block they arose."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"block {name!r}: {error}") from error
    except Exception as error:
        error.add_note(f"This arose in block {name!r} of an InferenceBlock.")
        raise


def _input_shape(label: str, inputs: Mapping[str, Any], key: str) -> Shape:
    if key not in inputs:
        raise ConfigError(f"{label}: no shape of input {key!r}; {did_you_mean(key, inputs)}")
    shape = inputs[key]
    if hasattr(shape, "shape") and hasattr(shape, "dtype"):
        return Shape(shape.shape, jax.dtypes.canonicalize_dtype(shape.dtype))
    integers = (int, np.integer)
    if isinstance(shape, (tuple, list)) and all(isinstance(n, integers) and n >= 0 for n in shape):
        return Shape(tuple(map(int, shape)), jnp.float32)
    raise ConfigError(f"{label}: expected the shape of {key!r}, such as (4,), got {shape!r}")
