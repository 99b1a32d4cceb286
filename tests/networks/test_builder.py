"""Graphs from spaces: images of any axes, names that meet, and modalities that nobody has."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.errors import ConfigError
from mazejax.networks import ConcatModelBuilder, PerceptionActorCritic
from mazejax.networks.observations import input_shapes
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box, Discrete

ACTION = Discrete(2)
SMALL = {"block": "DenseBlock", "hidden": [3]}
IMAGE = {"block": "VGGConvolutionDenseBlock", "conv_hidden": [2], "hidden": [3]}


def box(*shape):
    return Box(-1.0, 1.0, shape)


def built(space, **fields):
    return ConcatModelBuilder(hidden=SMALL, **fields).build(space, ACTION)


def blocks_of(graph):
    return {name: type(block).__name__ for name, block in graph.computed}


def images(shape, modality=IMAGE):
    return built(box(*shape), modalities={"image": modality}, observation_modalities=MAPPED)


MAPPED = {"observation": "image"}


@functools.cache
def reference():
    """Images [5, 6, 6, 1], weights of their graph, and what it makes of them."""
    x = jax.random.normal(random.key(0), (5, 6, 6, 1))
    graph = images((6, 6, 1))
    weights = graph.init(random.key(1), {"observation": x})
    return x, weights, jax.jit(graph.apply)(weights, {"observation": x})["latent"]


def test_an_image_without_channels_is_one_of_one_channel():
    x, weights, wanted = reference()
    graph = images((6, 6))
    assert [*blocks_of(graph)] == ["observation_channel", "observation", "hidden"]
    assert dict(graph.blocks)["observation"].out_keys == ("observation_image",)
    found = graph.apply(weights, {"observation": x[..., 0]})["latent"]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_frames_pass_the_convolutions_one_by_one():
    x, weights, _ = reference()
    graph = images((5, 6, 6, 1))
    shapes = graph.shapes({"observation": (5, 6, 6, 1)})
    assert shapes["observation_image"].shape == (5, 3)
    assert shapes["observation_image_flat"].shape == (15,)
    part = graph.init(random.key(1), {"observation": x})
    convolution = dict(graph.blocks)["observation"]
    own = {"params": weights["params"]["observation"]}
    assert jax.tree.map(jnp.shape, own["params"]) == jax.tree.map(
        jnp.shape, part["params"]["observation"]
    )
    stacked, alone = (
        convolution.apply(own, {"observation": frames})["observation_image"]
        for frames in (x, x[2:3])
    )
    np.testing.assert_allclose(stacked[2:3], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "shape, block",
    [
        ((44, 44), "StridedConvolutionDenseBlock"),
        ((2, 44, 50, 1), "StridedConvolutionDenseBlock"),
        ((9, 8), "VGGConvolutionDenseBlock"),
        ((44, 44, 8, 2), "VGGConvolutionDenseBlock"),
    ],
)
def test_the_default_convolutions_fit_the_size(shape, block):
    assert blocks_of(images(shape, {}))["observation"] == block


def test_without_a_mapping_only_three_axes_are_an_image():
    space = Dict({"frames": box(2, 8, 8, 1), "gray": box(8, 8), "image": box(8, 8, 1)})
    kinds = blocks_of(built(space, modalities={"image": IMAGE}))
    assert kinds["frames_flat"] == kinds["gray_flat"] == "FlattenBlock"
    assert "frames" not in kinds and "gray" not in kinds and "image" in kinds


def test_a_block_of_ones_own_takes_images_as_they_are():
    flat = images((6, 6), {"block": "FlattenDenseBlock", "num_flatten_dims": 2, "hidden": [3]})
    assert [*blocks_of(flat)] == ["observation", "hidden"]
    assert [*blocks_of(images((5,), SMALL))] == ["observation", "hidden"]


@pytest.mark.parametrize(
    "space, names",
    [
        ({"camera": box(6, 6, 1), "camera_image": box(3)}, {"camera"}),
        ({"x": box(2, 3), "x_flat": box(3)}, {"x_flat"}),
        ({"x": box(2, 3), "x_flat": box(3, 2)}, {"x_flat", "x_flat__flat"}),
        ({"a": Dict({"b": box(2, 3)}), "a_b": box(2, 3)}, {"a_b_flat", "a_b_flat_"}),
        ({"a": Dict({"b": box(6, 6, 1)}), "a_b": box(2, 3)}, {"a_b", "a_b__flat"}),
    ],
)
def test_observations_may_be_called_what_blocks_give(space, names):
    graph = built(Dict(space), modalities={"image": IMAGE})
    assert {*blocks_of(graph)} == {*names, "join", "hidden"}
    shapes = graph.shapes(input_shapes(Dict(space), ACTION))
    widths = [shapes[key].shape[0] for key in dict(graph.blocks)["join"].in_keys]
    assert len(widths) == 2 and shapes["joined"].shape == (sum(widths),)


def test_what_no_observation_of_the_policy_has_is_left_to_the_critic():
    builder = ConcatModelBuilder(
        {"deck": SMALL, "feature": SMALL}, {"deck": "deck", "hand": "feature"}, SMALL
    )
    left = builder.without(("deck",))
    assert {*left.modalities} == {"feature"} and {*left.observation_modalities} == {"hand"}
    space = Dict({"deck": box(4), "hand": box(2)})
    template = PerceptionActorCritic(builder, privileged_keys=("deck",))
    assert template.build(space, ACTION).num_parameters() > 0


@pytest.mark.parametrize("shape", [(), (2,)])
def test_a_vector_is_no_image(shape):
    said = r"observation_modalities.observation: an image has axes \[H, W, C\] or \[H, W\], got sh"
    for modality in ({}, {"hidden": [3]}):
        with pytest.raises(ConfigError, match=said):
            images(shape, modality)


@pytest.mark.parametrize(
    "modality, said",
    [
        ("imag", "did you mean 'image'"),
        ("featur", "did you mean 'feature'"),
        ("frames", "known names: feature, image"),
    ],
)
def test_a_modality_that_no_observation_has_is_refused(modality, said):
    message = f"modalities.{modality}: map an observation to it by observation_modalities; {said}"
    with pytest.raises(ConfigError, match=message):
        ConcatModelBuilder({modality: SMALL})


def test_keys_that_are_shared_twice_are_shared():
    space, builder = box(2), ConcatModelBuilder(hidden=SMALL)
    twice, once = (
        PerceptionActorCritic(builder, shared_embedding_keys=keys).build(space, ACTION)
        for keys in (("latent", "latent"), ("latent",))
    )
    assert twice.module == once.module
