"""What all learners share: counting, streams of keys, evaluation, and errors of one line."""

import gymnasium
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import HostVectorEnv, random
from mazejax.algos import base, metrics
from mazejax.algos.base import Algorithm, Counter, TrainState
from mazejax.algos.collect import Acted, Episodes
from mazejax.algos.ppo import PPO
from mazejax.base import static
from mazejax.envs.probe import ConstantReward, ExpensiveReset
from mazejax.errors import ConfigError
from mazejax.networks.mlp import MLPPolicy
from mazejax.types import SINGLE_ACTOR

ENV = ExpensiveReset(iterations=1, longest=8)
HOST_ENVS = HostVectorEnv.make("CartPole-v1", 1)


class OwnGame(gymnasium.Env):
    """A user's own."""


class Nothing(Algorithm):
    """Learns nothing: counts its updates, and acts at random or always 0."""

    step_size: float = 0.5
    num_steps: int = static(default=3)

    @property
    def steps_per_update(self):
        return self.num_envs * self.num_steps

    def init(self, key):
        return TrainState(jnp.zeros(()), (), (), random.as_key(key), Counter.zero())

    def update(self, state):
        variables = state.variables + self.step_size
        state = state.replace(variables=variables, updates=state.updates.add(1))
        return state, {"x": metrics.Accumulator.of(variables)}

    def policies(self, variables, deterministic=False):
        def act(keys, obs, carry):
            draws = jax.vmap(lambda key: random.randint(key, (), 2))(keys)
            action = jnp.zeros_like(draws) if deterministic else draws
            zeros = jnp.zeros(len(obs))
            return Acted(action, action, zeros, zeros, carry)

        return {SINGLE_ACTOR: act}


# --- counting -----------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 2**31 - 2, 2**32 - 2, 2**40 - 1, 3 * 2**32 - 1])
def test_counting_goes_on_beyond_every_power_of_two(start):
    counter, add = Counter.zero().replace(**words(start)), jax.jit(lambda c: c.add(1))
    for i in range(4):
        assert int(counter) == start + i
        counter = add(counter)


@pytest.mark.parametrize("amount", [0, 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("start", [0, 1, 2**31, 2**32 - 1, 2**32, 2**63])
def test_amounts_of_any_32_bits_are_carried(start, amount):
    assert int(Counter.zero().replace(**words(start)).add(amount)) == start + amount


def words(count):
    return {"low": jnp.uint32(count % 2**32), "high": jnp.uint32(count >> 32)}


def test_a_counter_as_a_float_is_the_count_to_rounding():
    for count in (0, 7, 2**24, 2**32 - 1, 5 * 2**32 + 12345):
        as_float = Counter.zero().replace(**words(count)).to_float()
        assert as_float.dtype == jnp.float32
        np.testing.assert_allclose(as_float, count, rtol=2e-7)


def test_a_counter_keeps_its_types_in_a_loop():
    final, _ = jax.lax.scan(lambda c, _: (c.add(2**31), None), Counter.zero(), None, length=5)
    assert int(final) == 5 * 2**31


# --- updates ------------------------------------------------------------------------------


@pytest.mark.parametrize(("total", "updates"), [(1, 1), (12, 1), (13, 2), (24, 2), (10**12, None)])
def test_the_number_of_updates_is_rounded_up(total, updates):
    algorithm = Nothing(ENV, total_steps=total, num_envs=4)
    assert algorithm.steps_per_update == 12
    assert algorithm.num_updates == (updates or 83_333_333_334)


def test_training_makes_all_updates_and_stacks_their_metrics():
    algorithm = Nothing(ENV, total_steps=60, num_envs=4)
    state, rows = jax.jit(algorithm.train)(random.key(0))
    assert int(state.updates) == 5 and state.variables == 2.5
    np.testing.assert_array_equal(rows["x"].mean, [0.5, 1.0, 1.5, 2.0, 2.5])


def test_learners_may_be_swept_over_seeds_and_numbers():
    algorithm = Nothing(ENV, total_steps=24, num_envs=4)

    def train(step_size, key):
        return algorithm.replace(step_size=step_size).train(key)[0].variables

    sizes, keys = jnp.array([1.0, 2.0, 3.0]), jax.random.split(random.key(0), 2)
    swept = jax.vmap(jax.vmap(train, (None, 0)), (0, None))(sizes, keys)
    np.testing.assert_array_equal(swept, [[2.0, 2.0], [4.0, 4.0], [6.0, 6.0]])


def test_every_update_and_every_purpose_has_a_key_of_its_own():
    state = Nothing(ENV).init(random.key(0))
    seen = set()
    for count in (0, 1, 2, 2**32, 2**32 + 1, 2**33):
        for purpose in ("shuffle", "other"):
            at = state.replace(updates=Counter(**words(count)))
            seen.add(tuple(jax.random.key_data(base.update_key(at, purpose)).tolist()))
    assert len(seen) == 12


def test_episode_metrics_count_only_episodes_that_ended():
    ended = jnp.array([[True, False], [False, False]])
    episodes = Episodes(ended, jnp.array([[3.0, 9.0], [9.0, 9.0]]), jnp.array([[7, 1], [1, 1]]))
    row = jax.device_get(base.episode_metrics(episodes))
    merged = metrics.merge_rows([row])
    assert (
        merged["train/episode_return"]["mean"] == 3 and merged["train/episode_length"]["max"] == 7
    )
    none = base.episode_metrics(episodes.replace(ended=jnp.zeros((2, 2), bool)))
    assert metrics.merge_rows([jax.device_get(none)]) == {}


def test_numbers_that_are_not_finite_are_counted_by_quantity_and_absent_otherwise():
    row = base.nonfinite_metrics(
        obs={"image": jnp.zeros((2, 2), jnp.uint8), "x": jnp.array([1.0, jnp.nan, jnp.inf])},
        reward=jnp.ones(3),
        loss=jnp.array(-jnp.inf),
        gradient=jnp.zeros(2, jnp.bfloat16),
        variables={"n": jnp.int32(3), "w": jnp.full((2, 2), jnp.nan)},
    )
    assert list(row) == [f"nonfinite/{name}" for name in base.NONFINITE]
    merged = metrics.merge_rows([jax.device_get(row)])
    counts = {name: summary["mean"] for name, summary in merged.items()}
    assert counts == {"nonfinite/obs": 2, "nonfinite/loss": 1, "nonfinite/variables": 4}


# --- evaluation ---------------------------------------------------------------------------


@pytest.mark.parametrize("deterministic", [True, False])
def test_evaluation_is_what_a_loop_over_single_envs_gives(deterministic):
    algorithm, key = Nothing(ENV), random.key(3)
    episodes = jax.jit(
        lambda key: algorithm.evaluate(
            (), key, num_episodes=6, max_steps=5, deterministic=deterministic
        )
    )(key)
    root = random.stream(key, "evaluation")
    reset = jax.jit(lambda i: ENV.reset_state(random.stream(episode_key(root, i), "reset")))
    for i in range(6):
        # It lasts as long as its reset drew: the actions have no effect, and rewards are 1.
        length = int(reset(np.int32(i)).length)
        assert episodes.ended[i] == (length <= 5)
        assert episodes.lengths[i] == episodes.returns[i] == min(length, 5)


def episode_key(root, row):
    return jax.random.fold_in(jax.random.fold_in(root, row), 0)


def test_evaluation_by_something_that_is_no_key_is_refused():
    with pytest.raises(ConfigError, match="expected a typed key"):
        Nothing(ENV).evaluate((), 0)


def test_evaluation_draws_from_its_own_key_and_not_from_that_of_training():
    algorithm = Nothing(ENV)
    evaluate = jax.jit(lambda key: algorithm.evaluate((), key, num_episodes=32).lengths)
    one, same, other = (evaluate(random.key(seed)).tolist() for seed in (0, 0, 1))
    assert one == same and one != other
    training = algorithm.replace(num_envs=32).vector_env.reset(random.key(0))[1].envs.length
    assert one != training.tolist()


# --- validation ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"env": 3}, "env: expected an Env, got int"),
        (
            {"env": "CartPole-v1"},
            "env: expected an Env, got str; write mazejax.make('CartPole-v1')",
        ),
        (
            {"env": ConstantReward},
            "env: expected an Env, got the class ConstantReward; make one, ConstantReward(...)",
        ),
        (
            {"env": gymnasium.make("CartPole-v1")},
            "env: expected an Env, got TimeLimit of Gymnasium, which cannot be compiled; step it "
            "on the host with mazejax.HostVectorEnv, see docs/learners.md",
        ),
        (
            {"env": OwnGame()},
            "env: expected an Env, got OwnGame of Gymnasium, which cannot be compiled",
        ),
        (
            {"env": gymnax.make("Catch-bsuite")[0]},
            "env: expected an Env, got Catch of gymnax; write mazejax.make('gymnax/Catch-bsuite')",
        ),
        (
            {"env": HOST_ENVS},
            "env: expected an Env, got HostVectorEnv; give its spec, and train with "
            "mazejax.train_on_host",
        ),
        ({"total_steps": 0}, "total_steps: must be a positive integer, got 0"),
        ({"num_envs": -1}, "num_envs: must be a positive integer, got -1"),
        ({"num_envs": 2.0}, "num_envs: must be a positive integer, got 2.0"),
        ({"num_envs": True}, "num_envs: must be a positive integer, got True"),
        ({"num_envs": None}, "num_envs: must be a positive integer, got None"),
        ({"num_steps": 0}, "num_steps: must be a positive integer, got 0"),
        ({"num_epochs": -3}, "num_epochs: must be a positive integer, got -3"),
        ({"num_minibatches": "4"}, "num_minibatches: must be a positive integer, got '4'"),
        ({"learning_rate": float("nan")}, "learning_rate: must be finite and in (0, inf], got nan"),
        ({"learning_rate": 0.0}, "learning_rate: must be finite and in (0, inf], got 0.0"),
        ({"learning_rate": {"a": 1}}, "learning_rate: must be a number, got {'a': 1}"),
        ({"max_grad_norm": float("inf")}, "max_grad_norm: must be finite and in (0, inf], got inf"),
        ({"gamma": 1.01}, "gamma: must be finite and in [0, 1], got 1.01"),
        ({"gae_lambda": -0.1}, "gae_lambda: must be finite and in [0, 1], got -0.1"),
        ({"gamma": "often"}, "gamma: must be a number, got 'often'"),
        ({"gamma": np.bool_(True)}, "gamma: must be a number, got np.True_"),
        ({"gamma": np.complex64(0.5)}, "gamma: must be a number, got np.complex64(0.5+0j)"),
        ({"value_clip": np.bool_(True)}, "value_clip: must be a number, got np.True_"),
        ({"lr": 3e-4}, "PPO has no field 'lr'; known names: "),
        ({"learning_rat": 3e-4}, "PPO has no field 'learning_rat'; did you mean 'learning_rate'?"),
        ({"ent_coef": -1e-9}, "ent_coef: must be finite and in [0, inf], got -1e-09"),
        ({"ent_coef": np.array([0.1, np.nan])}, "ent_coef: must be finite"),
        ({"value_clip": "0.1"}, "value_clip: must be a number, got '0.1'"),
        ({"value_clip": True}, "value_clip: must be a number, got True"),
        ({"value_clip": 0}, "value_clip: must be finite and in (0, inf], got 0"),
        ({"auto_reset": "alwys"}, "auto_reset: unknown 'alwys'; did you mean 'always'?"),
        ({"network": 3}, "network: expected a template such as MLPActorCritic(), got int"),
        (
            {"network": MLPPolicy},
            "network: expected a template, got the class MLPPolicy; write MLPPolicy()",
        ),
        ({"critic": "stp"}, "critic: unknown 'stp'; did you mean 'step'?"),
        (
            {"learning_rate_schedule": None},
            "learning_rate_schedule: expected one of constant, linear, cosine, or points such as",
        ),
        (
            {"ent_coef_schedule": [[0, 1], [0, 0.5]]},
            "ent_coef_schedule: shares of the training must rise from 0 to 1, got [0.0, 0.0]",
        ),
        (
            {"ent_coef_schedule": [[0, 1], [1, -0.5]]},
            "ent_coef_schedule: what is left must be finite and at least 0, got ",
        ),
        ({"ent_coef_schedule": [1, 2]}, "ent_coef_schedule: expected one of constant, linear"),
        (
            {"network": MLPPolicy()},
            "network: MLPPolicy gives no values for '0', from which PPO learns; choose one with a "
            "critic, such as MLPActorCritic()",
        ),
        (
            {"learning_rate_schedule": "linaer"},
            "learning_rate_schedule: unknown 'linaer'; did you mean 'linear'?",
        ),
    ],
)
def test_wrong_fields_meet_one_sentence_that_begins_with_their_name(fields, message):
    with pytest.raises(ConfigError) as error:
        PPO(**{"env": ConstantReward(), **fields})
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("num_envs", "num_steps", "parts", "nearest"),
    [
        (16, 64, 7, "4, 8"),
        (3, 5, 4, "3, 5"),
        (1, 1, 4, "1"),
        (4, 1, 8, "4"),
        (1, 97, 4, "1, 97"),
        (2**20, 64, 7, "4, 8"),
    ],
)
def test_sizes_that_do_not_divide_name_the_nearest_that_do(num_envs, num_steps, parts, nearest):
    with pytest.raises(ConfigError) as error:
        PPO(ConstantReward(), num_envs=num_envs, num_steps=num_steps, num_minibatches=parts)
    assert str(error.value) == (
        f"num_minibatches: num_envs * num_steps = {num_envs * num_steps} does not divide into "
        f"{parts} parts; nearest that do: {nearest}"
    )


def test_limits_belong_to_the_ranges_as_their_brackets_say():
    PPO(ConstantReward(), gamma=1.0, gae_lambda=0.0, ent_coef=0.0, vf_coef=0.0, value_clip=None)
    PPO(ConstantReward(), gamma=0, gae_lambda=1, learning_rate=1, num_envs=np.int64(8))


def test_replacing_fields_validates_again_and_names_what_is_misspelt():
    algorithm = PPO(ConstantReward())
    with pytest.raises(ConfigError, match="gamma: must be finite"):
        algorithm.replace(gamma=2.0)
    with pytest.raises(ConfigError, match="did you mean 'learning_rate'"):
        algorithm.replace(learning_rat=0.1)


def test_traced_numbers_are_let_through_and_arrays_of_them_checked_entry_by_entry():
    algorithm = PPO(ConstantReward())
    names = ("learning_rate", "gamma", "gae_lambda", "clip_eps", "ent_coef", "max_grad_norm")

    @jax.jit
    @jax.vmap
    def swept(number):
        return algorithm.replace(value_clip=number, **dict.fromkeys(names, number)).gamma

    np.testing.assert_array_equal(swept(jnp.array([0.5, -5.0])), [0.5, -5.0])
    assert algorithm.replace(learning_rate=jnp.array([0.1, 0.2])).learning_rate.shape == (2,)
    with pytest.raises(ConfigError, match="learning_rate"):
        algorithm.replace(learning_rate=jnp.array([0.1, 0.0]))
