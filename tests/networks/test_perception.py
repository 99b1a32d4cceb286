"""Networks of blocks from the spaces alone: what is built, shared, remembered and refused."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.errors import ConfigError
from mazejax.networks import (
    ConcatModelBuilder,
    InferenceBlock,
    PerceptionActorCritic,
    PerceptionPolicy,
)
from mazejax.networks.blocks import ModuleBlock
from mazejax.networks.policy import STATISTICS
from mazejax.runners.config import from_config, to_config
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box, Discrete, MultiBinary

OBSERVATION = Dict(
    {
        "camera": Box(0, 255, (8, 8, 1), "uint8"),
        "kind": Discrete(3),
        "speed": Box(-1.0, 1.0, (2,)),
        "action_mask": Box(False, True, (4,), "bool"),
    }
)
ACTION = Discrete(4)
MODULE = nn.Dense(2)
SMALL = {"block": "DenseBlock", "hidden": [8]}
IMAGE = {"block": "VGGConvolutionDenseBlock", "conv_hidden": [2], "hidden": [4]}
BUILDER = ConcatModelBuilder(modalities={"image": IMAGE}, hidden=SMALL)


def sample(batch=(3,)):
    keys = jax.random.split(jax.random.key(1), int(np.prod(batch)))
    flat = jax.vmap(OBSERVATION.sample)(keys)
    return jax.tree.map(lambda x: x.reshape(*batch, *x.shape[1:]), flat)


def applied(template, obs):
    network = template.build(OBSERVATION, ACTION)
    variables = jax.jit(network.init)(random.key(0))
    output, _ = jax.jit(network.apply)(variables, obs)
    return network, variables, output


def test_observations_pass_the_block_of_their_modality_and_are_joined():
    graph = BUILDER.build(OBSERVATION, ACTION)
    assert [name for name, _ in graph.computed] == ["camera", "join", "hidden"]
    shapes = graph.shapes({"camera": (8, 8, 1), "kind": (3,), "speed": (2,), "action_mask": (4,)})
    assert shapes["camera_image"].shape == (4,)
    assert shapes["joined"].shape == (4 + 3 + 2,) and shapes["latent"].shape == (8,)


def test_what_is_set_changes_the_default_and_the_block_none_is_none():
    wider = ConcatModelBuilder({"image": {"hidden": [5]}}, hidden={"hidden": [3]})
    shapes = {"camera": (8, 8, 1), "kind": (3,), "speed": (2,), "action_mask": (4,)}
    found = wider.build(OBSERVATION, ACTION).shapes(shapes)
    assert found["camera_image"].shape == (5,) and found["latent"].shape == (3,)
    nothing = {"block": "none", "hidden": [64]}
    plain = ConcatModelBuilder({"image": nothing}, hidden=nothing).build(OBSERVATION, ACTION)
    assert plain.shapes(shapes)["latent"].shape == (8 * 8 + 3 + 2,)


def test_any_leading_axes_are_batch_and_the_mask_excludes():
    obs = sample((2, 3))
    network, variables, output = applied(PerceptionActorCritic(BUILDER), obs)
    assert output.value.shape == (2, 3) and output.distribution.logits.shape == (2, 3, 4)
    alone, _ = network.apply(variables, jax.tree.map(lambda x: x[1, 2], obs))
    np.testing.assert_allclose(alone.value, output.value[1, 2], rtol=1e-4, atol=1e-5)
    masked = np.asarray(obs["action_mask"])
    probabilities = np.asarray(jax.nn.softmax(output.distribution.logits))
    some = masked.any(-1, keepdims=True)
    assert np.all(probabilities[some & ~masked] == 0.0)


def test_first_actions_are_nearly_even_whatever_the_observation():
    obs = {**sample((50,)), "action_mask": jnp.ones((50, 4), bool)}
    _, _, output = applied(PerceptionActorCritic(BUILDER), obs)
    assert np.ptp(jax.nn.softmax(output.distribution.logits)) < 0.02


def names(variables, part):
    return {*variables["params"][part]}


def test_policy_and_critic_share_nothing_unless_told():
    _, variables, _ = applied(PerceptionActorCritic(BUILDER), sample())
    assert names(variables, "policy") == {"camera", "hidden", "policy"}
    assert names(variables, "critic") == {"camera", "hidden", "value"}


@pytest.mark.parametrize(
    "shared, of_critic",
    [("latent", {"value"}), (["camera_image"], {"hidden", "value"})],
)
def test_the_critic_takes_the_embeddings_that_are_shared(shared, of_critic):
    template = PerceptionActorCritic(BUILDER, shared_embedding_keys=shared)
    network, variables, _ = applied(template, sample())
    assert names(variables, "policy") == {"camera", "hidden", "policy"}
    assert names(variables, "critic") == of_critic

    def value(variables):
        return network.apply(variables, sample())[0].value.sum()

    gradient = jax.grad(value)(variables)["params"]["policy"]["camera"]
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("shared", [(), ("latent",), ("camera_image",)])
def test_steps_one_by_one_are_the_sequence_with_a_memory(shared):
    template = PerceptionActorCritic(
        BUILDER, recurrence="gru", memory_size=5, shared_embedding_keys=shared
    )
    network = template.build(OBSERVATION, ACTION)
    variables = jax.jit(network.init)(random.key(0))
    obs, begins = sample((4, 3)), jnp.zeros((4, 3), bool).at[2, 1].set(True)
    fresh = network.initial_carry((3,))
    whole, last = jax.jit(network.unroll)(variables, obs, fresh, begins)
    carry = fresh
    for t in range(4):
        carry = jax.tree.map(
            lambda now, new, t=t: jnp.where(begins[t][:, None], new, now), carry, fresh
        )
        now = jax.tree.map(lambda x, t=t: x[t], obs)
        output, carry = jax.jit(network.apply)(variables, now, carry)
        np.testing.assert_allclose(output.value, whole.value[t], rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), carry, last)


def test_a_policy_alone_has_no_critic_and_no_value():
    _, variables, output = applied(PerceptionPolicy(BUILDER), sample())
    assert {*variables["params"]} == {"policy"}
    np.testing.assert_array_equal(output.value, 0.0)


def test_bits_begin_with_the_probability_that_is_asked_for():
    action = Dict({"on": MultiBinary(3), "gear": Discrete(2)})
    template = PerceptionActorCritic(BUILDER, probabilities={"on": 0.9}, kernel_scale=1e-4)
    network = template.build(OBSERVATION["speed"], action)
    output, _ = network.apply(network.init(random.key(0)), jnp.ones((5, 2)))
    parts = output.distribution.parts
    np.testing.assert_allclose(jax.nn.sigmoid(parts["on"].logits), 0.9, atol=1e-3)
    np.testing.assert_allclose(jax.nn.softmax(parts["gear"].logits), 0.5, atol=1e-3)


def test_statistics_normalize_what_the_blocks_take():
    network = PerceptionActorCritic(BUILDER).build(OBSERVATION, ACTION)
    network = network.replace(normalize_obs=True)
    variables = network.init(random.key(0))
    obs = sample((64,))
    grown = network.add_observations(variables, obs)
    assert float(grown[STATISTICS]["camera"].count) == 64
    before, after = (network.apply(v, obs)[0].value for v in (variables, grown))
    assert np.isfinite(after).all() and not np.allclose(before, after)


@pytest.mark.parametrize(
    "template",
    [
        PerceptionActorCritic(),
        PerceptionActorCritic(
            ConcatModelBuilder(
                {"image": IMAGE}, {"camera": "image", "kind": "none"}, {"block": "none"}
            ),
            recurrence="lstm",
            memory_size=np.int64(3),
            shared_embedding_keys=["camera_image"],
            distributions=[("Box", "beta")],
        ),
        PerceptionPolicy(BUILDER, probabilities={"on": 0.25}),
        PerceptionPolicy(
            ConcatModelBuilder(hidden={"block": "FunctionalBlock", "function": jnp.tanh})
        ),
    ],
)
def test_a_template_survives_its_configuration(template):
    data = json.loads(json.dumps(to_config(template)))
    name = data.pop("template")
    again = from_config(type(template), data)
    assert again == template and hash(again) == hash(template)
    assert name in ("perception", "perception_policy")


MODALITIES = "modalities.image: "


def named(name):
    space = Dict({name: Box(-1.0, 1.0, (2,)), "speed": Box(-1.0, 1.0, (2,))})
    return PerceptionActorCritic(BUILDER).build(space, ACTION)


@pytest.mark.parametrize("name", ["hidden_", "policy", "join", "speed/x", "speed_x"])
def test_observations_may_be_called_what_blocks_are_called(name):
    named(name).init(random.key(0))


def test_images_that_convolutions_leave_nothing_of_are_features():
    network = PerceptionActorCritic().build(Box(0.0, 1.0, (3, 5, 5)), ACTION)
    assert "observation_flat" in dict(network.module.policy.blocks)


def test_equal_graphs_have_equal_weights_whoever_made_their_blocks():
    graph = BUILDER.build(OBSERVATION, ACTION)
    one = InferenceBlock(graph.in_keys, "latent", dict(graph.blocks))
    shared = ModuleBlock("latent", "a", MODULE), ModuleBlock("latent", "b", MODULE)
    own = ModuleBlock("latent", "a", nn.Dense(2)), ModuleBlock("latent", "b", nn.Dense(2))
    graphs = [
        InferenceBlock("latent", ("a", "b"), {"a": pair[0], "b": pair[1]}) for pair in (shared, own)
    ]
    assert one == graph and graphs[0] == graphs[1]
    inputs = {"latent": jnp.ones(3)}
    weights = [jax.eval_shape(g.init, random.key(0), inputs) for g in graphs]
    assert weights[0] == weights[1] and len(jax.tree.leaves(weights[0])) == 4


@pytest.mark.parametrize(
    "make, said",
    [
        (
            lambda: ConcatModelBuilder({"image": {"blok": 1}}).build(OBSERVATION, ACTION),
            MODALITIES + "blok: unknown key",
        ),
        (
            lambda: ConcatModelBuilder({"image": {"block": "DenseBlok"}}),
            MODALITIES + "unknown block 'DenseBlok'; did you mean 'DenseBlock'",
        ),
        (
            lambda: ConcatModelBuilder({"image": {"block": "DenseBlock", "hiden": [3]}}),
            MODALITIES + "hiden: unknown key; did you mean 'hidden'",
        ),
        (
            lambda: ConcatModelBuilder({"image": {"block": "DenseBlock", "hidden": [0]}}),
            MODALITIES + "DenseBlock.hidden: must be positive",
        ),
        (lambda: ConcatModelBuilder(hidden=3), "hidden: expected keys and values, got 3"),
        (
            lambda: ConcatModelBuilder(observation_modalities={"x": "imagee"}),
            "observation_modalities.x: unknown 'imagee'; did you mean 'image'",
        ),
        (
            lambda: ConcatModelBuilder(observation_modalities={"camra": "image"}).build(
                OBSERVATION, ACTION
            ),
            "observation_modalities.camra: no such observation; did you mean 'camera'",
        ),
        (
            lambda: ConcatModelBuilder(
                observation_modalities=dict.fromkeys(("camera", "kind", "speed"), "none")
            ).build(OBSERVATION, ACTION),
            "leave no observation",
        ),
        (
            lambda: ConcatModelBuilder({"image": {"block": "StridedConvolutionDenseBlock"}}).build(
                OBSERVATION, ACTION
            ),
            MODALITIES + "block 'camera'",
        ),
        (lambda: PerceptionActorCritic(recurrence="gruu"), "did you mean 'gru'"),
        (lambda: PerceptionActorCritic({"hidden": {}}), "builder: expected a ConcatModelBuilder"),
        (lambda: PerceptionActorCritic(probabilities=0.9), "probabilities: expected them by name"),
        (lambda: PerceptionActorCritic(shared_embedding_keys=(1,)), "shared_embedding_keys: expec"),
        (lambda: named("latent"), "observation 'latent': a block gives this key already"),
        (lambda: named("value"), "observation 'value': a head gives this key already"),
        (lambda: PerceptionActorCritic(probabilities={"on": 2}), "probabilities.on: must be"),
        (
            lambda: PerceptionActorCritic(probabilities={"on": 0.5}).build(OBSERVATION, ACTION),
            "probabilities.on: no MultiBinary action",
        ),
        (
            lambda: PerceptionActorCritic(BUILDER, shared_embedding_keys="latnt").build(
                OBSERVATION, ACTION
            ),
            "shared_embedding_keys: no block gives 'latnt'; did you mean 'latent'",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_with_its_key(make, said):
    with pytest.raises(ConfigError, match=said):
        make()
