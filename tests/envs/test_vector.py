"""VectorEnv: trajectories depend on neither strategy nor neighbors, and resets are visible."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax.base
from mazejax import random
from mazejax.envs import probe
from mazejax.envs.classic.cartpole import CartPole, CartPoleObservation, PushLeftOrRight
from mazejax.envs.maze_env import MazeEnv
from mazejax.envs.vector import VectorEnv
from mazejax.errors import ConfigError, SpaceError
from mazejax.wrappers.time import TimeLimit

CARTPOLE = TimeLimit(MazeEnv(CartPole(), CartPoleObservation(), PushLeftOrRight()), 30)
RANDOM_LENGTHS = probe.ExpensiveReset(iterations=3, longest=7)
ENVS = {"cartpole": CARTPOLE, "random_lengths": RANDOM_LENGTHS}
STEPS = 60


def run(vector, key, num_steps=STEPS):
    """Steps with random actions, (first obs, steps [T, N, ...])."""

    def one_step(state, _):
        action = jax.vmap(vector.action_space.sample)(vector.keys(state, "policy"))
        step = vector.step(state, action)
        return step.state, step._replace(state=step.state.envs)

    obs, state = vector.reset(key)
    return obs, jax.lax.scan(one_step, state, length=num_steps)[1]


def run_compiled(vector, seed=0, num_steps=STEPS):
    compiled = jax.jit(functools.partial(run, vector, num_steps=num_steps))
    return jax.device_get(compiled(random.key(seed)))


@functools.cache
def trajectory(name, strategy, num_envs):
    return run_compiled(VectorEnv(ENVS[name], num_envs, auto_reset=strategy))


def assert_same_bits(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def first_rows(trajectory, num):
    obs, steps = trajectory
    return obs[:num], jax.tree.map(lambda leaf: leaf[:, :num], steps)


# --- sameness -------------------------------------------------------------------------


@pytest.mark.optimized
@pytest.mark.parametrize("name", ENVS)
@pytest.mark.parametrize("num_envs", [1, 5, 8, 64])
def test_all_exact_strategies_give_the_same_bits(name, num_envs):
    always = trajectory(name, "always", num_envs)
    assert_same_bits(always, trajectory(name, "compact", num_envs))
    assert always[1].done.any() and not always[1].done.all()


@pytest.mark.optimized
@pytest.mark.parametrize("name", ENVS)
@pytest.mark.parametrize("num_envs", [1, 5, 8])
def test_an_env_does_not_depend_on_how_many_stand_beside_it(name, num_envs):
    few, many = trajectory(name, "always", num_envs), trajectory(name, "always", 64)
    assert_same_bits(few, first_rows(many, num_envs))


@pytest.mark.parametrize(
    "env", [probe.EndlessReward(), probe.ConstantReward()], ids=["none", "all"]
)
def test_strategies_agree_when_none_or_all_end_at_once(env):
    runs = [
        run_compiled(VectorEnv(env, 20, strategy), num_steps=5)
        for strategy in ("always", "compact")
    ]
    assert_same_bits(*runs)
    assert runs[0][1].done.all() == runs[0][1].done.any()


def test_seeds_may_be_vmapped():
    vector = VectorEnv(RANDOM_LENGTHS, 5, "compact")
    keys = jnp.stack([random.key(0), random.key(3)])
    together = jax.device_get(jax.jit(jax.vmap(functools.partial(run, vector)))(keys))
    for row, seed in enumerate((0, 3)):
        alone = run_compiled(vector, seed)
        assert_same_bits(alone, jax.tree.map(lambda leaf: leaf[row], together))  # noqa: B023


def test_an_env_with_traced_numbers_may_be_vmapped():
    def lengths(limit):
        vector = VectorEnv(TimeLimit(probe.EndlessReward(), limit), 2)
        return run(vector, random.key(0), 12)[1].truncated.sum(0)

    ends = jax.jit(jax.vmap(lengths))(jnp.array([2, 3, 4]))
    np.testing.assert_array_equal(ends, [[6, 6], [4, 4], [3, 3]])


def test_equal_vector_envs_share_a_compiled_program():
    traces = []

    @mazejax.base.jit
    def reset(vector, key):
        traces.append(1)
        return vector.reset(key)

    for _ in range(3):
        env = TimeLimit(MazeEnv(CartPole(), CartPoleObservation(), PushLeftOrRight()), 30)
        reset(VectorEnv(env, 2, batched={"gravity": np.array([9.0, 10.0])}), random.key(0))
    assert len(traces) == 1


# --- resets ---------------------------------------------------------------------------


def test_final_obs_is_the_observation_before_the_reset():
    obs, steps = trajectory("random_lengths", "compact", 8)
    final_obs, gone = steps.info["final_obs"], 2  # the third entry: share of the episode gone
    assert (final_obs[..., gone][steps.done] == 1.0).all()
    assert (steps.obs[..., gone][steps.done] == 0.0).all()
    np.testing.assert_array_equal(final_obs[~steps.done], steps.obs[~steps.done])
    # What the reset drew stays in the observation for the whole episode.
    before = np.concatenate([obs[None], steps.obs[:-1]])
    np.testing.assert_array_equal(final_obs[..., :gone], before[..., :gone])


def test_each_episode_begins_as_a_reset_with_its_documented_key():
    vector = VectorEnv(RANDOM_LENGTHS, 3)
    root = random.key(5)
    obs, steps = run_compiled(vector, 5)
    episode = np.concatenate([np.zeros((1, 3), int), steps.done.cumsum(0)])
    seen = np.concatenate([obs[None], steps.obs])
    begins = np.concatenate([np.ones((1, 3), bool), steps.done])
    reset = jax.jit(RANDOM_LENGTHS.reset)
    for index, row in list(np.argwhere(begins))[::5]:
        key = jax.random.fold_in(jax.random.fold_in(root, row), episode[index, row])
        expected = reset(random.stream(key, "reset"))[0]
        np.testing.assert_array_equal(seen[index, row], expected)


def test_episodes_begin_differently():
    _, steps = trajectory("random_lengths", "always", 64)
    starts = steps.obs[steps.done][:, :2]
    assert len(np.unique(starts, axis=0)) == len(starts) > 300


def test_truncation_and_termination_are_told_apart_and_end_episodes_alike():
    _, steps = trajectory("cartpole", "always", 64)
    assert steps.terminated.any() and steps.truncated.any()
    assert (steps.state.time[steps.done] == 0).all()
    assert (steps.state.time[~steps.done] > 0).all()
    assert (steps.reward == 1.0).all()


# --- numbers of the envs --------------------------------------------------------------


def test_a_batched_number_gives_each_env_its_own_world():
    limits = np.array([3, 5, 2, 30])
    vector = VectorEnv(CARTPOLE, 4, batched={"max_steps": limits})
    _, steps = run_compiled(vector, num_steps=6)
    for row, limit in enumerate(limits):
        np.testing.assert_array_equal(
            steps.truncated[:, row], (np.arange(6) + 1) % limit == 0, err_msg=f"{limit}"
        )


def test_batched_numbers_equal_separate_envs():
    gravity, bound = np.array([2.0, 9.8, 20.0], np.float32), np.array([0.01, 0.05, 0.2], np.float32)
    vector = VectorEnv(CARTPOLE, 3, batched={"gravity": gravity, "reset_bound": bound})
    obs, steps = run_compiled(vector, num_steps=8)
    for row in range(3):
        core = CartPole(gravity=float(gravity[row]), reset_bound=float(bound[row]))
        env = TimeLimit(CARTPOLE.env.replace(core_env=core), 30)
        alone_obs, alone = run_compiled(VectorEnv(env, 3), num_steps=8)
        np.testing.assert_allclose(obs[row], alone_obs[row], rtol=1e-6)
        np.testing.assert_allclose(steps.obs[:, row], alone.obs[:, row], rtol=1e-5, atol=1e-6)


def test_strategies_agree_on_batched_numbers_of_the_reset():
    bound = np.linspace(0.01, 0.2, 12, dtype=np.float32)
    batched = {"reset_bound": bound, "max_steps": 2 + np.arange(12)}
    runs = [
        run_compiled(VectorEnv(CARTPOLE, 12, strategy, batched=batched), num_steps=30)
        for strategy in ("always", "compact")
    ]
    assert_same_bits(*runs)
    _, steps = runs[0]
    starts = np.where(steps.done[..., None], np.abs(steps.obs), 0.0).max(axis=(0, 2))
    assert (starts <= bound).all() and (starts > 0.3 * bound).all()


# --- keys -----------------------------------------------------------------------------


def test_keys_differ_by_env_episode_time_and_purpose():
    vector = VectorEnv(RANDOM_LENGTHS, 16)

    def one_step(state, _):
        keys = [jax.random.key_data(vector.keys(state, name)) for name in ("env", "policy", "x")]
        return vector.step(state, jnp.zeros(16, jnp.int32)).state, jnp.stack(keys)

    state = vector.reset(random.key(0))[1]
    words = jax.jit(lambda s: jax.lax.scan(one_step, s, length=50)[1])(state)
    words = np.asarray(words).reshape(-1, 2)
    assert len(np.unique(words, axis=0)) == len(words) == 50 * 3 * 16


def test_a_threefry_key_seeds_our_keys_or_stays_one_on_request():
    key = jax.random.key(0)
    ours, theirs = VectorEnv(CARTPOLE, 4), VectorEnv(CARTPOLE, 4, key_impl="threefry2x32")
    for vector, impl in ((ours, "counter"), (theirs, "threefry2x32")):
        obs, state = jax.jit(vector.reset)(key)
        again, _ = jax.jit(vector.reset)(key)
        assert random.impl_name(state.root) == impl
        np.testing.assert_array_equal(obs, again)
        assert len(np.unique(obs)) == obs.size
        step = jax.jit(vector.step)(state, jnp.zeros(4, jnp.int32))
        assert random.impl_name(step.state.root) == impl
    with pytest.raises(ConfigError, match="typed key"):
        ours.reset(jnp.zeros(2, jnp.uint32))


def test_a_key_in_the_state_is_selected_like_any_leaf():
    class KeptKey(probe.ConstantReward):
        def reset_state(self, key):
            return probe.ProbeState(key, jnp.zeros((), jnp.int32))

        def observe(self, state):
            return jax.random.uniform(state.signal, (1,))

    runs = [run_compiled(VectorEnv(KeptKey(), 9, s), num_steps=4) for s in ("always", "compact")]
    assert_same_bits(runs[0][1].obs, runs[1][1].obs)
    assert len(np.unique(runs[0][1].obs)) == 9 * 4


# --- choices and errors ---------------------------------------------------------------


def test_auto_resets_all_where_resets_are_cheap_and_compacts_where_they_are_not():
    assert VectorEnv(CARTPOLE, 64).strategy() == "always"
    assert VectorEnv(probe.ExpensiveReset(), 64).strategy() == "compact"
    assert VectorEnv(probe.ExpensiveReset(), 64, "always").strategy() == "always"


def test_spaces_and_actor_are_those_of_the_env():
    vector = VectorEnv(CARTPOLE, 2)
    assert vector.observation_space == CARTPOLE.observation_space
    assert vector.action_space == CARTPOLE.action_space
    assert vector.actor_id(vector.reset(random.key(0))[1]) == ("0", 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, "num_envs: must be a positive integer, got 0"),
        ({"num_envs": -3}, "num_envs: must be a positive integer, got -3"),
        ({"num_envs": 2.0}, "num_envs: must be a positive integer, got 2.0"),
        ({"env": CartPole()}, "VectorEnv.env: expected an Env, got CartPole"),
        ({"auto_reset": "alwys"}, "auto_reset: unknown 'alwys'; did you mean 'always'"),
        ({"batched": {"gravitiy": np.ones(4)}}, "no number 'gravitiy'; did you mean 'gravity'"),
        (
            {"batched": {"gravity": np.ones(3)}},
            r"batched\['gravity'\]: got shape \(3,\), expected \(4",
        ),
        ({"batched": {"gravity": 9.8}}, r"batched\['gravity'\]: got shape \(\), expected \(4"),
    ],
)
def test_wrong_settings_are_config_errors(arguments, message):
    with pytest.raises(ConfigError, match=message):
        VectorEnv(**{"env": CARTPOLE, "num_envs": 4, **arguments})


@pytest.mark.parametrize("shape", [(), (3,), (4, 1)])
def test_an_action_of_the_wrong_shape_is_a_space_error(shape):
    vector = VectorEnv(CARTPOLE, 4)
    state = vector.reset(random.key(0))[1]
    with pytest.raises(SpaceError, match=r"action: got shape .*, expected \(4,\)"):
        vector.step(state, jnp.zeros(shape, jnp.int32))
