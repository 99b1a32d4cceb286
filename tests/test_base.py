import copy
import enum
import functools
import inspect
import pickle
import typing
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import base, random
from mazejax.base import Pytree, is_concrete, static
from mazejax.errors import ConfigError
from mazejax.types import Array


class Physics(Pytree):
    gravity: float = 9.8
    friction: float | Array = 0.5


class World(Pytree):
    """A small env-like tree: numbers, a subtree, an array, static structure."""

    compile_time: ClassVar[bool] = True

    physics: Physics = Physics()
    wind: Any = 1.0
    size: int = static(default=3)
    shape: tuple[int, ...] = static(default=(2, 2))

    def validate(self) -> None:
        if is_concrete(self.wind) and np.any(np.asarray(self.wind) < 0):
            raise ConfigError("wind: must not be negative")


class Tall(World):
    height: Array | float = 1.0
    kind: str = static(default="tall")


class Anything(Pytree):
    compile_time: ClassVar[bool] = True

    value: Any = None
    label: Any = static(default=None)


# --- which fields are leaves ----------------------------------------------------------


def test_fields_are_leaves_with_their_names_unless_static():
    leaves = jax.tree_util.tree_leaves_with_path(Tall(wind=jnp.ones(2)))
    paths = [jax.tree_util.keystr(path) for path, _ in leaves]
    assert paths == [".physics.gravity", ".physics.friction", ".wind", ".height"]
    assert jax.tree.leaves(World(size=7)) == [9.8, 0.5, 1.0]


def test_static_fields_are_part_of_the_structure():
    assert jax.tree.structure(World()) == jax.tree.structure(World(wind=2.0))
    assert jax.tree.structure(World()) != jax.tree.structure(World(size=4))
    with pytest.raises(ValueError, match=r"different pytree metadata"):
        jax.tree.map(lambda a, b: a, World(), World(size=4))


def test_subclasses_inherit_fields_and_their_kinds():
    tall = Tall(size=5, height=2.0)
    assert (tall.size, tall.wind, tall.height, tall.kind) == (5, 1.0, 2.0, "tall")
    doubled = jax.tree.map(lambda x: x * 2, tall)
    assert type(doubled) is Tall and doubled.height == 4.0 and doubled.size == 5
    assert isinstance(doubled, World) and doubled.physics == Physics(19.6, 1.0)


class Color(enum.IntEnum):
    RED = 1


MUST_BE_STATIC = [
    *(int, bool, str, bytes, Color, type, np.dtype, Callable, Callable[[int], int]),
    *(int | None, typing.Optional[bool], typing.Union[int, str], str | bytes | None),  # noqa: UP007, UP045
    *(typing.Callable, Callable[..., Any] | None, typing.Literal["a", "b"], type[Pytree]),
    *(tuple[int, ...], tuple[Array, int], list[str], dict[str, int], typing.Annotated[int, "x"]),
    *("int", "bool", "int | None", "Callable[[int], int]", "typing.Optional[str]"),
]
MAY_BE_LEAVES = [
    *(Array, float, Any, Physics, Array | int, Array | bool, float | int, float | None),
    *(Array | None, tuple[Array, ...], dict[str, Array], dict[str, Array] | None, dict, tuple),
    *(np.ndarray, np.float32, typing.Optional[Array], object, typing.Annotated[Array, "x"]),  # noqa: UP045
    *("Array", "Array | int", "NotYetThere", "NotYetThere | None"),
]


def declare(annotation):
    return type(
        "Declared", (Pytree,), {"__annotations__": {"x": annotation}, "__module__": __name__}
    )


@pytest.mark.parametrize("annotation", MUST_BE_STATIC, ids=str)
def test_a_leaf_that_decides_shapes_or_code_is_refused_with_its_class(annotation):
    with pytest.raises(
        TypeError, match=r"^Declared\.x: a field of type .* must be declared static"
    ):
        declare(annotation)


@pytest.mark.parametrize("annotation", MAY_BE_LEAVES, ids=str)
def test_what_may_hold_arrays_may_be_a_leaf(annotation):
    assert jax.tree.leaves(declare(annotation)(jnp.ones(()))) == [1.0]


def test_anything_may_be_static_and_class_variables_are_no_fields():
    class Declared(Pytree):
        count: int = static(default=1)
        call: Callable[[int], int] | None = static(default=None)
        limit: ClassVar[int] = 3

    assert jax.tree.leaves(Declared()) == [] and Declared().limit == 3


def test_a_class_with_a_call_may_be_a_leaf():
    class Callable_(Pytree):
        scale: float = 2.0

        def __call__(self, x):
            return x * self.scale

    class Holder(Pytree):
        inner: Callable_ = Callable_()

    assert jax.tree.leaves(Holder()) == [2.0]


# --- construction and validation ------------------------------------------------------


def test_constructors_and_replace_validate():
    with pytest.raises(ConfigError, match="wind: must not be negative"):
        World(wind=-1.0)
    with pytest.raises(ConfigError, match="wind: must not be negative"):
        World().replace(wind=-1.0)


def test_unflattening_never_validates():
    world = World()
    assert jax.tree.map(lambda x: -x, world).wind == -1.0
    for leaf in (None, object(), "text", -1):
        leaves, structure = jax.tree.flatten(world)
        assert jax.tree.unflatten(structure, [leaf] * len(leaves)).wind is leaf
    assert jax.tree.map(lambda x: None, world).wind is None
    shapes = jax.eval_shape(lambda w: jax.tree.map(lambda x: -jnp.ones(3) * x, w), world)
    assert shapes.wind.shape == (3,)


def test_validation_runs_under_transformations_and_lets_traced_values_through():
    winds = jnp.array([-1.0, 2.0])
    swept = jax.vmap(lambda wind: World().replace(wind=wind))(winds)
    assert np.array_equal(swept.wind, winds) and swept.size == 3
    slope = jax.grad(lambda wind: World(wind=wind).wind ** 2)(3.0)
    assert slope == 6.0
    axes = jax.tree.map(lambda x: 0 if jnp.ndim(x) else None, World(wind=winds[1:]))
    assert jax.vmap(lambda w: w.wind * 2, in_axes=(axes,))(World(wind=winds[1:])) == 4.0


def test_objects_are_frozen():
    with pytest.raises(AttributeError):
        World().wind = 2.0  # type: ignore[misc]


def test_replace_names_the_field_that_was_meant():
    assert World().replace(size=4, wind=2.0) == World(wind=2.0, size=4)
    with pytest.raises(ConfigError, match=r"^Tall has no field 'hight'; did you mean 'height'\?$"):
        Tall().replace(hight=1.0)


class Derived(Pytree):
    size: int = static(default=2)
    double: int = static(default=0, init=False)

    def __post_init__(self):
        object.__setattr__(self, "double", 2 * self.size)
        super().__post_init__()


def test_constructors_name_the_field_that_was_meant():
    with pytest.raises(ConfigError, match=r"^Tall has no field 'hight'; did you mean 'height'\?$"):
        Tall(hight=1.0, wind=2.0)
    with pytest.raises(ConfigError, match=r"^Physics has no field 'x'; known names: friction, gra"):
        Physics(1.0, x=1)


@pytest.mark.parametrize("make", [Derived, Derived().replace])
def test_a_field_that_follows_from_others_is_not_set(make):
    assert make(size=3).double == 6
    with pytest.raises(ConfigError, match=r"^Derived\.double: follows from other fields"):
        make(double=3)


def test_constructors_keep_their_signature_and_other_errors():
    kinds = {
        name: (p.annotation, p.default) for name, p in inspect.signature(Physics).parameters.items()
    }
    assert kinds == {"gravity": (float, 9.8), "friction": (float | Array, 0.5)}
    with pytest.raises(TypeError, match="positional arguments but 4 were given"):
        Physics(1.0, 2.0, 3.0)
    with pytest.raises(TypeError, match="multiple values for argument 'gravity'"):
        Physics(1.0, gravity=2.0)

    class Picky(Pytree):
        number: Any = 0

        def validate(self):
            raise TypeError("not mine")

    with pytest.raises(TypeError, match=r"^not mine$"):
        Picky(number=1)


def test_a_constructor_of_ones_own_keeps_its_arguments():
    class Square(Pytree):
        side: float = 1.0

        def __init__(self, area=1.0, **others):
            assert not others or others["depth"] + "flat"  # a TypeError for other than a text
            object.__setattr__(self, "side", area**0.5)

    assert Square(area=4.0).side == 2.0
    with pytest.raises(TypeError, match="unsupported operand"):
        Square(depth=1)


def test_a_float_field_holds_a_number():
    assert type(Physics(gravity=9).gravity) is float  # an int would be traced as an int32
    for value in (jnp.ones(()), np.float32(1), float("inf"), jnp.bfloat16(1), np.int32(1)):
        assert Physics(gravity=value).gravity is value
    no_numbers = (
        np.bool_(True),
        np.complex64(1),
        np.array("9.8"),
        jnp.ones(2, bool),
        random.key(0),
    )
    for value in ("9.8", None, True, [1.0], *no_numbers):
        with pytest.raises(ConfigError, match=r"^gravity: must be a number, got .* in Physics$"):
            Physics(gravity=value)


def test_a_static_field_that_cannot_be_hashed_is_an_error():
    for value in ([2, 2], np.ones(2), {"a": 1}, ([],)):
        with pytest.raises(ConfigError, match=r"^shape: must be hashable, for it is a static"):
            World(shape=value)


# --- equality, hash, copies, repr -----------------------------------------------------

KEY = random.key(1)
DIFFERENT = [
    *(0, 0.0, -0.0, 1, 1.0, True, float("nan"), float("inf"), None, (1.0,), (1,), 1j),
    *(jnp.float32(1), jnp.asarray(1.0), jnp.int32(1), jnp.float32(jnp.nan), jnp.float32(-0.0)),
    *(jnp.zeros(2), jnp.zeros((2, 1)), jnp.zeros(2, jnp.bfloat16), np.zeros(2, np.float64)),
    *(jnp.zeros(2, jnp.float8_e5m2), jnp.zeros(2, jnp.float8_e4m3fn), {"a": 1.0}, {"b": 1.0}),
    *(KEY, random.key(2), random.wrap_words(jax.random.key_data(KEY), "threefry2x32")),
    *(Physics(), Physics(friction=jnp.ones(2)), World()),
]


@pytest.mark.parametrize("field", ["value", "label"])
def test_values_are_equal_to_themselves_built_anew_and_to_nothing_else(field):
    arrays = (jax.Array, np.ndarray)
    values = [v for v in DIFFERENT if field == "value" or not isinstance(v, (*arrays, dict))]
    if field == "label":
        values.remove(Physics(friction=jnp.ones(2)))
    trees = [Anything(**{field: value}) for value in values]
    again = [copy.deepcopy(tree) for tree in trees]
    for i, tree in enumerate(trees):
        for j, other in enumerate(again):
            assert (tree == other) is (i == j), (values[i], values[j])
            assert (tree != other) is (i != j)
    assert [hash(tree) for tree in trees] == [hash(tree) for tree in again]
    assert len({*trees, *again}) == len(trees)


def test_arrays_of_numpy_and_jax_are_equal_by_value():
    assert Anything(np.arange(3, dtype=np.int32)) == Anything(jnp.arange(3))
    assert Anything(np.float32(2)) == Anything(jnp.float32(2))


def test_classes_tell_trees_apart():
    class Other(Anything):
        pass

    assert Anything(1.0) != Other(1.0) and Anything(1.0) != 1.0 and Anything() != None  # noqa: E711


def test_copies_and_pickles_are_equal():
    tree = Tall(physics=Physics(friction=jnp.arange(2.0)), height=KEY, shape=(4, 4))
    for twin in (copy.copy(tree), copy.deepcopy(tree), pickle.loads(pickle.dumps(tree))):
        assert twin == tree and twin is not tree and type(twin) is Tall
        assert jax.tree.structure(twin) == jax.tree.structure(tree)


def test_repr_is_the_call_that_makes_the_object():
    assert repr(Physics()) == "Physics(gravity=9.8, friction=0.5)"
    tall = Tall(shape=(1, 2))
    assert repr(tall) == (
        "Tall(physics=Physics(gravity=9.8, friction=0.5), wind=1.0, size=3, shape=(1, 2), "
        "height=1.0, kind='tall')"
    )
    assert eval(repr(tall)) == tall


def test_repr_is_one_line_with_small_arrays_and_keys_by_value():
    shown = {
        "Array([[1., 1.], [1., 1.]], dtype=float32)": jnp.ones((2, 2)),
        "float32[3, 2]": jnp.ones((3, 2)),
        "array([1, 2])": np.array([1, 2]),
        "key<ctr>[192991481, 1072076599]": KEY,
        "key<ctr>[5]": jax.random.split(KEY, 5),
        "{'a': float32[9], 'b': (None, Physics(gravity=9.8, friction=float32[8]))}": {
            "a": jnp.ones(9),
            "b": (None, Physics(friction=jnp.ones(8))),
        },
    }
    for text, value in shown.items():
        assert repr(Anything(value, label="x")) == f"Anything(value={text}, label='x')"


def test_repr_shows_traced_and_donated_arrays_by_their_shapes():
    texts = []

    def note(tree):
        texts.append(repr(tree))
        return tree

    tree = Anything(jnp.ones(2))
    jax.jit(note, donate_argnums=0)(tree)
    assert texts == ["Anything(value=float32[2], label=None)"]
    assert repr(tree) == "Anything(value=float32[2], label=None)"


# --- jit ------------------------------------------------------------------------------


class Counted:
    """A function of a world that counts how often it is traced, and whether as a constant."""

    def __init__(self):
        self.traces = []

    def __call__(self, world, x):
        self.traces.append("constant" if is_concrete(world) else "traced")
        return world.wind * x + world.physics.gravity * world.size


@pytest.fixture
def counted():
    return Counted()


def test_an_equal_object_built_anew_hits_the_same_program(counted):
    run = base.jit(counted)
    for _ in range(3):
        assert run(World(wind=jnp.float32(2)), 3.0) == np.float32(2 * 3 + 9.8 * 3)
    assert run(World(wind=2.0), 3.0) == run(World(wind=2.0), jnp.asarray(3.0))
    assert counted.traces == ["constant"] * 2


def test_other_values_types_and_signs_are_other_programs(counted):
    run = base.jit(counted)
    winds = [0.0, -0.0, 0, 1, 1.0, True, float("nan"), jnp.float32(1)]
    for _ in range(2):
        for wind in winds:
            run(World(wind=wind), 1)
    assert len(counted.traces) == len(winds)
    assert np.signbit(base.jit(lambda w: w.wind * jnp.ones(()))(World(wind=-0.0)))


def test_static_fields_of_other_types_are_other_programs():
    run = base.jit(lambda tree, x: tree.label * x)
    x = jnp.ones((), jnp.int32)
    assert run(Anything(label=2), x).dtype == jnp.int32
    assert run(Anything(label=2.0), x).dtype == jnp.float32
    plain = jax.jit(lambda tree, x: tree.label * x)
    assert plain(Anything(label=2), x).dtype == jnp.int32
    assert plain(Anything(label=2.0), x).dtype == jnp.float32


def test_numbers_of_a_constant_are_folded_into_the_program():
    seen = []
    base.jit(lambda world: seen.append((world.wind, world.physics.gravity)))(World())
    assert seen == [(1.0, 9.8)]


def test_traced_numbers_stay_ordinary_arguments(counted):
    run = base.jit(counted)
    winds = jnp.arange(3.0)
    for sweep in (winds, winds + 1):
        got = jax.vmap(lambda wind: run(World().replace(wind=wind), 2.0))(sweep)
        np.testing.assert_allclose(got, sweep * 2 + 29.4, rtol=1e-6)
    assert counted.traces == ["traced"]
    assert jax.grad(lambda wind: run(World(wind=wind), 2.0))(1.0) == 2.0


def test_constants_are_found_by_position_and_by_name(counted):
    run = base.jit(counted)
    assert run(World(), 1.0) == run(World(), x=1.0) == run(x=1.0, world=World())
    assert set(counted.traces) == {"constant"}
    both = base.jit(lambda one, x, other: one.wind * x - other.wind)
    assert both(World(wind=2.0), 3.0, other=World(wind=5.0)) == 1.0
    assert both(World(wind=5.0), 3.0, other=World(wind=2.0)) == 13.0


def test_trees_that_are_not_for_compile_time_and_those_in_containers_are_traced(counted):
    run = base.jit(lambda worlds, x: counted(worlds[0], x))
    run((World(),), 1.0)
    run((World(wind=2.0),), 1.0)
    assert counted.traces == ["traced"]
    seen = []
    base.jit(lambda physics: seen.append(is_concrete(physics)))(Physics())
    assert seen == [False]


def test_constants_stay_constants_inside_an_outer_jit(counted):
    inner = base.jit(counted)
    outer = jax.jit(lambda x: inner(World(), x) + inner(World(), x + 1))
    assert outer(1.0) == np.float32(1 + 29.4 + 2 + 29.4)
    assert counted.traces == ["constant"]


def test_donated_arguments_are_those_of_the_user():
    run = base.jit(lambda world, x, state: (state + world.wind, x), donate_argnames="state")
    for call in (lambda x, s: run(World(), x, s), lambda x, s: run(World(), x, state=s)):
        x, state = jnp.ones(3), jnp.ones(3)
        call(x, state)
        assert state.is_deleted() and not x.is_deleted()


def test_other_static_arguments_are_those_of_the_user():
    def repeat(world, x, times, /, *, scale):
        return jnp.tile(x * world.wind * scale, times)

    run = base.jit(repeat, static_argnames=("times", "scale"))
    assert run(World(), jnp.ones(2), 3, scale=2).shape == (6,)
    named = base.jit(lambda world, x, times: jnp.tile(x, times), static_argnames="times")
    assert named(World(), jnp.ones(2), times=2).shape == (4,)
    with pytest.raises(ValueError, match="tiems"):
        base.jit(lambda times: times, static_argnames="tiems")


def test_the_compiled_function_looks_like_the_function():
    def step(world, x):
        """One step."""
        return world.wind * x

    compiled = base.jit(step)
    assert compiled.__name__ == "step" and compiled.__doc__ == "One step."
    text = str(jax.make_jaxpr(compiled)(World(), 1.0))
    assert "name=step" in text
    with pytest.raises(TypeError, match=r"step.*\bx\b|\bx\b.*step"):
        compiled(World(), "text")


def test_methods_and_partial_functions_can_be_compiled():
    class Scaled(Pytree):
        factor: float = 3.0

        @base.jit
        def apply(self, world, x):
            return world.wind * x * self.factor

    assert Scaled().apply(World(wind=2.0), 1.0) == 6.0
    assert base.jit(Scaled().apply)(World(wind=2.0), 1.0) == 6.0
    partial = base.jit(functools.partial(lambda world, x, y: world.wind * x + y, y=1.0))
    assert partial(World(wind=2.0), 1.0) == 3.0


def test_is_concrete_looks_at_every_leaf():
    assert is_concrete(World()) and is_concrete(None) and is_concrete({"a": jnp.ones(2)})
    seen = []
    jax.vmap(lambda x: seen.append(is_concrete((1.0, World(wind=x)))))(jnp.ones(2))
    assert seen == [False]
