"""Pre-processors make the numbers, the shapes and the names that they promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import make, random
from mazejax.envs.check import check_env
from mazejax.envs.probe import ExpensiveReset
from mazejax.errors import ConfigError
from mazejax.runners.config import from_config, to_config
from mazejax.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from mazejax.wrappers.pre_processors import (
    Flatten,
    OneHot,
    PreProcessor,
    ResizeImage,
    RGBToGray,
    Transpose,
    Unsqueeze,
)
from mazejax.wrappers.preprocessing import PreProcessed, PreProcessing, pre_processors
from tests.wrappers.relay import RELAY, observed, recorded, row

FLAT = ExpensiveReset(iterations=2, longest=4)
RNG = np.random.default_rng(0)


def made(pre_processor, x, space):
    """What is made of an observation, which must lie in the space that is declared."""
    fitted = pre_processor.fitted(space)
    result = np.asarray(jax.jit(fitted.process)(jnp.asarray(x)))
    fitted.space(space).validate(result)
    assert fitted.space(space).shape == result.shape
    assert fitted.space(space).dtype == result.dtype
    return result


# --- shapes -------------------------------------------------------------------------------


@pytest.mark.parametrize(("dims", "shape"), [(1, (2, 3, 4)), (2, (2, 12)), (3, (24,))])
def test_the_last_axes_become_one(dims, shape):
    high = np.arange(1.0, 25.0).reshape(2, 3, 4)
    x, space = RNG.uniform(0, high).astype(np.float32), Box(0.0, high)
    np.testing.assert_array_equal(made(Flatten(dims), x, space), x.reshape(shape))
    assert Flatten(dims).space(space) == Box(0.0, high.reshape(shape))


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -2, -3])
def test_the_new_axis_stands_where_it_is_said_to_be(dim):
    x = RNG.integers(0, 9, (2, 3)).astype(np.int32)
    space = Box(0, 9, (2, 3), np.int32)
    result = made(Unsqueeze(dim), x, space)
    assert result.shape[dim] == 1
    np.testing.assert_array_equal(result, np.expand_dims(x, dim))


def test_axes_change_their_order_and_so_do_bounds():
    high = np.arange(1.0, 25.0).reshape(2, 3, 4)
    x, space = RNG.uniform(0, high).astype(np.float32), Box(0.0, high)
    result = made(Transpose((2, 0, -2)), x, space)
    assert result.shape == (4, 2, 3)
    for i, j, k in np.ndindex(2, 3, 4):
        assert result[k, i, j] == x[i, j, k]
    assert Transpose((2, 0, 1)).space(space) == Box(0.0, high.transpose(2, 0, 1))


# --- categories ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "x", "num", "first"),
    [
        (Discrete(3), 2, 3, 0),
        (Discrete(3, start=5), 6, 3, 5),
        (MultiDiscrete([2, 4], start=[1, 0]), [2, 3], 4, 0),
        (MultiBinary(2), [0, 1], 2, 0),
        (Box(1, 4, (1,), np.int32), [4], 5, 0),
        (Box(-2, 1, (2,), np.int8), [-2, 1], 4, -2),
        (Box(0, 255, (2, 2), np.uint8), [[0, 255], [3, 4]], 256, 0),
    ],
)
def test_whole_numbers_become_vectors_with_a_single_one(space, x, num, first):
    x = np.asarray(x, space.dtype)
    result = made(OneHot(), x, space)
    wanted = np.zeros((*x.shape, num), np.float32)
    for index in np.ndindex(*x.shape):
        wanted[(*index, int(x[index]) - first)] = 1.0
    np.testing.assert_array_equal(result, wanted)
    assert OneHot().space(space) == Box(0.0, 1.0, wanted.shape)


def test_the_number_of_classes_may_be_said():
    space = Box(0.0, 100.0, (2,))
    np.testing.assert_array_equal(
        made(OneHot(num_classes=2), np.float32([1, 7]), space), [[0, 1], [0, 0]]
    )


# --- images -------------------------------------------------------------------------------


def resized(x, size):
    """Bilinear along the first axis, smoothed where it shrinks, by a loop."""
    scale = max(len(x) / size, 1.0)
    rows = []
    for i in range(size):
        centre = (i + 0.5) * len(x) / size - 0.5
        weights = np.array([max(0.0, 1 - abs(j - centre) / scale) for j in range(len(x))])
        rows.append(sum(w * row for w, row in zip(weights / weights.sum(), x, strict=True)))
    return np.stack(rows)


@pytest.mark.parametrize("target", [(2, 3), (4, 6), (7, 5), (8, 12)])
@pytest.mark.parametrize("transpose", [False, True])
def test_images_get_the_height_and_the_width_that_were_declared(target, transpose):
    x = RNG.uniform(-1, 1, (4, 6, 3)).astype(np.float32)
    wanted = resized(resized(x, target[0]).swapaxes(0, 1), target[1]).swapaxes(0, 1)
    if transpose:
        x, wanted = x.transpose(2, 0, 1), wanted.transpose(2, 0, 1)
    result = made(ResizeImage(target, transpose), x, Box(-1.0, 1.0, x.shape))
    assert result.shape == ((3, *target) if transpose else (*target, 3))
    np.testing.assert_allclose(result, wanted, atol=1e-5)


def test_bytes_stay_bytes_within_their_bounds():
    space = Box(0, 255, (6, 4), np.uint8)
    white = np.full((6, 4), 255, np.uint8)
    np.testing.assert_array_equal(made(ResizeImage((3, 5)), white, space), 255)
    x = RNG.integers(0, 256, (6, 4)).astype(np.uint8)
    result = made(ResizeImage((3, 4)), x, space)
    wanted = resized(x.astype(np.float64), 3)
    assert result.dtype == np.uint8
    np.testing.assert_allclose(result, wanted, atol=0.501)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_gray_is_as_bright_as_its_colors(axis, dtype):
    x = np.moveaxis(RNG.integers(0, 256, (4, 5, 3)).astype(dtype), -1, axis)
    x = np.where(np.moveaxis(np.arange(20).reshape(4, 5, 1) < 3, -1, axis), dtype(255), x)
    result = made(RGBToGray(axis), x, Box(0, 255, x.shape, dtype))
    colors = np.moveaxis(x, axis, -1).astype(np.float64)
    wanted = np.zeros((4, 5))
    for i, j in np.ndindex(4, 5):
        wanted[i, j] = 0.299 * colors[i, j, 0] + 0.587 * colors[i, j, 1] + 0.114 * colors[i, j, 2]
    assert result.dtype == dtype and result.shape == (4, 5)
    np.testing.assert_allclose(result, wanted, atol=0.501 if dtype == np.uint8 else 1e-3)


# --- one's own ----------------------------------------------------------------------------


class Scaled(PreProcessor):
    monotone = True
    factor: float = 0.5

    def process(self, x):
        return x.astype(jnp.float32) * self.factor


class Summed(PreProcessor):
    def process(self, x):
        return jnp.square(x).sum(-1)


class Liar(PreProcessor):
    def process(self, x):
        return x

    def space(self, space):
        return Box(0.0, 1.0, (7,))


def test_the_space_of_ones_own_follows_from_what_it_makes():
    space = Box([0, -4], [10, 8], dtype=np.int8)
    assert Scaled().space(space) == Box([0.0, -2.0], [5.0, 4.0])
    assert Scaled(-1.0).space(space) == Box([-10.0, -8.0], [0.0, 4.0])
    assert Scaled(0.0).space(Box(-np.inf, np.inf, (1,))) == Box(-np.inf, np.inf, (1,))
    assert Summed().space(Box(0.0, 1.0, (4, 2))) == Box(-np.inf, np.inf, (4,))
    integers = Summed().space(Box(0, 9, (4, 2), np.int32))
    assert integers == Box(-(2**31), 2**31 - 1, (4,), np.int32)


def test_the_space_is_known_while_a_program_is_traced():
    @jax.jit
    def shifted(x):
        return x + Scaled(0.25).space(Box(0.0, 8.0, (3,))).high

    np.testing.assert_array_equal(shifted(jnp.zeros(3)), 2.0)


def test_ones_own_object_is_named_after_its_class():
    env = PreProcessing(FLAT, [{"pre_processor": Scaled(2.0), "keep_original": True}])
    assert set(env.observation_space) == {"observation", "observation-scaled"}
    assert env == PreProcessing(FLAT, [{"pre_processor": Scaled(2.0), "keep_original": True}])
    assert env != PreProcessing(FLAT, [{"pre_processor": Scaled(3.0), "keep_original": True}])


def test_a_registered_one_is_used_by_name_and_stored_as_plain_data():
    pre_processors.register("halved", Scaled, replace=True)
    env = PreProcessing(FLAT, [{"pre_processor": "halved", "config": {"factor": 0.25}}])
    assert env == PreProcessing(FLAT, [{"pre_processor": Scaled(0.25)}])
    assert env.observation_space == Box(0.0, 0.25, (3,))
    assert to_config(env)["pre_processor_mapping"][0]["config"] == {"factor": 0.25}


# --- the wrapper --------------------------------------------------------------------------

CASCADE = [
    {"observation": "pixels", "pre_processor": "unsqueeze", "config": {"dim": -1}},
    {
        "observation": "pixels-unsqueeze",
        "pre_processor": "resize_image",
        "keep_original": True,
        "config": {"target_size": [4, 2]},
    },
    {
        "observation": "pixels-unsqueeze-resize_image",
        "pre_processor": "flatten",
        "config": {"num_flatten_dims": 3},
    },
    {"observation": "kind", "pre_processor": "one_hot"},
]


def test_steps_go_by_the_names_of_what_earlier_ones_made():
    env = PreProcessing(RELAY, CASCADE)
    look, run = (env.observation_spaces[key] for key in ("look", "run"))
    assert set(look) == {"signal", "kind-one_hot"}
    flat = "pixels-unsqueeze-resize_image-flatten"
    assert set(run) == {"signal", "action_mask", "pixels-unsqueeze", flat}
    assert run["pixels-unsqueeze"] == Box(0, 255, (2, 2, 1), np.uint8)
    assert run[flat] == Box(0, 255, (8,), np.uint8)


def test_actors_in_turn_and_at_once_see_what_is_made():
    env = PreProcessing(RELAY, CASCADE)
    for (actor, bare), (_, obs) in zip(observed(RELAY)[0], observed(env)[0], strict=True):
        np.testing.assert_array_equal(obs["signal"], bare["signal"])
        if actor.step_key == "look":
            np.testing.assert_array_equal(obs["kind-one_hot"], np.arange(3) == bare["kind"])
            continue
        np.testing.assert_array_equal(obs["pixels-unsqueeze"], bare["pixels"][..., None])
        for agent in range(2):
            pixels = bare["pixels"][agent].astype(np.float64)
            wanted = resized(pixels, 4).ravel()
            got = obs["pixels-unsqueeze-resize_image-flatten"][agent]
            np.testing.assert_allclose(got, wanted, atol=0.501)


def test_the_last_observation_of_an_episode_is_processed_too():
    env = PreProcessing(RELAY, CASCADE)
    bare, _, last = recorded(RELAY)
    obs, _, final_obs = recorded(env)
    np.testing.assert_array_equal(final_obs[2]["pixels-unsqueeze"], last[2]["pixels"][..., None])
    np.testing.assert_array_equal(obs[2]["pixels-unsqueeze"], bare[2]["pixels"][..., None])


def test_recorded_states_are_processed_like_live_ones():
    env = PreProcessing(RELAY, CASCADE)
    for i, ((_, obs), state) in enumerate(zip(*observed(env), strict=True)):
        again = env.from_maze_state(env.maze_state(state), i // 3, i % 3)
        jax.tree.map(np.testing.assert_array_equal, env.observe(again), obs)
        if i == 2:
            return


def test_a_plain_observation_stays_plain_unless_it_is_kept_beside():
    steps = [
        {"pre_processor": "unsqueeze", "config": {"dim": 0}},
        {"observation": "observation-unsqueeze", "pre_processor": "transpose",
         "config": {"axes": [1, 0]}},
    ]  # fmt: skip
    assert PreProcessing(FLAT, steps).observation_space == Box(0.0, 1.0, (3, 1))
    steps[0]["keep_original"] = True
    env = PreProcessing(FLAT, steps)
    assert env.observation_space == Dict(
        {
            "observation": Box(0.0, 1.0, (3,)),
            "observation-unsqueeze-transpose": Box(0.0, 1.0, (3, 1)),
        }
    )
    np.testing.assert_array_equal(
        row(observed(env)[0][1][1], ...)["observation-unsqueeze-transpose"][:, 0],
        observed(FLAT)[0][1][1],
    )


def test_numbers_of_the_env_may_be_vmapped():
    def first(bound):
        env = PreProcessing(
            make("Acrobot-v1", reset_bound=bound),
            [{"pre_processor": "unsqueeze", "config": {"dim": 0}}],
        )
        return env.reset(random.key(0))[0]

    obs = jax.jit(jax.vmap(first))(jnp.array([0.1, 0.2]))
    assert obs.shape == (2, 1, 6)
    np.testing.assert_allclose(obs[1, 0, 4:], 2 * obs[0, 0, 4:], rtol=1e-6)


def test_the_contract_of_envs_is_kept():
    check_env(PreProcessing(FLAT, [{"pre_processor": Scaled()}]), num_steps=20, num_envs=3)


# --- configuration ------------------------------------------------------------------------


def test_names_and_objects_are_the_same_settings():
    env = PreProcessing(RELAY, CASCADE)
    objects = [Unsqueeze(-1), ResizeImage((4, 2)), Flatten(3), OneHot()]
    same = PreProcessing(
        RELAY,
        [
            PreProcessed(entry["observation"], given, entry.get("keep_original", False))
            for entry, given in zip(CASCADE, objects, strict=True)
        ],
    )
    assert env == same and hash(env) == hash(same)
    config = to_config(env)
    assert config["pre_processor_mapping"][1] == {
        "observation": "pixels-unsqueeze",
        "pre_processor": "resize_image",
        "keep_original": True,
        "config": {"target_size": [4, 2]},
    }
    assert from_config(PreProcessing, config, env=RELAY) == env


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"pre_processor": "flaten"}, r"\[0\]: unknown pre-processor 'flaten'; .* 'flatten'"),
        ({}, r"\[0\]: pre-processor: got None, expected a name"),
        ({"observation": "pixel", "pre_processor": "one_hot"}, r"no observation 'pixel'; did you"),
        ({"pre_processor": "flatten"}, r"config.num_flatten_dims: missing; Flatten needs it"),
        (
            {"pre_processor": "flatten", "config": {"dims": 1}},
            r"config.dims: unknown key; .*num_flatten_dims",
        ),
        (
            {"pre_processor": "flatten", "config": {"num_flatten_dims": 3}},
            r"config.num_flatten_dims: got 3, expected 1 to 2",
        ),
        ({"pre_processor": Flatten(1), "config": {"num_flatten_dims": 1}}, r"has its fields"),
        ({"pre_processor": "unsqueeze", "config": {"dim": 3}}, r"config.dim: got 3, .* -3 to 2"),
        ({"pre_processor": "transpose", "config": {"axes": [0, 0]}}, r"each axis of the shape"),
        ({"pre_processor": "rgb_to_gray"}, r"config.rgb_dim: got -1 .* three colors"),
        (
            {"pre_processor": "resize_image", "config": {"target_size": [0, 2]}},
            r"config.target_size: expected height and width",
        ),
        ({"pre_processor": Liar()}, r"Liar makes .* but says that it is in"),
        (
            {"observation": "signal", "pre_processor": "one_hot"},
            r"config.num_classes: an observation of float32 has no classes",
        ),
    ],
)
def test_wrong_settings_are_errors_that_say_what_to_do(entry, message):
    entry = {"observation": "pixels", **entry}
    with pytest.raises(ConfigError, match=message):
        PreProcessing(RELAY, [entry])


def test_two_observations_of_one_name_are_refused():
    step = {"pre_processor": "one_hot", "observation": "kind", "keep_original": True}
    with pytest.raises(ConfigError, match=r"there is an observation 'kind-one_hot' already"):
        PreProcessing(RELAY, [step, step])


def test_what_is_gone_is_not_known_any_more():
    step = {"pre_processor": "one_hot", "observation": "kind"}
    with pytest.raises(ConfigError, match=r"\[1\].observation: no observation 'kind'"):
        PreProcessing(RELAY, [step, step])
