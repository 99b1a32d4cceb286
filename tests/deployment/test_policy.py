"""A trained policy, on one observation and on many, for one actor and for several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.deployment.policy import Policy
from mazejax.errors import ConfigError, SpaceError
from mazejax.networks.mlp import MLPActorCritic
from mazejax.networks.policy import AgentActorCritics
from mazejax.spaces import Box, Dict, Discrete

SPACES = {
    "select": (Box(-1.0, 1.0, (2,)), Discrete(5)),
    "cut": (
        Dict({"x": Box(-1.0, 1.0, (3,)), "action_mask": Box(False, True, (3,), bool)}),
        Discrete(3),
    ),
    "move": (Box(-1.0, 1.0, ()), Box(-0.1, 0.1, (2,))),
}
NETWORKS = {key: MLPActorCritic((8,)).build(*spaces) for key, spaces in SPACES.items()}
VARIABLES = {
    key: network.init(random.stream(random.key(0), key)) for key, network in NETWORKS.items()
}
POLICY = Policy(NETWORKS, VARIABLES)


def only(step_key):
    return Policy({step_key: NETWORKS[step_key]}, {step_key: VARIABLES[step_key]})


def test_each_actor_acts_by_its_own_network():
    for key, (observations, actions) in SPACES.items():
        obs = observations.sample(random.key(1))
        output, _ = NETWORKS[key].apply(VARIABLES[key], obs)
        mode = NETWORKS[key].to_env(output.distribution.mode())
        np.testing.assert_array_equal(POLICY.act(obs, step_key=key), mode)
        np.testing.assert_array_equal(only(key).act(obs), mode)
        actions.validate(jax.device_get(POLICY.act(obs, step_key=key)))


def test_of_a_single_actor_it_need_not_be_said_who_acts():
    obs = np.zeros(2, np.float32)
    assert only("select").act(obs) == only("select").act(obs, step_key="select")


@pytest.mark.parametrize(
    ("step_key", "message"),
    [
        (None, r"policy.act: step_key: got None; known names: cut, move, select"),
        ("selct", r"policy.act: step_key: got 'selct'; did you mean 'select'"),
    ],
)
def test_who_acts_must_be_said_where_there_are_several(step_key, message):
    with pytest.raises(ConfigError, match=message):
        POLICY.act(np.zeros(2, np.float32), step_key=step_key)


def test_observations_of_another_actor_are_refused():
    with pytest.raises(SpaceError, match=r"obs: got shape \(3,\), expected \(2,\)"):
        POLICY.act(np.zeros(3, np.float32), step_key="select")


def test_batches_and_agents_act_row_by_row():
    rows = np.random.default_rng(0).uniform(-1, 1, (4, 2)).astype(np.float32)
    many = POLICY.act(rows, step_key="select")
    assert many.tolist() == [int(POLICY.act(row, step_key="select")) for row in rows]


def test_draws_follow_the_seed_and_the_mask():
    obs = {"x": jnp.zeros(3), "action_mask": jnp.array([True, False, True])}
    drawn = [int(POLICY.act(obs, seed=seed, step_key="cut")) for seed in range(40)]
    assert set(drawn) == {0, 2}
    assert drawn == [int(POLICY.act(obs, seed=seed, step_key="cut")) for seed in range(40)]


def test_it_shows_what_each_actor_sees_and_does():
    shown = repr(only("select"))
    assert shown.startswith("Policy(Box") and shown.endswith(" -> Discrete(5), 102 parameters)")
    title, *lines = repr(POLICY).splitlines()
    assert title == "Policy:"
    assert [line.split()[0] for line in lines] == ["select", "cut", "move"]
    assert all(line.endswith(" parameters") for line in lines)


# --- with a memory ----------------------------------------------------------------------------


def remembering(recurrence, num_agents=0):
    """A policy on ten kinds of actions, weights so large that what was seen decides."""
    template = MLPActorCritic(
        (8,), recurrence=recurrence, memory_size=4, central_critic=num_agents > 0
    )
    network = template.build(Box(-1.0, 1.0, (2,)), Discrete(10), num_agents)
    variables = jax.tree.map(lambda x: 20.0 * x, jax.jit(network.init)(random.key(2)))
    return Policy({"0": network}, {"0": variables})


ROWS = np.random.default_rng(1).uniform(-1, 1, (5, 4, 2)).astype(np.float32)
"""Observations of 5 steps in 4 envs."""


@pytest.mark.parametrize("num_agents", [0, 3])
@pytest.mark.parametrize("recurrence", ["lstm", "gru"])
def test_steps_remember_what_was_seen_and_no_carry_begins_anew(recurrence, num_agents):
    policy = remembering(recurrence, num_agents)
    network, variables = policy.networks["0"], policy.variables["0"]
    carry, actions = None, []
    for obs in ROWS:
        action, carry = policy.step(obs, carry)
        actions.append(action)
    if not num_agents:
        unroll = jax.jit(lambda obs, carry: network.unroll(variables, obs, carry)[0])
        output = unroll(ROWS, network.initial_carry((4,)))
        np.testing.assert_array_equal(actions, output.distribution.mode())
    forgetful = [policy.step(obs)[0] for obs in ROWS]
    np.testing.assert_array_equal(actions[0], forgetful[0])
    assert np.not_equal(actions[1:], forgetful[1:]).any()


def test_envs_of_a_batch_remember_each_for_itself():
    policy = remembering("gru")
    carry = alone = None
    for obs in ROWS:
        actions, carry = policy.step(obs, carry)
        action, alone = policy.step(obs[2], alone)
        assert action.shape == () and action == actions[2]
        np.testing.assert_allclose(carry[2], alone, atol=1e-6)
    # Where an episode ended, its row of the memory is made 0: then it is as if it began.
    fresh = carry.at[1].set(0.0)
    assert policy.step(ROWS[0], fresh)[0][1] == policy.step(ROWS[0, 1])[0]


def test_draws_of_a_memory_follow_the_seed():
    policy = remembering("lstm")
    _, carry = policy.step(ROWS[0, 0])
    drawn = [int(policy.step(ROWS[1, 0], carry, seed=seed)[0]) for seed in range(12)]
    assert drawn == [int(policy.step(ROWS[1, 0], carry, seed=seed)[0]) for seed in range(12)]
    assert all(0 <= action < 10 for action in drawn)


def test_a_policy_with_a_memory_does_not_act_without_it():
    with pytest.raises(ConfigError) as error:
        remembering("gru").act(ROWS[0, 0])
    assert str(error.value) == (
        "policy.act: this policy has a memory; use action, carry = policy.step(obs, carry)"
    )


def test_a_memory_of_another_batch_is_refused():
    policy = remembering("gru")
    _, carry = policy.step(ROWS[0])
    with pytest.raises(ConfigError, match=r"GRU: got a carry of shapes \[\(4, 4\)\], expected"):
        policy.step(ROWS[0, 0], carry)


def test_a_policy_without_memory_steps_too_and_remembers_nothing():
    obs = np.zeros(2, np.float32)
    action, carry = only("select").step(obs)
    assert action == only("select").act(obs) and carry == ()
    assert only("select").step(obs, carry)[0] == action


# --- of agents --------------------------------------------------------------------------------


def of_agents(recurrence="none"):
    template = MLPActorCritic((8,), recurrence=recurrence, memory_size=4)
    network = AgentActorCritics(template.build(Box(-1.0, 1.0, (2,)), Discrete(10)), (0, 1, 0))
    return Policy({"move": network}, {"move": jax.jit(network.init)(random.key(3))})


@pytest.mark.parametrize("recurrence", ["none", "lstm"])
def test_each_agent_acts_by_its_own_network(recurrence):
    policy = of_agents(recurrence)
    network, variables = policy.networks["move"], policy.variables["move"]
    chosen = []
    for agent in (0, np.int64(1)):
        own = jax.tree.map(lambda leaf, agent=agent: leaf[agent], variables)
        alone = Policy({"0": network.network}, {"0": own})
        carry = memory = None
        for obs in ROWS:
            action, carry = policy.step(obs, carry, agent=agent)
            wanted, memory = alone.step(obs, memory)
            np.testing.assert_array_equal(action, wanted)
        chosen.append(action)
    assert (chosen[0] != chosen[1]).any()


@pytest.mark.parametrize("agent", [None, 2, -1, True, 1.0, "0"])
def test_which_agent_acts_must_be_said_where_each_has_a_network(agent):
    with pytest.raises(ConfigError) as error:
        of_agents().act(ROWS[0], agent=agent)
    assert str(error.value) == (
        f"policy.act: agent: got {agent!r}, but each of 'move' has a network of its own; "
        f"choose from 0 to 1"
    )


def test_agents_who_share_a_network_may_be_named_or_not():
    obs = np.zeros(2, np.float32)
    assert only("select").act(obs, agent=3) == only("select").act(obs)


def test_parameters_of_all_agents_are_counted():
    # 2 x 16 + 16, 8 x 10 + 10, 8 + 1 for each of two
    assert repr(of_agents()) == "Policy(Box[2] -> Discrete(10), 294 parameters)"
