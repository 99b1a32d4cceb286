"""Observations by key: layouts, one-hot vectors, scaling, masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.errors import ConfigError
from mazejax.networks.observations import arrays_by_key, input_shapes
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box, Discrete, MultiBinary, MultiDiscrete

ACTION = Dict({"gear": Discrete(2), "steer": Box(-1.0, 1.0, (1,))})
SPACE = Dict(
    {
        "camera": Box(0, 255, (4, 5, 3), "uint8"),
        "counts": Box(-3, 9, (2,), "int32"),
        "gear_mask": Box(False, True, (2,), "bool"),
        "inner": Dict({"kind": Discrete(3, start=5), "levels": MultiDiscrete([2, 3])}),
        "lights": MultiBinary(4),
        "seen": Box(False, True, (3,), "bool"),
        "speed": Box(-np.inf, np.inf, ()),
    }
)


@pytest.fixture(scope="module")
def obs():
    return jax.vmap(SPACE.sample)(jax.random.split(jax.random.key(0), 6))


def test_every_array_keeps_its_layout(obs):
    arrays = arrays_by_key(SPACE, ACTION, obs)
    assert {key: (x.shape, x.dtype.name) for key, x in arrays.items()} == {
        "camera": ((6, 4, 5, 3), "float32"),
        "counts": ((6, 2), "float32"),
        "gear_mask": ((6, 2), "bool"),
        "inner/kind": ((6, 3), "float32"),
        "inner/levels": ((6, 5), "float32"),
        "lights": ((6, 4), "float32"),
        "seen": ((6, 3), "float32"),
        "speed": ((6,), "float32"),
    }
    shapes = input_shapes(SPACE, ACTION)
    assert {k: (s.shape, s.dtype) for k, s in shapes.items()} == {
        k: (x.shape[1:], x.dtype) for k, x in arrays.items()
    }


def test_bytes_are_scaled_and_other_numbers_are_as_they_were(obs):
    arrays = arrays_by_key(SPACE, ACTION, obs)
    np.testing.assert_allclose(arrays["camera"], np.asarray(obs["camera"]) / 255.0, rtol=1e-6)
    np.testing.assert_array_equal(arrays["counts"], np.asarray(obs["counts"], np.float32))
    np.testing.assert_array_equal(arrays["speed"], obs["speed"])


def test_categories_are_one_hot(obs):
    arrays = arrays_by_key(SPACE, ACTION, obs)
    np.testing.assert_array_equal(jnp.argmax(arrays["inner/kind"], -1) + 5, obs["inner"]["kind"])
    np.testing.assert_array_equal(arrays["inner/levels"].sum(-1), 2.0)


def test_bounds_of_every_pixel_are_scaled_by_themselves():
    low, high = np.array([0, 10, 7], "uint8"), np.array([255, 20, 7], "uint8")
    space = Box(low, high, dtype="uint8")
    scaled = arrays_by_key(space, Discrete(2), jnp.array([[255, 15, 7]], jnp.uint8))
    np.testing.assert_allclose(scaled["observation"], [[1.0, 0.5, 0.0]])


@pytest.mark.parametrize("of_type", ["uint8", "int16", "int32", "uint32"])
def test_bytes_are_scaled_whatever_whole_numbers_they_come_as(of_type):
    scaled = arrays_by_key(Box(0, 255, (2,), "uint8"), Discrete(2), jnp.array([51, 255], of_type))
    np.testing.assert_allclose(scaled["observation"], [0.2, 1.0], rtol=1e-6)


@pytest.mark.parametrize(
    "space, named",
    [
        (Dict({"a": Dict({"b": Discrete(2)}), "a/b": Discrete(3)}), "'a' and under 'a/b'"),
        (
            Dict({"o": Dict({"a": Dict({"b": Discrete(2)}), "a/b": Discrete(3)})}),
            "'o/a' and under 'o/a/b'",
        ),
    ],
)
def test_two_observations_of_one_key_are_refused(space, named):
    with pytest.raises(ConfigError, match=f"what stands under {named} would both have this key"):
        input_shapes(space, Discrete(2))


def test_what_was_normalized_is_not_scaled_again():
    space = Box(0, 255, (2,), "uint8")
    normalized = jnp.array([-1.5, 2.0])
    np.testing.assert_array_equal(
        arrays_by_key(space, Discrete(2), normalized)["observation"], normalized
    )
