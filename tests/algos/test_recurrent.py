"""Memory in every learner: kept within an episode, gone after it, and the same when learned from.

The reference is a plain loop that gives each agent its own network, one observation at a
time, and forgets where an episode ended.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from mazejax import random
from mazejax.algos import batch, es, minibatch
from mazejax.algos import collect as collecting
from mazejax.algos.a2c import A2C
from mazejax.algos.base import update_key
from mazejax.algos.es import ES
from mazejax.algos.ppo import PPO
from mazejax.base import jit
from mazejax.deployment.policy import Policy
from mazejax.envs.base import select
from mazejax.envs.vector import VectorEnv
from mazejax.errors import ConfigError, FileError
from mazejax.networks.mlp import MLPActorCritic, MLPPolicy
from mazejax.networks.per_step_key import PerStepKey
from mazejax.networks.policy import AgentActorCritics
from mazejax.runners import checkpoint
from mazejax.runners.rollout import episode_states
from mazejax.types import ActorID
from tests.algos.noise import MIXED, TWICE, make_noise
from tests.runners.tiny import digest

N, T = 64, 5
LSTM = MLPActorCritic((4,), recurrence="lstm", memory_size=3)
GRU = MLPActorCritic((4,), recurrence="gru", memory_size=3)
CHAIN = (ActorID("one", 0), ActorID("two", 0))
SIZES = {"num_envs": N, "num_steps": T, "num_epochs": 1, "num_minibatches": 1, "statistics": "none"}

FLAT_PPO = PPO(make_noise(), network=LSTM, **SIZES)
CASES = {
    "flat": FLAT_PPO,
    "one step": PPO(make_noise(), network=GRU, **{**SIZES, "num_steps": 1}),
    "rare ends": PPO(make_noise(ends=0.03), network=GRU, **SIZES),
    "mixed": PPO(make_noise(MIXED, sleepy=True), network=GRU, **SIZES),
    "delta critic": PPO(make_noise(CHAIN), network=LSTM, critic="delta", **SIZES),
    "central critic": PPO(
        make_noise((ActorID("move", None),)), network=GRU.replace(central_critic=True), **SIZES
    ),
    "per actor": PPO(
        make_noise(MIXED, masked=True, sleepy=True),
        network=LSTM,
        network_per="actor",
        normalize_obs=True,
        **SIZES,
    ),
    "some remember": PPO(
        make_noise(MIXED, sleepy=True),
        network=PerStepKey({"plan": GRU, "move": MLPActorCritic((4,)), "check": LSTM}),
        **SIZES,
    ),
    "acts twice": PPO(make_noise(TWICE), network=GRU, network_per="actor", **SIZES),
}
cases = pytest.mark.parametrize("name", CASES)


# --- two rollouts, and the loop that they are compared with -----------------------------------


@jit
def start(algorithm):
    """A first state whose weights all matter, as those of a fresh policy hardly do."""
    state = algorithm.init(random.key(0))
    leaves, structure = jax.tree.flatten(state.variables)
    keys = jax.random.split(random.key(1), len(leaves))
    noisy = structure.unflatten(
        [x + 0.7 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    )
    # Counts and variances of observations are not negative.
    variables = {
        key: {**jax.tree.map(jnp.abs, own), "params": own["params"]} for key, own in noisy.items()
    }
    return state.replace(variables=variables)


collect = jit(lambda algorithm, state: algorithm.collect(state)[:2])


@jit
def step(algorithm, variables, now):
    fresh = algorithm.initial_carry(N)
    return collecting.step(algorithm.vector_env, algorithm.policies(variables), now, fresh)


@jit
def observe_all(algorithm, now):
    env = algorithm.vector_env
    return now.obs, *(env.observe_as(now.envs, i) for i in range(1, len(env.actors)))


@jit
def relive(algorithm, variables, rollout):
    """Log-probabilities, values [T, B, ...] and last memories that the loss finds, by step key."""
    found = {}
    for key, rows in batch.from_rollout(algorithm, rollout).items():
        network, rows = algorithm.actor_critics[key], batch.time_first(rows)
        output, carry = network.unroll(variables[key], rows.obs, rows.carry, rows.begins)
        found[key] = output.distribution.log_prob(rows.action), output.value, carry
    return found


class Lived(NamedTuple):
    """Two rollouts in a row, each in one go, and the same flat step by flat step."""

    variables: dict
    rollouts: list
    ends: list
    """Where envs and memories stand after each rollout."""
    steps: collecting.FlatStep
    """[2 T, ...]"""
    carries: Any
    """After each flat step, [2 T, ...]."""


@functools.cache
def lived(name):
    algorithm = CASES[name]
    state = start(algorithm)
    now, steps, rollouts, ends = state.collect, [], [], []
    for _ in range(2 * algorithm.num_steps):
        now, one = step(algorithm, state.variables, now)
        steps.append((one, now.carry))
    for _ in range(2):
        end, rollout = collect(algorithm, state)
        state = state.replace(collect=end)
        rollouts.append(rollout)
        ends.append(end)
    stacked = jax.tree.map(lambda *xs: np.stack(xs), *jax.device_get(steps))
    return Lived(*jax.device_get((state.variables, rollouts, ends)), *stacked)


@jit
def apply_alone(network, variables, obs, carry):
    return network.apply(variables, obs, carry)


log_prob_of = jax.jit(lambda distribution, action: distribution.log_prob(action))


def answer(algorithm, variables, actor, obs, carry):
    """(distribution, value, memory) of a sub-step; agents with networks of their own one by one."""
    network, own = algorithm.actor_critics[actor.step_key], variables[actor.step_key]
    if not isinstance(network, AgentActorCritics):
        (distribution, value), carry = apply_alone(network, own, obs, carry)
        return distribution, value, carry
    agents = range(network.num_sets) if actor.agent_id is None else [actor.agent_id]
    found = []
    for slot, agent in enumerate(agents):
        at = (slice(None), slot) if actor.agent_id is None else ()
        seen, memory = jax.tree.map(lambda x, at=at: x[at], (obs, carry))
        weights = jax.tree.map(lambda x, agent=agent: x[agent], own)
        found.append(apply_alone(network.network, weights, seen, memory))
    if actor.agent_id is None:
        found = [jax.tree.map(lambda *xs: np.stack(xs, 1), *jax.device_get(found))]
    ((distribution, value), carry) = found[0]
    return distribution, value, carry


def places(actors):
    """(actor, step key, index of its slot) of each sub-step."""
    keys = [actor.step_key for actor in actors]
    slots = [(keys[:i].count(key),) * (keys.count(key) > 1) for i, key in enumerate(keys)]
    return list(zip(actors, keys, slots, strict=True))


class Moment(NamedTuple):
    """What a sub-step must be, [N, ...]."""

    log_prob: Any
    value: Any
    final_value: Any
    """Of what would be seen at the end of the flat step, before any reset."""
    memory: Any
    """Before it."""


@functools.cache
def by_loop(name):
    """The moment of each flat step and sub-step, {(t, i): Moment}, and the memory at the end."""
    algorithm, (variables, _, _, steps, _) = CASES[name], lived(name)
    fresh = jax.device_get(algorithm.initial_carry(N))
    memory, moments = fresh, {}
    for t in range(2 * algorithm.num_steps):
        after = []
        for i, (actor, key, slot) in enumerate(places(algorithm.env.actors)):
            at = (t, slice(None), *slot)
            obs = jax.tree.map(lambda x, at=at: x[at], steps.transitions[key].obs)
            distribution, value, carry = answer(algorithm, variables, actor, obs, memory[i])
            log_prob = log_prob_of(distribution, steps.transitions[key].action[at])
            final = jax.tree.map(lambda x, t=t: x[t], steps.final_obs[i])
            final_value = answer(algorithm, variables, actor, final, carry)[1]
            moments[t, i] = Moment(*jax.device_get((log_prob, value, final_value, memory[i])))
            after.append(carry)
        memory = jax.device_get(select(steps.episodes.ended[t], fresh, tuple(after)))
    return moments, memory


def close(got, wanted, rtol=2e-5, atol=2e-6):
    compare = functools.partial(np.testing.assert_allclose, rtol=rtol, atol=atol)
    jax.tree.map(compare, got, wanted)


def test_ends_of_all_kinds_and_places_are_among_those_that_are_tried():
    ends = lived("flat").steps.transitions["0"]
    terminated, truncated = (x.reshape(2, T, N) for x in (ends.terminated, ends.truncated))
    for kind in (terminated & ~truncated, truncated & ~terminated, terminated & truncated):
        assert kind[:, 0].any() and kind[:, -1].any() and kind[:, 1:-1].any()
    counts = (terminated | truncated).sum(1)
    assert {0, 1, 2, 3} <= {*counts.ravel().tolist()}
    ended = lived("rare ends").steps.episodes.ended.any(0)
    assert ended.any() and (~ended).any(), "some episodes are longer than two rollouts"


@cases
def test_what_is_collected_is_what_a_loop_with_a_memory_finds(name):
    algorithm, (_, rollouts, ends, steps, carries) = CASES[name], lived(name)
    moments, memory = by_loop(name)
    for (t, i), moment in moments.items():
        _, key, slot = places(algorithm.env.actors)[i]
        number, at = divmod(t, algorithm.num_steps)
        part = rollouts[number].transitions[key]
        close(part.log_prob[(at, slice(None), *slot)], moment.log_prob)
        close(part.value[(at, slice(None), *slot)], moment.value)
        # The memory is forgotten where an episode ended, and nowhere else.
        for leaf in jax.tree.leaves(carries[i]):
            kept = (leaf[t].reshape(N, -1) != 0).all(1)
            np.testing.assert_array_equal(kept, ~steps.episodes.ended[t])
            assert (leaf[t][steps.episodes.ended[t]] == 0).all()
    close(ends[1].carry, memory)


@cases
def test_a_rollout_tells_what_was_remembered_before_it(name):
    algorithm, (_, rollouts, *_) = CASES[name], lived(name)
    moments, _ = by_loop(name)
    actors = algorithm.env.actors
    for number, rollout in enumerate(rollouts):
        first = number * algorithm.num_steps
        memories = [moments[first, i].memory for i in range(len(actors))]
        close(rollout.carry, jax.device_get(collecting.by_step_key(actors, memories)))
    assert not any(leaf.any() for leaf in jax.tree.leaves(rollouts[0].carry))
    assert all(leaf.any() for leaf in jax.tree.leaves(rollouts[1].carry))


@cases
def test_the_loss_finds_the_probabilities_and_values_that_were_collected(name):
    algorithm, (variables, rollouts, ends, *_) = CASES[name], lived(name)
    for rollout, end in zip(rollouts, ends, strict=True):
        for key, (log_prob, value, carry) in relive(algorithm, variables, rollout).items():
            steps = rollout.transitions[key]
            close(log_prob, steps.log_prob)
            close(value, steps.value)
            # Unrolled to the end it is where the envs stand, but for the resets at the end.
            stands = collecting.by_step_key(algorithm.env.actors, end.carry)[key]
            goes_on = ~(steps.terminated | steps.truncated)[-1]
            kept = jax.tree.map(lambda x, on=goes_on: np.asarray(x)[on], (carry, stands))
            close(*kept)


@cases
def test_values_of_what_is_cut_remember_what_was_before_the_reset(name):
    algorithm, (variables, rollouts, ends, *_) = CASES[name], lived(name)
    moments, _ = by_loop(name)
    num_steps, differ = algorithm.num_steps, 0
    for number, (rollout, end) in enumerate(zip(rollouts, ends, strict=True)):
        seen = observe_all(algorithm, end)
        for i, (actor, key, slot) in enumerate(places(algorithm.env.actors)):
            flags = rollout.transitions[key]
            for at in range(num_steps):
                t = number * num_steps + at
                if at == num_steps - 1:
                    following = answer(algorithm, variables, actor, seen[i], end.carry[i])[1]
                else:
                    following = moments[t + 1, i].value
                got = rollout.next_value[key][(at, slice(None), *slot)]
                cut = flags.truncated[at] & ~flags.terminated[at]
                goes_on = ~(flags.truncated[at] | flags.terminated[at])
                close(got[cut], moments[t, i].final_value[cut])
                close(got[goes_on], np.asarray(following)[goes_on])
                differ += (abs(got - following)[cut] > 1e-3).sum()
    assert differ > 0, "the next episode begins with another value"


# --- learning from sequences ------------------------------------------------------------------


batches_of = jit(lambda algorithm, rollout: batch.from_rollout(algorithm, rollout))


def test_rows_are_the_sequences_of_envs_and_say_where_episodes_begin():
    algorithm, rollout = CASES["mixed"], lived("mixed").rollouts[1]
    batches = batches_of(algorithm, rollout)
    assert batches.keys() == {"plan", "move", "check"}
    for key, rows in batches.items():
        steps = rollout.transitions[key]
        done = steps.terminated | steps.truncated
        begins = np.concatenate([np.zeros((1, N), bool), done[:-1]]).T
        slots = steps.reward.shape[2:]
        wanted = begins.reshape(N, T, *(1 for _ in slots)) | np.zeros((N, T, *slots), bool)
        np.testing.assert_array_equal(rows.begins, wanted)
        np.testing.assert_array_equal(rows.obs, steps.obs.swapaxes(0, 1))
        np.testing.assert_array_equal(rows.weight, steps.active.swapaxes(0, 1))
        np.testing.assert_array_equal(rows.carry, rollout.carry[key])
        turned = batch.time_first(rows)
        np.testing.assert_array_equal(turned.begins, wanted.swapaxes(0, 1))
        np.testing.assert_array_equal(turned.carry, rows.carry)


def test_a_shuffled_sequence_keeps_its_memory():
    batches = jax.device_get(batches_of(CASES["mixed"], lived("mixed").rollouts[1]))

    @jax.jit
    def third_part(batches):
        packed, unpack = minibatch.pack(batches)
        return unpack(minibatch.shuffled_rows(packed, random.key(7), jnp.int32(2), N // 4))

    part = jax.device_get(third_part(batches))
    envs = [
        int(np.flatnonzero((batches["plan"].obs == obs).all((1, 2)))[0]) for obs in part["plan"].obs
    ]
    assert len(set(envs)) == N // 4 and envs != sorted(envs)
    jax.tree.map(
        lambda some, all_: np.testing.assert_array_equal(some, np.asarray(all_)[envs]),
        part,
        batches,
    )


@pytest.mark.parametrize("name", ["mixed", "acts twice"])
def test_before_anything_is_learned_all_ratios_are_one(name):
    algorithm, (variables, rollouts, *_) = CASES[name], lived(name)
    loss = jax.jit(lambda v, r: algorithm.loss(v, batch.from_rollout(algorithm, r))[1])
    parts = jax.device_get(loss(variables, rollouts[1]))
    for key in algorithm.actor_critics:
        suffix = f"/{key}" if len(algorithm.actor_critics) > 1 else ""
        assert parts[f"policy/approx_kl{suffix}"] < 1e-9
        assert parts[f"policy/clip_fraction{suffix}"] == 0


@pytest.mark.parametrize("name", ["mixed", "per actor"])
def test_the_gradient_in_chunks_of_sequences_is_that_of_all_at_once(name, monkeypatch):
    algorithm, (variables, rollouts, *_) = CASES[name], lived(name)
    batches = batches_of(algorithm, rollouts[1])
    whole = jax.jit(lambda v, b: algorithm.gradient(v, b))(variables, batches)
    monkeypatch.setattr(minibatch, "_CHUNK_STEPS", 4 * T)
    assert minibatch.chunk_size(N, minibatch._CHUNK_STEPS // T) == 4
    chunked = jax.jit(lambda v, b: algorithm.gradient(v, b))(variables, batches)
    close(chunked, whole, rtol=1e-4, atol=1e-6)


def test_values_of_the_delta_critic_build_on_those_before_with_a_memory_too():
    algorithm, (variables, rollouts, *_) = CASES["delta critic"], lived("delta critic")
    batches = batches_of(algorithm, rollouts[1])
    one, two = (rollouts[1].transitions[key].value.T for key in ("one", "two"))
    close(batches["one"].value, one)
    close(batches["two"].value, one + two)

    def value_loss(variables):
        return algorithm.loss(variables, batches)[1]["loss/value/two"]

    gradient = jax.device_get(jax.jit(jax.grad(value_loss))(variables))
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient["one"]))
    assert gradient["two"]["params"]["cell"]["recurrent_kernel"].any()


def test_under_a_shared_critic_all_sequences_have_the_advantages_of_the_first_actor():
    algorithm = CASES["mixed"].replace(critic="shared")
    variables, rollouts, *_ = lived("mixed")
    batches = batches_of(algorithm, rollouts[1])
    assert batches["plan"].value_weight.all()
    advantage = np.asarray(batches["plan"].advantage)
    alone = rollouts[1].transitions["plan"].active.T
    for key in ("move", "check"):
        rows = batches[key]
        both = alone[..., None] & (np.asarray(rows.weight) > 0)
        wanted = np.broadcast_to(advantage[..., None], both.shape)
        np.testing.assert_array_equal(np.asarray(rows.advantage)[both], wanted[both])
        assert not rows.value_weight.any()
    _, parts = jax.jit(lambda v, b: algorithm.gradient(v, b))(variables, batches)
    assert "loss/value/plan" in parts and "loss/value/move" not in parts


def test_minibatches_divide_the_envs():
    sizes = {"num_envs": 6, "num_steps": 4, "num_minibatches": 4}
    PPO(make_noise(), network=GRU.replace(recurrence="none"), **sizes)
    with pytest.raises(ConfigError) as error:
        PPO(make_noise(), network=GRU, **sizes)
    assert str(error.value) == (
        "num_minibatches: num_envs (of recurrent policies) = 6 does not divide into 4 parts; "
        "nearest that do: 3, 6"
    )


# --- playing ----------------------------------------------------------------------------------


env_reset = jit(lambda env, key: env.reset(key))
env_step = jit(lambda env, state, action: env.step(state, action))


def taken(policy, actor, obs, memory):
    """(actions [N, ...], memory) of a sub-step, by `policy.step` of one agent after the other."""
    if actor.agent_id is not None:
        return policy.step(obs, memory, step_key=actor.step_key, agent=actor.agent_id)
    memory = memory or [None] * 2
    each = [
        policy.step(
            jax.tree.map(lambda x, a=a: x[:, a], obs),
            memory[a],
            step_key=actor.step_key,
            agent=a,
        )
        for a in range(2)
    ]
    return jnp.stack([action for action, _ in each], 1), [memory for _, memory in each]


def play(policy, env, key, max_steps):
    """(returns, lengths) of the first episodes, and the states before each flat step."""
    obs, state = env_reset(env, key)
    memory, states = [None] * len(env.actors), []
    returns, lengths = np.zeros(env.num_envs, np.float32), np.zeros(env.num_envs, int)
    running = np.ones(env.num_envs, bool)
    while running.any() and len(states) < max_steps:
        states.append(jax.device_get(state.envs))
        lengths += running
        for i, actor in enumerate(env.actors):
            action, memory[i] = taken(policy, actor, obs, memory[i])
            now = env_step(env, state, action)
            obs, state = now.obs, now.state
            returns += running * np.asarray(now.reward).reshape(env.num_envs, -1).sum(1)
        running &= ~np.asarray(now.done)
    return returns, lengths, states


@pytest.mark.parametrize("name", ["flat", "central critic", "per actor"])
def test_evaluation_is_a_loop_with_policy_step(name):
    algorithm, variables = CASES[name], lived(name).variables
    policy = Policy(algorithm.actor_critics, variables)
    episodes = jit(lambda a, v, k: a.evaluate(v, k, 6, 40))(algorithm, variables, random.key(4))
    env = VectorEnv(algorithm.env, 6, algorithm.auto_reset)
    returns, lengths, _ = play(policy, env, random.stream(random.key(4), "evaluation"), 40)
    assert episodes.ended.all() and len({*lengths.tolist()}) > 1
    np.testing.assert_array_equal(episodes.lengths, lengths)
    np.testing.assert_allclose(episodes.returns, returns, rtol=1e-5, atol=1e-5)


def test_a_rendered_episode_is_a_loop_with_policy_step():
    algorithm, variables = CASES["rare ends"], lived("rare ends").variables
    states = episode_states(algorithm, variables, seed=1, max_steps=7)
    env = VectorEnv(algorithm.env, 1)
    policy = Policy(algorithm.actor_critics, variables)
    *_, wanted = play(policy, env, random.stream(random.key(1), "rollout"), 7)
    assert len(states) == len(wanted) > 3
    for got, want in zip(states, wanted, strict=True):
        np.testing.assert_array_equal(got.core.seen, want.core.seen[0])


def test_members_of_a_population_have_memories_of_their_own():
    algorithm = ES(
        make_noise(ends=0.1),
        network=MLPPolicy((4,), recurrence="gru", memory_size=3),
        population_size=6,
        episodes_per_member=2,
        max_steps=8,
        noise_stddev=2.0,
        deterministic=True,
    )
    state = jit(lambda a: a.init(random.key(3)))(algorithm)
    episodes = jax.device_get(jit(lambda a, s: a.collect(s)[2])(algorithm, state))
    center, unravel = ravel_pytree(state.variables)
    noise = es.draw_noise(update_key(state, "noise"), jnp.arange(3), center.size)
    members = es.mirrored(center, noise, 2.0)
    env = VectorEnv(algorithm.env, 6)
    for sign in range(2):
        for i in range(3):
            policy = Policy(algorithm.actor_critics, unravel(members[sign, i]))
            returns, lengths, _ = play(policy, env, update_key(state, "episodes"), 8)
            own = slice(2 * i, 2 * i + 2)
            np.testing.assert_array_equal(episodes.lengths[sign, i], lengths[own])
            np.testing.assert_allclose(episodes.returns[sign, i], returns[own], rtol=1e-5)
    assert len(np.unique(episodes.returns)) > 6


# --- stopping, going on, sweeping -------------------------------------------------------------


TINY = FLAT_PPO.replace(num_envs=4, num_steps=3, num_minibatches=2, total_steps=2 * 12)
init = jit(lambda algorithm, key: algorithm.init(key))
update = jit(lambda algorithm, state: algorithm.update(state)[0])


def test_a_run_that_is_saved_in_the_middle_of_episodes_goes_on_bit_for_bit(tmp_path):
    middle = update(TINY, init(TINY, random.key(0)))
    assert all(leaf.any() for leaf in jax.tree.leaves(middle.collect.carry))
    checkpoint.save(tmp_path, 1, middle)
    template = jax.eval_shape(TINY.init, random.key(0))
    again = checkpoint.restore(tmp_path, template)
    assert digest(again) == digest(middle)
    assert digest(update(TINY, again)) == digest(update(TINY, middle))


def test_a_checkpoint_is_refused_for_another_kind_or_size_of_memory(tmp_path):
    checkpoint.save(tmp_path, 1, init(TINY, random.key(0)))
    for network in (GRU, LSTM.replace(memory_size=4), LSTM.replace(recurrence="none")):
        other = jax.eval_shape(TINY.replace(network=network).init, random.key(0))
        with pytest.raises(FileError, match=r"leaf \.(variables|collect\.carry)"):
            checkpoint.restore(tmp_path, other)


SWEPT = {
    "PPO": (
        PPO(make_noise(), network=GRU, num_envs=4, num_steps=4, num_minibatches=2, total_steps=32),
        {
            "learning_rate": [1e-3, 3e-2, 3e-2, 3e-2],
            "gamma": [0.99, 0.9, 0.99, 0.9],
            "gae_lambda": [0.95, 0.5, 0.95, 0.95],
            "ent_coef": [0.01, 0.1, 0.0, 0.1],
            "vf_coef": [0.5, 1.0, 0.0, 1.0],
            "clip_eps": [0.2, 0.1, 0.3, 0.1],
            "max_grad_norm": [0.5, 1.0, 10.0, 1.0],
        },
    ),
    "A2C": (
        A2C(make_noise(), network=MLPActorCritic((4,)), num_envs=4, num_steps=4, total_steps=32),
        {
            "learning_rate": [1e-3, 3e-2, 3e-2, 3e-2],
            "gamma": [0.99, 0.9, 0.99, 0.9],
            "gae_lambda": [0.95, 0.5, 0.95, 0.95],
            "ent_coef": [0.01, 0.1, 0.0, 0.1],
            "vf_coef": [0.5, 1.0, 0.0, 1.0],
        },
    ),
    "ES": (
        ES(
            make_noise(),
            network=MLPPolicy((4,), recurrence="gru", memory_size=3),
            population_size=4,
            max_steps=5,
            total_steps=40,
        ),
        {
            "learning_rate": [0.01, 0.1, 0.1, 0.1],
            "noise_stddev": [0.1, 0.5, 1.0, 0.5],
            "weight_decay": [0.0, 0.01, 0.1, 0.01],
        },
    ),
}


@pytest.mark.parametrize("name", SWEPT)
def test_lanes_of_seeds_and_numbers_learn_what_single_runs_learn(name):
    algorithm, numbers = SWEPT[name]
    assert algorithm.num_updates == 2

    def learned(numbers, key):
        return algorithm.replace(**numbers).train(key)[0].variables

    numbers = {name: jnp.asarray(values) for name, values in numbers.items()}
    keys = jnp.stack([random.key(seed) for seed in (0, 0, 1, 1)])
    lanes = jax.device_get(jax.jit(jax.vmap(learned))(numbers, keys))
    single = jax.jit(learned)
    flat = []
    for i in range(4):
        own = {name: values[i] for name, values in numbers.items()}
        alone = jax.device_get(single(own, keys[i]))
        close(jax.tree.map(lambda x, i=i: x[i], lanes), alone, rtol=1e-4, atol=1e-5)
        flat.append(ravel_pytree(alone)[0])
    for i in range(4):
        for j in range(i):
            assert (flat[i] != flat[j]).any(), f"lanes {i} and {j} learned the same"
