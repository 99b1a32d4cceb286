"""Config nodes are the classes' own fields, and what they compose builds an equal object."""

import itertools
import random

import pytest

import mazejax
from mazejax import registry
from mazejax.conf import compose, nodes
from mazejax.errors import ConfigError
from mazejax.networks import ConcatModelBuilder, PerceptionActorCritic
from mazejax.runners.config import from_config, to_config
from mazejax.runners.settings import RunSettings

PPO = mazejax.PPO
ENV = mazejax.make("CartPole-v1")


def composed(*overrides):
    """What Hydra composes from the overrides."""
    found = []
    compose.run_with_config(["env=CartPole-v1", *overrides], lambda c: found.append(c) or 0)
    return found[0]


def test_without_overrides_the_classes_defaults_come_out():
    config = composed()
    assert from_config(PPO, config["algorithm"], env=ENV) == PPO(env=ENV)
    assert from_config(RunSettings, config["run"]) == RunSettings()


def test_overrides_reach_nested_fields_with_their_types():
    config = composed("algorithm.network.hidden=[32,16]", "algorithm.gamma=1", "seed=7")
    algorithm = from_config(PPO, config["algorithm"], env=ENV)
    assert algorithm.network.hidden == (32, 16)
    assert isinstance(algorithm.gamma, float)
    assert config["seed"] == 7


def test_env_parameters_are_free():
    assert composed("env_parameters.gravity=9.5")["env_parameters"] == {"gravity": 9.5}


def test_names_with_slashes_and_dashes_are_plain_values():
    assert composed("env=gymnax/Breakout-MinAtar")["env"] == "gymnax/Breakout-MinAtar"


def test_nodes_can_be_made_twice():
    nodes.store()
    nodes.store()
    assert nodes.node(PPO) is nodes.node(PPO)


def test_configuration_survives_a_round_trip():
    algorithm = PPO(env=ENV, num_envs=8, learning_rate=1e-4, value_clip=0.3)
    data = to_config(algorithm)
    assert "env" not in data
    again = from_config(PPO, data, env=ENV)
    assert again == algorithm
    assert hash(again) == hash(algorithm)


KEYS = sorted(nodes.known_keys("ppo") - {"env", "resume", "directory"})
VALUES = ["1", "0", "-1", "2.5", "nan", "fast", "null", "[]", "[3]", "true", "1e-3", "ppo", "''"]
PAIRS = random.Random(2026).sample(list(itertools.product(KEYS, VALUES)), 80)


@pytest.mark.parametrize(("key", "value"), PAIRS)
def test_any_override_is_accepted_and_round_trips_or_names_its_key(key, value):
    try:
        config = composed(f"{key}={value}")
        algorithm = from_config(PPO, config["algorithm"], "algorithm.", env=ENV)
        run_settings = from_config(RunSettings, config["run"], "run.")
    except ConfigError as error:
        assert str(error).startswith(key), error
    else:
        assert from_config(PPO, to_config(algorithm), env=ENV) == algorithm
        assert from_config(RunSettings, to_config(run_settings)) == run_settings


def test_the_template_of_networks_is_chosen_by_name():
    config = composed(
        "algorithm/network=perception",
        "algorithm.network.builder.hidden.hidden=[8]",
        "algorithm.network.builder.modalities.image.block=VGGConvolutionGAPBlock",
    )
    network = from_config(PPO, config["algorithm"], env=ENV).network
    image = {"image": {"block": "VGGConvolutionGAPBlock"}}
    assert network == PerceptionActorCritic(ConcatModelBuilder(image, hidden={"hidden": [8]}))


def test_settings_of_a_block_may_be_given_at_once():
    config = composed(
        "algorithm/network=perception",
        "algorithm.network.builder.hidden={block:LinearOutputBlock,features:16}",
        "algorithm.network.builder.observation_modalities={observation:feature}",
    )
    builder = from_config(PPO, config["algorithm"], env=ENV).network.builder
    assert builder.hidden == {"block": "LinearOutputBlock", "features": 16}
    assert builder.observation_modalities == {"observation": "feature"}


@pytest.mark.parametrize("value", ["latent", "[latent]", "'latent'"])
def test_a_single_text_will_do_for_a_list_of_texts(value):
    config = composed(
        "algorithm/network=perception", f"algorithm.network.shared_embedding_keys={value}"
    )
    network = from_config(PPO, config["algorithm"], env=ENV).network
    assert network == PerceptionActorCritic(shared_embedding_keys="latent")
    assert to_config(network)["shared_embedding_keys"] == ["latent"]


@pytest.mark.parametrize(
    "value, said",
    [
        ("3", "expected a text or a list of them, got 3"),
        ("[latent,3]", r"\[1\]: expected a text, got 3"),
        ("null", "must not be null"),
    ],
)
def test_what_is_no_text_nor_a_list_of_texts_is_refused_with_its_key(value, said):
    key = "algorithm.network.shared_embedding_keys"
    config = composed("algorithm/network=perception", f"{key}={value}")
    with pytest.raises(ConfigError, match=f"^{key}.*{said}"):
        from_config(PPO, config["algorithm"], "algorithm.", env=ENV)


def test_every_template_is_a_choice_and_learners_keep_their_own_default():
    for name in registry.networks.names():
        config = composed(f"algorithm/network={name}")
        assert config["algorithm"]["network"]["template"] == name
    es = composed("algorithm=es")["algorithm"]["network"]
    assert from_config(mazejax.ES, {"network": es}, env=ENV) == mazejax.ES(env=ENV)


@pytest.mark.parametrize(
    "override, said",
    [
        ("algorithm/network=perceptron", "algorithm/network: unknown .* did you mean 'perception'"),
        ("algorithm.network.template=mlp", "algorithm.network.template: .* algorithm/network=NAME"),
        ("algorithm.network.builder.hiden={}", "unknown key; did you mean .*builder.hidden"),
    ],
)
def test_an_unknown_choice_of_networks_is_told_with_the_nearest(override, said):
    with pytest.raises(ConfigError, match=said):
        composed("algorithm/network=perception", override)
