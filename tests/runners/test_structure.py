"""Tests of mazejax.runners.structure."""

import dataclasses
import enum
import functools
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.base import Pytree, static
from mazejax.errors import ConfigError
from mazejax.runners.structure import canonical, describe, first_difference
from mazejax.types import Array


class Color(enum.Enum):
    RED = 1


class Inner(Pytree):
    value: Array
    size: int = static(default=3)


class Outer(Pytree):
    inner: Inner
    activation: object = static(default=jax.nn.relu)


class Opaque:
    def __init__(self, rate):
        self.rate = rate

    def method(self):
        return self.rate


def outer(value=0.0, size=3, activation=jax.nn.relu):
    return Outer(Inner(jnp.float32(value), size), activation)


def test_leaves_are_listed_with_path_shape_dtype_and_key_implementation():
    tree = {"a": [jnp.zeros((2, 3), jnp.bfloat16), 1.5], "k": jax.random.split(random.key(0), 4)}
    leaves = [tuple(leaf) for leaf in describe(tree).leaves]
    assert leaves == [
        ("['a'][0]", (2, 3), "bfloat16", None),
        ("['a'][1]", (), "float64", None),
        ("['k']", (4, 2), "uint32", "counter"),
    ]
    assert [leaf.nbytes for leaf in describe(tree).leaves] == [12, 8, 32]


def test_a_tree_of_shapes_has_the_structure_of_the_tree_of_arrays():
    def make():
        return {"o": outer(), "k": random.key(3), "t": jax.random.key(0), "n": None}

    assert describe(jax.eval_shape(make)) == describe(jax.jit(make)())
    assert describe(make()).fingerprint == describe(jax.eval_shape(make)).fingerprint


def test_numbers_do_not_change_the_fingerprint_but_static_fields_and_classes_do():
    base = describe(outer())
    assert describe(outer(value=7.0)).fingerprint == base.fingerprint
    for other in (
        outer(size=4),
        outer(activation=jax.nn.silu),
        (outer(),),
        [outer()],
        outer().inner,
    ):
        assert describe(other).fingerprint != base.fingerprint


@pytest.mark.parametrize(
    ("saved", "wanted", "sentence"),
    [
        ({"a": np.ones(2)}, {"b": np.ones(2)}, "leaf ['a']: got one, the template has none"),
        ({}, {"b": np.ones(2)}, "leaf ['b']: got none, the template has one"),
        (np.ones(2), np.ones(3), "leaf (root): got shape (2,), wanted (3,)"),
        (np.ones(2), np.ones(2, np.float32), "got dtype float64, wanted float32"),
        (jax.random.key(0), random.key(0), "got key implementation threefry2x32, wanted counter"),
        (random.key(0), np.zeros(2, np.uint32), "got key implementation counter, wanted None"),
        (outer(), outer(size=5), "static field .inner.size: got 3, wanted 5"),
        (
            outer(),
            outer(activation=jax.nn.silu),
            "static field .activation: got jax:relu, wanted jax:silu",
        ),
        ([1.0], (1.0,), "static node (root): got list, wanted tuple"),
        ({"a": ()}, {"a": []}, "static node ['a']: got tuple, wanted list"),
        ({"a": None}, {}, "static "),
    ],
)
def test_the_first_difference_is_named_with_both_sides(saved, wanted, sentence):
    assert sentence in first_difference(describe(saved), describe(wanted))
    assert first_difference(describe(saved), describe(saved)) is None


@pytest.mark.parametrize("leaf", ["text", object(), np.array(["x"]), np.array([None]), 2**70])
def test_leaves_that_are_no_numbers_are_config_errors(leaf):
    with pytest.raises(ConfigError, match=r"leaf \['x'\]: got .* expected numbers or keys"):
        describe({"x": leaf})


def test_canonical_text_distinguishes_values_and_types():
    values = [None, True, 1, 1.0, "1", b"1", (1,), [1], {1}, {1: 1}, Color.RED, int, np.float32(1)]
    values += [np.ones(1), np.zeros(1), np.ones(1, np.float32), np.dtype("int8"), len, Opaque(1)]
    values += [Opaque(2), Opaque(1).method, Opaque(2).method, range(3), slice(1, 2), jax.nn.relu]
    values += [functools.partial(max, 1), functools.partial(max, 2), outer(), outer(size=4)]
    texts = [canonical(value) for value in values]
    assert len(set(texts)) == len(texts)
    assert not any("0x" in text for text in texts)


def test_canonical_text_ends_for_cycles_and_is_short_for_long_values():
    cycle = Opaque(1)
    cycle.rate = [cycle]
    assert "<cycle>" in canonical(cycle)
    long, longer = canonical("x" * 10_000), canonical("x" * 10_001)
    assert len(long) < 1000 and long != longer


@dataclasses.dataclass(frozen=True)
class Config:
    names: frozenset = frozenset({"a", "b", "c", "d", "e", "f", "g"})
    function: object = test_canonical_text_ends_for_cycles_and_is_short_for_long_values
    closure: object = (lambda rate: lambda x: x * rate)(0.1)
    nothing: object = dataclasses.field(default_factory=object)


def test_canonical_text_is_the_same_in_processes_with_other_addresses_and_hash_seeds():
    root = pathlib.Path(__file__).parents[2]
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location({__name__!r}, {__file__!r})\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "print(module.canonical(module.Config()))"
    )
    env = {**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": "123"}
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60
    )
    assert child.stdout.strip() == canonical(Config()), child.stderr


def test_classes_of_a_script_go_by_the_name_under_which_others_import_it(tmp_path):
    script = tmp_path / "my_run.py"
    script.write_text(
        "from mazejax.runners.structure import canonical\n"
        "class Mine: pass\n"
        "if __name__ == '__main__': print(canonical(Mine))\n"
    )
    root = pathlib.Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": str(root)}
    child = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=env, timeout=60
    )
    assert child.stdout.strip() == "my_run:Mine", child.stderr
