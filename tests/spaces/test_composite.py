import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mazejax import random
from mazejax.spaces import (
    Box,
    Dict,
    Discrete,
    MultiBinary,
    MultiDiscrete,
    from_gymnasium,
    to_gymnasium,
)

CAR = Dict(
    {
        "gear": Discrete(3),
        "drive": Dict({"wheel": Box(-1.0, 1.0, (2,)), "pedals": MultiDiscrete([2, 3])}),
    }
)


# --- properties of all spaces -------------------------------------------------------


@st.composite
def boxes(draw):
    # Few shapes, so that the compiled operations are shared between examples.
    shape = draw(st.sampled_from([(), (1,), (2, 2)]))
    dtype = np.dtype(draw(st.sampled_from(["bool", "f2", "f4", "f8"] + [*"bhilBHIL"])))
    if dtype.kind == "f":
        numbers = st.floats(allow_nan=False, width=8 * dtype.itemsize)
        largest = float(np.finfo(np.float32).max)  # beyond it there is nothing that JAX can draw
        ends = (
            st.tuples(numbers, numbers)
            .map(sorted)
            .filter(lambda ends: ends[0] <= largest and ends[1] >= -largest)
        )
    elif dtype.kind == "b":
        ends = st.tuples(st.booleans(), st.booleans()).map(sorted)
    else:
        limits = np.iinfo(dtype)
        narrow = np.iinfo(dtype.kind + str(min(dtype.itemsize, 4)))  # what JAX can draw
        low = st.integers(limits.min, narrow.max)
        ends = low.flatmap(
            lambda low: st.tuples(st.just(low), st.integers(max(low, narrow.min), limits.max))
        )
    if draw(st.booleans()):
        return Box(*draw(ends), shape, dtype)
    bounds = np.array([draw(ends) for _ in range(int(np.prod(shape)))], object)
    low, high = (np.array(bounds[:, i].tolist(), dtype).reshape(shape) for i in (0, 1))
    return Box(low, high, dtype=dtype)


starts = st.integers(-(2**31), 2**31 - 8)
simple = st.one_of(
    boxes(),
    st.builds(Discrete, st.integers(1, 7), starts),
    st.lists(st.tuples(st.integers(1, 7), starts), min_size=1, max_size=3).map(
        lambda entries: MultiDiscrete(*zip(*entries, strict=True))
    ),
    st.builds(MultiBinary, st.sampled_from([1, 3, (2, 2)])),
)
spaces = st.recursive(
    simple,
    lambda parts: st.dictionaries(st.text(max_size=3), parts, min_size=1, max_size=3).map(Dict),
    max_leaves=5,
)


@given(space=spaces, seed=st.integers(0, 2**31 - 1))
def test_every_space_contains_its_samples_before_and_after_flattening(space, seed):
    sample = space.sample(random.key(seed))
    space.validate(sample)
    flat = space.flatten(sample)
    assert flat.shape == (space.flat_size,) and flat.dtype == jnp.float32
    back = space.unflatten(flat)
    space.validate(back)

    def check(sample, back):
        sample, back = np.asarray(sample), np.asarray(back)
        exact = np.float64(np.float32(sample)) == np.float64(sample)
        assert back.dtype == sample.dtype
        assert ((back == sample) | ~exact | (np.abs(np.float64(sample)) > 2**24)).all()

    jax.tree.map(check, sample, back)


@given(space=spaces)
def test_every_space_is_its_repr_its_pickle_and_its_gymnasium_space(space):
    assert eval(repr(space)) == space
    assert pickle.loads(pickle.dumps(space)) == space
    assert from_gymnasium(to_gymnasium(space)) == space
    assert hash(eval(repr(space))) == hash(space)


@given(space=simple)
def test_the_bounds_themselves_are_contained_and_what_lies_beyond_is_not(space):
    ends = {
        Box: lambda: (space.low, space.high),
        Discrete: lambda: (space.start, space.start + space.n - 1),
        MultiDiscrete: lambda: (space.start, space.start + space.nvec - 1),
        MultiBinary: lambda: (np.zeros(space.shape, np.int8), np.ones(space.shape, np.int8)),
    }
    low, high = ends[type(space)]()
    assert space.contains(low) and space.contains(high)
    if not isinstance(space, Box):
        assert not space.contains(np.int64(low) - 1) and not space.contains(np.int64(high) + 1)
    elif space.dtype.kind == "f":
        with np.errstate(all="ignore"):
            below, above = np.nextafter(low, -np.inf), np.nextafter(high, np.inf)
        assert not space.contains(below) or (below == low).all()
        assert not space.contains(above) or (above == high).all()


# --- Dict ---------------------------------------------------------------------------


def test_a_dict_is_a_mapping_from_key_to_space():
    assert CAR["gear"] == Discrete(3)
    assert list(CAR) == ["gear", "drive"] and len(CAR) == 2
    assert "gear" in CAR and "wheel" not in CAR and ["gear"] not in [*CAR]
    assert CAR.get("nothing") is None
    with pytest.raises(KeyError, match="did you mean 'gear'"):
        CAR["gaer"]


def test_shape_dtype_and_flat_size_are_those_of_the_parts():
    assert CAR.shape == {"gear": (), "drive": {"wheel": (2,), "pedals": (2,)}}
    assert CAR.dtype["drive"] == {"wheel": np.float32, "pedals": np.int32}
    assert CAR.flat_size == 3 + 2 + 5


def test_the_order_of_keys_is_printed_but_does_not_matter():
    a, b = Discrete(2), MultiBinary(3)
    assert Dict({"b": b, "a": a}) == Dict({"a": a, "b": b})
    assert hash(Dict({"b": b, "a": a})) == hash(Dict({"a": a, "b": b}))
    assert repr(Dict({"b": b, "a": a})) == "Dict({'b': MultiBinary(3), 'a': Discrete(2)})"
    assert Dict({"a": a, "b": b}) != Dict({"a": b, "b": a})


def test_flattening_goes_by_sorted_keys_as_jax_does():
    value = {"gear": 1, "drive": {"wheel": np.float32([0.25, -0.5]), "pedals": np.array([1, 2])}}
    flat = CAR.flatten(value)
    pedals, wheel, gear = [0, 1, 0, 0, 1], [0.25, -0.5], [0, 1, 0]
    assert flat.tolist() == pedals + wheel + gear
    back = CAR.unflatten(flat)
    assert jax.tree.map(lambda a, b: bool(np.all(a == b)), back, value)
    assert jax.tree.structure(back) == jax.tree.structure(value)


def test_batches_flatten_as_each_of_their_values():
    batch = jax.vmap(CAR.sample)(jax.random.split(random.key(0), 4))
    flat = jax.jit(CAR.flatten)(batch)
    assert flat.shape == (4, CAR.flat_size)
    one = jax.tree.map(lambda leaf: leaf[2], batch)
    assert (flat[2] == CAR.flatten(one)).all()
    back = CAR.unflatten(flat)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), back, batch))


def test_each_key_draws_from_a_stream_of_its_own():
    part = Box(0.0, 1.0, ())
    key = random.key(0)
    both = Dict({"a": part, "b": part}).sample(key)
    assert both["a"] != both["b"]
    assert Dict({"c": part, "a": part}).sample(key)["a"] == both["a"]
    assert both["a"] == part.sample(random.stream(key, "a"))


def test_samples_work_under_jit_and_vmap():
    keys = jax.random.split(random.key(0), 3)
    batch = jax.jit(jax.vmap(CAR.sample))(keys)
    alone = CAR.sample(keys[1])
    same = jax.tree.map(lambda leaf, one: bool((leaf[1] == one).all()), batch, alone)
    assert jax.tree.all(same)
