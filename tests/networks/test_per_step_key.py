"""Templates by step key: what each builds, for which step keys, from Python and from files."""

import json

import jax
import pytest

import mazejax
from mazejax import random
from mazejax.conf import compose
from mazejax.errors import ConfigError
from mazejax.networks import (
    ConcatModelBuilder,
    CustomActorCritic,
    MLPActorCritic,
    MLPPolicy,
    PerceptionActorCritic,
    PerStepKey,
)
from mazejax.runners.config import from_config, to_config
from mazejax.runners.run_context import RunContext
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box, Discrete, MultiBinary
from tests.networks import own_networks as own

ENV = mazejax.make("LandmarkTour-v0")
LANDMARKS = PerceptionActorCritic(
    ConcatModelBuilder(
        modalities={"set": {"block": "PointNetFeatureBlock"}},
        observation_modalities={"landmarks": "set"},
    ),
    shared_embedding_keys="landmarks_set",
)
TOUR = PerStepKey({"manager": LANDMARKS, "worker": MLPActorCritic((8,))})
SIZES = {"num_envs": 2, "num_steps": 4, "num_minibatches": 1, "num_epochs": 1, "total_steps": 8}


def shapes(network):
    return jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(network.init, random.key(0)))


def test_each_step_key_has_the_network_of_its_own_template():
    networks = mazejax.PPO(ENV, network=TOUR, **SIZES).actor_critics
    for key, template in TOUR.templates.items():
        built = template.build(ENV.observation_spaces[key], ENV.action_spaces[key])
        assert networks[key] == built
    assert "landmarks" in shapes(networks["manager"])["params"]["policy"]
    assert shapes(networks["worker"])["params"]["torso"]["first"]["kernel"] == (2, 16)


@pytest.mark.parametrize(
    "algorithm",
    [
        mazejax.PPO(ENV, network=TOUR, **SIZES),
        mazejax.PPO(ENV, network=TOUR, network_per="actor", normalize_obs=True, **SIZES),
        mazejax.ES(
            ENV,
            network=PerStepKey({"manager": LANDMARKS, "worker": MLPPolicy((8,))}),
            population_size=2,
            max_steps=4,
            total_steps=8,
        ),
    ],
    ids=["ppo", "by actor", "es"],
)
def test_learners_learn_with_them(algorithm):
    state, _ = jax.eval_shape(algorithm.train, random.key(0))
    assert {*state.variables} == {"manager", "worker"}


def test_what_a_template_says_holds_for_its_own_step_key_alone():
    see = Dict({"hand": Box(-1.0, 1.0, (3,)), "deck": Box(-1.0, 1.0, (2,))})
    act = Dict({"steer": Box(-1.0, 1.0, ()), "lights": MultiBinary(2)})
    parts = {
        "a": PerceptionActorCritic(
            distributions=[("steer", "beta")], privileged_keys="deck", probabilities={"lights": 0.9}
        ),
        "b": MLPActorCritic(),
    }
    both = PerStepKey(parts)
    one, other = (both.of_step_key(key).build(see, act) for key in parts)
    assert one == parts["a"].build(see, act) and other == parts["b"].build(see, act)
    assert one.privileged_keys == ("deck",) and other.privileged_keys == ()
    assert one.mapper != other.mapper


def test_a_template_with_modules_by_step_key_gives_those_of_its_own():
    part = CustomActorCritic({"a": own.Policy(4)}, own.Critic())
    network = PerStepKey({"a": part}).of_step_key("a").build(Box(-1.0, 1.0, (3,)), Discrete(2))
    assert shapes(network)["params"]["policy"]["torso"]["kernel"] == (3, 4)


def test_equal_ones_are_equal_and_hashable_in_any_order():
    other = PerStepKey({"worker": MLPActorCritic([8]), "manager": LANDMARKS.replace()})
    assert other == TOUR and hash(other) == hash(TOUR)
    assert PerStepKey({**TOUR.templates, "worker": MLPActorCritic((9,))}) != TOUR
    assert jax.tree.leaves(TOUR) == []


def test_the_command_line_a_file_and_python_give_the_same():
    overrides = [
        "algorithm/network=per_step_key",
        "algorithm.network.templates.manager={template:perception,shared_embedding_keys:landmarks_set}",
        "algorithm.network.templates.manager.builder.modalities.set.block=PointNetFeatureBlock",
        "algorithm.network.templates.manager.builder.observation_modalities.landmarks=set",
        "algorithm.network.templates.worker.template=mlp",
        "algorithm.network.templates.worker.hidden=[8]",
    ]
    found = []
    compose.run_with_config(["env=LandmarkTour-v0", *overrides], lambda c: found.append(c) or 0)
    typed = from_config(mazejax.PPO, found[0]["algorithm"], env=ENV).network
    data = json.loads(json.dumps(to_config(TOUR)))
    assert data["template"] == "per_step_key" and data["templates"]["worker"]["template"] == "mlp"
    for network in (typed, from_config(PerStepKey, data)):
        assert network == TOUR and hash(network) == hash(TOUR)


def test_a_run_is_loaded_with_its_templates(tmp_path):
    run = RunContext("ppo", "LandmarkTour-v0", network=TOUR, directory=tmp_path / "run", **SIZES)
    run._claim_directory()
    assert RunContext.load(tmp_path / "run").algorithm == run.algorithm


def build(templates, **fields):
    return mazejax.PPO(ENV, network=PerStepKey(templates, **fields), **SIZES)


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: PerStepKey(), "templates: give a template for each step key"),
        (lambda: PerStepKey(MLPActorCritic()), "templates: give a template for each step key"),
        (lambda: PerStepKey({"a": 3}), "templates.a: expected a template such as MLPActorCritic()"),
        (
            lambda: build({"manager": LANDMARKS}),
            "network.templates: none for the step key 'worker'; known names: manager",
        ),
        (
            lambda: build({**TOUR.templates, "wroker": MLPActorCritic()}),
            "network.templates.wroker: no actor has the step key 'wroker'; did you mean 'worker'?",
        ),
        (
            lambda: build(
                {**TOUR.templates, "worker": CustomActorCritic({"manager": own.Policy()})}
            ),
            "network.templates.worker.policies.manager: no actor has the step key 'manager'",
        ),
        (
            lambda: build({"manager": MLPActorCritic(), "worker": LANDMARKS}),
            "network.templates.worker.observation_modalities.landmarks: no such observation",
        ),
        (
            lambda: build(
                {**TOUR.templates, "worker": MLPActorCritic(privileged_keys="landmarks")}
            ),
            "network.templates.worker.privileged_keys: observations are no Dict",
        ),
        (
            lambda: PerStepKey(TOUR.templates, privileged_keys="landmarks"),
            "privileged_keys: each of the templates has its own",
        ),
        (
            lambda: PerStepKey(TOUR.templates, distributions=(("Discrete", "categorical"),)),
            "distributions: each of the templates has its own",
        ),
        (lambda: TOUR.of_step_key("manger"), "templates: none for .* did you mean 'manager'?"),
        (
            lambda: TOUR.build(Box(-1.0, 1.0, (3,)), Discrete(2)),
            "templates: 'manager', 'worker' have networks of their own; choose one by of_step_key",
        ),
        (
            lambda: from_config(PerStepKey, {"templates": {"a": {"hidden": [8]}}}, "network."),
            "network.templates.a.template: missing; it names one of custom, mlp",
        ),
        (
            lambda: from_config(PerStepKey, {"templates": {"a": {"template": "mpl"}}}, "network."),
            "network.templates.a.template: unknown network 'mpl'; did you mean 'mlp'",
        ),
        (
            lambda: from_config(
                PerStepKey, {"templates": {"a": {"template": "mlp", "hiden": 3}}}, "network."
            ),
            "network.templates.a.hiden: unknown key; did you mean 'hidden'?",
        ),
        (
            lambda: from_config(
                PerStepKey, {"templates": {"a": {"template": "mlp", "hidden": [0]}}}, "network."
            ),
            "network.templates.a.hidden: must be positive integers",
        ),
        (
            lambda: from_config(PerStepKey, {"templates": "mlp"}, "network."),
            "network.templates: expected keys and values, got 'mlp'",
        ),
    ],
)
def test_what_is_no_template_for_each_step_key_is_refused(make, said):
    with pytest.raises(ConfigError, match="^" + said.replace("()", r"\(\)").replace("?", r"\?")):
        make()
