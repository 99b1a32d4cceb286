"""Templates: what they accept, and what they build."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import random
from mazejax.algos.ppo import PPO
from mazejax.conf import compose
from mazejax.errors import ConfigError
from mazejax.networks.mlp import MLPActorCritic, MLPPolicy
from mazejax.runners.config import from_config, to_config
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.spaces.continuous import Beta, DiagonalGaussian
from mazejax.spaces.simple import Box, Discrete, MultiBinary

OBSERVATION, ACTION = Box(-1.0, 1.0, (3,)), Discrete(2)


def shapes(template):
    network = template.build(OBSERVATION, ACTION)
    return jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(network.init, random.key(0)))


def test_the_default_is_two_networks_of_two_layers_of_64():
    torso = shapes(MLPActorCritic())["params"]["torso"]
    assert torso["first"]["kernel"] == (3, 128)
    assert torso["left_1"]["kernel"] == torso["right_1"]["kernel"] == (64, 64)


@pytest.mark.parametrize("hidden", [(), (1,), (5, 3, 2)])
def test_any_number_of_layers_of_any_width_can_be_built(hidden):
    params = shapes(MLPActorCritic(hidden))["params"]
    last = hidden[-1] if hidden else 3
    assert params["policy"]["dense"]["kernel"] == (2, last)
    assert params["value"]["dense"]["kernel"] == (last, 1)
    kernels = 1 + 2 * (len(hidden) - 1) if hidden else 0
    assert len(params.get("torso", {})) == kernels


def test_a_list_of_widths_is_the_tuple_of_them():
    assert MLPActorCritic([8, 8]) == MLPActorCritic((8, 8))
    assert MLPActorCritic(tuple(np.array([8, 8]))) == MLPActorCritic((8, 8))
    assert hash(MLPActorCritic([8, 8])) == hash(MLPActorCritic((8, 8)))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_activation_is_used(activation):
    network = MLPActorCritic((4,), activation).build(OBSERVATION, ACTION)
    variables = jax.jit(network.init)(random.key(0))
    obs = jnp.array([[0.5, -1.0, 2.0]])
    weights = variables["params"]
    # Of 4 policy and 4 value units, the last four make the value.
    hidden = getattr(jnp, activation, jax.nn.relu)(obs @ weights["torso"]["first"]["kernel"][:, 4:])
    expected = hidden @ weights["value"]["dense"]["kernel"][:, 0]
    np.testing.assert_allclose(network.apply(variables, obs)[0].value, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"activation": "tan"}, "activation: unknown 'tan'; did you mean 'tanh'?"),
        (
            {"activation": "swish"},
            "activation: unknown 'swish'; known names: elu, gelu, relu",
        ),
        ({"activation": None}, "activation: unknown None; known names: elu, gelu, relu"),
        ({"hidden": 64}, "hidden: must be positive integers such as (64, 64), got 64"),
        ({"hidden": (0,)}, "hidden: must be positive integers such as (64, 64), got (0,)"),
        ({"hidden": (8, -1)}, "got (8, -1)"),
        ({"hidden": (2.0,)}, "got (2.0,)"),
        ({"hidden": (True,)}, "got (True,)"),
        ({"hidden": "64"}, "got ('6', '4')"),
        ({"hidden": None}, "got None"),
        ({"recurrence": "gruu"}, "recurrence: unknown 'gruu'; did you mean 'gru'?"),
        ({"recurrence": None}, "recurrence: unknown None"),
        ({"memory_size": 0}, "memory_size: must be a positive integer, got 0"),
        ({"memory_size": 2.0}, "memory_size: must be a positive integer, got 2.0"),
        ({"memory_size": True}, "memory_size: must be a positive integer, got True"),
    ],
)
def test_wrong_fields_meet_one_sentence(fields, message):
    with pytest.raises(ConfigError) as error:
        MLPActorCritic(**fields)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_replacing_a_field_validates_again():
    with pytest.raises(ConfigError, match="hidden: must be"):
        MLPActorCritic().replace(hidden=(-1,))
    with pytest.raises(ConfigError, match="did you mean 'hidden'"):
        MLPActorCritic().replace(hiden=(8,))


def test_an_action_space_without_a_distribution_is_named_before_anything_is_initialized():
    class Sequence(Space):
        def arguments(self):
            return (), {}

        sample = validate = clip = flatten = unflatten = None

    with pytest.raises(ConfigError, match="distributions: got Sequence, expected one of Discrete"):
        MLPActorCritic().build(OBSERVATION, Sequence())


# --- torsos and critics -----------------------------------------------------------------------


def apply_jitted(network):
    return jax.jit(lambda variables, obs: network.apply(variables, obs)[0])


def test_a_shared_torso_is_one_and_learns_from_both_heads():
    params = shapes(MLPActorCritic((5, 4), share_torso=True))["params"]
    assert params == {
        "torso_0": {"kernel": (3, 5), "bias": (5,)},
        "torso_1": {"kernel": (5, 4), "bias": (4,)},
        "policy": {"dense": {"kernel": (2, 4), "bias": (2,)}},
        "value": {"dense": {"kernel": (4, 1), "bias": (1,)}},
    }
    network = MLPActorCritic((5, 4), share_torso=True).build(OBSERVATION, ACTION)
    variables, obs = jax.jit(network.init)(random.key(0)), jnp.linspace(-1, 1, 6).reshape(2, 3)

    def policy_and_value(variables):
        distribution, value = network.apply(variables, obs)[0]
        return distribution.log_prob(jnp.zeros(2, jnp.int32)).sum(), value.sum()

    policy, value = (
        of_one["params"]
        for of_one in jax.device_get(jax.jit(jax.jacrev(policy_and_value))(variables))
    )
    for name in ("torso_0", "torso_1"):
        for leaf in ("kernel", "bias"):
            assert policy[name][leaf].any() and value[name][leaf].any()
    assert (
        policy["policy"]["dense"]["kernel"].all() and not policy["value"]["dense"]["kernel"].any()
    )
    assert value["value"]["dense"]["kernel"].all() and not value["policy"]["dense"]["kernel"].any()


def test_a_central_critic_has_a_torso_that_sees_all_agents_and_whose_value_is_asked():
    template, agents = MLPActorCritic((5,), central_critic=True), 4
    network = template.build(OBSERVATION, ACTION, agents)
    params = jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(network.init, random.key(0)))
    assert params["params"] == {
        "policy_torso_0": {"kernel": (3, 5), "bias": (5,)},
        "critic_torso_0": {"kernel": (4 * 3 + 4, 5), "bias": (5,)},
        "policy": {"dense": {"kernel": (2, 5), "bias": (2,)}},
        "value": {"dense": {"kernel": (5, 1), "bias": (1,)}},
    }
    assert network.num_agents == 4 and template.build(OBSERVATION, ACTION).num_agents == 0
    assert MLPActorCritic().build(OBSERVATION, ACTION, agents).num_agents == 0


def test_a_torso_cannot_be_shared_with_a_critic_that_sees_more():
    with pytest.raises(ConfigError) as error:
        MLPActorCritic(share_torso=True, central_critic=True)
    assert str(error.value) == (
        "central_critic: the critic sees more than the policy, so they cannot share_torso; set one "
        "of the two"
    )


# --- memory -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("recurrence", "gates"), [("lstm", 4), ("gru", 3)])
@pytest.mark.parametrize("template", [MLPActorCritic, MLPPolicy])
def test_a_memory_stands_in_front_of_the_networks(template, recurrence, gates):
    plain = shapes(template((5,)))["params"]
    params = shapes(template((5,), recurrence=recurrence, memory_size=7))["params"]
    assert params["encoder_0"] == {"kernel": (3, 7), "bias": (7,)}
    assert params["cell"]["input_kernel"] == params["cell"]["recurrent_kernel"] == (7, 7 * gates)
    # The networks behind it are those for an observation of 7 numbers.
    assert params["body"].keys() == plain.keys()
    wider = jax.eval_shape(template((5,)).build(Box(-1.0, 1.0, (7,)), ACTION).init, random.key(0))
    assert params["body"] == jax.tree.map(lambda leaf: leaf.shape, wider["params"])
    network = template((5,), recurrence=recurrence, memory_size=7).build(OBSERVATION, ACTION)
    assert network.is_recurrent and not template((5,)).build(OBSERVATION, ACTION).is_recurrent
    carry = jax.tree.leaves(network.initial_carry((2, 3)))
    assert {leaf.shape for leaf in carry} == {(2, 3, 7)} and not any(leaf.any() for leaf in carry)


# --- distributions ----------------------------------------------------------------------------

DRIVE = Dict(
    {
        "throttle": Box(0.0, 1.0, (2,)),
        "steer": Box(-3.0, 3.0, ()),
        "arm": Dict({"grip": Box(-1.0, 1.0, (1,)), "lamp": MultiBinary(2)}),
        "gear": Discrete(3),
    }
)


def kinds(rules):
    """Name of the distribution of each head."""
    network = MLPActorCritic((4,), distributions=rules).build(OBSERVATION, DRIVE)
    heads = []

    def build(variables):
        heads.append(network.apply(variables, jnp.zeros(3))[0].distribution)
        return 0

    jax.eval_shape(build, jax.eval_shape(network.init, random.key(0)))
    parts = heads[0].parts
    flat = {**parts, **{f"arm/{key}": part for key, part in parts["arm"].parts.items()}}
    return {key: type(part).__name__ for key, part in flat.items() if key != "arm"}


BOXES = ("throttle", "steer", "arm/grip")


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        ((), ["DiagonalGaussian"] * 3),
        ((("Box", "squashed_gaussian"),), ["SquashedGaussian"] * 3),
        ([["Box", "beta"]], ["Beta"] * 3),
        (((Box, Beta),), ["Beta"] * 3),
        ((("throttle", "beta"),), ["Beta", "DiagonalGaussian", "DiagonalGaussian"]),
        (
            (("Box", "squashed_gaussian"), ("throttle", "beta")),
            ["Beta", "SquashedGaussian", "SquashedGaussian"],
        ),
        ((("throttle", "beta"), ("Box", "squashed_gaussian")), ["SquashedGaussian"] * 3),
        (
            (("arm/grip", "beta"), (Box(-3.0, 3.0, ()), "squashed_gaussian")),
            ["DiagonalGaussian", "SquashedGaussian", "Beta"],
        ),
        (
            (("steer", "beta"), ("steer", "diagonal_gaussian"), ("Discrete", "categorical")),
            ["DiagonalGaussian"] * 3,
        ),
    ],
)
def test_rules_choose_distributions_by_kind_by_space_or_by_head_and_later_ones_win(rules, wanted):
    found = kinds(rules)
    assert [found[head] for head in BOXES] == wanted
    assert found["gear"] == "Categorical" and found["arm/lamp"] == "Bernoulli"


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            [["Box", "betta"]],
            "distributions[0]: unknown distribution 'betta'; did you mean 'beta'?",
        ),
        (["Box", "beta"], "distributions[0]: got 'Box', expected a pair"),
        ("beta", "distributions[0]: got 'b', expected a pair"),
        ([["Box", "beta", 2]], "distributions[0]: got"),
        ([["Box", "beta"], []], "distributions[1]: got ()"),
        ([[3, "beta"]], "distributions[0]: got 3, expected a class of spaces"),
        ([["Box", Discrete]], "distributions[0]: unknown distribution 'Discrete'; known names:"),
        ([["Box", 3]], "distributions[0]: got 3, expected a name (categorical, "),
        (None, "distributions: expected pairs such as (('throttle', 'beta'),), got None"),
    ],
)
def test_bad_rules_meet_one_sentence(rules, message):
    with pytest.raises(ConfigError) as error:
        MLPActorCritic(distributions=rules)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([["throtle", "beta"]], "distributions: got the head 'throtle', expected"),
        ([["throtle", "beta"]], "did you mean 'throttle'?"),
        ([["gear", "beta"]], "distributions: head 'gear': Beta: got Discrete, expected Box"),
        ([["Discrete", "bernoulli"]], "head 'gear': Bernoulli: got Discrete, expected MultiBinary"),
    ],
)
def test_rules_that_do_not_fit_the_actions_are_refused_before_anything_is_initialized(
    rules, message
):
    template = MLPActorCritic(distributions=rules)
    with pytest.raises(ConfigError) as error:
        template.build(OBSERVATION, DRIVE)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_distribution_with_bounds_needs_finite_ones():
    template = MLPActorCritic(distributions=[["Box", "beta"]])
    with pytest.raises(
        ConfigError, match=r"^distributions: Beta: got a Box with high inf at entry"
    ):
        template.build(OBSERVATION, Box(0.0, np.inf, (2,)))


@pytest.mark.parametrize("which", ["squashed_gaussian", "beta"])
def test_actions_keep_to_the_bounds_and_have_finite_probabilities(which):
    space = Dict({"a": Box(np.array([-1e-3, 5.0]), np.array([1e-3, 80.0])), "b": Discrete(2)})
    network = MLPActorCritic((4,), distributions=[["Box", which]]).build(OBSERVATION, space)
    # Weights so large that draws and modes reach the bounds.
    variables = jax.tree.map(lambda x: 500.0 * x, jax.jit(network.init)(random.key(0)))

    @jax.jit
    def act(variables, obs):
        distribution = network.apply(variables, obs)[0].distribution
        actions = distribution.sample(random.key(1)), distribution.mode()
        finite = [jnp.isfinite(distribution.log_prob(action)).all() for action in actions]
        return actions, network.to_env(actions[0]), jnp.stack(finite)

    obs = np.random.default_rng(0).normal(size=(256, 3)).astype(np.float32)
    actions, taken, finite = jax.device_get(act(variables, obs))
    assert finite.all()
    low, high = space["a"].low, space["a"].high
    for action in actions:
        assert ((action["a"] >= low) & (action["a"] <= high)).all()
    assert (actions[1]["a"] < low + 0.01 * (high - low)).any(0).all()
    assert (actions[1]["a"] > high - 0.01 * (high - low)).any(0).all()
    np.testing.assert_array_equal(taken["a"], actions[0]["a"])


@dataclasses.dataclass(frozen=True)
class Wide:
    """A distribution family of one's own: a Gaussian whose spread the network sets."""

    spread: float = 2.0

    def shapes(self, space):
        return {"center": space.shape}

    def build(self, space, parameters):
        center = parameters["center"]
        return DiagonalGaussian(
            center, jnp.full_like(center, np.log(self.spread)), len(space.shape)
        )


def test_a_family_of_ones_own_serves_a_head_as_those_of_ours_do():
    rules = (("Box", "beta"), ("throttle", Wide(3.0)))
    network = MLPActorCritic((4,), distributions=rules).build(OBSERVATION, DRIVE)
    # Beta has 2 numbers for steer and for grip; 2 bits, 3 gears; the family 2 centers.
    kernel = jax.eval_shape(network.init, random.key(0))["params"]["policy"]["dense"]["kernel"]
    assert kernel.shape == (2 + 2 + 2 + 3 + 2, 4)
    variables = jax.jit(network.init)(random.key(0))
    output = apply_jitted(network)(variables, jnp.zeros((5, 3)))
    np.testing.assert_allclose(output.distribution.parts["throttle"].log_std, np.log(3.0))
    assert MLPActorCritic(distributions=rules) == MLPActorCritic(distributions=rules)
    assert MLPActorCritic(distributions=((Box, Wide(2.0)),)) != MLPActorCritic(
        distributions=((Box, Wide(3.0)),)
    )


# --- as configuration -------------------------------------------------------------------------


def test_a_template_survives_its_configuration():
    rules = (("Box", "squashed_gaussian"), ("throttle", "beta"))
    for template in (
        MLPActorCritic((8,), "relu", "gru", 16, distributions=rules, share_torso=True),
        MLPActorCritic(
            central_critic=True, distributions=((Box, "beta"), (Discrete, "categorical"))
        ),
        MLPPolicy([4, 4], recurrence="lstm", memory_size=np.int64(3)),
    ):
        data = json.loads(json.dumps(to_config(template)))
        again = from_config(type(template), data)
        assert again == template and hash(again) == hash(template)
        assert eval(repr(template)) == template


@pytest.mark.parametrize(
    ("override", "changes"),
    [
        (
            "distributions=[[Box,squashed_gaussian]]",
            {"distributions": (("Box", "squashed_gaussian"),)},
        ),
        (
            "distributions=[[Box,beta],[Box,diagonal_gaussian]]",
            {"distributions": (("Box", "beta"), ("Box", "diagonal_gaussian"))},
        ),
        ("recurrence=lstm", {"recurrence": "lstm"}),
        ("memory_size=5", {"memory_size": 5}),
        ("share_torso=true", {"share_torso": True}),
    ],
)
def test_the_command_line_sets_every_field(override, changes):
    found = []
    compose.run_with_config(
        ["env=Pendulum-v1", f"algorithm.network.{override}"], lambda c: found.append(c) or 0
    )
    algorithm = from_config(
        PPO, found[0]["algorithm"], "algorithm.", env=mazejax.make("Pendulum-v1")
    )
    assert algorithm.network == MLPActorCritic(**changes)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"distributions": [["Box", "betta"]]}, "network.distributions[0]: unknown distribution"),
        (
            {"distributions": ["Box", "beta"]},
            "network.distributions[0]: expected a list, got 'Box'",
        ),
        ({"recurrence": "gruu"}, "network.recurrence: unknown 'gruu'; did you mean 'gru'?"),
        ({"memory_size": 0}, "network.memory_size: must be a positive integer, got 0"),
        ({"share_torso": "yes"}, "network.share_torso: expected true or false, got 'yes'"),
        ({"memory": 3}, "network.memory: unknown key; did you mean 'memory_size'?"),
    ],
)
def test_what_a_configuration_cannot_mean_is_refused_with_its_key(data, message):
    with pytest.raises(ConfigError) as error:
        from_config(MLPActorCritic, data, "network.")
    assert str(error.value).startswith(message), error.value
