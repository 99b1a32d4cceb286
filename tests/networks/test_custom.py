"""Networks of one's own: how they are read, joined, written to files and refused."""

import importlib.machinery
import json
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import random
from mazejax.algos.a2c import A2C
from mazejax.algos.es import ES
from mazejax.algos.ppo import PPO
from mazejax.errors import ConfigError
from mazejax.networks import CustomActorCritic, InferenceBlock
from mazejax.networks.blocks import DenseBlock, FunctionalBlock, LinearOutputBlock, ModuleBlock
from mazejax.runners.config import from_config, to_config
from mazejax.runners.run_context import RunContext
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box, Discrete
from mazejax.types import ActorID
from tests.algos.noise import make_noise
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


STANDARDIZED = CustomActorCritic(own.Standardized(), own.Critic())
SIZES = {"num_envs": 4, "num_steps": 8, "total_steps": 32, "learning_rate": 0.1}


@pytest.mark.parametrize(
    "algorithm",
    [
        PPO(mazejax.make("CartPole-v1"), network=STANDARDIZED, normalize_obs=True, **SIZES),
        A2C(mazejax.make("CartPole-v1"), network=STANDARDIZED, **SIZES),
        ES(
            mazejax.make("CartPole-v1"),
            network=CustomActorCritic(own.Standardized()),
            normalize_obs=True,
            population_size=8,
            max_steps=100,
            total_steps=800,
        ),
    ],
    ids=["ppo", "a2c", "es"],
)
def test_learners_move_parameters_and_leave_all_else_but_observation_statistics(algorithm):
    before = jax.jit(algorithm.init)(random.key(0))
    after = jax.jit(algorithm.update)(before)[0]
    (one,), (two,) = (state.variables.values() for state in (before, after))
    jax.tree.map(np.testing.assert_array_equal, one["batch_stats"], two["batch_stats"])
    moved = jax.tree.map(
        lambda a, b: bool(np.any(a != b)), one["params"]["policy"], two["params"]["policy"]
    )
    assert all(jax.tree.leaves(moved))
    assert "batch_stats" not in str(jax.tree.structure(after.optimizer))
    if algorithm.normalize_obs:
        assert float(np.sum(two["statistics"].count)) > 0
    (network,) = algorithm.actor_critics.values()
    sizes = [leaf.size for leaf in jax.tree.leaves(one["params"])]
    assert network.num_parameters() == sum(sizes)


def test_what_stands_still_is_saved_and_acts_with_the_policy(tmp_path):
    run = RunContext(
        "ppo", "CartPole-v1", network=STANDARDIZED, directory=tmp_path / "run", progress="none",
        num_evaluations=0, **SIZES,
    )  # fmt: skip
    run.train()
    loaded = RunContext.load(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, loaded.policy.variables, run.policy.variables)
    assert "batch_stats" in loaded.policy.variables["0"]
    obs = np.ones(4, np.float32)
    assert loaded.policy.act(obs) == run.policy.act(obs)


@pytest.mark.parametrize(
    "template, said",
    [
        (
            CustomActorCritic(own.Standardized(running=False)),
            "policy: would change batch_stats/norm/mean while it acts",
        ),
        (CustomActorCritic(own.Noisy()), "policy: draws from the rng 'dropout'"),
        (
            CustomActorCritic(
                InferenceBlock(
                    "observation", "action", {"own": own.NormBlock("observation", "action")}
                )
            ),
            "policy: would change batch_stats/own/norm/mean while it acts",
        ),
        (
            CustomActorCritic(
                InferenceBlock(
                    "observation",
                    "action",
                    {
                        "norm": ModuleBlock("observation", "x", nn.BatchNorm(False)),
                        "head": LinearOutputBlock("x", "action", 2),
                    },
                ),
                own.Remembering(),
            ),
            r"block 'norm': ModuleBlock\(observation -> x\): would change batch_stats/mean",
        ),
    ],
    ids=["statistics", "rng", "in a block", "of a module"],
)
def test_networks_that_change_or_draw_while_they_act_are_refused_by_name(template, said):
    network = template.build(OBSERVATION, ACTION)
    variables = jax.eval_shape(network.init, random.key(0))
    carry = network.initial_carry((5,))
    with pytest.raises(ConfigError, match=f"^{said}"):
        jax.eval_shape(network.apply, variables, OBS, carry)


@pytest.mark.parametrize("policy", [own.Hiding(), own.HidingAndRemembering()])
def test_an_embedding_does_not_replace_an_observation_for_the_critic(policy):
    said = (
        f"policy: {type(policy).__name__} gives 'observation' besides its heads, which would hide"
    )
    with pytest.raises(ConfigError, match=said):
        applied(CustomActorCritic(policy, own.Critic()))
    applied(CustomActorCritic(policy))  # without a critic nobody is misled


def test_a_policy_may_pass_on_what_it_was_given():
    template = CustomActorCritic(own.Hiding(factor=None), own.Critic())
    variables, output = applied(template)
    inputs = {"observation": OBS}
    value = own.Critic().apply({"params": variables["params"]["critic"]}, inputs)["value"]
    np.testing.assert_allclose(output.value, value[:, 0], rtol=1e-6)


def test_step_keys_have_modules_of_their_own():
    template = CustomActorCritic({"a": own.Policy(4), "b": own.Policy(6)}, own.Critic())
    for key, width in (("a", 4), ("b", 6)):
        network = template.of_step_key(key).build(OBSERVATION, ACTION)
        params = jax.eval_shape(network.init, random.key(0))["params"]
        assert params["policy"]["torso"]["kernel"].shape == (3, width)


@pytest.mark.parametrize("field", ["policies", "critics"])
def test_a_module_for_a_step_key_that_no_actor_has_is_refused_before_anything_is_built(field):
    fields = {"policies": own.Policy(), field: {"select": own.Policy(), "cot": own.Policy()}}
    env = make_noise((ActorID("select", 0), ActorID("cut", 0)))
    network = CustomActorCritic(**fields)
    said = f"network.{field}.cot: no actor has the step key 'cot'; did you mean 'cut'"
    with pytest.raises(ConfigError, match=said):
        PPO(env, network=network)


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


@pytest.fixture
def main(monkeypatch):
    """The program that is run, as if it were a script by the name of train.py."""
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__spec__", None)
    monkeypatch.setattr(main, "__file__", "/somewhere/train.py", raising=False)
    return main


def test_a_run_with_a_network_of_a_script_says_first_that_only_the_script_can_load_it(
    main, monkeypatch
):
    class Pointer(own.Policy):
        pass

    Pointer.__module__, Pointer.__qualname__ = "__main__", "Pointer"
    monkeypatch.setattr(main, "Pointer", Pointer, raising=False)
    said = "Pointer is defined in train.py.*start it by python -m train, or move Pointer into"
    with pytest.warns(UserWarning, match=said):
        run = RunContext("ppo", "CartPole-v1", network=CustomActorCritic(Pointer(4), own.Critic()))
    assert run.algorithm.network.policies == Pointer(4)
    monkeypatch.delattr(main, "__file__")
    with pytest.warns(UserWarning, match="in a notebook, .* load the run; move Pointer into"):
        data = run.config()["algorithm"]["network"]
    assert data["policies"]["class"] == "__main__:Pointer"
    monkeypatch.delattr(main, "Pointer")
    with pytest.raises(ConfigError, match=r"__main__:Pointer: .*; write there the module that has"):
        from_config(CustomActorCritic, data)


def test_a_program_that_runs_as_a_module_has_a_name_and_is_not_run_twice(main, monkeypatch):
    class Pointer(own.Policy):
        pass

    Pointer.__module__, Pointer.__qualname__ = "__main__", "Pointer"
    monkeypatch.setattr(main, "Pointer", Pointer, raising=False)
    monkeypatch.setattr(main, "__spec__", importlib.machinery.ModuleSpec("no_such.train", None))
    data = to_config(CustomActorCritic(Pointer(4)))
    assert data.pop("template") == "custom"
    assert data["policies"]["class"] == "no_such.train:Pointer"
    assert from_config(CustomActorCritic, data) == CustomActorCritic(Pointer(4))


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
