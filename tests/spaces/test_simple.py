import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.errors import SpaceError
from mazejax.spaces import Box, Discrete, MultiBinary, MultiDiscrete


def many(space, num=2000, seed=0):
    return jax.jit(jax.vmap(space.sample))(jax.random.split(random.key(seed), num))


@pytest.mark.parametrize(
    ("space", "low", "high"),
    [
        (Discrete(3), 0, 2),
        (Discrete(5, start=-2), -2, 2),
        (MultiDiscrete([3, 2, 7], start=[0, -1, 5]), [0, -1, 5], [2, 0, 11]),
        (MultiDiscrete([[4, 4], [4, 4]]), 0, 3),
        (MultiBinary((2, 2)), 0, 1),
        (Box(0, 3, (2,), np.uint8), 0, 3),
        (Box([-2, 5], [1, 6], dtype=np.int64), [-2, 5], [1, 6]),
        (Box(-128, 127, (8,), np.int8), -128, 127),
        (Box(False, True, (3,), bool), False, True),
        (Box([False, True], True, dtype=bool), [False, True], True),
    ],
    ids=repr,
)
def test_samples_reach_both_ends_and_nothing_beyond(space, low, high):
    drawn = np.asarray(many(space, 4000))
    assert drawn.shape == (4000, *space.shape)
    assert drawn.dtype.kind == space.dtype.kind
    assert (drawn.min(0) == low).all() and (drawn.max(0) == high).all()


@pytest.mark.parametrize(
    ("space", "num"), [(Discrete(5), 5), (Box(-1, 5, (), np.int8), 7), (MultiBinary(1), 2)]
)
def test_integers_are_equally_likely(space, num):
    n = 100_000
    drawn = np.asarray(many(space, n)).ravel()
    counts = np.bincount(drawn - drawn.min(), minlength=num)
    error = np.sqrt(n * (1 / num) * (1 - 1 / num))
    assert len(counts) == num and (np.abs(counts - n / num) < 4 * error).all()


@pytest.mark.parametrize(
    ("space", "dtype"),
    [
        (Discrete(3), "int32"),
        (MultiDiscrete([2, 3]), "int32"),
        (MultiBinary(2), "int8"),
        (Box(0.0, 1.0, (2,)), "float32"),
        (Box(0.0, 1.0, (2,), np.float16), "float16"),
        (Box(0, 255, (2,), np.uint8), "uint8"),
        (Box(0.0, 1.0, (2,), np.float64), "float32"),
        (Box(0, 9, (2,), np.int64), "int32"),
    ],
    ids=repr,
)
def test_samples_have_the_dtype_of_the_space_as_jax_has_it(space, dtype):
    assert space.sample(random.key(0)).dtype == dtype


def test_sixty_four_bit_boxes_draw_all_their_width_where_jax_has_it():
    with jax.enable_x64(True):
        box = Box([-(2**63), 2**40], 2**63 - 1, dtype=np.int64)
        drawn = many(box, 64)
        assert drawn.dtype == jnp.int64 and all(box.contains(row) for row in drawn)
        assert int(jnp.abs(drawn).max()) > 2**62
        assert Box(0.1, 0.3, (), np.float64).sample(random.key(0)).dtype == jnp.float64
        assert Discrete(3).flatten(1).dtype == MultiDiscrete([2]).flatten([1]).dtype == jnp.float32


@pytest.mark.parametrize(
    "box", [Box(2**40, 2**41, (), np.int64), Box([0.0, 1e300], 1e301, dtype=np.float64)]
)
def test_a_box_beyond_32_bits_asks_for_64_bit_types(box):
    with pytest.raises(SpaceError, match="jax_enable_x64"):
        box.sample(random.key(0))


@pytest.mark.parametrize("impl", ["counter", "threefry2x32"])
def test_any_typed_key_draws(impl):
    space = Box([0.0, -np.inf], np.inf)
    assert space.contains(space.sample(random.key(0, impl)))


def test_the_draw_of_a_batch_is_the_draw_of_each():
    space = MultiDiscrete([3, 200])
    keys = jax.random.split(random.key(0), 5)
    assert (jax.vmap(space.sample)(keys) == jnp.stack([space.sample(k) for k in keys])).all()


def test_discrete_flattens_to_a_one_hot_vector():
    space = Discrete(3, start=-1)
    flat = space.flatten(jnp.array([[-1, 1]]))
    assert flat.dtype == jnp.float32
    assert flat.tolist() == [[[1, 0, 0], [0, 0, 1]]]
    assert space.unflatten(flat).tolist() == [[-1, 1]]
    assert space.flatten(1).tolist() == [0, 0, 1]


@pytest.mark.parametrize("nvec", [[2, 3, 2], [3, 3, 3]])
def test_multi_discrete_flattens_to_one_one_hot_vector_after_the_other(nvec):
    space = MultiDiscrete(nvec, start=[0, -2, 1])
    values = np.array([[0, -2, 1], [1, 0, 2]])
    expected = [
        np.concatenate([np.eye(n)[v - s] for n, v, s in zip(nvec, row, [0, -2, 1], strict=True)])
        for row in values
    ]
    flat = jax.jit(space.flatten)(values)
    assert (flat == np.stack(expected)).all()
    assert (space.unflatten(flat) == values).all()


def test_multi_discrete_of_two_axes_keeps_its_shape():
    space = MultiDiscrete([[2, 3], [4, 2]], start=[[0, 1], [2, 3]])
    value = np.array([[1, 3], [5, 4]], np.int32)
    assert (space.unflatten(space.flatten(value)) == value).all()
    assert space.flat_size == 11


def test_box_flattens_row_by_row_with_any_batch_axes():
    space = Box(0, 255, (2, 3), np.uint8)
    value = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    assert (space.flatten(value) == value.reshape(4, 6).astype(np.float32)).all()
    back = space.unflatten(space.flatten(value))
    assert back.dtype == jnp.uint8 and (back == value).all()
    assert space.flatten(value[None, None]).shape == (1, 1, 4, 6)


def test_integers_that_float32_cannot_hold_come_back_as_near_as_the_space_allows():
    space = Box(-(2**31), 2**31 - 1, (4,), np.int32)
    value = np.array([2**31 - 1, -(2**31), 2**24 + 1, 12345], np.int32)
    back = np.asarray(space.unflatten(space.flatten(value)))
    assert space.contains(back)
    assert back.tolist() == [2**31 - 128, -(2**31), 2**24, 12345]


def test_multi_binary_flattens_to_zeros_and_ones():
    space = MultiBinary((2, 2))
    value = np.array([[0, 1], [1, 1]], np.int8)
    assert space.flatten(value).tolist() == [0, 1, 1, 1]
    back = space.unflatten(space.flatten(value))
    assert back.dtype == jnp.int8 and (back == value).all()


@pytest.mark.parametrize(
    ("space", "given", "expected"),
    [
        (Box([0.0, -np.inf], [1.0, 2.0]), [[3.0, -9.0], [-1.0, 5.0]], [[1.0, -9.0], [0.0, 2.0]]),
        (Box(-1.0, 1.0, (2,)), [0.25, 7.0], [0.25, 1.0]),
        (Box(0, 255, (4,), np.uint8), [-3.0, 0.6, 254.4, 1e9], [0, 1, 254, 255]),
        (Box(-(2**31), 2**31 - 1, (2,), np.int32), [1e30, -1e30], [2**31 - 128, -(2**31)]),
        (Box(False, True, (3,), bool), [-1.0, 0.7, 9.0], [False, True, True]),
        (Box(0, 255, (2,), np.uint8), np.array([-7, 300], np.int32), [0, 255]),
        (Box(0, 9, (2,), np.int64), np.array([-7, 300], np.int32), [0, 9]),
    ],
)
def test_clip_gives_the_nearest_value_of_the_space(space, given, expected):
    clipped = jax.jit(space.clip)(jnp.asarray(given))
    assert clipped.tolist() == np.asarray(expected).tolist()
    assert clipped.dtype == jax.dtypes.canonicalize_dtype(space.dtype)


def test_bounds_are_kept_in_one_number_where_they_are_equal():
    box = Box(np.zeros((84, 84)), 1.0)
    assert box.low.shape == (84, 84) and box.low.strides == (0, 0)
    assert box == Box(-0.0, 1.0, (84, 84)) and hash(box) == hash(Box(-0.0, 1.0, (84, 84)))


def test_bounds_on_both_sides_of_2_to_the_63_are_exact():
    box = Box(0, [0, 2**63 + 1, 2**64 - 1], dtype=np.uint64)
    assert box.high.tolist() == [0, 2**63 + 1, 2**64 - 1]
    assert eval(repr(box)) == box


def test_bounds_that_compiled_programs_flush_to_zero_are_zero():
    assert Box(1e-40, 1.0, ()).low == 0.0
