"""Who acts with which network: one for all of a step key, one for each actor, one critic of all."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import random
from mazejax.algos import acting, batch
from mazejax.algos.a2c import A2C
from mazejax.algos.es import ES
from mazejax.algos.ppo import PPO
from mazejax.base import jit
from mazejax.deployment.policy import Policy
from mazejax.errors import ConfigError
from mazejax.networks.mlp import MLPActorCritic, MLPPolicy
from mazejax.networks.policy import ActorCritic
from mazejax.types import ActorID
from tests.algos.noise import FLAT, MIXED, TWICE, make_noise

NETWORK = MLPActorCritic((4,))
SIZES = {"network": NETWORK, "num_envs": 8, "num_steps": 4}
AT_ONCE = (ActorID("move", None),)
GAME = mazejax.make("TicTacToe-v0")

ALGORITHMS = {
    "game": A2C(GAME, network_per="actor", **SIZES),
    "at once": A2C(make_noise(AT_ONCE, masked=True, sleepy=True), network_per="actor", **SIZES),
    "twice": A2C(make_noise(TWICE), network_per="actor", **SIZES),
}
every = pytest.mark.parametrize("name", ALGORITHMS)

init = jit(lambda algorithm, key: algorithm.init(key))
collect = jit(lambda algorithm, state: algorithm.collect(state)[:2])
learn = jit(lambda algorithm, state, rollout: algorithm.learn(state, rollout)[0])
apply = jit(lambda network, variables, obs, carry=(): network.apply(variables, obs, carry))


@functools.cache
def collected(name):
    """The first state of an algorithm, and its first rollout."""
    state = init(ALGORITHMS[name], random.key(0))
    return jax.device_get((state.variables, collect(ALGORITHMS[name], state)[1]))


def of_agent(tree, agent):
    return jax.tree.map(lambda leaf: leaf[agent], tree)


# --- who has a network ------------------------------------------------------------------------


def test_by_default_all_of_a_step_key_share_a_network():
    for env in (GAME, make_noise(MIXED), make_noise(FLAT)):
        networks = acting.build_networks(NETWORK, env)
        assert tuple(networks) == tuple(env.action_spaces)
        assert all(isinstance(network, ActorCritic) for network in networks.values())


def test_each_actor_has_a_network_where_a_step_key_has_several():
    networks = acting.build_networks(NETWORK, make_noise(MIXED), "actor")
    assert isinstance(networks["plan"], ActorCritic)
    assert networks["move"].agents == networks["check"].agents == (0, 1)
    networks = acting.build_networks(NETWORK, make_noise(TWICE), "actor")
    assert networks["turn"].agents == (0, 1, 0) and networks["turn"].num_sets == 2
    assert isinstance(acting.build_networks(NETWORK, make_noise(FLAT), "actor")["0"], ActorCritic)


def test_networks_of_actors_are_initialized_apart_and_counted_together():
    algorithm = ALGORITHMS["game"]
    shared = PPO(GAME, **SIZES).actor_critics["player"]
    network = algorithm.actor_critics["player"]
    variables, _ = collected("game")
    assert network.num_parameters() == 2 * shared.num_parameters()
    leaves = jax.tree.leaves(variables["player"])
    assert sum(leaf.size for leaf in leaves) == network.num_parameters()
    assert all(len(leaf) == 2 for leaf in leaves)
    kernel = variables["player"]["params"]["torso"]["first"]["kernel"]
    assert (kernel[0] != kernel[1]).all()


def test_memories_are_as_many_as_actors_in_a_flat_step():
    env = make_noise(MIXED)
    for network_per in ("step_key", "actor"):
        networks = acting.build_networks(NETWORK, env, network_per)
        assert acting.initial_carries(networks, env, 5) is None
        template = MLPActorCritic((4,), recurrence="lstm", memory_size=3)
        networks = acting.build_networks(template, env, network_per)
        carries = acting.initial_carries(networks, env, 5)
        shapes = [{leaf.shape for leaf in jax.tree.leaves(carry)} for carry in carries]
        assert shapes == [{(5, 3)}, {(5, 2, 3)}, {(5, 3)}, {(5, 3)}]


# --- a network for each actor -----------------------------------------------------------------


@every
def test_each_slot_is_judged_and_acted_by_the_network_of_its_agent(name):
    network = ALGORITHMS[name].actor_critics
    (key, network), (variables, rollout) = next(iter(network.items())), collected(name)
    steps = rollout.transitions[key]
    for slot, agent in enumerate(network.agents):
        own, at = of_agent(variables[key], agent), (slice(None), slice(None), slot)
        obs = jax.tree.map(lambda x, at=at: x[at], steps.obs)
        (distribution, value), _ = apply(network.network, own, obs)
        np.testing.assert_allclose(steps.value[at], value, rtol=1e-5, atol=1e-6)
        log_prob = jax.jit(lambda d, a: d.log_prob(a))(distribution, steps.action[at])
        np.testing.assert_allclose(steps.log_prob[at], log_prob, rtol=1e-5, atol=1e-6)
    assert np.isfinite(steps.log_prob).all()


@every
def test_a_network_is_learned_from_what_its_agent_did_and_from_nothing_else(name):
    algorithm, (variables, rollout) = ALGORITHMS[name], collected(name)
    (key, network) = next(iter(algorithm.actor_critics.items()))
    slots = np.array(network.agents)

    @jax.jit
    def gradient(rollout, counts):
        rows = batch.from_rollout(algorithm, rollout)[key]
        weight = jnp.ones_like(rows.value) if rows.weight is None else rows.weight
        weight = weight * counts[None, :]
        rows = rows._replace(weight=weight, value_weight=weight)
        return jax.grad(lambda v: algorithm.loss(v, {key: rows})[0])(variables)

    for agent in range(2):
        found = jax.device_get(gradient(rollout, (slots == agent).astype(np.float32)))
        for leaf in jax.tree.leaves(found):
            assert leaf[agent].any() and not leaf[1 - agent].any()


def test_both_players_of_a_game_learn_with_networks_of_their_own():
    algorithm = ALGORITHMS["game"]
    state = init(algorithm, random.key(0))
    end, rollout = collect(algorithm, state)
    new = learn(algorithm, state.replace(collect=end), rollout)
    pairs = zip(jax.tree.leaves(state.variables), jax.tree.leaves(new.variables), strict=True)
    for before, after in pairs:
        assert (
            np.isfinite(after).all() and (np.asarray(before != after).reshape(2, -1)).any(1).all()
        )


def test_a_population_has_networks_for_each_actor_too():
    algorithm = ES(
        make_noise(TWICE, ends=0.0),
        network=MLPPolicy((4,)),
        network_per="actor",
        population_size=4,
        max_steps=3,
        noise_stddev=2.0,
        deterministic=True,
    )
    state = init(algorithm, random.key(0))
    kernel = state.variables["turn"]["params"]["dense_0"]["kernel"]
    assert kernel.shape == (2, 3, 4)
    new = jit(lambda a, s: a.update(s)[0])(algorithm, state)
    moved = new.variables["turn"]["params"]["dense_0"]["kernel"] != kernel
    assert moved.reshape(2, -1).any(1).all()


def test_the_policy_of_an_agent_is_that_inside_the_env():
    algorithm, (variables, rollout) = ALGORITHMS["game"], collected("game")
    policy = Policy(algorithm.actor_critics, variables)
    act = algorithm.policies(variables, deterministic=True)
    steps = rollout.transitions["player"]
    keys = jax.random.split(random.key(0), 8)
    for agent in range(2):
        obs = jax.tree.map(lambda x, agent=agent: x[0, :, agent], steps.obs)
        wanted = jax.jit(act[ActorID("player", agent)])(keys, obs, ()).env_action
        np.testing.assert_array_equal(policy.act(obs, agent=agent), wanted)


# --- a critic of all --------------------------------------------------------------------------


CENTRAL = MLPActorCritic((4,), central_critic=True)


def test_a_central_critic_is_for_agents_at_once():
    networks = acting.build_networks(CENTRAL, make_noise(MIXED))
    assert {key: network.num_agents for key, network in networks.items()} == {
        "plan": 0,
        "move": 2,
        "check": 0,
    }


def test_an_agent_acts_alone_as_it_does_among_others_though_the_critic_sees_all():
    algorithm = A2C(make_noise(AT_ONCE), **{**SIZES, "network": CENTRAL})
    state = init(algorithm, random.key(0))
    _, rollout = collect(algorithm, state)
    policy = Policy(algorithm.actor_critics, state.variables)
    act = algorithm.policies(state.variables, deterministic=True)[ActorID("move", None)]
    obs = rollout.transitions["move"].obs[0]
    keys = jax.random.split(random.key(0), (8, 2))
    wanted = jax.jit(act)(keys, obs, ()).env_action
    for agent in range(2):
        np.testing.assert_array_equal(policy.act(obs[:, agent]), wanted[:, agent])
        np.testing.assert_array_equal(policy.act(obs[3, agent]), wanted[3, agent])


def test_a_central_critic_is_refused_where_no_agents_act_at_once():
    refused = r"network\.central_critic: no agents of .* act at once"
    with pytest.raises(ConfigError, match=rf"{refused}.*wrap the env in JointObservation"):
        PPO(GAME, network=CENTRAL)
    with pytest.raises(ConfigError, match=f"{refused}.*leave it out"):
        PPO(make_noise(FLAT), network=CENTRAL)


def test_rules_for_heads_reach_the_step_keys_that_have_them():
    env = mazejax.make("Cutting2D-v0", structured=True)
    head = next(iter(env.action_spaces["cutting"]))
    template = MLPActorCritic((4,), distributions=((head, "categorical"),))
    networks = acting.build_networks(template, env)
    rules = {key: network.mapper.rules for key, network in networks.items()}
    assert rules == {"selection": (), "cutting": ((head, "categorical"),)}
    with pytest.raises(ConfigError, match=r"network\.distributions.*'rotatoin'"):
        A2C(env, network=MLPActorCritic(distributions=(("rotatoin", "categorical"),)))


@pytest.mark.parametrize("norm", ["batch", "minibatch"])
def test_advantages_of_agents_with_networks_of_their_own_are_standardized_apart(norm):
    algorithm = ALGORITHMS["at once"].replace(advantage_norm=norm)
    rollout = jax.tree.map(jnp.asarray, collected("at once")[1])
    steps = rollout.transitions["move"]
    louder = steps.replace(reward=steps.reward.at[..., 1].multiply(1000.0))
    rows = [
        batch.from_rollout(algorithm, rollout.replace(transitions={"move": some}))["move"]
        for some in (steps, louder)
    ]
    if norm == "minibatch":
        networks = algorithm.actor_critics
        rows = [batch.standardized({"move": r}, networks)["move"] for r in rows]
    calm, loud = (np.asarray(r.advantage) for r in rows)
    np.testing.assert_allclose(loud[:, 0], calm[:, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(loud.std(axis=0), calm.std(axis=0), rtol=0.2)


@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_critics_cannot_be_each_actors_own_and_of_all(algorithm):
    with pytest.raises(ConfigError) as error:
        algorithm(make_noise(AT_ONCE), network=CENTRAL, network_per="actor")
    assert str(error.value) == (
        "network_per: 'actor' gives each agent a critic of its own, which network.central_critic "
        "makes one of all; set one of the two"
    )
    with pytest.raises(ConfigError, match=r"network_per: 'actor' .* network\.central_critic"):
        acting.build_networks(CENTRAL, make_noise(AT_ONCE), "actor")
    with pytest.raises(ConfigError, match="network_per: unknown 'agent'; known names: actor"):
        algorithm(make_noise(AT_ONCE), network_per="agent")
