import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.errors import ConfigError, SpaceError
from mazejax.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space

SPACES = [
    Box(0.0, 1.0, (84, 84, 3)),
    Box([-1.0, -np.inf], [np.inf, 0.1]),
    Box(0, 255, (2, 2), np.uint8),
    Box([0.1, -1e300], 1e300, dtype=np.float64),
    Discrete(3),
    Discrete(3, start=-1),
    MultiDiscrete([3, 2]),
    MultiDiscrete([[3, 2], [2, 2]], start=[[1, 2], [3, 4]]),
    MultiBinary(3),
    MultiBinary((2, 3)),
    Dict({"b": Discrete(3), "a": Dict({"it's": Box(-1.0, 1.0, (2,))})}),
]


@pytest.mark.parametrize(
    "module",
    ["mazejax.spaces"]
    + [f"mazejax.spaces.{name}" for name in ("base", "simple", "composite", "convert")],
)
def test_importing_spaces_imports_no_jax(module):
    heavy = ("jax", "gymnasium", "gymnax")
    program = f"import sys, {module}; assert not {{*{heavy}}} & {{*sys.modules}}"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_describing_and_checking_values_imports_no_jax():
    program = (
        "import sys, pickle; from mazejax.spaces import Box, Dict, Discrete;"
        "space = Dict({'a': Box(0.0, 1.0, (2,)), 'b': Discrete(2)});"
        "assert space.contains({'a': __import__('numpy').zeros(2), 'b': 1});"
        "hash(space), repr(space), pickle.dumps(space); assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("space", SPACES, ids=repr)
def test_repr_is_python_that_builds_an_equal_space(space):
    built = eval(repr(space))
    assert built == space and hash(built) == hash(space)


@pytest.mark.parametrize("space", SPACES, ids=repr)
def test_pickled_spaces_come_back_equal(space):
    assert pickle.loads(pickle.dumps(space)) == space


def test_different_spaces_are_unequal():
    assert len({repr(space) for space in SPACES}) == len(set(SPACES)) == len(SPACES)
    assert all((a == b) == (a is b) for a in SPACES for b in SPACES)
    assert Discrete(3) != 3


def test_repr_is_short_for_uniform_boxes_and_leaves_out_defaults():
    assert repr(Box(0, 1, (84, 84, 3))) == "Box(low=0.0, high=1.0, shape=(84, 84, 3))"
    assert repr(Box(0, 255, (2,), "uint8")) == "Box(low=0, high=255, shape=(2,), dtype='uint8')"
    assert repr(Box([0.1, 0.2], np.inf)) == 'Box(low=[0.1, 0.2], high=float("inf"))'
    assert repr(Discrete(3)) == "Discrete(3)"
    assert repr(Dict({"a": MultiBinary((2, 3))})) == "Dict({'a': MultiBinary((2, 3))})"


def test_spaces_are_immutable():
    space = Box(np.zeros(2), np.ones(2))
    with pytest.raises(AttributeError, match=r"Box\.low: spaces are immutable"):
        space.low = np.ones(2)
    with pytest.raises(ValueError, match="read-only"):
        space.low[0] = 1.0
    given = np.array([0.0, 0.5])
    space = Box(given, 1.0)
    given[0] = 1.0
    assert space.low.tolist() == [0.0, 0.5]


def test_an_equal_space_does_not_compile_a_second_time():
    traces = []

    def zeros(space):
        traces.append(space)
        return jnp.zeros(space.shape)

    compiled = jax.jit(zeros, static_argnums=0)
    compiled(Box(0.0, 1.0, (2,)))
    compiled(Box(np.zeros(2), np.ones(2)))
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("space", "value", "contained"),
    [
        (Discrete(3), 2, True),
        (Discrete(3), np.int64(0), True),
        (Discrete(3), jnp.int32(1), True),
        (Discrete(3), 3, False),
        (Discrete(3), -1, False),
        (Discrete(3), 1.0, False),
        (Discrete(3), True, False),
        (Discrete(3), [1], False),
        (Discrete(3), None, False),
        (Discrete(3, start=-1), -1, True),
        (Discrete(3, start=-1), 2, False),
        (Box(0.0, 1.0, (2,)), np.array([0.0, 1.0]), True),
        (Box(0.0, 1.0, (2,)), [0.5, 0.5], True),
        (Box(0.0, 1.0, (2,)), [0, 1], False),
        (Box(0.0, 1.0, (2,)), [[0.0, 1.0]], False),
        (Box(0.0, 1.0, (2,)), [0.0, np.nan], False),
        (Box(0.0, 1.0, (2,)), [0.0, np.nextafter(np.float32(1), np.float32(2))], False),
        (Box(0.0, 1.0, (2,)), [[0.0], [1.0, 2.0]], False),
        (Box(0.0, 1.0, (2,)), "ab", False),
        (Box(-np.inf, np.inf, ()), 1e38, True),
        (Box(-np.inf, np.inf, ()), np.nan, False),
        (Box(0.1, 1.0, ()), 0.1, True),
        (Box(0.1, 0.1, (), np.float64), np.float32(0.1), True),
        (Box(0, 255, (2,), np.uint8), np.array([0, 255], np.uint8), True),
        (Box(0, 255, (2,), np.uint8), np.array([0, 255], np.int32), False),
        (Box(False, True, (2,), bool), [True, False], True),
        (Box(-5, 5, (), np.int8), np.int64(300), False),
        (MultiDiscrete([3, 2]), [2, 1], True),
        (MultiDiscrete([3, 2]), [1, 2], False),
        (MultiDiscrete([3, 2], start=1), [3, 2], True),
        (MultiBinary(2), [0, 1], True),
        (MultiBinary(2), [0, 2], False),
        (MultiBinary(2), [True, False], False),
        (Dict({"a": Discrete(2)}), {"a": 1}, True),
        (Dict({"a": Discrete(2)}), {"a": 1, "b": 1}, False),
        (Dict({"a": Discrete(2)}), {}, False),
        (Dict({"a": Discrete(2)}), [1], False),
    ],
)
def test_a_value_is_contained_by_kind_shape_and_bounds(space, value, contained):
    assert space.contains(value) is contained


@pytest.mark.parametrize(
    ("space", "value", "message"),
    [
        (
            Dict({"speed": Box(0.0, 5.0, (3,))}),
            {"speed": np.zeros((1, 3))},
            r"action['speed']: got shape (1, 3), expected (3,); "
            "did you forget to squeeze the batch axis?",
        ),
        (
            Box(0.0, 5.0, (3,)),
            np.zeros((7, 3)),
            "action: got shape (7, 3), expected (3,); "
            "one value at a time: it looks like a batch of 7",
        ),
        (
            Box(0.0, 5.0, (3, 2)),
            np.zeros(6),
            "action: got shape (6,), expected (3, 2); the number of elements agrees: reshape it",
        ),
        (
            Box(0.0, 5.0, (3,)),
            np.zeros(2),
            "action: got shape (2,), expected (3,); is this the value of another space?",
        ),
        (
            Dict({"speed": Box(0.0, 5.0, (3,))}),
            {"speed": [0.0, 0.0, 5.3]},
            "action['speed'][2]: got 5.3, expected from 0.0 to 5.0 (0.3 above); "
            "clip it or widen the space",
        ),
        (
            Box(0, 255, (2, 2), np.uint8),
            np.full((2, 2), np.nan),
            "action: got dtype float64, expected an unsigned integer such as uint8; convert it "
            "with numpy.asarray(value, 'uint8') if that is what you mean",
        ),
        (
            Box(-1.0, 1.0, ()),
            -3.0,
            "action: got -3.0, expected from -1.0 to 1.0 (2 below); clip it or widen the space",
        ),
        (
            Box(-1.0, 1.0, (1,)),
            [np.nan],
            "action[0]: got nan, expected a number from -1.0 to 1.0; "
            "find the 0/0 or inf - inf that made it",
        ),
        (
            Discrete(3),
            None,
            "action: got NoneType, expected a signed integer such as int32; convert it "
            "with numpy.asarray(value, 'int32') if that is what you mean",
        ),
        (
            MultiBinary(2),
            [[0], [1, 0]],
            "action: got a ragged list, expected an array of shape (2,); "
            "give every row the same length",
        ),
        (
            Dict({"speed": Discrete(2), "gear": Discrete(2)}),
            {"spede": 1},
            "action: got an unknown key 'spede'; did you mean 'speed'?",
        ),
        (
            Dict({"speed": Discrete(2), "gear": Discrete(2)}),
            {"gear": 1},
            "action: got the keys 'gear', expected 'speed' too; give every key of the space",
        ),
        (
            Dict({"speed": Discrete(2), "gear": Discrete(2)}),
            3,
            "action: got int, expected a dict with the keys 'speed', 'gear'; name each value",
        ),
    ],
)
def test_validate_says_where_what_and_how_to_mend_it(space, value, message):
    with pytest.raises(SpaceError) as error:
        space.validate(value)
    assert str(error.value) == message


def test_validate_names_the_value_as_it_is_told():
    with pytest.raises(SpaceError, match=r"^observation\['a'\]: got 2"):
        Dict({"a": Discrete(2)}).validate({"a": 2}, where="observation")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Discrete(0), "Discrete n: got 0"),
        (lambda: Discrete(2.5), "Discrete n: got 2.5, expected a whole number"),
        (lambda: Discrete(True), "Discrete n: got True"),
        (lambda: Discrete(2**31 + 1), "Discrete n: got 2147483649"),
        (lambda: Discrete(2, start=2**31 - 1), "Discrete start: got 2147483647 with n 2"),
        (lambda: MultiDiscrete([2, 0]), "MultiDiscrete nvec: got"),
        (lambda: MultiDiscrete(3), "MultiDiscrete nvec: got shape ()"),
        (lambda: MultiDiscrete([]), "MultiDiscrete nvec: got (0,)"),
        (lambda: MultiDiscrete([2, 2.5]), "MultiDiscrete nvec: got 2.5"),
        (lambda: MultiDiscrete([2, 2], start=[1]), "MultiDiscrete nvec: got shape (2,) with"),
        (lambda: MultiDiscrete([2, 2], start=2**31), "MultiDiscrete start: got"),
        (lambda: MultiBinary(0), "MultiBinary n: got (0,)"),
        (lambda: MultiBinary("ab"), "MultiBinary n: got 'ab'"),
        (lambda: Box(1.0, 0.0, (2,)), "Box low: got 1.0 with high 0.0 at entry (0,)"),
        (lambda: Box([0.0, 1.0], [1.0, 0.0]), "Box low: got 1.0 with high 0.0 at entry (1,)"),
        (lambda: Box(np.inf, np.inf, ()), "Box low: got inf"),
        (lambda: Box(np.nan, 1.0, ()), "Box low: got nan"),
        (lambda: Box(0.0, 1e39, ()), "Box high: got 1e+39"),
        (lambda: Box(0.5, 1.0, (), int), "Box low: got 0.5, expected whole numbers that int64"),
        (lambda: Box(-np.inf, 1, (), np.int8), "Box low: got -inf"),
        (lambda: Box(-1, 255, (), np.uint8), "Box low: got -1"),
        (lambda: Box(0, 2**64, (), np.uint64), "Box high: got 18446744073709551616"),
        (lambda: Box(0, [0.5, np.inf], (2,), np.uint64), "Box high: got 0.5"),
        (lambda: Box(None, 1.0, ()), "Box low: got None"),
        (lambda: Box([[0.0], [0.0, 1.0]], 1.0), "Box low: got [[0.0], [0.0, 1.0]]"),
        (lambda: Box([0.0, 0.0], 1.0, (3,)), "Box low: got shape (2,), expected (3,)"),
        (lambda: Box(0.0, [1.0, 1.0], (1, 2)), "Box high: got shape (2,), expected (1, 2)"),
        (lambda: Box(0.0, 1.0, 3), "Box shape: got 3, expected a tuple"),
        (lambda: Box(0.0, 1.0, (2, 0)), "Box shape: got (2, 0)"),
        (lambda: Box(0.0, 1.0, (2.0,)), "Box shape: got 2.0"),
        (lambda: Box(0.0, 1.0, (2,), "float33"), "Box dtype: got 'float33'"),
        (lambda: Box(0.0, 1.0, (2,), complex), "Box dtype: got <class 'complex'>"),
        (lambda: Dict({}), "Dict spaces: got {}"),
        (lambda: Dict([Discrete(2)]), "Dict spaces: got [Discrete(2)]"),
        (lambda: Dict({1: Discrete(2)}), "Dict spaces: got key 1"),
        (lambda: Dict({"a": {"b": Discrete(2)}}), "Dict spaces['a']: got dict"),
    ],
)
def test_a_wrong_constructor_argument_is_named(build, message):
    with pytest.raises(ConfigError) as error:
        build()
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value) and ";" in str(error.value)


@pytest.mark.parametrize("space", [Box(0.0, 1.0, (2, 3)), MultiDiscrete([2, 3]), MultiBinary(3)])
def test_flattening_an_array_of_another_shape_is_refused(space):
    with pytest.raises(SpaceError, match="only leading batch axes may be added"):
        space.flatten(jnp.zeros((5, 4), space.dtype))


def test_space_itself_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Space()
