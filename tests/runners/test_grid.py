"""The algorithms of a sweep: what a grid means, and what it may not say."""

import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax.algos.es import ES
from mazejax.algos.ppo import PPO
from mazejax.envs.probe import ConstantReward, WildReset
from mazejax.errors import ConfigError
from mazejax.networks.mlp import MLPActorCritic
from mazejax.runners.grid import expand, format_value

CARTPOLE = mazejax.make("CartPole-v1")
ALGORITHM = PPO(CARTPOLE, network=MLPActorCritic((4,)))


def test_a_grid_means_all_combinations_and_the_last_key_varies_fastest():
    found = expand(ALGORITHM, {"learning_rate": [1e-3, 2e-3], "num_envs": [8, 16, 32]})
    assert [c.values for c in found] == [
        {"learning_rate": rate, "num_envs": envs} for rate in (1e-3, 2e-3) for envs in (8, 16, 32)
    ]
    assert [c.algorithm for c in found] == [ALGORITHM.replace(**c.values) for c in found]


def test_a_list_gives_configurations_one_by_one_and_what_it_omits_stays():
    found = expand(ALGORITHM, [{"gamma": 0.9}, {"ent_coef": 0.5, "gamma": 0.8}, {}])
    assert [c.values for c in found] == [
        {"gamma": 0.9, "ent_coef": ALGORITHM.ent_coef},
        {"gamma": 0.8, "ent_coef": 0.5},
        {"gamma": ALGORITHM.gamma, "ent_coef": ALGORITHM.ent_coef},
    ]
    assert found[2].algorithm == ALGORITHM


def test_an_empty_grid_is_the_algorithm_itself():
    (only,) = expand(ALGORITHM, {})
    assert only.algorithm == ALGORITHM and only.values == {} and str(only) == "PPO"


def test_dotted_keys_reach_what_lies_within():
    keys = {"network.hidden": [(8,), (8, 8)], "network.activation": ["relu"]}
    found = expand(ALGORITHM, keys)
    assert [c.algorithm.network for c in found] == [
        MLPActorCritic((8,), "relu"),
        MLPActorCritic((8, 8), "relu"),
    ]


@pytest.mark.parametrize("key", ["env.gravity", "env.core_env.gravity", "env.env.core_env.gravity"])
def test_numbers_of_the_env_go_by_their_name_or_by_any_end_of_their_path(key):
    found = expand(ALGORITHM, {key: [8.0, 9.0], "env.max_steps": [100]})
    assert [c.algorithm.env for c in found] == [
        mazejax.make("CartPole-v1", gravity=gravity, max_steps=100) for gravity in (8.0, 9.0)
    ]


def test_whole_objects_may_be_values():
    envs = [ConstantReward(), WildReset()]
    found = expand(ALGORITHM, {"env": envs, "value_clip": [None, 0.2]})
    assert [(c.algorithm.env, c.algorithm.value_clip) for c in found] == [
        (env, clip) for env in envs for clip in (None, 0.2)
    ]
    assert str(found[1]) == "env=ConstantReward, value_clip=0.2"


def test_sizes_that_fit_only_together_are_changed_together():
    sizes = {"num_envs": 3, "num_steps": 5, "num_minibatches": 5}
    (found,) = expand(ALGORITHM, [sizes])
    assert found.algorithm == ALGORITHM.replace(**sizes)


@pytest.mark.parametrize("values", [np.linspace(0.5, 1.0, 2), jnp.linspace(0.5, 1.0, 2), (0.5, 1)])
def test_values_may_be_arrays_and_become_plain_numbers(values):
    found = expand(ALGORITHM, {"gamma": values})
    assert [c.values for c in found] == [{"gamma": 0.5}, {"gamma": 1.0}]
    assert all(type(c.algorithm.gamma) is float for c in found)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"learning_rat": [1.0]}, "grid: learning_rat: unknown key; did you mean 'learning_rate'?"),
        ({"network.hiden": [(3,)]}, "grid: network.hiden: unknown key; did you mean 'hidden'?"),
        ({"gamma.x": [1.0]}, "grid: gamma.x: unknown key; no names are known"),
        ({"env.gravitee": [1.0]}, "CartPole: has no number 'gravitee'; did you mean 'gravity'?"),
        ({"gamma": []}, "grid: gamma: has no values"),
        ({"gamma": 0.9}, "grid: gamma: expected a list of values, got 0.9"),
        ({"critic": "shared"}, "grid: critic: expected a list of values, got 'shared'"),
        ({"gamma": [0.9, 2.0]}, "grid: gamma=2: gamma: must be finite and in [0, 1], got 2.0"),
        ({"gamma": ["often"]}, "grid: gamma=often: gamma: must be a number, got 'often'"),
        ({"num_envs": [16.0]}, "grid: num_envs=16: num_envs: must be a positive integer, got 16.0"),
        (
            {"num_minibatches": [7]},
            "grid: num_minibatches=7: num_minibatches: num_envs * num_steps",
        ),
        ({"env": ["CartPole-v1"]}, "grid: env=CartPole-v1: env: expected an Env, got str"),
        ({"env.mass_cart": [-1.0]}, "grid: env.mass_cart=-1: CartPole.mass_cart: must be positive"),
        ({"gamma": [0.9, 0.9]}, "grid: gamma=0.9 stands twice"),
        ([{"gamma": 0.9}, {"gamma": 0.9}], "grid: gamma=0.9 stands twice"),
        ({"env": [CARTPOLE], "env.gravity": [1.0]}, "grid: env.gravity is a part of env"),
        ([], "grid: got [], expected lists of values by field"),
        ([3], "grid: got [3], expected lists of values by field"),
        ("gamma", "grid: got 'gamma', expected lists of values by field"),
        (None, "grid: got None, expected lists of values by field"),
    ],
    ids=str,
)
def test_what_a_grid_may_not_say_is_one_sentence(grid, message):
    with pytest.raises(ConfigError) as error:
        expand(ALGORITHM, grid)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_numbers_of_float32_are_those_that_were_written():
    rates = np.array([1e-3, 3e-4], np.float32)
    found = expand(ALGORITHM, {"learning_rate": rates})
    assert list(map(str, found)) == ["learning_rate=0.001", "learning_rate=0.0003"]
    assert [np.float32(one.algorithm.learning_rate) for one in found] == rates.tolist()


def test_a_field_that_follows_from_others_is_not_varied():
    with pytest.raises(ConfigError, match="num_envs: follows from other fields"):
        expand(ES(CARTPOLE), {"num_envs": [4]})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.001, "0.001"),
        (1e-6, "1e-06"),
        (1 / 3, repr(1 / 3)),
        (3.0, "3"),
        ((8, 8), "(8, 8)"),
        (np.float32(1e-3), "0.001"),
        (jnp.float32(1 / 3), "0.33333334"),
        (np.float16(0.1), "0.1"),
        (np.float64(1 / 3), repr(1 / 3)),
        (np.int32(7), "7"),
        (np.float32("inf"), "inf"),
    ],
)
def test_values_are_short_but_never_lose_digits(value, text):
    assert format_value(value) == text
