"""Environments of brax: equality with brax's own steps, and what the bridge mends."""

import copy
import functools
import pickle
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax.base
from mazejax import random, registry
from mazejax.envs.bridges import brax as bridge
from mazejax.envs.check import check_env
from mazejax.envs.vector import VectorEnv
from mazejax.errors import ConfigError, EnvError, SpaceError

KEY = random.key(0)

# Compiling matters here and running does not.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
quick_jit = functools.partial(jax.jit, compiler_options=QUICK)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Brax System, piplines and environments:UserWarning"),
    # brax reads fields of MuJoCo's data where they used to be.
    pytest.mark.filterwarnings("ignore:Accessing `\\w+` directly:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def brax():
    """The package; what needs it is skipped where it is not installed."""
    pytest.importorskip("brax.envs")
    return sys.modules["brax"]


@pytest.fixture
def counter(brax, monkeypatch):
    """A registered env of ours that does all that brax's contract lets pass."""

    class Counter(brax.envs.Env):
        observation_size, action_size, backend = {"count": 1, "noise": 1}, 2, "none"

        def __init__(self, step_size=1, extra=False):
            self.step_size, self.extra = step_size, extra

        def reset(self, rng):
            obs = {"count": jnp.zeros(1), "noise": jnp.zeros(1)}
            info = {"rng": rng, "total": jnp.int32(0), "last": jnp.zeros(2)}
            return brax.envs.State(None, obs, 0, jnp.zeros(()), {"total": jnp.int32(0)}, info)

        def step(self, state, action):
            rng, noise = jax.random.split(state.info["rng"])
            total = state.info["total"] + 0.5 * self.step_size
            obs = {"count": jnp.reshape(total, 1), "noise": jax.random.uniform(noise, (1,))}
            state.metrics.update(total=total, **({"extra": 1.0} if self.extra else {}))
            info = {"rng": rng, "total": total, "last": action}
            return state.replace(obs=obs, reward=1, done=total >= 2, info=info)

    monkeypatch.setitem(brax.envs._envs, "counter", Counter)
    yield Counter
    bridge._game.cache_clear()
    bridge._layout.cache_clear()


def signature(tree):
    return jax.tree.map(
        lambda leaf: (leaf.shape, str(leaf.dtype), getattr(leaf, "weak_type", False)), tree
    )


def num_bytes(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


# --- without brax -----------------------------------------------------------------------


def test_without_brax_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "brax", None)
    with pytest.raises(registry.MissingPackageError, match=r"pip install 'mazejax\[envs\]'"):
        mazejax.make("brax/ant")
    names = registry.environments.names()
    assert "gymnax/Catch-bsuite" in names and not any(n.startswith("brax/") for n in names)


# --- with brax --------------------------------------------------------------------------


def test_all_environments_of_brax_that_work_are_listed(brax):
    assert set(bridge.environment_names()) == set(brax.envs._envs) - {"swimmer"}
    assert "brax/ant" in registry.environments.names()


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("fast", "spring"),
        ("hopper", "spring"),
        *(("inverted_pendulum", b) for b in bridge.BACKENDS),
    ],
)
def test_environments_keep_the_contract(brax, name, backend):
    env = bridge.make(name, backend=backend)
    key = jax.eval_shape(lambda: KEY)
    obs, state = jax.eval_shape(env.reset, key)
    step = jax.eval_shape(env.step, key, state, jax.eval_shape(env.action_space.sample, key))
    assert signature(step.state) == signature(state)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((state, step)))
    assert signature(step.reward) == ((), "float32", False)
    assert signature((step.terminated, step.truncated)) == (((), "bool", False),) * 2
    assert set(signature(step.info).values()) <= {((), "float32", False)}
    assert (obs.shape, obs.dtype) == (env.observation_space.shape, env.observation_space.dtype)
    assert env.name == name and name in repr(env)


@pytest.mark.parametrize("name", ["fast", "inverted_pendulum"])
def test_trajectories_are_those_of_brax(brax, name):
    env, game = bridge.make(name), brax.envs.get_environment(name, backend="spring")

    @quick_jit
    def ours(key, actions):
        def one_step(state, action):
            step = env.step(key, state, action)
            return step.state, (step.obs, step.reward, step.terminated)

        obs, state = env.reset(key)
        return obs, jax.lax.scan(one_step, state, actions)[1]

    @quick_jit
    def theirs(state, action):
        return game.step(state, action)

    actions = random.uniform(random.key(1), (20, 1), -1.0, 1.0)
    first, steps = jax.device_get(ours(KEY, actions))
    with jax.numpy_rank_promotion("allow"):
        wanted = quick_jit(game.reset)(KEY)
        np.testing.assert_allclose(first, wanted.obs, atol=1e-6)
        for action, obs, reward, terminated in zip(actions, *steps, strict=True):
            wanted = theirs(wanted, action)
            np.testing.assert_allclose(obs, wanted.obs, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(reward, wanted.reward, rtol=1e-4, atol=1e-4)
            assert terminated == bool(wanted.done)


def test_vectorized_pendulums_fall_and_begin_anew(brax):
    vector = VectorEnv(bridge.make("inverted_pendulum"), 3)

    @quick_jit
    def pushed(key):
        def one_step(state, _):
            step = vector.step(state, jnp.ones((3, 1)))
            time = jax.vmap(vector.env.time)(step.state.envs)
            return step.state, (step.obs, step.info["final_obs"], step.terminated, time)

        return jax.lax.scan(one_step, vector.reset(key)[1], length=30)[1]

    obs, final_obs, terminated, time = jax.device_get(pushed(KEY))
    assert terminated.any(axis=0).all()
    np.testing.assert_array_equal(terminated, np.abs(final_obs[..., 1]) > 0.2)
    assert (np.abs(obs[terminated]) <= 0.01).all()
    np.testing.assert_array_equal(time == 0, terminated)


def test_the_time_limit_truncates_and_does_not_terminate(brax):
    env = bridge.make("fast", max_steps=3)
    state, flags = env.reset_state(KEY), []
    for _ in range(3):
        step = env.step(KEY, state, jnp.ones(1))
        state = step.state
        flags.append((bool(step.terminated), bool(step.truncated)))
    assert flags == [(False, False), (False, False), (False, True)]


def test_check_env_finds_nothing_wrong(brax):
    report = check_env(bridge.make("fast"), num_steps=10, num_envs=2)
    # It starts always in the same place.
    assert [message.partition(":")[0] for message in report.warnings] == ["reset"]


def test_states_leave_out_what_no_step_reads(brax):
    env = bridge.make("inverted_pendulum", backend="mjx")
    state = jax.eval_shape(env.reset_state, jax.eval_shape(lambda: KEY))
    with jax.numpy_rank_promotion("allow"):
        whole = jax.eval_shape(env.game.reset, jax.eval_shape(lambda: KEY))
    assert num_bytes(state) == 140 and num_bytes(whole) > 1000
    assert state.inner.pipeline_state.qpos.shape == (2,)
    assert state.inner.pipeline_state.cvel is None and state.inner.reward is None


def test_what_changes_its_dtype_gets_one_that_holds_both(counter):
    env = bridge.make("counter")
    obs, state = env.reset(KEY)
    assert [*env.observation_space] == ["count", "noise"]
    assert state.inner.info["total"].dtype == jnp.float32 and state.inner.info["last"] is None
    step = env.step(KEY, state, jnp.zeros(2))
    assert signature(step.state) == signature(state) and signature(step.obs) == signature(obs)
    assert step.info["total"] == 0.5 and step.reward.dtype == jnp.float32
    for total in (1.0, 1.5, 2.0):
        step = env.step(KEY, step.state, jnp.zeros(2))
        assert step.info["total"] == total and bool(step.terminated) == (total == 2.0)


@pytest.mark.parametrize("impl", ["counter", "threefry2x32"])
def test_keys_of_every_implementation_work_and_may_stay_in_the_state(counter, impl):
    env, key = bridge.make("counter"), random.key(0, impl)
    step = env.step(KEY, env.reset_state(key), jnp.zeros(2))
    carried, noise = jax.random.split(key)
    np.testing.assert_array_equal(step.obs["noise"], jax.random.uniform(noise, (1,)))
    assert step.state.inner.info["rng"] == carried


def test_a_step_that_adds_to_the_state_is_refused(counter):
    with pytest.raises(EnvError, match="Counter: reset and step of this brax env"):
        bridge.make("counter", extra=True)


def test_equal_environments_are_one_value_and_compile_once(brax):
    env = bridge.make("fast", max_steps=5)
    for twin in (
        bridge.make("fast", max_steps=5),
        copy.deepcopy(env),
        pickle.loads(pickle.dumps(env)),
    ):
        assert twin == env and hash(twin) == hash(env)
    assert bridge.make("fast") != env and bridge.make("fast", 5, backend="mjx") != env
    traces = []

    @mazejax.base.jit
    def reset(env, key):
        traces.append(env)
        return env.reset(key)

    reset(env, KEY)
    reset(bridge.make("fast", max_steps=5), KEY)
    assert len(traces) == 1


def test_options_reach_the_constructor(counter):
    assert bridge.make("counter", step_size=3).game.step_size == 3
    assert bridge.make("hopper", healthy_z_range=[0.5, 2.0]).game._healthy_z_range == (0.5, 2.0)
    assert [*bridge.make("fast", obs_mode="dict_state").observation_space] == ["state"]


def test_an_environment_may_be_made_and_first_used_within_jit(brax):
    bridge._game.cache_clear()
    bridge._layout.cache_clear()
    jax.eval_shape(lambda key: bridge.make("inverted_pendulum").reset(key), KEY)
    assert mazejax.base.is_concrete(bridge.make("inverted_pendulum").game.sys)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("atn", {}, "brax has no environment 'atn'; did you mean 'ant'"),
        ("ant", {"backend": "sprung"}, "brax/ant has no backend 'sprung'; did you mean 'spring'"),
        ("ant", {"noise": 0.2}, "brax/ant has no parameter 'noise'"),
        ("ant", {"max_step": 2}, "no parameter 'max_step'; did you mean 'max_steps'"),
        ("ant", {"healthy_z_range": np.ones(2)}, "healthy_z_range: got ndarray, expected a number"),
        ("ant", {"use_contact_forces": True}, "use_contact_forces not implemented; got"),
        ("fast", {"max_steps": 0}, "max_steps: must be at least 1, got 0"),
        ("swimmer", {}, "brax/swimmer is not offered"),
    ],
)
def test_wrong_names_and_options_are_errors_with_the_next_step(brax, name, options, message):
    with pytest.raises(ConfigError, match=message):
        bridge.make(name, **options)


def test_actions_are_checked_outside_jit(brax):
    env = bridge.make("fast")
    with pytest.raises(SpaceError, match="action"):
        env.step(KEY, env.reset_state(KEY), jnp.full(1, 2.0))
