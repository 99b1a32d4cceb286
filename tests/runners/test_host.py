"""Host envs feed the same learners: what compiled envs yield and teach, stepped from outside."""

import functools
import os
import signal

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import mazejax
from mazejax import random
from mazejax.algos.a2c import A2C
from mazejax.algos.es import ES
from mazejax.algos.ppo import PPO
from mazejax.envs.base import Env, StateStep, flag
from mazejax.envs.bridges.gymnasium import HostVectorEnv
from mazejax.envs.vector import VectorEnv
from mazejax.errors import ConfigError, EnvError
from mazejax.networks.mlp import MLPActorCritic
from mazejax.runners.host import HostCollector, evaluate_on_host, train_on_host
from mazejax.spaces.composite import Dict
from mazejax.spaces.convert import to_gymnasium
from mazejax.spaces.simple import Box, Discrete, MultiBinary, MultiDiscrete
from mazejax.types import ActorID

KEY = random.key(5)


class Stepped(gymnasium.vector.VectorEnv):
    """A compiled `VectorEnv`, stepped from outside as Gymnasium's vector envs are."""

    def __init__(self, env, num_envs, root):
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.num_envs, self.root, compiled = num_envs, root, VectorEnv(env, num_envs)
        self.start, self.move = jax.jit(compiled.reset), jax.jit(compiled.step)
        self.single_observation_space = to_gymnasium(env.observation_space)
        self.single_action_space = to_gymnasium(env.action_space)

    def reset(self, *, seed=None, options=None):
        obs, self.state = self.start(self.root)
        return jax.device_get(obs), {}

    def step(self, actions):
        obs, self.state, *results, info = jax.device_get(self.move(self.state, actions))
        ended, final = results[1] | results[2], np.full(self.num_envs, None, object)
        for n in np.flatnonzero(ended):
            final[n] = jax.tree.map(lambda leaf, n=n: leaf[n], info["final_obs"])
        return obs, *results, {"final_obs": final, "_final_obs": ended} if ended.any() else {}


class Mixed(Env):
    """Observations and actions of every kind, drawn anew in each of the five steps."""

    @property
    def actors(self):
        return (ActorID("hand", 0),)

    @property
    def observation_space(self):
        inner = Dict({"kind": Discrete(3, start=1), "on": MultiBinary(2)})
        return Dict({"image": Box(0, 255, (2, 2), "uint8"), "inner": inner, "x": Box(-1, 1, ())})

    @property
    def action_space(self):
        gears = Dict({"gear": Discrete(3, start=4), "lights": MultiBinary(2)})
        return Dict({"speed": Box(-0.1, 0.1, (2,)), "gears": gears, "to": MultiDiscrete([2, 4])})

    def reset_state(self, key):
        return self.observation_space.sample(key), jnp.zeros((), jnp.int32)

    def step_state(self, key, state, action):
        reward = action["speed"].sum() + action["gears"]["gear"]
        time = state[1] + 1
        return StateStep((self.observation_space.sample(key), time), reward, flag(), time >= 5, {})

    def observe(self, state):
        return state[0]

    def time(self, state):
        return state[1]


SETTINGS = {"statistics": "none", "num_envs": 4, "num_steps": 16, "total_steps": 4 * 16 * 3}
# Of 12 steps at most: some episodes of a policy that knows nothing end before, some do not.
POLES = mazejax.make("CartPole-v1", max_steps=12)
SMALL = MLPActorCritic((8,))
LEARNERS = {
    "ppo": PPO(
        POLES,
        **SETTINGS,
        network=SMALL,
        num_minibatches=2,
        normalize_obs=True,
        normalize_reward=True,
    ),
    "a2c": A2C(POLES, **SETTINGS, network=SMALL),
    "memory": A2C(POLES, **SETTINGS, network=SMALL.replace(recurrence="gru", memory_size=8)),
    "mixed": A2C(Mixed(), **SETTINGS, network=SMALL),
}


def on_host(algorithm, key=KEY):
    root = random.stream(random.as_key(key), "envs")
    return HostVectorEnv(Stepped(algorithm.env, algorithm.num_envs, root))


def types(tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure, [
        (leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False)) for leaf in leaves
    ]


def assert_close(one, other):
    pairs = zip(*map(jax.tree_util.tree_leaves_with_path, (one, other)), strict=True)
    for (path, a), (_, b) in pairs:
        close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-5)
        equal = close if jnp.issubdtype(a.dtype, jnp.floating) else np.testing.assert_array_equal
        equal(np.asarray(a), np.asarray(b), err_msg=jax.tree_util.keystr(path))


# --- the same as in compiled envs ------------------------------------------------------------


@pytest.mark.parametrize("name", LEARNERS)
def test_rollouts_are_those_of_collect_and_the_compiled_learn_takes_both(name):
    algorithm = LEARNERS[name]
    state = jax.jit(algorithm.init)(KEY)
    collect = jax.jit(algorithm.collect)
    collector = HostCollector(algorithm, on_host(algorithm), random.stream(KEY, "envs"))
    for _ in range(2):
        collected, compiled, episodes = collect(state)
        rollout, ended = collector.collect(state.variables)
        assert types(rollout) == types(compiled)
        assert_close((rollout, ended), (compiled, episodes))
        state = state.replace(collect=collected)
    steps = next(iter(compiled.transitions.values()))
    assert steps.truncated.any() and (name == "mixed" or steps.terminated.any())
    # Compiled ahead for the one, so that anything else of another type would be an error.
    learn = jax.jit(algorithm.learn).lower(state, compiled).compile()
    one, other = learn(state, rollout), learn(state, compiled)
    assert_close((one[0].variables, one[1]), (other[0].variables, other[1]))


@pytest.mark.parametrize("name", ["ppo", "mixed"])
def test_training_on_the_host_is_training_in_a_compiled_program(name):
    algorithm = LEARNERS[name]
    compiled, rows = jax.jit(algorithm.train)(random.key(7))
    state, metrics = train_on_host(algorithm, on_host(algorithm, random.key(7)), seed=7)
    assert metrics.keys() == rows.keys() and types(metrics) == types(rows)
    assert state.collect is None and int(state.updates) == algorithm.num_updates
    assert types(state.replace(collect=compiled.collect)) == types(compiled)
    assert_close(metrics["train/episode_length"], rows["train/episode_length"])
    assert_close((state.variables, state.rewards), (compiled.variables, compiled.rewards))


# --- what is exact in host envs of their own --------------------------------------------------


class Clock(gymnasium.Env):
    """Observes the steps of the episode, 50 after a reset; terminates or is cut by its numbers."""

    observation_space = spaces.Box(0.0, 100.0, (1,))
    action_space = spaces.Discrete(2)

    def __init__(self, last=10**6, limit=10**6, at=None, event=None):
        self.last, self.limit, self.at, self.event, self.all = last, limit, at, event, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.array([50.0]), {}

    def step(self, action):
        self.steps, self.all = self.steps + 1, self.all + 1
        obs = np.array([self.steps])
        if self.all == self.at:
            obs = self.event(obs)
        return obs, 1.0, self.steps >= self.last, self.steps >= self.limit, {}


def clocks(*numbers, **options):
    envs = [lambda own=own: Clock(**own) for own in numbers]
    return HostVectorEnv(SyncVectorEnv(envs, autoreset_mode=AutoresetMode.SAME_STEP, **options))


def clock_learner(num_envs, num_steps, kind=A2C, **options):
    options = {"total_steps": num_envs * num_steps * 3, **options}
    spec = clocks({}).spec
    return kind(spec, num_envs=num_envs, num_steps=num_steps, network=MLPActorCritic(()), **options)


def valued_at_twice_the_observation(algorithm):
    variables = jax.tree.map(jnp.zeros_like, algorithm.init_variables(KEY))
    variables["0"]["params"]["value"]["dense"]["kernel"] = jnp.array([[2.0]])
    return variables


@pytest.mark.parametrize("copy", [True, False])
def test_a_cut_episode_is_worth_its_final_observation_and_an_ended_one_nothing(copy):
    # The first is cut after 3 steps, the second terminates after 2, the third does both after 2.
    envs = clocks({"limit": 3}, {"last": 2}, {"last": 2, "limit": 2}, copy=copy)
    algorithm = clock_learner(3, 4)
    collector = HostCollector(algorithm, envs, KEY)
    variables = valued_at_twice_the_observation(algorithm)
    rollout, episodes = collector.collect(variables)
    steps = rollout.transitions["0"]
    np.testing.assert_array_equal(
        steps.obs[..., 0], [[50, 50, 50], [1, 1, 1], [2, 50, 50], [50, 1, 1]]
    )
    np.testing.assert_array_equal(steps.value, 2 * steps.obs[..., 0])
    # Where terminated nobody reads it; 0 where both flags are set, as in `collect`.
    np.testing.assert_array_equal(
        rollout.next_value["0"], [[2, 2, 2], [4, 100, 0], [6, 2, 2], [2, 100, 0]]
    )
    assert np.argwhere(steps.truncated).tolist() == [[1, 2], [2, 0], [3, 2]]
    assert np.argwhere(steps.terminated).tolist() == [[1, 1], [1, 2], [3, 1], [3, 2]]
    assert episodes.lengths[episodes.ended].tolist() == [2, 2, 3, 2, 2]
    # Running episodes go on in the next rollout.
    _, episodes = collector.collect(variables)
    assert np.argwhere(episodes.ended[:, 0]).tolist() == [[1]]
    assert (episodes.lengths[1, 0], episodes.returns[1, 0]) == (3, 3.0)


def test_more_cut_episodes_than_envs_are_each_worth_their_own_final_observation():
    algorithm = clock_learner(2, 7)
    collector = HostCollector(algorithm, clocks({"limit": 1}, {"limit": 2}), KEY)
    rollout, _ = collector.collect(valued_at_twice_the_observation(algorithm))
    assert rollout.transitions["0"].truncated.sum() == 7 + 3
    np.testing.assert_array_equal(rollout.next_value["0"], [[2, 2], [2, 4]] * 3 + [[2, 2]])


def test_nothing_is_traced_anew_after_the_first_rollout():
    algorithm = clock_learner(3, 5)
    # 2 to 6 cut episodes in a rollout.
    collector = HostCollector(algorithm, clocks({"limit": 2}, {"limit": 3}, {"limit": 7}), KEY)
    variables = jax.jit(algorithm.init_variables)(KEY)
    rollouts, traced = [collector.collect(variables)[0]], []

    def note(event, *_, **__):
        traced.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        rollouts += [collector.collect(variables)[0] for _ in range(5)]
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
    assert len({int(rollout.transitions["0"].truncated.sum()) for rollout in rollouts}) > 1
    assert not [event for event in traced if "trace" in event or "compile" in event]


def test_long_episodes_count_like_short_ones_in_an_evaluation():
    algorithm, envs = clock_learner(2, 4), clocks({"limit": 1}, {"last": 3}, {"limit": 2})
    variables = algorithm.init_variables(KEY)
    result = evaluate_on_host(algorithm, variables, envs, episodes=5)
    assert sorted(result.lengths) == [1, 1, 2, 3, 3] and result.unfinished == 0
    np.testing.assert_array_equal(result.returns, result.lengths)
    short = evaluate_on_host(algorithm, variables, envs, episodes=5, max_steps=4)
    assert sorted(short.lengths) == [1, 1, 2, 3] and short.unfinished == 1


def test_a_seed_repeats_training_and_evaluation_and_another_draws_anew():
    algorithm = clock_learner(2, 8, total_steps=16)
    envs = HostVectorEnv.make("CartPole-v1", 2)
    algorithm = algorithm.replace(env=envs.spec)
    runs = [train_on_host(algorithm, envs, seed)[0] for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]
    options = {"episodes": 4, "deterministic": False}
    results = [
        evaluate_on_host(algorithm, runs[0].variables, envs, s, **options) for s in (1, 1, 2)
    ]
    returns = [result.returns.tolist() for result in results]
    assert returns[0] == returns[1] != returns[2] and len(returns[0]) == 4


# --- ends before the end ------------------------------------------------------------------------


def interrupt(obs):
    os.kill(os.getpid(), signal.SIGINT)
    return obs


def test_ctrl_c_returns_what_whole_updates_have_learned():
    algorithm = clock_learner(1, 4, total_steps=4 * 5)
    with clocks({"at": 6, "event": interrupt}) as envs:
        state, metrics = train_on_host(algorithm, envs)
    assert int(state.updates) == 2
    assert metrics["loss/total"].mean.shape == (2,)
    assert np.isfinite(jax.tree.leaves(state.variables)[0]).all()
    assert envs.envs.closed


def test_an_observation_that_is_not_finite_stops_training_with_a_sentence():
    envs = clocks({"at": 6, "event": lambda obs: obs * np.nan})
    with pytest.raises(EnvError, match=r"^update 2: obs is not finite; mend SyncVectorEnv$"):
        train_on_host(clock_learner(1, 4), envs)


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        (lambda: clock_learner(3, 4), "num_envs: the algorithm has 3, the envs are 2; make it"),
        (lambda: LEARNERS["a2c"], "env: the algorithm is for TimeLimit<.*>, whose spaces are not"),
        (lambda: ES(clocks({}).spec), "host envs: got ES, expected PPO or A2C"),
        (lambda: clock_learner(2, 4, num_devices=2), "num_devices: host envs feed a single"),
    ],
)
def test_algorithms_that_do_not_fit_are_refused_before_anything_is_compiled(algorithm, message):
    with pytest.raises(ConfigError, match=message):
        train_on_host(algorithm(), clocks({}, {}))


def test_an_evaluation_of_no_episodes_is_refused():
    with pytest.raises(ConfigError, match="episodes and max_steps: must be positive, got 0"):
        evaluate_on_host(clock_learner(1, 4), {}, clocks({}), episodes=0)


# --- learning -----------------------------------------------------------------------------------


# Of 10 seeds each of PPO (80,000 steps) and A2C (300,000) on the compiled CartPole all end at 500.
STEADY = {"num_envs": 16, "gamma": 0.98, "gae_lambda": 0.8}


def test_ppo_learns_gymnasiums_cartpole():
    with HostVectorEnv.make("CartPole-v1", 16) as envs:
        algorithm = PPO(envs.spec, total_steps=80_000, num_steps=32, **STEADY)
        state, metrics = train_on_host(algorithm, envs)
        returns = metrics["train/episode_return"]
        assert returns.mean[returns.count > 0][0] < 50
        assert evaluate_on_host(algorithm, state.variables, envs, episodes=32).mean_return > 400


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", [PPO, A2C], ids=["ppo", "a2c"])
def test_ppo_and_a2c_solve_gymnasiums_cartpole(kind, seed):
    with HostVectorEnv.make("CartPole-v1", 16) as envs:
        algorithm = kind(envs.spec, total_steps=300_000, **STEADY)
        state, _ = train_on_host(algorithm, envs, seed)
        assert evaluate_on_host(algorithm, state.variables, envs).mean_return >= 475
