"""Networks of one's own: how they are read, joined, written to files and refused."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.errors import ConfigError
from mazejax.networks import CustomActorCritic, InferenceBlock
from mazejax.networks.blocks import DenseBlock, FunctionalBlock, LinearOutputBlock, ModuleBlock
from mazejax.runners.config import from_config, to_config
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box, Discrete
from tests.networks import own_networks as own

OBSERVATION, ACTION = Box(-1.0, 1.0, (3,)), Discrete(2)
OBS = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)


def applied(template, action_space=ACTION):
    network = template.build(OBSERVATION, action_space)
    variables = network.init(random.key(0))
    output, _ = network.apply(variables, OBS, network.initial_carry((5,)))
    return variables, output


def test_logits_and_values_are_what_the_modules_give():
    variables, output = applied(CustomActorCritic(own.Policy(), own.Critic()))
    given = own.Policy().apply({"params": variables["params"]["policy"]}, {"observation": OBS})
    np.testing.assert_allclose(output.distribution.logits, given["action"], rtol=1e-6)
    inputs = {"observation": OBS, "embedding": given["embedding"]}
    value = own.Critic().apply({"params": variables["params"]["critic"]}, inputs)["value"]
    np.testing.assert_allclose(output.value, value[:, 0], rtol=1e-6)


def test_the_same_module_twice_has_two_sets_of_weights():
    both = own.Remembering()
    variables, _ = applied(CustomActorCritic(both, both))
    policy, critic = (variables["params"][part] for part in ("policy", "critic"))
    assert not np.allclose(policy["value"]["kernel"], critic["value"]["kernel"])


def test_a_policy_may_judge_itself_and_remember():
    network = CustomActorCritic(own.Remembering()).build(OBSERVATION, ACTION)
    assert network.is_recurrent
    _, output = applied(CustomActorCritic(own.Remembering()))
    assert output.value.shape == (5,) and np.any(np.asarray(output.value) != 0)


def test_a_policy_without_values_has_the_value_0():
    _, output = applied(CustomActorCritic(own.Policy()))
    np.testing.assert_array_equal(output.value, 0.0)


def test_a_function_makes_the_module_for_the_spaces():
    variables, _ = applied(CustomActorCritic(own.Policy(), own.make_critic))
    assert variables["params"]["critic"]["torso"]["dense_0"]["kernel"].shape == (3, 3)


def test_step_keys_have_modules_of_their_own():
    template = CustomActorCritic({"a": own.Policy(4), "b": own.Policy(6)}, own.Critic())
    for key, width in (("a", 4), ("b", 6)):
        network = template.of_step_key(key).build(OBSERVATION, ACTION)
        params = jax.eval_shape(network.init, random.key(0))["params"]
        assert params["policy"]["torso"]["kernel"].shape == (3, width)


def test_a_template_survives_its_configuration():
    template = CustomActorCritic(
        policies={"a": own.Policy(4), "b": own.Remembering()},
        critics={"a": own.make_critic, "b": None},
    )
    data = json.loads(json.dumps(to_config(template)))
    assert data.pop("template") == "custom"
    assert data["policies"]["a"] == {"class": "tests.networks.own_networks:Policy", "width": 4}
    assert data["critics"]["a"] == {"function": "tests.networks.own_networks:make_critic"}
    again = from_config(CustomActorCritic, data)
    assert again == template and hash(again) == hash(template)


@pytest.mark.parametrize(
    "policy",
    [
        ModuleBlock("observation", "logits", nn.Dense(2)),
        ModuleBlock("observation", "action", own.Plain(2, jnp.tanh)),
        InferenceBlock(
            "observation",
            "logits",
            {
                "tanh": FunctionalBlock("observation", "bent", jnp.tanh),
                "head": LinearOutputBlock("bent", "logits", 2),
            },
        ),
    ],
    ids=["module", "function in a field", "graph"],
)
def test_blocks_around_modules_and_functions_survive_too(policy):
    template = CustomActorCritic(policy)
    data = json.loads(json.dumps(to_config(template)))
    del data["template"]
    again = from_config(CustomActorCritic, data)
    assert again == template
    shapes = [
        jax.eval_shape(t.build(OBSERVATION, ACTION).init, random.key(0)) for t in (template, again)
    ]
    assert jax.tree.map(lambda s: s.shape, shapes[0]) == jax.tree.map(lambda s: s.shape, shapes[1])


@pytest.mark.parametrize(
    "settings",
    [
        {
            "class": "flax.nnx.bridge:ToLinen",
            "nnx_class": {"function": "os:system"},
            "args": ["true"],
            "kwargs": {},
        },
        {"class": "flax.nnx.bridge.wrappers:ToLinen", "nnx_class": "x"},
        {"class": "subprocess:Popen", "args": ["true"]},
        {"function": "os:system"},
        {"function": "jax._src.util:os.system"},
        {"function": f"{own.__name__}:unmarked"},
    ],
    ids=lambda settings: str(next(iter(settings.values()))),
)
def test_a_file_calls_nothing_but_linen_modules_and_what_is_marked(settings):
    with pytest.raises(ConfigError, match=r"is no class of linen|is no function of|cannot import"):
        CustomActorCritic(settings)


def test_what_nobody_can_import_is_not_written():
    class Local(own.Policy):
        pass

    with pytest.raises(ConfigError, match=r"<locals>.Local cannot be imported from anywhere"):
        to_config(CustomActorCritic(Local()))


MODULE = "tests.networks.own_networks:"


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: CustomActorCritic(), "policies: give a linen module"),
        (lambda: CustomActorCritic(3), "policies: expected a linen module such as"),
        (lambda: CustomActorCritic({"a": 3}), "policies.a: expected a linen module"),
        (lambda: CustomActorCritic({"class": "nowhere:X"}), "policies: cannot import nowhere:X"),
        (lambda: CustomActorCritic({"class": "Policy"}), "policies: expected my_package"),
        (
            lambda: CustomActorCritic({"class": f"{MODULE}Policy", "wdth": 3}),
            "policies: cannot make tests.networks.own_networks:Policy: .*wdth",
        ),
        (
            lambda: CustomActorCritic(own.Policy),
            r"policies: expected a linen module such as Pointer\(32\)",
        ),
        (lambda: CustomActorCritic(own.unmarked), "policies: expected .* marked by"),
        (
            lambda: CustomActorCritic({"a": own.Policy()}).of_step_key("b"),
            "policies: no module for the step key 'b'",
        ),
        (
            lambda: applied(CustomActorCritic(own.Policy(), own.make_nothing)),
            "critics: .* made a NoneType",
        ),
        (
            lambda: applied(CustomActorCritic(DenseBlock("observation", "x", (2,)))),
            "policy: DenseBlock gives no 'logits', but 'x'; it needs one of shape",
        ),
        (
            lambda: applied(CustomActorCritic(own.Policy()), Discrete(3)),
            r"policy: 'action' has shape \(1, 2\), expected any batch axes and then \(3,\)",
        ),
        (
            lambda: applied(CustomActorCritic(own.Policy()), Dict({"gear": Discrete(2)})),
            "policy: Policy gives no 'gear/logits', but 'action', 'embedding'",
        ),
        (
            lambda: applied(CustomActorCritic(own.Policy(), own.Policy())),
            "critic: Policy gives no 'value', but 'action', 'embedding'",
        ),
    ],
)
def test_what_makes_no_network_is_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()
