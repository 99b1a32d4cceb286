"""Normalization in the learners: what is counted, when it takes effect, what it leaves alone.

Statistics are counted again by hand from the rollouts and episodes that learners saw, in
float64, and rewards are scaled by a loop.
"""

import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import mazejax
from mazejax import random
from mazejax.algos import acting, collect, es
from mazejax.algos.base import update_key
from mazejax.algos.es import ES
from mazejax.algos.normalize import RewardStatistics
from mazejax.algos.ppo import PPO
from mazejax.envs.base import Env
from mazejax.envs.probe import ConstantReward, ObservationActionReward
from mazejax.envs.vector import VectorEnv
from mazejax.networks.mlp import MLPActorCritic, MLPPolicy
from mazejax.networks.normalization import CLIP
from mazejax.networks.policy import STATISTICS, AgentActorCritics, weights
from mazejax.runners import checkpoint
from mazejax.runners.run_context import RunContext
from mazejax.spaces.simple import Box
from mazejax.types import ActorID, Rollout, Transition
from mazejax.wrappers.base import Wrapper
from tests.envs.convoy import CONVOY
from tests.networks.streams import assert_statistics, by_path, mean_of
from tests.runners.tiny import digest, tiny_run

# Some episodes of a policy that knows nothing end before the limit, some do not.
CARTPOLE = mazejax.make("CartPole-v1", max_steps=12)
SMALL = {
    "network": MLPActorCritic((8,)),
    "num_envs": 4,
    "num_steps": 9,
    "total_steps": 4 * 9 * 1000,
    "num_epochs": 1,
    "num_minibatches": 1,
    "normalize_obs": True,
    "normalize_reward": True,
}
MEMORY = MLPActorCritic((8,), recurrence="gru", memory_size=8)
LEARNERS = {
    "flat": PPO(CARTPOLE, **SMALL),
    "structured": PPO(CONVOY, **SMALL),
    "network per agent": PPO(CONVOY, network_per="actor", **SMALL),
    "memory": PPO(CARTPOLE, **{**SMALL, "network": MEMORY}),
}
KEY = random.key(0)


class Played:
    """Three updates of a learner, and what it learned from in each."""

    def __init__(self, name):
        self.algorithm = LEARNERS[name]
        self.learn = jax.jit(self.algorithm.learn)
        to_rollout = jax.jit(self.algorithm.collect)
        self.states, self.rollouts, self.metrics = [jax.jit(self.start)(KEY)], [], []
        for _ in range(3):
            collected, rollout, _ = to_rollout(self.states[-1])
            state, metrics = self.learn(self.states[-1].replace(collect=collected), rollout)
            self.states.append(state)
            self.rollouts.append(jax.device_get(rollout))
            self.metrics.append(jax.device_get(metrics))

    def start(self, key):
        """With a policy that is far from uniform, so that what it sees matters."""
        state = self.algorithm.init(key)
        scaled = jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf * (50.0 if "policy" in jax.tree_util.keystr(path) else 1.0),
            state.variables,
        )
        return state.replace(variables=scaled)


played = functools.cache(Played)


def assert_counted(network, statistics, seen):
    """Statistics are those of observations [R, *obs]; of each agent, of its own of [R, S, *obs].

    `seen` is (observations, mask [R] or [R, S]): those that count.
    """
    obs, where = seen
    if isinstance(network, AgentActorCritics):
        for agent in range(network.num_sets):
            own = [slot for slot, other in enumerate(network.agents) if other == agent]
            part = jax.tree.map(lambda leaf, own=own: leaf[:, own], obs), where[:, own]
            of_agent = jax.tree.map(lambda leaf, agent=agent: leaf[agent], statistics)
            assert_counted(network.network, of_agent, part)
        return
    rows = by_path(obs)
    for path, found in by_path(statistics).items():
        assert_statistics(found, rows[path][where], rtol=1e-4)


def rows_of(transitions):
    """(Observations [R, ...], mask [R, ...]) of some transitions [T, N, ...] one after another."""
    obs = jax.tree.map(
        lambda *x: np.concatenate([leaf.reshape(-1, *leaf.shape[2:]) for leaf in x]),
        *(t.obs for t in transitions),
    )
    active = [np.ones(t.reward.shape, bool) if t.active is None else t.active for t in transitions]
    return obs, np.concatenate([a.reshape(-1, *a.shape[2:]) for a in active])


# --- observations, in learners with a critic ------------------------------------------------


@pytest.mark.parametrize("name", LEARNERS)
def test_statistics_are_those_of_all_rollouts_so_far_where_actors_were_active(name):
    run = played(name)
    for count, state in enumerate(run.states[1:], start=1):
        for key, network in run.algorithm.actor_critics.items():
            seen = rows_of([rollout.transitions[key] for rollout in run.rollouts[:count]])
            assert_counted(network, state.variables[key][STATISTICS], seen)
    if run.algorithm.env == CONVOY:
        active = run.rollouts[0].transitions["drive"].active
        assert active.any() and not active.all()


@pytest.mark.parametrize("name", LEARNERS)
def test_all_minibatches_see_what_the_policy_saw_that_collected_them(name):
    """The first ratio of all is 1; with the statistics of after the update it is not."""
    run = played(name)

    def divergences(metrics):
        return [float(metrics[m].mean) for m in metrics if m.startswith("policy/approx_kl")]

    for metrics in run.metrics:
        assert max(map(abs, divergences(metrics))) < 1e-5
        clipped = [metrics[m].max for m in metrics if m.startswith("policy/clip_fraction")]
        assert max(clipped) == 0.0
    late = {
        key: {**own, STATISTICS: run.states[2].variables[key][STATISTICS]}
        for key, own in run.states[0].variables.items()
    }
    _, metrics = run.learn(run.states[0].replace(variables=late), run.rollouts[0])
    assert max(divergences(metrics)) > 1e-3


apply = mazejax.jit(lambda network, variables, obs: network.apply(variables, obs)[0])


@pytest.mark.parametrize("name", ["flat", "structured"])
def test_networks_get_what_is_normalized_by_hand_and_masks_as_they_are(name):
    run = played(name)
    for key, network in run.algorithm.actor_critics.items():
        variables, obs = run.states[2].variables[key], run.rollouts[2].transitions[key].obs
        rows, by_hand = by_path(obs), {}
        for path, leaf in rows.items():
            found = by_path(variables[STATISTICS]).get(path)
            if found is not None:
                deviation = np.sqrt(np.asarray(found.variance, np.float64) + 1e-8)
                leaf = np.clip((leaf - mean_of(found)) / deviation, -10.0, 10.0)
            by_hand[path] = leaf
        by_hand = by_hand[""] if "" in by_hand else by_hand
        plain = network.replace(normalize_obs=False)
        output = apply(network, variables, obs)
        wanted = apply(plain, weights(variables), by_hand)
        np.testing.assert_allclose(output.value, wanted.value, rtol=1e-4, atol=1e-4)
        got = np.asarray(output.distribution.logits)
        np.testing.assert_allclose(got, wanted.distribution.logits, rtol=1e-4, atol=1e-4)
        if name == "structured" and key == "drive":
            assert (got[~obs["action_mask"]] < -1e30).all()


def test_neither_gradients_nor_the_optimizer_know_of_statistics():
    run = played("structured")
    algorithm, state, rollout = run.algorithm, run.states[1], run.rollouts[1]

    @jax.jit
    def after(rate):
        return algorithm.replace(learning_rate=rate).learn(state, rollout)[0]

    slow, fast = after(1e-6), after(10.0)
    for key, own in state.variables.items():
        assert own.keys() == {"params", STATISTICS}
        assert digest(slow.variables[key][STATISTICS]) == digest(fast.variables[key][STATISTICS])
        assert digest(slow.variables[key]["params"]) != digest(fast.variables[key]["params"])
    paths = [
        jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(fast.optimizer)
    ]
    assert any("params" in path for path in paths)
    assert not any(STATISTICS in path for path in paths)


def test_seeds_side_by_side_are_the_seeds_one_by_one():
    algorithm, keys = LEARNERS["flat"], jax.random.split(KEY, 3)

    @jax.jit
    def two_updates(key):
        state, metrics = algorithm.update(algorithm.update(algorithm.init(key))[0])
        return state.variables, state.rewards, metrics["train/episode_return"].mean

    together = jax.jit(jax.vmap(two_updates))(keys)
    for i in range(3):
        alone = two_updates(keys[i])
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-3, atol=1e-4),
            together,
            alone,
        )


class Stretched(Wrapper):
    """Observations a thousand times as large, and 50,000 more."""

    @property
    def observation_space(self):
        return Box(-np.inf, np.inf, self.env.observation_space.shape)

    def observe(self, state):
        return 1e3 * self.env.observe(state) + 5e4


@pytest.mark.parametrize("normalize_obs", [True, False])
def test_badly_scaled_observations_are_learned_from_when_normalized(normalize_obs):
    """Which of two actions pays shows in the observation alone; guessing earns 0."""
    algorithm = PPO(
        Stretched(ObservationActionReward()),
        network=MLPActorCritic((8,)),
        num_envs=8,
        num_steps=16,
        total_steps=8 * 16 * 40,
        num_minibatches=2,
        learning_rate=1e-2,
        normalize_obs=normalize_obs,
    )
    keys = jax.random.split(KEY, 3)
    _, metrics = jax.jit(jax.vmap(algorithm.train))(keys)
    returns = metrics["train/episode_return"].mean[:, -5:].mean(axis=1)
    assert (returns > 0.9).all() if normalize_obs else (returns < 0.3).all()


# --- runs -----------------------------------------------------------------------------------

RUN = {
    "normalize_obs": True,
    "normalize_reward": True,
    "total_steps": 6 * 32,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return tiny_run(tmp_path_factory.mktemp("normalized") / "run", **RUN).train()


def test_evaluation_neither_counts_nor_scales(trained):
    before = digest((trained.state, trained.policy.variables))
    first, second = (trained.evaluate(episodes=5) for _ in range(2))
    np.testing.assert_array_equal(first.returns, second.returns)
    np.testing.assert_array_equal(first.returns, first.lengths)
    assert digest((trained.state, trained.policy.variables)) == before


def test_the_best_policy_keeps_the_statistics_with_which_it_was_evaluated(trained):
    curve = trained.metrics["eval/return_mean"]
    steps = curve.steps[np.argmax(curve.values)]
    assert trained.policy.variables["0"][STATISTICS].count == steps > 0
    loaded = RunContext.load(trained.directory)
    assert digest(loaded.policy.variables) == digest(trained.policy.variables)
    returns = [run.evaluate(episodes=5).returns for run in (trained, loaded)]
    np.testing.assert_array_equal(*returns)


def test_the_policy_of_a_run_acts_on_raw_observations(trained):
    obs = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    variables, network = trained.policy.variables["0"], trained.policy.networks["0"]
    plain = network.replace(normalize_obs=False)
    output, _ = plain.apply(weights(variables), variables[STATISTICS].normalize(obs))
    np.testing.assert_array_equal(trained.policy.act(obs), output.distribution.mode())


def test_a_run_that_goes_on_from_a_checkpoint_gives_the_bits_of_the_whole(trained, tmp_path):
    shutil.copytree(trained.directory, tmp_path / "run")
    checkpoint.remove_after(tmp_path / "run", 2)
    assert checkpoint.latest(tmp_path / "run") == 2
    resumed = RunContext.load(tmp_path / "run").train()
    assert digest(resumed.state) == digest(trained.state)
    assert resumed.state.variables["0"][STATISTICS].count == RUN["total_steps"]
    assert resumed.state.rewards.statistics.count == RUN["total_steps"]


def test_reported_returns_are_those_of_the_env(trained):
    returns, lengths = (trained.metrics[f"train/episode_{x}"] for x in ("return", "length"))
    assert len(returns.values) > 0
    np.testing.assert_array_equal(returns.values, lengths.values)


# --- rewards --------------------------------------------------------------------------------


class Chain(Env):
    """An env of which only the schedule matters; the reward of a flat step belongs to all."""

    actors = (ActorID("select", 0), ActorID("cut", 0))


ENVS = {"flat": ConstantReward(), "own rewards": CONVOY, "one chain": Chain()}
GAMMA = 0.9
scale = mazejax.jit(lambda env, statistics, rollout: statistics.scale(env, rollout, GAMMA))


def random_rollout(env, seed, num_steps=7, num_envs=3, reward=None):
    """A rollout [T, N] of random rewards and ends, or of these rewards."""
    generator = np.random.default_rng(seed)
    terminated, truncated = generator.uniform(size=(2, num_steps, num_envs)) < 0.15
    transitions = {}
    for key, agents in env.agent_counts.items():
        shape = (num_steps, num_envs, agents)[: 2 if agents == 1 else 3]
        drawn = (
            3.0 + 2.0 * generator.normal(size=shape) if reward is None else np.full(shape, reward)
        )
        transitions[key] = Transition(
            obs=None,
            action=None,
            reward=drawn.astype(np.float32),
            terminated=terminated,
            truncated=truncated,
            log_prob=None,
            value=None,
        )
    return Rollout(transitions, {})


def discounted(env, rollouts, gamma=GAMMA):
    """Returns so far [R] of all streams of all rollouts, and those [N, S] of running episodes."""
    found, running = [], 0.0
    for rollout in rollouts:
        steps = [rollout.transitions[key] for key in env.agent_counts]
        rewards = np.concatenate(
            [s.reward.reshape(*s.reward.shape[:2], -1).astype(np.float64) for s in steps], axis=-1
        )
        if env is not CONVOY:
            rewards = rewards.sum(axis=-1, keepdims=True)
        for reward, ended in zip(rewards, steps[0].terminated | steps[0].truncated, strict=True):
            running = reward + gamma * running
            found.append(running.ravel())
            running = np.where(ended[:, None], 0.0, running)
    return np.concatenate(found), running


def assert_scaled(rollout, scaled, deviation):
    for key, steps in rollout.transitions.items():
        wanted = np.clip(steps.reward / deviation, -CLIP, CLIP)
        np.testing.assert_allclose(scaled.transitions[key].reward, wanted, rtol=1e-4)


@pytest.mark.parametrize("name", ENVS)
def test_rewards_are_divided_by_the_deviation_of_discounted_returns(name):
    """They restart where episodes end, and go on from one rollout to the next."""
    env, rollouts = ENVS[name], []
    statistics = RewardStatistics.start(env, 3)
    for seed in range(3):
        rollouts.append(random_rollout(env, seed))
        statistics, scaled = scale(env, statistics, rollouts[-1])
        returns, running = discounted(env, rollouts)
        assert_statistics(statistics.statistics, returns, rtol=1e-4)
        np.testing.assert_allclose(statistics.returns, running, rtol=1e-5)
        assert_scaled(rollouts[-1], scaled, returns.std())


def test_envs_whose_rewards_are_a_thousand_times_as_large_teach_the_same():
    env = ENVS["own rewards"]
    both = [RewardStatistics.start(env, 3), RewardStatistics.start(env, 3)]
    for seed in range(3):
        small = random_rollout(env, seed)
        large = jax.tree.map(lambda x: x if x.dtype == bool else 1e3 * x, small)
        (both[0], one), (both[1], other) = (
            scale(env, s, r) for s, r in zip(both, (small, large), strict=True)
        )
        for key, steps in one.transitions.items():
            np.testing.assert_allclose(steps.reward, other.transitions[key].reward, rtol=1e-5)


def test_returns_that_never_differ_and_first_rewards_after_long_silence_stay_bounded():
    env = ConstantReward()
    always = random_rollout(env, 0, reward=1.0)
    ends = {
        key: s.replace(terminated=np.ones((7, 3), bool)) for key, s in always.transitions.items()
    }
    statistics, scaled = scale(env, RewardStatistics.start(env, 3), Rollout(ends, {}))
    assert statistics.statistics.variance == 0.0
    np.testing.assert_array_equal(scaled.transitions["0"].reward, CLIP)

    statistics = RewardStatistics.start(env, 3)
    for seed in range(50):
        statistics, scaled = scale(env, statistics, random_rollout(env, seed, reward=0.0))
        np.testing.assert_array_equal(scaled.transitions["0"].reward, 0.0)
    first = random_rollout(env, 0, reward=0.0)
    first.transitions["0"].reward[3, 1] = -1.0
    _, scaled = scale(env, statistics, first)
    reward = np.array(scaled.transitions["0"].reward)
    assert reward[3, 1] == -CLIP
    reward[3, 1] = 0.0
    np.testing.assert_array_equal(reward, 0.0)


def test_what_one_player_wins_the_other_loses_on_the_same_scale():
    """The rewards of a game sum to 0, but those of each player are a stream of their own."""
    env = mazejax.make("TicTacToe-v0")
    algorithm = PPO(env, network=MLPActorCritic((4,)), num_envs=16, num_steps=16, gamma=GAMMA)
    rollout = jax.device_get(jax.jit(lambda: algorithm.collect(algorithm.init(KEY))[1])())
    statistics, scaled = scale(env, RewardStatistics.start(env, 16), rollout)
    rewards = scaled.transitions["player"].reward
    assert rewards.shape == (16, 16, 2)
    np.testing.assert_allclose(rewards.sum(axis=-1), 0.0, atol=1e-6)
    deviation = np.sqrt(statistics.statistics.variance)
    assert 0.1 < deviation < 1.0
    np.testing.assert_allclose(abs(rewards).max(), 1.0 / deviation, rtol=1e-4)


def test_rewards_of_all_devices_are_scaled_by_one_number():
    env = CONVOY
    rollouts = [random_rollout(env, seed, num_envs=4) for seed in range(2)]
    half = RewardStatistics.start(env, 2)
    parts = jax.tree.map(lambda x: jnp.stack([x, x]), half)

    @jax.jit
    @functools.partial(jax.vmap, axis_name="devices")
    def spread(statistics, rollout):
        return statistics.scale(env, rollout, GAMMA, "devices")

    whole = RewardStatistics.start(env, 4)
    for rollout in rollouts:
        whole, wanted = scale(env, whole, rollout)
        halves = jax.tree.map(lambda x: jnp.stack([x[:, :2], x[:, 2:]]), rollout)
        parts, scaled = spread(parts, halves)
        joined = jax.tree.map(lambda x: jnp.concatenate([x[0], x[1]], axis=1), scaled)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
            (joined, parts.returns.reshape(4, 5), parts.statistics.variance[1]),
            (wanted, whole.returns, whole.statistics.variance),
        )


@pytest.mark.parametrize("name", ["flat", "structured"])
def test_learners_count_the_rewards_of_all_their_rollouts(name):
    run = played(name)
    for count, state in enumerate(run.states[1:], start=1):
        returns, running = discounted(run.algorithm.env, run.rollouts[:count], run.algorithm.gamma)
        assert_statistics(state.rewards.statistics, returns, rtol=1e-4)
        np.testing.assert_allclose(state.rewards.returns, running, rtol=1e-4, atol=1e-5)


def test_learners_learn_from_scaled_rewards():
    """As one without normalization does from rewards that are scaled by hand."""
    run = played("flat")
    state, rollout = run.states[1], run.rollouts[1]
    deviation = discounted(CARTPOLE, run.rollouts[:2], run.algorithm.gamma)[0].std()
    steps = rollout.transitions["0"]
    by_hand = rollout.replace(transitions={"0": steps.replace(reward=steps.reward / deviation)})
    plain = run.algorithm.replace(normalize_reward=False)
    wanted, _ = jax.jit(plain.learn)(state.replace(rewards=None), by_hand)
    got, _ = run.learn(state, rollout)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        got.variables,
        wanted.variables,
    )


# --- observations, in evolution strategies --------------------------------------------------

POPULATION = {
    "network": MLPPolicy((4,)),
    "population_size": 4,
    "episodes_per_member": 2,
    "noise_stddev": 1.0,
    "total_steps": 1,
    "normalize_obs": True,
}
STRATEGIES = {
    "flat": ES(CARTPOLE, max_steps=9, **POPULATION),
    "structured": ES(CONVOY, max_steps=5, **POPULATION),
    "network per agent": ES(CONVOY, max_steps=5, network_per="actor", **POPULATION),
}


def member_steps(algorithm):
    """What weights do in all envs: transitions by step key, and which episodes run [T, N]."""
    num_envs = algorithm.num_envs // 2
    env = VectorEnv(algorithm.env, num_envs)

    @jax.jit
    def play(state, learned):
        variables = acting.with_weights(state.variables, learned)
        policies = algorithm.policies(variables)

        def one_step(carry, _):
            envs, running = carry
            envs, now = collect.step(env, policies, envs)
            return (envs, running & ~now.episodes.ended), (now.transitions, running)

        begin = collect.start(env, update_key(state, "episodes"))
        running = jnp.ones(num_envs, bool)
        return jax.lax.scan(one_step, (begin, running), None, length=algorithm.max_steps)[1]

    return play


def generation_by_hand(algorithm, play, state):
    """By step key what all members saw: transitions [T, E] of each, active where episodes ran."""
    center, unravel = ravel_pytree(acting.weights_of(state.variables))
    noise = es.draw_noise(update_key(state, "noise"), jnp.arange(2), center.size)
    seen = {key: [] for key in algorithm.actor_critics}
    for side in es.mirrored(center, noise, algorithm.noise_stddev):
        for i, member in enumerate(side):
            transitions, running = jax.device_get(play(state, unravel(member)))
            own = slice(2 * i, 2 * i + 2)
            for key, steps in transitions.items():
                active = running.reshape(running.shape + (1,) * (steps.reward.ndim - 2))
                active = active & (True if steps.active is None else steps.active)
                steps = steps.replace(active=np.broadcast_to(active, steps.reward.shape))
                seen[key].append(jax.tree.map(lambda leaf, own=own: leaf[:, own], steps))
    return seen


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_generation_adds_what_all_members_saw_with_the_statistics_of_its_start(name):
    algorithm = STRATEGIES[name]
    play, update = member_steps(algorithm), jax.jit(algorithm.update)
    state = jax.jit(algorithm.init)(KEY)
    seen = {key: [] for key in algorithm.actor_critics}
    for _ in range(2):
        for key, steps in generation_by_hand(algorithm, play, state).items():
            seen[key] += steps
        state, _ = update(state)
        for key, network in algorithm.actor_critics.items():
            assert_counted(network, state.variables[key][STATISTICS], rows_of(seen[key]))
    assert not all(steps.active.all() for steps in next(iter(seen.values()))), "some ended before"


def test_a_population_that_sees_no_box_learns_all_the_same():
    algorithm = ES(mazejax.make("TicTacToe-v0"), max_steps=5, **POPULATION)
    state, _ = jax.jit(algorithm.update)(algorithm.init(KEY))
    (variables,) = state.variables.values()
    assert int(state.updates) == 1 and not jax.tree.leaves(variables[STATISTICS])
