"""`ActorCritic`: pure init and apply on observations of any space and any leading axes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.base import jit
from mazejax.errors import ConfigError, SpaceError
from mazejax.networks.mlp import MLPActorCritic
from mazejax.networks.policy import STATISTICS, AgentActorCritics, weights
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box, Discrete, MultiBinary, MultiDiscrete

OBSERVATIONS = {
    "Box": Box(-np.inf, np.inf, (4,)),
    "pixels": Box(0, 255, (6, 5, 3), "uint8"),
    "scalar Box": Box(-1.0, 1.0, ()),
    "Discrete": Discrete(3, start=-1),
    "MultiDiscrete": MultiDiscrete([[2, 3], [4, 2]]),
    "MultiBinary": MultiBinary(5),
    "nested Dict": Dict(
        {
            "image": Box(0, 255, (2, 2, 3), "uint8"),
            "inner": Dict({"kind": Discrete(3), "on": MultiBinary(2)}),
            "levels": MultiDiscrete([2, 3]),
        }
    ),
}
ACTIONS = {
    "Discrete": Discrete(2),
    "Box": Box(-1.0, 1.0, (3,)),
    "nested Dict": Dict(
        {"b": Dict({"x": MultiBinary(2), "m": MultiDiscrete([2, 3])}), "a": Box(0, 1)}
    ),
}
TEMPLATE = MLPActorCritic((4,))


init = jit(lambda network, key: network.init(key))
apply = jit(lambda network, variables, obs: network.apply(variables, obs)[0])


def built(observation="Box", action="Discrete"):
    network = TEMPLATE.build(OBSERVATIONS[observation], ACTIONS[action])
    return network, init(network, random.key(0))


def observations(space, batch):
    keys = jax.random.split(random.key(1), max(1, int(np.prod(batch))))
    flat = jax.vmap(space.sample)(keys)
    return jax.tree.map(lambda leaf: leaf.reshape(*batch, *leaf.shape[1:]), flat)


@pytest.mark.parametrize("batch", [(), (7,), (2, 3), (1, 2, 3)])
@pytest.mark.parametrize("name", OBSERVATIONS)
def test_observations_of_any_space_and_any_leading_axes_get_a_value_and_a_distribution(name, batch):
    network = TEMPLATE.build(OBSERVATIONS[name], ACTIONS["Discrete"])
    variables = jax.eval_shape(network.init, random.key(0))

    def evaluate(variables):
        output, carry = network.apply(variables, observations(OBSERVATIONS[name], batch))
        assert carry == ()
        action = output.distribution.mode()
        return output.value, action, output.distribution.log_prob(action)

    value, action, log_prob = jax.eval_shape(evaluate, variables)
    assert (value.shape, value.dtype) == (batch, jnp.float32)
    assert (action.shape, action.dtype) == (batch, jnp.int32)
    assert (log_prob.shape, log_prob.dtype) == (batch, jnp.float32)


@pytest.mark.parametrize("batch", [(), (2, 3)])
@pytest.mark.parametrize("name", ACTIONS)
def test_actions_of_any_space_are_drawn_with_any_leading_axes(name, batch):
    network, variables = built(action=name)

    def draw(variables, key):
        output, _ = network.apply(variables, jnp.ones((*batch, 4)))
        action = output.distribution.sample(key)
        return output.distribution.log_prob(action), network.to_env(action)

    log_prob, action = jax.jit(draw)(variables, random.key(2))
    assert log_prob.shape == batch
    rows = jax.tree.map(lambda leaf: np.asarray(leaf)[(0,) * len(batch)], action)
    ACTIONS[name].validate(rows)
    wanted = jax.eval_shape(ACTIONS[name].sample, random.key(0))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), action) == jax.tree.map(
        lambda leaf: ((*batch, *leaf.shape), leaf.dtype), wanted
    )


def test_rows_are_evaluated_independently_of_each_other():
    network, variables = built("nested Dict")
    obs = jax.device_get(observations(OBSERVATIONS["nested Dict"], (3,)))
    together = apply(network, variables, obs)
    for i in range(3):
        alone = apply(network, variables, jax.tree.map(lambda leaf, i=i: leaf[i], obs))
        np.testing.assert_allclose(alone.value, together.value[i], atol=1e-6)
        np.testing.assert_allclose(
            alone.distribution.logits, together.distribution.logits[i], atol=1e-6
        )


def test_every_part_of_a_dict_observation_reaches_policy_and_value():
    network, variables = built("nested Dict")
    space = OBSERVATIONS["nested Dict"]

    def outputs(features):
        parameters, value = network.module.apply(variables, features)
        return jnp.append(parameters["logits"], value)

    assert space.flat_size == 12 + 3 + 2 + 5
    jacobian = jax.jit(jax.jacobian(outputs))(jnp.linspace(-1, 1, 22))
    assert jacobian.shape == (3, 22) and (jacobian != 0).all()


def test_the_policy_and_the_value_share_no_weight():
    network, variables = built()
    obs = observations(OBSERVATIONS["Box"], (8,))

    def value(variables):
        return jnp.square(network.apply(variables, obs)[0].value).sum()

    def log_prob(variables):
        distribution = network.apply(variables, obs)[0].distribution
        return distribution.log_prob(jnp.zeros(8, jnp.int32)).sum()

    both = jax.jit(lambda v: (jax.grad(value)(v), jax.grad(log_prob)(v)))(variables)
    for of_value, of_policy in zip(*map(jax.tree.leaves, jax.device_get(both)), strict=True):
        assert ((of_value != 0) ^ (of_policy != 0)).all(), "every weight serves one of them"


def test_initial_variables_follow_from_the_key_alone():
    network, variables = built()
    again, other = init(network, random.key(0)), init(network, random.key(1))
    assert jax.tree.all(jax.tree.map(np.array_equal, variables, again))
    kernel = lambda variables: variables["params"]["torso"]["first"]["kernel"]  # noqa: E731
    assert (kernel(variables) != kernel(other)).all()
    threefry = init(network, jax.random.key(0))
    assert kernel(threefry).shape == kernel(variables).shape


@pytest.mark.parametrize(
    ("observation", "action", "count"),
    [
        # First layers 2 x (4 x 4 + 4), policy 4 x 2 + 2, value 4 x 1 + 1
        ("Box", "Discrete", 2 * 20 + 10 + 5),
        # Policy 4 x 3 + 3, and 3 spreads
        ("Box", "Box", 2 * 20 + 15 + 3 + 5),
        # 90 pixels
        ("pixels", "Discrete", 2 * (90 * 4 + 4) + 10 + 5),
        # 12 + 3 + 2 + 5 inputs; 2 + 5 + 1 outputs, and 1 spread
        ("nested Dict", "nested Dict", 2 * (22 * 4 + 4) + (4 * 8 + 8) + 1 + 5),
    ],
)
def test_the_number_of_parameters_is_that_counted_by_hand(observation, action, count):
    network, variables = built(observation, action)
    assert network.num_parameters() == count
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == count


def test_an_observation_of_another_shape_is_named():
    network, variables = built()
    with pytest.raises(SpaceError, match=r"got an array of shape \(3,\), expected \[\.\.\., 4\]"):
        network.apply(variables, jnp.zeros(3))


def test_networks_for_equal_spaces_are_equal_and_share_a_compiled_program():
    traces = []

    @jit
    def value(network, variables, obs):
        traces.append(network)
        return network.apply(variables, obs)[0].value

    one, variables = built()
    other = MLPActorCritic([4]).build(Box(-np.inf, np.inf, (4,)), Discrete(2))
    assert one == other and hash(one) == hash(other)
    np.testing.assert_array_equal(
        value(one, variables, jnp.ones(4)), value(other, variables, jnp.ones(4))
    )
    assert len(traces) == 1
    assert one != TEMPLATE.build(OBSERVATIONS["Box"], Discrete(3))


def test_boxed_actions_are_clipped_for_the_env_and_others_stay():
    network, _ = built(action="nested Dict")
    action = {"a": jnp.array(7.0), "b": {"x": jnp.array([1, 0]), "m": jnp.array([1, 2])}}
    taken = network.to_env(action)
    assert taken["a"] == 1.0
    np.testing.assert_array_equal(taken["b"]["x"], [1, 0])
    np.testing.assert_array_equal(taken["b"]["m"], [1, 2])


def test_a_network_without_memory_has_an_empty_carry():
    network, variables = built()
    carry = network.initial_carry(5)
    assert jax.tree.leaves(carry) == []
    assert network.apply(variables, jnp.zeros((5, 4)), carry)[1] == carry


# --- memory -----------------------------------------------------------------------------------

MEMORIES = ("lstm", "gru")
T, N, A, D, H = 6, 3, 2, 4, 3
unroll = jit(lambda network, variables, *args: network.unroll(variables, *args))
step = jit(lambda network, variables, *args: network.apply(variables, *args))


@functools.cache
def remembering(recurrence, num_agents=0, **fields):
    """A network and weights of which every one matters."""
    template = TEMPLATE.replace(recurrence=recurrence, memory_size=H, **fields)
    network = template.build(OBSERVATIONS["Box"], ACTIONS["Discrete"], num_agents)
    variables, rng = init(network, random.key(0)), np.random.default_rng(0)
    noise = lambda leaf: leaf + rng.normal(size=leaf.shape, scale=0.7).astype(np.float32)  # noqa: E731
    return network, jax.tree.map(noise, variables)


def sequences(network, batch, seed=0):
    """Observations [T, *batch, D], a memory [*batch, H] and random begins [T, *batch]."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    carry = jax.tree.map(lambda leaf: draw(*leaf.shape), network.initial_carry(batch))
    return draw(T, *batch, D), carry, rng.random((T, *batch)) < 0.3


def close(got, wanted):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, wanted)


@pytest.mark.parametrize("batch", [(), (N,), (N, A)])
@pytest.mark.parametrize("recurrence", MEMORIES)
def test_what_is_unrolled_is_what_is_applied_step_by_step(recurrence, batch):
    network, variables = remembering(recurrence)
    obs, carry, begins = sequences(network, batch)
    output, last = unroll(network, variables, obs, carry, begins)
    assert output.value.shape == (T, *batch)
    for t in range(T):
        carry = jax.tree.map(lambda x, t=t: np.where(begins[t][..., None], 0, x), carry)
        now, carry = step(network, variables, obs[t], carry)
        close(jax.tree.map(lambda x, t=t: x[t], output), now)
    close(last, carry)


@pytest.mark.parametrize("recurrence", MEMORIES)
def test_without_begins_a_sequence_is_one_episode(recurrence):
    network, variables = remembering(recurrence)
    obs, carry, begins = sequences(network, (N,))
    never = np.zeros_like(begins)
    close(unroll(network, variables, obs, carry), unroll(network, variables, obs, carry, never))
    fresh, _ = unroll(network, variables, obs, carry, np.ones_like(begins))
    alone, _ = step(network, variables, obs, network.initial_carry((T, N)))
    close(fresh, alone)


@pytest.mark.parametrize("recurrence", MEMORIES)
def test_a_memory_that_does_not_fit_is_named(recurrence):
    network, variables = remembering(recurrence)
    for carry in ((), network.initial_carry((N + 1,)), network.initial_carry(())):
        with pytest.raises(ConfigError, match=rf"{recurrence.upper()}: got a carry of shapes"):
            network.apply(variables, jnp.zeros((N, D)), carry)


# --- a critic of all agents -------------------------------------------------------------------


@pytest.mark.parametrize("recurrence", ["none", "gru"])
def test_what_an_agent_does_depends_on_it_alone_and_its_value_on_all(recurrence):
    if recurrence == "none":
        network = TEMPLATE.replace(central_critic=True).build(
            OBSERVATIONS["Box"], ACTIONS["Discrete"], 3
        )
        variables = init(network, random.key(0))
    else:
        network, variables = remembering(recurrence, 3, central_critic=True)

    def outputs(obs):
        if recurrence == "none":
            output = network.apply(variables, obs)[0]
        else:
            output = network.unroll(variables, obs, network.initial_carry((3,)))[0]
        return output.distribution.logits, output.value

    obs = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, D)), jnp.float32)
    # [2, 3, 2, 2, 3, D] and [2, 3, 2, 3, D]: of steps and agents, by steps and agents.
    of_logits, of_value = jax.device_get(jax.jit(jax.jacrev(outputs))(obs))
    for agent in range(3):
        for other in range(3):
            assert of_logits[1, agent, :, 1, other].any() == (agent == other)
            assert of_value[1, agent, 1, other].all()
            # A memory knows what was, again the policy's of itself alone.
            remembers = recurrence != "none"
            assert of_logits[1, agent, :, 0, other].any() == (agent == other and remembers)
            assert of_value[1, agent, 0, other].any() == remembers
    assert not of_logits[0, :, :, 1].any() and not of_value[0, :, 1].any(), "nobody sees ahead"


def test_agents_who_see_the_same_are_valued_apart():
    network = TEMPLATE.replace(central_critic=True).build(
        OBSERVATIONS["Box"], ACTIONS["Discrete"], 3
    )
    output = apply(network, init(network, random.key(0)), jnp.ones((3, D)))
    assert len(set(output.value.tolist())) == 3
    np.testing.assert_array_equal(output.distribution.logits[0], output.distribution.logits[1])


@pytest.mark.parametrize("recurrence", MEMORIES)
@pytest.mark.parametrize("batch", [(), (N,)])
def test_an_agent_that_acts_alone_does_what_it_does_among_others(recurrence, batch):
    network, variables = remembering(recurrence, 3, central_critic=True)
    obs, carry, _ = sequences(network, (*batch, 3))
    output, new = step(network, variables, obs[0], carry)
    act = jax.jit(lambda obs, carry: network.act(variables, obs, carry))
    for agent in range(3):
        own = jax.tree.map(lambda x, agent=agent: x[..., agent, :], carry)
        distribution, memory = act(obs[0][..., agent, :], own)
        close(distribution.logits, output.distribution.logits[..., agent, :])
        close(memory, jax.tree.map(lambda x, agent=agent: x[..., agent, :], new))


# --- a network for each agent -----------------------------------------------------------------

SLOTS = {"each once": (0, 1, 2), "the first twice": (0, 1, 0), "one twice": (0, 0)}
MASKED = Dict({"x": Box(-1.0, 1.0, (2,)), "action_mask": Box(False, True, (3,), bool)})


def per_agent(slots, **fields):
    template = TEMPLATE.replace(**fields)
    return AgentActorCritics(template.build(MASKED, Discrete(3)), SLOTS[slots])


def masked_observations(*batch):
    rng = np.random.default_rng(2)
    mask = rng.random((*batch, 3)) < 0.5
    mask[..., 1] = True
    x = rng.uniform(-1, 1, (*batch, 2)).astype(np.float32)
    return {"x": x, "action_mask": mask}


def of_agent(variables, agent):
    return jax.tree.map(lambda leaf: leaf[agent], variables)


@pytest.mark.parametrize("slots", SLOTS)
@pytest.mark.parametrize("batch", [(), (N,), (T, N)])
def test_each_slot_is_the_network_of_its_agent(slots, batch):
    network = per_agent(slots)
    agents = SLOTS[slots]
    assert network.num_sets == len(set(agents))
    variables = init(network, random.key(0))
    obs = masked_observations(*batch, len(agents))
    output = apply(network, variables, obs)
    assert output.value.shape == (*batch, len(agents))
    for slot, agent in enumerate(agents):
        own = {key: leaf[..., slot, :] for key, leaf in obs.items()}
        alone = apply(network.network, of_agent(variables, agent), own)
        close(output.value[..., slot], alone.value)
        close(output.distribution.logits[..., slot, :], alone.distribution.logits)
    assert (output.distribution.logits[~obs["action_mask"]] < -1e8).all()


def test_each_slot_remembers_by_itself():
    network = per_agent("the first twice", recurrence="lstm", memory_size=H)
    variables = init(network, random.key(0))
    obs, (_, carry, begins) = masked_observations(T, N, 3), sequences(network, (N, 3))
    output, last = unroll(network, variables, obs, carry, begins)
    first, _ = step(
        network, variables, {k: x[0] for k, x in obs.items()}, network.initial_carry((N, 3))
    )
    for slot, agent in enumerate((0, 1, 0)):
        own = {key: leaf[..., slot, :] for key, leaf in obs.items()}
        memory = jax.tree.map(lambda x, slot=slot: x[:, slot], carry)
        args = own, memory, begins[..., slot]
        alone, end = unroll(network.network, of_agent(variables, agent), *args)
        close(output.value[..., slot], alone.value)
        close(output.distribution.logits[..., slot, :], alone.distribution.logits)
        close(jax.tree.map(lambda x, slot=slot: x[:, slot], last), end)
        if not begins[0, :, slot].all():
            assert (abs(first.value[:, slot] - output.value[0, :, slot]) > 1e-4).any()


def test_gradients_stay_with_the_agent():
    network = per_agent("the first twice", recurrence="gru", memory_size=H)
    variables = init(network, random.key(0))
    obs, begins = masked_observations(T, N, 3), np.zeros((T, N, 3), bool)

    @jax.jit
    @functools.partial(jax.jacrev, argnums=0)
    def by_slot(variables):
        carry = network.initial_carry((N, 3))
        output, _ = network.unroll(variables, obs, carry, begins)
        log_prob = output.distribution.log_prob(jnp.ones((T, N, 3), jnp.int32))
        return (output.value + log_prob).sum((0, 1))

    # [3 slots, 2 agents, ...]
    for leaf in jax.tree.leaves(jax.device_get(by_slot(variables))):
        used = leaf.reshape(3, 2, -1).any(-1)
        np.testing.assert_array_equal(used, [[True, False], [False, True], [True, False]])


def test_statistics_are_of_what_each_agent_saw():
    network = per_agent("the first twice")
    network = network.replace(network=network.network.replace(normalize_obs=True))
    variables, obs = init(network, random.key(0)), masked_observations(T, N, 3)
    where = np.random.default_rng(3).random((T, N, 3)) < 0.7
    grown = jax.jit(lambda v, o, w: network.add_observations(v, o, w))(variables, obs, where)
    for agent, slots in ((0, [0, 2]), (1, [1])):
        seen = obs["x"][:, :, slots][where[:, :, slots]]
        found = of_agent(grown, agent)[STATISTICS]["x"]
        assert found.count == len(seen)
        np.testing.assert_allclose(found.mean + found.mean_low, seen.mean(0), atol=1e-6)
        np.testing.assert_allclose(found.variance, seen.var(0), rtol=1e-5)
        # Each agent's observations are normalized by its own.
        normalized = (obs["x"][0, 0, slots[0]] - found.mean) / np.sqrt(found.variance)
        own = {"x": normalized, "action_mask": obs["action_mask"][0, 0, slots[0]]}
        plain = network.network.replace(normalize_obs=False)
        wanted = apply(plain, weights(of_agent(grown, agent)), own).value
        got = apply(network, grown, {key: leaf[0, 0] for key, leaf in obs.items()}).value
        np.testing.assert_allclose(got[slots[0]], wanted, rtol=1e-4, atol=1e-5)


def test_networks_of_agents_count_as_many_times():
    network = per_agent("the first twice")
    assert network.num_parameters() == 2 * network.network.num_parameters()
    assert (network.observation_space, network.action_space) == (MASKED, Discrete(3))
    assert network.is_recurrent is False and network.initial_carry((2, 3)) == ()
    assert network == per_agent("the first twice") != per_agent("each once")


def test_agents_with_networks_of_their_own_have_no_critic_of_all():
    central = TEMPLATE.replace(central_critic=True).build(MASKED, Discrete(3), 2)
    with pytest.raises(ConfigError, match=r"network_per: 'actor' .* network\.central_critic"):
        AgentActorCritics(central, (0, 1))
