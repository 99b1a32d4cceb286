"""Runs on wrapped envs: what is trained is what is evaluated, deployed, resumed and read back."""

import json
import shutil

import jax
import numpy as np
import pytest

import mazejax
from mazejax import files, registry
from mazejax.envs.probe import EndlessReward
from mazejax.errors import ConfigError, FileError
from mazejax.runners import observation_statistics, run_statistics
from mazejax.runners.run_context import RunContext
from mazejax.wrappers import RewardScaling, TimeLimit, wrap
from tests.runners.tiny import TINY, tiny_run

SHORT = {"RewardScaling": {"scale": 0.5}, "TimeLimit": {"max_steps": 6}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return tiny_run(tmp_path_factory.mktemp("run") / "run", wrappers=SHORT).train()


def test_the_wrapped_env_is_trained_and_evaluated(trained):
    assert trained.algorithm.env == wrap(mazejax.make("CartPole-v1"), SHORT) == trained.env
    assert trained.metrics["train/episode_length"].values.max() <= 6
    result = trained.evaluate(episodes=5, deterministic=False)
    assert result.lengths.max() <= 6
    np.testing.assert_array_equal(result.returns, 0.5 * result.lengths)


def test_the_directory_tells_the_wrappers_in_their_order_and_load_restores_them(trained):
    config = json.loads((trained.directory / "config.json").read_text())
    assert config == trained.config()
    assert config["env"]["wrappers"] == [
        {"RewardScaling": {"scale": 0.5}}, {"TimeLimit": {"max_steps": 6}},
    ]  # fmt: skip
    loaded = RunContext.load(trained.directory)
    assert loaded.algorithm == trained.algorithm
    results = [run.evaluate(episodes=4, deterministic=False).returns for run in (trained, loaded)]
    np.testing.assert_array_equal(*results)
    assert loaded.train().config() == trained.config()


def test_a_run_of_before_there_were_wrappers_has_none(trained, tmp_path):
    config = trained.config()
    del config["env"]["wrappers"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert RunContext.load(tmp_path).env == mazejax.make("CartPole-v1")


@pytest.mark.parametrize(
    "wrappers",
    [
        None,
        {"RewardScaling": {"scale": 0.4}, "TimeLimit": {"max_steps": 6}},
        dict(reversed(SHORT.items())),
    ],
    ids=["none", "another number", "another order"],
)
def test_a_directory_of_a_run_with_other_wrappers_is_not_trained_over(trained, wrappers):
    with pytest.raises(FileError, match=r"holds a run with another .*wrappers"):
        tiny_run(trained.directory, wrappers=wrappers).train()


def test_an_env_object_is_wrapped_again_when_it_is_loaded(tmp_path):
    fields = {**TINY, "total_steps": 32}
    limit = {"TimeLimit": {"max_steps": 3}}
    run = RunContext("ppo", EndlessReward(), directory=tmp_path, wrappers=limit, **fields).train()
    loaded = RunContext.load(tmp_path, env=EndlessReward())
    assert loaded.env == run.env == TimeLimit(EndlessReward(), 3)
    assert loaded.evaluate(episodes=2).lengths.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("wrappers", "message"),
    [
        ({"RewardScalin": {}}, r"wrappers\.RewardScalin: unknown .*'RewardScaling'"),
        ({"RewardScaling": {"scal": 1}}, r"wrappers\.RewardScaling\.scal: unknown .*'scale'"),
        ({"TimeLimit": {"max_steps": 0}}, r"wrappers\.TimeLimit\.max_steps: must be at least 1"),
        ([lambda env: env.replace(max_steps=3)], "no longer the env that was wrapped"),
    ],
)
def test_wrong_wrappers_are_refused_before_anything_is_written(tmp_path, wrappers, message):
    with pytest.raises(ConfigError, match=message):
        tiny_run(tmp_path / "run", wrappers=wrappers)
    assert not (tmp_path / "run").exists()


def test_a_wrapper_without_a_name_could_not_be_read_back(tmp_path, monkeypatch):
    class Doubled(RewardScaling):
        scale: float = 2.0

    with pytest.raises(ConfigError, match=r"Doubled has no name, .*register\('Doubled', Doubled\)"):
        tiny_run(tmp_path / "run", wrappers={Doubled: {}})
    monkeypatch.setitem(registry.wrappers._factories, "Doubled", Doubled)
    run = tiny_run(tmp_path / "run", wrappers={Doubled: {}})
    assert run.config()["env"]["wrappers"] == [{"Doubled": {"scale": 2.0}}]


def test_an_algorithm_has_its_env_already(tmp_path):
    algorithm = mazejax.PPO(env=mazejax.make("CartPole-v1"))
    with pytest.raises(ConfigError, match="wrappers: the algorithm has its env already"):
        RunContext(algorithm, wrappers=SHORT)


def test_the_policy_takes_what_the_wrapped_env_shows(trained):
    obs, state = trained.env.reset(jax.random.key(0))
    step = trained.env.step(jax.random.key(1), state, trained.policy.act(obs))
    assert step.reward == 0.5


NORMALIZED = {
    "ObservationNormalization": {"default_strategy_config": {"clip_range": [-3.0, 3.0]}},
    "TimeLimit": {"max_steps": 20},
}


@pytest.fixture(scope="module")
def normalized(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run") / "run"
    return tiny_run(directory, seed=3, wrappers=NORMALIZED).train()


def test_statistics_are_estimated_once_and_kept_in_the_directory(normalized):
    [wrapper] = observation_statistics.normalizers(normalized.env)
    std = wrapper.statistics["observation"]["std"]
    assert std.shape == (4,) and (std > 0).all()
    with np.load(normalized.directory / "observation_statistics.npz") as kept:
        np.testing.assert_array_equal(kept["observation/std"], std)
    config = json.loads((normalized.directory / "config.json").read_text())
    assert config == normalized.config()
    assert "statistics" not in config["env"]["wrappers"][0]["ObservationNormalization"]


def test_statistics_follow_from_the_seed(normalized, tmp_path):
    again = tiny_run(tmp_path / "again", seed=3, wrappers=NORMALIZED)
    assert again.env == normalized.env
    assert not (tmp_path / "again").exists(), "estimated before anything is written"
    assert tiny_run(tmp_path / "other", seed=4, wrappers=NORMALIZED).env != normalized.env


def test_a_loaded_run_sees_the_same_observations(normalized):
    loaded = RunContext.load(normalized.directory)
    assert loaded.algorithm == normalized.algorithm
    key = jax.random.key(5)
    obs = [run.env.reset(key)[0] for run in (normalized, loaded)]
    np.testing.assert_array_equal(*obs)
    assert np.abs(obs[0]).max() <= 3.0
    assert loaded.policy.act(obs[0]) == normalized.policy.act(obs[0])
    returns = [run.evaluate(3, deterministic=False).returns for run in (normalized, loaded)]
    np.testing.assert_array_equal(*returns)
    assert loaded.train().config() == normalized.config()


def test_statistics_of_the_directory_go_before_those_that_would_be_estimated(normalized, tmp_path):
    for name in ("config.json", "observation_statistics.npz"):
        shutil.copy(normalized.directory / name, tmp_path / name)
    with np.load(tmp_path / "observation_statistics.npz") as kept:
        doubled = {name: 2 * array for name, array in kept.items()}
    files.write_npz(tmp_path / "observation_statistics.npz", doubled)
    loaded = RunContext.load(tmp_path)
    [wrapper] = observation_statistics.normalizers(loaded.env)
    np.testing.assert_array_equal(
        wrapper.statistics["observation"]["std"], doubled["observation/std"]
    )
    files.write_npz(tmp_path / "observation_statistics.npz", {"observation/mean": np.zeros(4)})
    with pytest.raises(FileError, match=r"observation_statistics\.npz: "):
        RunContext.load(tmp_path)


def test_a_plan_needs_no_statistics_from_anyone(tmp_path):
    run = tiny_run(tmp_path / "run", wrappers=NORMALIZED)
    assert "ObservationNormalization" in str(run.plan())
    assert not (tmp_path / "run").exists()


def test_to_normalize_twice_is_told(tmp_path):
    run = tiny_run(tmp_path, wrappers=NORMALIZED, normalize_obs=True)
    with pytest.warns(UserWarning, match=r"normalize_obs: .*one of the two is enough"):
        run_statistics.keep(run.algorithm, tmp_path)
