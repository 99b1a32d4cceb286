"""A run from its names to its files, and what it refuses before anything is written."""

import json

import jax
import numpy as np
import pytest

import mazejax
from mazejax.envs.cutting2d import make_cutting2d
from mazejax.envs.probe import ConstantReward
from mazejax.errors import ConfigError, FileError, MazejaxError
from mazejax.runners.evaluation import evaluate
from mazejax.runners.run_context import RunContext
from tests.runners.tiny import TINY, tiny_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return tiny_run(tmp_path_factory.mktemp("run") / "run", tensorboard=True).train()


def test_a_run_directory_holds_all_that_a_run_is(trained):
    names = {path.name for path in trained.directory.iterdir()}
    assert names == {
        "config.json", "metrics.jsonl", "tensorboard", "checkpoints", "best_policy.safetensors",
    }  # fmt: skip
    config = json.loads((trained.directory / "config.json").read_text())
    assert config == trained.config()
    assert config["env"]["name"] == "CartPole-v1"
    assert config["algorithm"]["num_envs"] == 4


def test_a_loaded_run_is_equal(trained):
    loaded = RunContext.load(trained.directory)
    assert loaded.algorithm == trained.algorithm
    assert loaded.settings == trained.settings
    assert loaded.metrics.keys() == trained.metrics.keys()


def test_the_policy_acts_on_one_observation_and_on_batches(trained):
    obs, _ = trained.algorithm.env.reset(jax.random.key(0))
    one = trained.policy.act(obs)
    many = trained.policy.act(np.stack([obs] * 5))
    assert one.shape == ()
    np.testing.assert_array_equal(many, np.full(5, one))
    drawn = {int(trained.policy.act(obs, seed=seed)) for seed in range(30)}
    assert drawn == {0, 1}
    with pytest.raises(mazejax.errors.SpaceError, match=r"obs: got shape \(3,\), expected \(4,\)"):
        trained.policy.act(np.zeros(3, np.float32))


def test_evaluation_counts_whole_episodes(trained):
    result = trained.evaluate(episodes=7, deterministic=False)
    assert result.returns.shape == (7,)
    np.testing.assert_array_equal(result.returns, result.lengths)
    again = trained.evaluate(episodes=7, deterministic=False)
    np.testing.assert_array_equal(result.returns, again.returns)
    other = trained.evaluate(episodes=7, seed=2, deterministic=False)
    assert other.returns.tolist() != result.returns.tolist()
    assert "7 episodes" in str(result)


def test_an_episode_that_does_not_end_is_counted_as_unfinished(tmp_path):
    run = tiny_run(tmp_path / "run", max_episode_steps=3).train()
    result = run.evaluate(episodes=4)
    assert result.unfinished == 4
    assert result.returns.size == 0
    assert "no episode of 4 ended" in str(result)
    assert "eval/return_mean" not in run.metrics


def test_rendering_and_plotting(trained, tmp_path):
    gif = trained.render(tmp_path / "episode.gif")
    assert gif.read_bytes()[:6] in (b"GIF87a", b"GIF89a")
    html = trained.render(tmp_path / "episode.html")
    assert "<html" in html.read_text().lower()
    trained.plot().savefig(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes()[1:4] == b"PNG"
    with pytest.raises(ConfigError, match="did you mean 'loss/total'"):
        trained.plot("loss/totl")
    with pytest.raises(ConfigError, match=r"use \.gif or \.html"):
        trained.render(tmp_path / "episode.mp4")


def test_tensorboard_files_hold_what_the_metrics_say(trained):
    from tensorboardX.proto.event_pb2 import Event

    [path] = (trained.directory / "tensorboard").iterdir()
    data, tags, position = path.read_bytes(), {}, 0
    while position < len(data):  # records: length, checksum, event, checksum
        length = int.from_bytes(data[position : position + 8], "little")
        event = Event.FromString(data[position + 12 : position + 12 + length])
        for value in event.summary.value:
            tags.setdefault(value.tag, []).append((event.step, value.simple_value))
        position += 12 + length + 4
    curve = trained.metrics["loss/total"]
    np.testing.assert_array_equal([step for step, _ in tags["loss/total"]], curve.steps)
    np.testing.assert_allclose([value for _, value in tags["loss/total"]], curve.values, rtol=1e-6)


def test_what_did_not_happen_is_absent(tmp_path):
    curves = tiny_run(tmp_path / "run", total_steps=32).train().metrics
    assert "train/episode_return" not in curves or curves["train/episode_return"].values.min() > 0
    assert not any(name.startswith("nonfinite/") for name in curves)


def test_an_env_object_trains_and_is_asked_for_when_loading(tmp_path):
    run = RunContext("ppo", ConstantReward(), directory=tmp_path / "run", **TINY).train()
    with pytest.raises(ConfigError, match=r"trained on an env object.*ConstantReward"):
        RunContext.load(run.directory)
    loaded = RunContext.load(run.directory, env=ConstantReward())
    assert loaded.evaluate(episodes=3).mean_return == 1.0


@pytest.mark.parametrize("critic", ["step", "shared"])
def test_an_env_of_several_actors_trains_and_its_policy_acts_for_each(tmp_path, critic):
    env = mazejax.TimeLimit(make_cutting2d(structured=True, masked=True, max_pieces=8), 5)
    run = RunContext("ppo", env, directory=tmp_path / "run", critic=critic, **TINY).train()
    assert {"loss/value/selection", "policy/entropy/cutting"} <= run.metrics.keys()
    assert (run.metrics["train/episode_length"].values <= 5).all(), "flat steps"
    loaded = RunContext.load(run.directory, env=env)
    assert loaded.algorithm == run.algorithm
    assert loaded.evaluate(episodes=4).returns.tolist() == run.evaluate(episodes=4).returns.tolist()
    obs, _ = env.reset(jax.random.key(0))
    action = jax.device_get(loaded.policy.act(obs, step_key="selection"))
    env.action_spaces["selection"].validate(action)
    with pytest.raises(ConfigError, match=r"step_key: got None; known names: cutting, selection"):
        loaded.policy.act(obs)
    assert run.render(tmp_path / "episode.gif").read_bytes()[:3] == b"GIF"


def test_fresh_episodes_are_never_those_that_chose_the_policy(trained):
    result = [
        evaluate(trained.algorithm, trained._policy_variables(), seed, 7, deterministic=False)
        for seed in (0, 1, 2**32)
    ]
    fresh = trained.evaluate(episodes=7, seed=0, deterministic=False)
    assert fresh.returns.tolist() == result[2].returns.tolist()
    assert fresh.returns.tolist() != result[0].returns.tolist()
    assert result[0].returns.tolist() != result[1].returns.tolist()


def test_a_run_made_by_name_keeps_its_parameters_and_takes_no_other_env(tmp_path):
    run = tiny_run(tmp_path / "run", env_parameters={"gravity": 7.0}).train()
    assert RunContext.load(run.directory).algorithm == run.algorithm
    with pytest.raises(ConfigError, match=r"was trained on CartPole-v1.*omit env"):
        RunContext.load(run.directory, env=ConstantReward())


def test_an_algorithm_object_is_taken_as_it_is(tmp_path):
    algorithm = mazejax.PPO(env=mazejax.make("CartPole-v1"), num_envs=4, num_steps=8)
    run = RunContext(algorithm, directory=tmp_path / "run", total_steps=64)
    assert run.algorithm == algorithm.replace(total_steps=64)
    with pytest.raises(ConfigError, match="the algorithm has its env already"):
        RunContext(algorithm, "CartPole-v1")


def test_plan_tells_sizes_without_compiling(trained):
    plan = trained.plan()
    assert plan.steps_per_update == 32
    assert plan.num_updates == 12
    assert plan.auto_reset == "always"
    # 4 -> 2 x 8 joint first layer, 8 -> 2 logits, 8 -> 1 value
    assert plan.parameters == (4 + 1) * 16 + (8 + 1) * 2 + (8 + 1) * 1
    # obs 4, action, reward, log_prob, value, next_value of 4 bytes; two flags of 1
    assert plan.rollout_bytes == 32 * (4 * 9 + 2)
    assert plan.flops_per_update > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rat": 1e-3}, "learning_rat: unknown key; did you mean 'learning_rate'"),
        ({"num_evaluation": 3}, "num_evaluation: unknown key; did you mean 'num_evaluations'"),
        ({"learning_rate": float("nan")}, "learning_rate: must be finite"),
        ({"learning_rate": "fast"}, "learning_rate: expected a number, got 'fast'"),
        ({"num_envs": 2.5}, "num_envs: expected a whole number, got 2.5"),
        ({"num_envs": -3}, "num_envs: must be a positive integer, got -3"),
        ({"num_minibatches": 5}, "num_minibatches: .* 1024 does not divide into 5 parts; .*4, 8"),
        ({"seed": -1}, "seed: must be a whole number"),
        ({"seed": 1.5}, "seed: must be a whole number"),
        ({"network": {"hiden": [3]}}, "network.hiden: unknown key; did you mean 'hidden'"),
        ({"env_parameters": {"gravitee": 1}}, "no number 'gravitee'; did you mean 'gravity'"),
        ({"progress": "loud"}, "progress: unknown 'loud'"),
    ],
    ids=str,
)
def test_bad_options_are_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        RunContext("ppo", "CartPole-v1", directory=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_unknown_names_come_with_the_nearest(tmp_path):
    with pytest.raises(
        ConfigError, match="unknown environment 'Cartpole'; did you mean 'CartPole-v1'"
    ):
        RunContext("ppo", "Cartpole")
    with pytest.raises(ConfigError, match="unknown algorithm 'pp0'; did you mean 'ppo'"):
        RunContext("pp0", "CartPole-v1")


def test_a_foreign_directory_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(FileError, match="not empty and holds no run"):
        tiny_run(tmp_path).train()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(FileError, match=r"is not a run directory, it has no config\.json"):
        RunContext.load(tmp_path)
    with pytest.raises(FileError, match="no such run directory"):
        RunContext.load(tmp_path / "nowhere")


def test_a_directory_of_another_run_is_not_trained_over(trained):
    with pytest.raises(FileError, match=r"holds a run with another .*seed"):
        tiny_run(trained.directory, seed=5).train()
    with pytest.raises(FileError, match=r"holds a run with another .*num_envs"):
        tiny_run(trained.directory, num_envs=8).train()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"env": {}}', "null"])
def test_a_damaged_config_is_a_file_error(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(FileError, match=r"config\.json"):
        RunContext.load(tmp_path)


def test_a_truncated_checkpoint_is_a_file_error(tmp_path):
    run = tiny_run(tmp_path / "run").train()
    newest = sorted((run.directory / "checkpoints").iterdir())[-1]
    largest = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-7])
    with pytest.raises(FileError, match=largest.name):
        RunContext.load(run.directory, total_steps=20 * 32).train()


def test_an_untrained_run_says_so(tmp_path):
    with pytest.raises(MazejaxError, match="nothing is trained yet"):
        tiny_run(tmp_path / "run").evaluate()
