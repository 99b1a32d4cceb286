"""Critics that see more than their policies: observations that no action depends on."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.algos import acting
from mazejax.errors import ConfigError
from mazejax.networks.builder import ConcatModelBuilder
from mazejax.networks.custom import CustomActorCritic
from mazejax.networks.mlp import MLPActorCritic, MLPPolicy
from mazejax.networks.perception import PerceptionActorCritic, PerceptionPolicy
from mazejax.spaces import Box, Dict, Discrete
from mazejax.types import ActorID
from mazejax.wrappers.joint import JointObservation
from tests.algos.noise import make_noise

SPACE = Dict(
    {
        "hand": Box(-1.0, 1.0, (3,)),
        "deck": Dict({"top": Discrete(4), "rest": Box(-1.0, 1.0, (2,))}),
        "action_mask": Box(False, True, (2,), bool),
    }
)
DECK = ("deck",)
MASKLESS = SPACE.without(["action_mask"])
OWN_BUILDER = ConcatModelBuilder(observation_modalities={"deck/top": "feature", "hand": "feature"})


class Pass(nn.Module):
    """All inputs through one layer, as what is asked for."""

    key: str
    width: int

    @nn.compact
    def __call__(self, inputs):
        x = jnp.concatenate([inputs[key] for key in sorted(inputs) if "mask" not in key], axis=-1)
        return {self.key: nn.Dense(self.width)(x)}


TEMPLATES = {
    "mlp": MLPActorCritic((8,), privileged_keys=DECK),
    "no layers": MLPActorCritic((), privileged_keys=DECK),
    "perception": PerceptionActorCritic(OWN_BUILDER, privileged_keys=DECK),
    "lstm": PerceptionActorCritic(recurrence="lstm", memory_size=4, privileged_keys=DECK),
    "shared": PerceptionActorCritic(
        ConcatModelBuilder(modalities={"feature": {"block": "DenseBlock", "hidden": [4]}}),
        shared_embedding_keys="hand_feature",
        privileged_keys=DECK,
    ),
    "custom": CustomActorCritic(
        policies=Pass("logits", 2), critics=Pass("value", 1), privileged_keys=DECK
    ),
    "mlp policy": MLPPolicy((8,), privileged_keys=DECK),
    "perception policy": PerceptionPolicy(privileged_keys=DECK),
}


def sampled(space, batch):
    return jax.vmap(space.sample)(jax.random.split(random.key(1), batch))


@pytest.mark.parametrize("name", TEMPLATES)
def test_values_see_what_no_action_depends_on(name):
    network = TEMPLATES[name].build(SPACE, Discrete(2))
    variables = network.init(random.key(0))
    # Small initial weights of heads would hide what is seen.
    variables = jax.tree.map(lambda leaf: leaf + 0.1, variables)
    obs, carry = sampled(SPACE, 6), network.initial_carry((6,))
    other = {**obs, "deck": jax.tree.map(lambda x: x[::-1], obs["deck"])}
    (one, _), (two, _) = (network.apply(variables, seen, carry) for seen in (obs, other))
    jax.tree.map(np.testing.assert_array_equal, one.distribution, two.distribution)
    assert np.array_equal(one.value, two.value) == ("policy" in name)
    moved = {**obs, "hand": -obs["hand"]}
    three, _ = network.apply(variables, moved, carry)
    assert not np.array_equal(one.distribution.logits, three.distribution.logits)
    without = {key: obs[key] for key in obs if key != "deck"}
    alone, _ = network.act(variables, without, carry)
    jax.tree.map(np.testing.assert_array_equal, one.distribution, alone)


def test_the_policys_weights_are_those_of_what_it_sees():
    network = TEMPLATES["mlp"].build(SPACE, Discrete(2))
    shapes = jax.tree.map(lambda s: s.shape, jax.eval_shape(network.init, random.key(0)))
    assert shapes["params"]["policy_torso_0"]["kernel"] == (2 + 3, 8)
    assert shapes["params"]["critic_torso_0"]["kernel"] == (2 + 6 + 3, 8)


def test_a_memory_of_the_policy_never_saw_it():
    network = TEMPLATES["lstm"].build(SPACE, Discrete(2))
    variables = network.init(random.key(0))
    obs = jax.tree.map(lambda x: x.reshape(5, 2, *x.shape[1:]), sampled(SPACE, 10))
    other = {**obs, "deck": jax.tree.map(lambda x: x[::-1], obs["deck"])}
    carry, begins = network.initial_carry((2,)), jnp.zeros((5, 2), bool)
    (one, end), (two, other_end) = (
        network.unroll(variables, seen, carry, begins) for seen in (obs, other)
    )
    jax.tree.map(np.testing.assert_array_equal, one.distribution, two.distribution)
    jax.tree.map(np.testing.assert_array_equal, end["policy"], other_end["policy"])
    assert not np.array_equal(one.value, two.value)


def test_agents_at_once_may_have_a_critic_of_all_that_sees_more_of_each():
    template = MLPActorCritic((8,), central_critic=True, privileged_keys=DECK)
    network = template.build(MASKLESS, Discrete(2), 3)
    variables = network.init(random.key(0))
    obs = jax.tree.map(lambda x: x.reshape(2, 3, *x.shape[1:]), sampled(MASKLESS, 6))
    other = {**obs, "deck": jax.tree.map(lambda x: x[:, ::-1], obs["deck"])}
    (one, _), (two, _) = (network.apply(variables, seen) for seen in (obs, other))
    jax.tree.map(np.testing.assert_array_equal, one.distribution, two.distribution)
    assert (np.asarray(one.value) != np.asarray(two.value)).all()


def test_keys_belong_to_the_step_keys_that_have_them():
    env = make_noise((ActorID("plan", 0), ActorID("check", 0)), masked=True)
    template = MLPActorCritic((4,), privileged_keys=("joint",))
    networks = acting.build_networks(template, JointObservation(env))
    assert {network.privileged_keys for network in networks.values()} == {("joint",)}
    with pytest.raises(ConfigError, match=r"^network\.privileged_keys: no observation 'joint'"):
        acting.build_networks(template, env)


@pytest.mark.parametrize(
    ("template", "space", "message"),
    [
        (
            MLPActorCritic(privileged_keys="dekc"),
            SPACE,
            "no observation 'dekc'; did you mean 'deck'",
        ),
        (MLPActorCritic(privileged_keys=DECK), SPACE["hand"], "observations are no Dict but Box"),
        (
            MLPActorCritic(privileged_keys="action_mask"),
            SPACE,
            "the policy must know; leave it out",
        ),
        (MLPActorCritic(privileged_keys=("deck", "hand")), MASKLESS, "nothing of .* is left"),
        (
            PerceptionActorCritic(shared_embedding_keys="latent", privileged_keys=DECK),
            SPACE,
            "takes 'latent' of the policy sees nothing of privileged_keys 'deck'; share less",
        ),
    ],
    ids=["unknown", "no dict", "mask", "nothing left", "all shared"],
)
def test_keys_that_do_not_fit_are_refused(template, space, message):
    with pytest.raises(ConfigError, match=message):
        template.build(space, Discrete(2))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"privileged_keys": 3}, "privileged_keys: expected keys, got 3"),
        ({"privileged_keys": DECK, "share_torso": True}, "privileged_keys: the critic sees more"),
        ({"privileged_keys": DECK, "recurrence": "gru"}, "use PerceptionActorCritic"),
    ],
    ids=["number", "torso", "memory"],
)
def test_what_would_show_them_to_the_policy_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        MLPActorCritic(**fields)
