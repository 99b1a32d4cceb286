"""The shipped experiments name what exists, and one of them is trained."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hydra.core.config_store import ConfigStore

import mazejax
from benchmarks import learning
from mazejax import registry
from mazejax.conf import experiments
from mazejax.conf.compose import run_with_config
from mazejax.envs.probe import EndlessReward
from mazejax.errors import ConfigError
from mazejax.runners import observation_statistics
from mazejax.runners.config import from_config
from mazejax.runners.run_context import RunContext
from mazejax.spaces import Box
from mazejax.wrappers import compose, wrap


def composed(*overrides):
    found = []
    run_with_config(list(overrides), lambda config: found.append(config) or 0)
    return found[0]


@pytest.mark.parametrize("name", experiments.names())
def test_an_experiment_is_composed_and_fits_its_learner(name):
    config, settings = composed(f"experiment={name}"), experiments.load(name)
    assert config["env"] == settings["env"] in registry.environments.names()
    for key, value in settings.get("algorithm", {}).items():
        if not isinstance(value, dict):
            assert config["algorithm"][key] == value
    fields = {**config["algorithm"], "total_steps": settings["total_steps"]}
    run = RunContext(
        config["algorithm_name"],
        config["env"],
        env_parameters=config["env_parameters"],
        wrappers=config["wrappers"],
        **fields,
    )
    assert run.algorithm.num_updates * run.algorithm.steps_per_update >= settings["total_steps"]
    if name == "cutting2d":
        assert "env steps" in str(run.plan())


def test_an_experiment_may_choose_its_learner():
    config = composed("experiment=cartpole_es")
    assert config["algorithm_name"] == "es" and config["algorithm"]["max_steps"] == 500


def test_every_experiment_but_self_play_is_proven_to_learn_with_its_own_settings():
    assert {*experiments.names()} - {*learning.GOALS} == {"connect_four", "tic_tac_toe"}
    for name in learning.GOALS:
        algorithm, settings = learning.algorithm_of(name), experiments.load(name)
        config = composed(f"experiment={name}")
        assert type(algorithm).__name__.lower() == config["algorithm_name"]
        fields = {**config["algorithm"], "total_steps": settings["total_steps"]}
        assert from_config(type(algorithm), fields, env=algorithm.env) == algorithm


def test_what_is_typed_goes_before_the_experiment():
    config = composed("experiment=job_shop", "algorithm.num_envs=8", "total_steps=99")
    assert config["algorithm"]["num_envs"] == 8 and config["total_steps"] == 99


def test_an_unknown_experiment_is_told_with_the_nearest():
    with pytest.raises(ConfigError, match="experiment: unknown 'jobshop'; did you mean 'job_shop'"):
        composed("experiment=jobshop")


def test_a_setting_of_the_experiments_own_learner_is_known():
    config = composed("experiment=cartpole_es", "algorithm.noise_stddev=0.2")
    assert config["algorithm_name"] == "es" and config["algorithm"]["noise_stddev"] == 0.2
    config = composed("experiment=cutting2d", "algorithm=a2c")
    assert config["algorithm_name"] == "a2c" and config["algorithm"]["gamma"] == 0.999


def test_a_learner_without_the_settings_of_the_experiment_is_refused():
    said = "algorithm: ppo has no algorithm.max_steps, which experiment=cartpole_es sets; leave out"
    with pytest.raises(ConfigError, match=said):
        composed("experiment=cartpole_es", "algorithm=ppo")


@pytest.mark.optimized
def test_the_job_shop_experiment_finds_a_schedule_near_the_optimum():
    ppo = learning.algorithm_of("job_shop")

    def best(key):
        state, _ = ppo.train(key)
        return ppo.evaluate(state.variables, key, num_episodes=1).returns[0]

    # It begins at 95; the optimum is 55. Seeds 0 to 3 end at 60, 55, 55 and 59: of one alone
    # little follows, so that `benchmarks.learning` judges eight.
    assert jax.jit(best)(jax.random.key(1)) >= -57


def test_wrappers_are_composed_in_the_order_of_typing():
    by_key = composed("wrappers.RewardScaling.scale=0.1", "wrappers.TimeLimit.max_steps=100")
    at_once = composed("wrappers={RewardScaling: {scale: 0.1}, TimeLimit: {max_steps: 100}}")
    for config in (by_key, at_once):
        assert [*config["wrappers"].items()] == [
            ("RewardScaling", {"scale": 0.1}), ("TimeLimit", {"max_steps": 100}),
        ]  # fmt: skip
    assert composed()["wrappers"] == {}


def test_a_list_of_wrappers_may_hold_one_twice():
    config = composed("wrappers=[{TimeLimit: {max_steps: 9}}, TimeLimit]")
    assert config["wrappers"] == [{"TimeLimit": {"max_steps": 9}}, "TimeLimit"]


def test_wrappers_may_differ_between_the_jobs_of_a_multirun():
    found = []
    run_with_config(
        ["-m", "wrappers=none,vector_obs", "wrappers.TimeLimit.max_steps=3,4"],
        lambda config: found.append(config["wrappers"]) or 0,
    )
    assert [wrappers["TimeLimit"]["max_steps"] for wrappers in found] == [3, 4, 3, 4]
    assert ["ObservationNormalization" in wrappers for wrappers in found] == [False] * 2 + [
        True
    ] * 2


@pytest.fixture
def declare(monkeypatch):
    """Pretend that there is an experiment with these settings."""

    def declare(name, settings):
        store = ConfigStore.instance()
        store.store(group="experiment", name=name, node=settings, package="_global_")
        monkeypatch.setattr(experiments, "load", lambda name: settings)

    return declare


def test_an_experiment_may_wrap_its_env(declare):
    declare("of_test_mapping", {"env": "CartPole-v1", "wrappers": {"TimeLimit": {"max_steps": 9}}})
    config = composed("experiment=of_test_mapping", "wrappers.RewardScaling.scale=2.0")
    assert [*config["wrappers"]] == ["TimeLimit", "RewardScaling"]
    config = composed("experiment=of_test_mapping", "wrappers.TimeLimit.max_steps=8")
    assert config["wrappers"] == {"TimeLimit": {"max_steps": 8}}
    declare("of_test_list", {"env": "CartPole-v1", "wrappers": [{"TimeLimit": {"max_steps": 9}}]})
    assert composed("experiment=of_test_list")["wrappers"] == [{"TimeLimit": {"max_steps": 9}}]


def test_an_experiment_may_choose_wrappers_by_name(declare):
    declare(
        "of_test_name", {"defaults": [{"override /wrappers": "vector_obs"}], "env": "CartPole-v1"}
    )
    assert "ObservationNormalization" in composed("experiment=of_test_name")["wrappers"]


class Screen(EndlessReward):
    """A colored picture."""

    @property
    def observation_space(self):
        return Box(0, 255, (20, 24, 3), dtype="uint8")

    def observe(self, state):
        return jnp.full((20, 24, 3), 51, jnp.uint8)


SHAPES = {
    "none": (4,),
    "vector_obs": (4,),
    "vector_obs_rnn": (4, 4),
    "pixel_obs": (96, 96, 1),
    "pixel_obs_rnn": (4, 96, 96, 1),
}


@pytest.mark.parametrize("name", experiments.names("wrappers"))
def test_a_stack_that_is_shipped_wraps_an_env_and_comes_back_from_its_own_data(name):
    bare = Screen() if name.startswith("pixel") else mazejax.make("CartPole-v1")
    env, stored = compose.as_configured(bare, composed(f"wrappers={name}")["wrappers"])
    assert wrap(bare, json.loads(json.dumps(stored))) == env
    if observation_statistics.is_missing(env):
        env = observation_statistics.estimate(env, jax.random.key(0), num_samples=32)
    obs, _ = env.reset(jax.random.key(1))
    assert obs.shape == env.observation_space.shape == SHAPES[name]
    if name == "pixel_obs":
        np.testing.assert_allclose(obs, np.full(obs.shape, 0.2), rtol=1e-6)
    if name == "vector_obs_rnn":
        assert (obs[:3] == 0).all() and np.abs(obs[3]).max() <= 3, "zeros are what is usual"
