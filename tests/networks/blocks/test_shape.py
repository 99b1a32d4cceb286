"""Blocks that join, cut, repeat and multiply, against loops over samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.errors import ConfigError
from mazejax.networks.blocks.shape import (
    ConcatenationBlock,
    CorrelationBlock,
    FlattenBlock,
    FunctionalBlock,
    MultiIndexSlicingBlock,
    RepeatToMatchBlock,
    SliceBlock,
)

BATCH = (2, 3)


def _random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _each(function, batch, *arrays):
    """The function of each sample, stacked along the batch axes."""
    outputs = [function(*(x[i] for x in arrays)) for i in np.ndindex(*batch)]
    return np.reshape(np.stack(outputs), batch + outputs[0].shape)


@pytest.mark.parametrize("dims", [0, 1, 2, 3])
def test_flattening_joins_the_last_axes(apply_block, dims):
    own = (2, 3, 2)[:dims]
    x = _random(*BATCH, *own)
    outputs, _ = apply_block(FlattenBlock("x", "y", dims), len(BATCH), x=x)
    np.testing.assert_array_equal(outputs["y"], _each(np.ravel, BATCH, x))


def test_flattening_a_batch_of_nothing_keeps_the_sizes():
    assert FlattenBlock("x", "y", 2).apply({}, {"x": jnp.ones((0, 3, 2))})["y"].shape == (0, 6)


@pytest.mark.parametrize("axis", [-1, -2])
def test_concatenation_joins_any_number_of_inputs(apply_block, axis):
    shapes = {key: [2, 3] for key in "abc"}
    for key, size in zip("abc", (1, 4, 2), strict=True):
        shapes[key][axis] = size
    inputs = {key: _random(*BATCH, *shape, seed=ord(key)) for key, shape in shapes.items()}
    block = ConcatenationBlock(("a", "b", "c"), "y", axis)
    outputs, _ = apply_block(block, len(BATCH), **inputs)
    expected = _each(lambda *xs: np.concatenate(xs, axis), BATCH, *inputs.values())
    np.testing.assert_array_equal(outputs["y"], expected)


@pytest.mark.parametrize("axis, index", [(-2, 0), (-2, -1), (-1, 3), (-3, 1)])
def test_a_slice_is_one_entry_without_its_axis(apply_block, axis, index):
    x = _random(*BATCH, 2, 3, 4)
    outputs, _ = apply_block(SliceBlock("x", "y", axis, index), len(BATCH), x=x)
    expected = _each(lambda x: np.take(x, index, axis), BATCH, x)
    np.testing.assert_array_equal(outputs["y"], expected)


@pytest.mark.parametrize(
    "axis, indices",
    [(-1, (1, 2)), (-2, (0,)), (-2, (2, 0)), (-1, (-1, 0, -1)), (-2, (0, 2)), (-2, (-2, -1))],
)
def test_several_entries_come_in_their_order(apply_block, axis, indices):
    x = _random(*BATCH, 3, 3)
    outputs, _ = apply_block(MultiIndexSlicingBlock("x", "y", axis, indices), len(BATCH), x=x)
    expected = _each(lambda x: np.stack([np.take(x, i, axis) for i in indices], axis), BATCH, x)
    np.testing.assert_array_equal(outputs["y"], expected)


@pytest.mark.parametrize("indices", [(2, 0, 2), (1, 2), (0, 2)])
def test_the_gradient_of_entries_counts_how_often_they_are_taken(indices):
    block = MultiIndexSlicingBlock("x", "y", -1, indices)
    gradient = jax.grad(lambda x: block.apply({}, {"x": x})["y"].sum())(jnp.ones((2, 3)))
    expected = [indices.count(i) for i in range(3)]
    np.testing.assert_array_equal(gradient, [expected] * 2)


@pytest.mark.parametrize("axis", [-1, -2])
def test_an_axis_of_one_is_repeated_to_match(apply_block, axis):
    shape = [2, 2]
    shape[axis] = 1
    x, other = _random(*BATCH, *shape), _random(*BATCH, 5, 4)
    outputs, _ = apply_block(
        RepeatToMatchBlock(("x", "other"), "y", axis), len(BATCH), x=x, other=other
    )
    expected = _each(lambda x, o: np.repeat(x, o.shape[axis], axis), BATCH, x, other)
    np.testing.assert_array_equal(outputs["y"], expected)


@pytest.mark.parametrize("reduce", [False, True])
@pytest.mark.parametrize(
    "own_x, own_y",
    [
        ((4,), (4,)),
        ((3, 4), (4,)),
        ((4,), (2, 3, 4)),
        ((3, 1), (1, 4)),
        ((1, 4), (1, 4)),
        ((4,), ()),
    ],
)
def test_a_correlation_is_a_product_or_its_sum(apply_block, reduce, own_x, own_y):
    x, y = _random(*BATCH, *own_x), _random(*BATCH, *own_y, seed=1)
    block = CorrelationBlock(("x", "y"), "z", (len(own_x), len(own_y)), reduce)
    outputs, _ = apply_block(block, len(BATCH), x=x, y=y)

    def reference(x, y):
        product = np.multiply(x, y)
        return product.sum(-1) if reduce else product

    np.testing.assert_allclose(outputs["z"], _each(reference, BATCH, x, y), rtol=1e-5, atol=1e-6)


def test_pieces_are_scored_against_the_order_of_their_own_sample():
    # As many samples as pieces: shapes alone would not tell batch axes from own ones.
    pieces, order = _random(3, 3, 2), _random(3, 2, seed=1)
    block = CorrelationBlock(("pieces", "order"), "score", in_ndims=(2, 1), reduce=True)
    scores = block.apply({}, {"pieces": pieces, "order": order})["score"]
    expected = [[np.dot(piece, order[i]) for piece in pieces[i]] for i in range(3)]
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("of_type, x, y", [("uint8", 100, 3), ("int32", -5, 4), ("bool", 1, 1)])
def test_whole_numbers_and_bools_are_correlated_as_numbers(of_type, x, y):
    inputs = {"x": jnp.full(4, x, of_type), "y": jnp.full(4, y, of_type)}
    product = CorrelationBlock(("x", "y"), "z").apply({}, inputs)["z"]
    total = CorrelationBlock(("x", "y"), "z", reduce=True).apply({}, inputs)["z"]
    assert product.dtype == total.dtype == jnp.float32
    assert (product.tolist(), total.item()) == ([x * y] * 4, 4 * x * y)


def _fail(x):
    raise TypeError("mine")


def test_an_error_inside_a_function_stays_what_it_is():
    with pytest.raises(TypeError, match="mine"):
        FunctionalBlock("x", "y", _fail).apply({}, {"x": jnp.ones(3)})


def _sum_and_norm(a, b):
    return a + b, jnp.linalg.norm(a, axis=-1)


def test_a_function_may_return_one_array_or_several(apply_block):
    inputs = {"a": _random(*BATCH, 3), "b": _random(*BATCH, 3, seed=1)}
    both = FunctionalBlock(("a", "b"), ("sum", "norm"), _sum_and_norm)
    outputs, _ = apply_block(both, len(BATCH), **inputs)
    np.testing.assert_allclose(outputs["sum"], inputs["a"] + inputs["b"])
    np.testing.assert_allclose(outputs["norm"], np.linalg.norm(inputs["a"], axis=-1), rtol=1e-6)
    outputs, _ = apply_block(FunctionalBlock("a", "y", jnp.square), len(BATCH), a=inputs["a"])
    np.testing.assert_allclose(outputs["y"], inputs["a"] ** 2)


def test_blocks_of_the_same_function_are_the_same():
    one, other = (FunctionalBlock("a", ("s", "n"), _sum_and_norm) for _ in range(2))
    assert one == other and hash(one) == hash(other)


class Unhashable:
    __hash__ = None

    def __call__(self, x):
        return x


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: FlattenBlock("x", "y", -1), "FlattenBlock.num_flatten_dims: must be an integer"),
        (lambda: ConcatenationBlock("x", "y", 1), "ConcatenationBlock.axis: must be negative"),
        (lambda: SliceBlock("x", "y", 0), "SliceBlock.axis: must be negative"),
        (lambda: FlattenBlock("x", "y", (1, 2)), "num_flatten_dims: must be an integer of at lea"),
        (lambda: SliceBlock("x", "y", -1, 1.0), "SliceBlock.index: must be an integer, got 1.0"),
        (lambda: SliceBlock("x", "y", -1, (0, 1)), "SliceBlock.index: must be an integer, got"),
        (lambda: MultiIndexSlicingBlock("x", "y", -1, ()), "indices: expected one or more"),
        (lambda: MultiIndexSlicingBlock("x", "y", -1, 2), "indices: expected one or more"),
        (lambda: MultiIndexSlicingBlock("x", "y", "a"), "axis: must be negative"),
        (lambda: RepeatToMatchBlock("x", "y"), "in_keys: expected 2, got 1"),
        (lambda: CorrelationBlock(("x", "y"), "z", (1,)), "in_ndims: expected one number for each"),
        (lambda: CorrelationBlock(("x", "y"), "z", (1, -1)), "in_ndims: must be integers of at"),
        (lambda: CorrelationBlock(("x", "y"), "z", (0, 0), True), "reduce: needs an input"),
        (lambda: FunctionalBlock("x", "y", 3), "function: expected a function, got a int"),
        (lambda: FunctionalBlock("x", "y", Unhashable()), "function: must be hashable"),
    ],
)
def test_fields_that_make_no_block_are_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


@pytest.mark.parametrize(
    "block, shapes, said",
    [
        (FlattenBlock("x", "y", 3), {"x": (2, 2)}, "at least 3 axes"),
        (
            ConcatenationBlock(("x", "z"), "y"),
            {"x": (2, 3), "z": (3, 3)},
            r"'z' has shape \(3, 3\), expected that of 'x' but for axis -1, \(2, 3\)",
        ),
        (ConcatenationBlock(("x", "z"), "y"), {"x": (3, 2, 3), "z": (2, 3)}, "'z' has shape"),
        (SliceBlock("x", "y", -1, 3), {"x": (2, 3)}, "has no entry 3 along axis -1"),
        (MultiIndexSlicingBlock("x", "y", -2, (0, -4)), {"x": (3, 2)}, "no entry -4 along axis -2"),
        (RepeatToMatchBlock(("x", "z"), "y"), {"x": (2, 2), "z": (3, 2)}, "expected size 1 along"),
        (
            RepeatToMatchBlock(("x", "z"), "y"),
            {"x": (3, 1, 4), "z": (5, 7, 4)},
            r"'z' has shape \(5, 7, 4\), expected the batch axes \(3,\) as of 'x', \(3, 1, 4\)",
        ),
        (
            FunctionalBlock("x", "y", jnp.arctan2),
            {"x": (3,)},
            r"FunctionalBlock\(x -> y\): the function does not take 1 arrays, one for each of in_k",
        ),
        (
            FunctionalBlock("x", "y", lambda x: None),
            {"x": (3,)},
            r"FunctionalBlock\(x -> y\): the function returned a NoneType as 'y', expected an arr",
        ),
        (
            CorrelationBlock(("x", "z"), "y", (2, 1)),
            {"x": (3, 2, 4), "z": (2, 4)},
            r"'z' has shape \(2, 4\), which does not go with \(3, 2, 4\) of 'x' if their own axes",
        ),
        (CorrelationBlock(("x", "z"), "y"), {"x": (3, 4), "z": (3, 5)}, "does not go with"),
        (
            FunctionalBlock("x", ("y", "z"), jnp.square),
            {"x": (3,)},
            "returned 1 arrays, expected 2",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_refused_by_key(block, shapes, said):
    with pytest.raises(ConfigError, match=said):
        block.apply({}, {key: jnp.ones(shape) for key, shape in shapes.items()})
