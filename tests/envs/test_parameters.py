from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import pytest

from mazejax.base import Pytree, static
from mazejax.envs.parameters import get_leaf, leaf_path, set_leaves
from mazejax.errors import ConfigError


class Core(Pytree):
    gravity: float = 9.8
    friction: float = 0.1
    size: int = static(default=3)

    def validate(self):
        if isinstance(self.gravity, float) and self.gravity < 0:
            raise ConfigError("gravity: must not be negative")


class Conversion(Pytree):
    friction: float = 0.2
    table: Any = None


class Inner(Pytree):
    core: Core = Core()
    conversion: Conversion = Conversion()


class Outer(Pytree):
    env: Inner = Inner()
    scale: float = 1.0
    spare: Core = static(default=Core())

    @property
    def name(self):
        return "Inner-v0"


class Twice(Pytree):
    env: Outer = Outer()
    scale: float = 2.0


def test_a_plain_name_is_found_at_any_depth():
    assert leaf_path(Core(), "gravity") == ("gravity",)
    assert leaf_path(Outer(), "gravity") == ("env", "core", "gravity")
    assert leaf_path(Outer(), "scale") == ("scale",)
    assert leaf_path(Outer(), "table") == ("env", "conversion", "table")


def test_a_path_or_its_end_tells_equal_names_apart():
    for name in ("env.core.friction", "core.friction"):
        assert leaf_path(Outer(), name) == ("env", "core", "friction")
    assert leaf_path(Outer(), "conversion.friction") == ("env", "conversion", "friction")


def test_a_name_in_several_places_is_an_error_that_lists_their_paths():
    message = (
        r"^'friction' stands in several places; "
        r"say 'env\.core\.friction' or 'env\.conversion\.friction'$"
    )
    with pytest.raises(ConfigError, match=message):
        leaf_path(Outer(), "friction")


def test_a_field_of_the_tree_itself_wins_over_deeper_ones():
    assert leaf_path(Twice(), "scale") == ("scale",)
    assert leaf_path(Twice(), "env.scale") == ("env", "scale")


@pytest.mark.parametrize(
    ("tree", "name", "message"),
    [
        (Outer(), "gravty", "Inner-v0: has no number 'gravty'; did you mean 'gravity'?"),
        (Core(), "x", "Core: has no number 'x'; known names: friction, gravity"),
        (Core(), "", "Core: has no number ''; known names: friction, gravity"),
        (Core(), "ravity", "Core: has no number 'ravity'; did you mean 'gravity'?"),
        (
            Outer(),
            "env.core.gravty",
            "Inner-v0: has no number 'env.core.gravty'; did you mean 'env.core.gravity'",
        ),
        (Outer(), "env", "Inner-v0: has no number 'env'; known names: "),
        (Outer(), "size", "Inner-v0: 'size' is no number that may vary but a static field"),
        (Outer(), "spare", "Inner-v0: 'spare' is no number that may vary but a static field"),
    ],
)
def test_a_name_that_is_no_number_meets_a_sentence(tree, name, message):
    for find in (lambda: leaf_path(tree, name), lambda: set_leaves(tree, {name: 1.0})):
        with pytest.raises(ConfigError) as error:
            find()
        assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_numbers_are_set_in_a_copy():
    env = Outer()
    changed = set_leaves(env, {"gravity": 5.0, "conversion.friction": 0.7, "scale": 3.0})
    assert changed == Outer(
        env=Inner(core=Core(gravity=5.0), conversion=Conversion(friction=0.7)), scale=3.0
    )
    assert env == Outer() and set_leaves(env, {}) is env


def test_a_number_is_got_by_its_name():
    assert get_leaf(Outer(), "gravity") == 9.8 and get_leaf(Outer(), "core.friction") == 0.1
    with pytest.raises(ConfigError, match="has no number 'gravty'"):
        get_leaf(Outer(), "gravty")


@flax.struct.dataclass
class Foreign:
    speed: float = 2.0
    steps: int = flax.struct.field(pytree_node=False, default=5)


class Holder(Pytree):
    params: Foreign = Foreign()


def test_numbers_of_foreign_dataclasses_are_reached_too():
    assert leaf_path(Holder(), "speed") == ("params", "speed")
    assert set_leaves(Holder(), {"speed": 3.0}) == Holder(Foreign(speed=3.0))
    with pytest.raises(ConfigError, match="Holder: 'steps' is no number that may vary"):
        leaf_path(Holder(), "steps")


def test_the_owner_of_a_number_validates_it():
    with pytest.raises(ConfigError, match="gravity: must not be negative"):
        set_leaves(Outer(), {"gravity": -1.0})


def test_traced_numbers_may_be_set():
    def run(gravity, table):
        env = set_leaves(Outer(), {"gravity": gravity, "table": table})
        return env.env.core.gravity * env.scale + env.env.conversion.table.sum()

    values, tables = jnp.arange(3.0), jnp.ones((3, 2))
    assert jax.jit(jax.vmap(run))(values, tables).tolist() == [2.0, 3.0, 4.0]
    assert jax.grad(run)(1.0, tables[0]) == 1.0
