"""The command line: what it accepts, what it refuses, and in which words."""

import json
import re

import pytest

from mazejax import cli
from tests.runners.tiny import TINY, child

TINY_OVERRIDES = [
    "env=CartPole-v1",
    "algorithm.network.hidden=[8]",
    *(
        f"algorithm.{k}={TINY[k]}"
        for k in ("num_envs", "num_steps", "num_minibatches", "num_epochs")
    ),
    *(f"run.{k}={TINY[k]}" for k in ("eval_episodes", "num_evaluations", "num_checkpoints")),
    "run.tensorboard=false",
    "total_steps=384",
]

REFUSED = {
    # overrides of `mazejax train`: the beginning of the message, and what it must suggest
    "": ("env: missing", "env=CartPole-v1"),
    "env=CartPol-v1": ("env: unknown environment 'CartPol-v1'", "CartPole-v1"),
    "env=null": ("env: missing", "env=CartPole-v1"),
    "env=[1,2]": ("env: ", "list"),
    "env=gymnax/Breakot-MinAtar": ("env: unknown environment", "gymnax/Breakout-MinAtar"),
    "env": ("env: cannot read 'env'", "key=value"),
    "env=CartPole-v1 env_parameters.gravitee=1": ("env_parameters: ", "gravity"),
    "env=CartPole-v1 env_parameters.gravity=strong": ("env_parameters: ", "must be a number"),
    "env=CartPole-v1 env_parameters.gravity=nan": ("env_parameters: gravity: ", "got nan"),
    "env=CartPole-v1 env_parameters.mass_pole=-1": ("env_parameters: ", "positive"),
    "env=CartPole-v1 env_parameters.max_steps=0": ("env_parameters: ", "at least 1"),
    "env=CartPole-v1 wrappers.RewardScalin.scale=0.1": (
        "wrappers.RewardScalin.scale: unknown wrapper",
        "'wrappers.RewardScaling.scale'",
    ),
    "env=CartPole-v1 wrappers.RewardScaling.scal=0.1": (
        "wrappers.RewardScaling.scal: unknown key",
        "'wrappers.RewardScaling.scale'",
    ),
    "env=CartPole-v1 wrappers={RewardScalin:{scale:0.1}}": (
        "wrappers.RewardScalin: unknown wrapper",
        "'RewardScaling'",
    ),
    "env=CartPole-v1 wrappers={RewardScaling:{scal:0.1}}": (
        "wrappers.RewardScaling.scal: unknown key",
        "'scale'",
    ),
    "env=CartPole-v1 wrappers.RewardScaling.scale=big": ("wrappers.RewardScaling.scale: ", "'big'"),
    "env=CartPole-v1 wrappers.TimeLimit.max_steps=0": ("wrappers.TimeLimit.max_steps: ", "least 1"),
    "env=CartPole-v1 wrappers.TimeLimit=3": ("wrappers.TimeLimit: expected fields", "3"),
    "env=CartPole-v1 wrappers=[{TimeLimit:{max_steps:0}}]": (
        "wrappers[0].TimeLimit.max_steps: ",
        "at least 1",
    ),
    "env=CartPole-v1 wrappers=vector_ob": ("wrappers: unknown 'vector_ob'", "'vector_obs'"),
    "env=CartPole-v1 wrappers=null": ("wrappers: expected a name", "wrappers={TimeLimit:"),
    "env=CartPole-v1 wrapers.TimeLimit.max_steps=3": (
        "wrapers.TimeLimit.max_steps: unknown key",
        "'wrappers.TimeLimit.max_steps'",
    ),
    "env=CartPole-v1 TimeLimit.max_steps=3": (
        "TimeLimit.max_steps: unknown key",
        "'wrappers.TimeLimit.max_steps'",
    ),
    "env=CartPole-v1 algorithm=pppo": ("algorithm: unknown 'pppo'", "ppo"),
    "env=CartPole-v1 algorithm=": ("algorithm: unknown ''", "ppo"),
    "env=CartPole-v1 algorithm.learning_rat=1": (
        "algorithm.learning_rat: unknown key",
        "algorithm.learning_rate",
    ),
    "env=CartPole-v1 learning_rate=1": ("learning_rate: unknown key", "algorithm.learning_rate"),
    "env=CartPole-v1 num_evaluations=1": ("num_evaluations: unknown key", "run.num_evaluations"),
    "env=CartPole-v1 +algorithm.new=1": ("algorithm.new: unknown key", "algorithm"),
    "env=CartPole-v1 ++new=1": ("new: unknown key", "known names"),
    "env=CartPole-v1 algorithm.learning_rate=fast": ("algorithm.learning_rate: ", "fast"),
    "env=CartPole-v1 algorithm.learning_rate=nan": ("algorithm.learning_rate: ", "finite"),
    "env=CartPole-v1 algorithm.learning_rate=inf": ("algorithm.learning_rate: ", "finite"),
    "env=CartPole-v1 algorithm.learning_rate=-1": ("algorithm.learning_rate: ", "(0, inf]"),
    "env=CartPole-v1 algorithm.learning_rate=null": ("algorithm.learning_rate: ", ""),
    "env=CartPole-v1 algorithm.gamma=1.01": ("algorithm.gamma: ", "[0, 1]"),
    "env=CartPole-v1 algorithm.num_envs=2.5": ("algorithm.num_envs: ", "2.5"),
    "env=CartPole-v1 algorithm.num_envs=0": ("algorithm.num_envs: ", "positive"),
    "env=CartPole-v1 algorithm.num_envs=-4": ("algorithm.num_envs: ", "positive"),
    "env=CartPole-v1 algorithm.num_minibatches=7": ("algorithm.num_minibatches: ", "4, 8"),
    "env=CartPole-v1 algorithm.auto_reset=allways": ("algorithm.auto_reset: ", "always"),
    "env=CartPole-v1 algorithm.learning_rate_schedule=lin": (
        "algorithm.learning_rate_schedule: ",
        "linear",
    ),
    "env=CartPole-v1 algorithm.network=3": ("algorithm.network: ", ""),
    "env=CartPole-v1 algorithm.network.hidden=64": ("algorithm.network.hidden: ", ""),
    "env=CartPole-v1 algorithm.network.hidden=[a]": ("algorithm.network.hidden[0]: ", "a"),
    "env=CartPole-v1 algorithm.network.hidden=[-3]": ("algorithm.network.hidden: ", "positive"),
    "env=CartPole-v1 algorithm.network.activation=tnh": ("algorithm.network.activation: ", "tanh"),
    "env=CartPole-v1 seed=-1": ("seed: ", "from 0"),
    "env=CartPole-v1 seed=abc": ("seed: ", "abc"),
    "env=CartPole-v1 total_steps=0": ("algorithm.total_steps: ", "positive"),
    "env=CartPole-v1 total_steps=1.5": ("total_steps: ", "1.5"),
    "env=CartPole-v1 run.progress=loud": ("run.progress: ", "auto"),
    "env=CartPole-v1 run.eval_episodes=0": ("run.eval_episodes: ", "at least 1"),
    "env=CartPole-v1 run.target_return=nan": ("run.target_return: ", "finite"),
    "env=CartPole-v1 run.num_evals=3": ("run.num_evals: unknown key", "run.num_evaluations"),
    "resume=no/such/run": ("no/such/run: ", "no such run directory"),
}


@pytest.mark.parametrize(
    "overrides", REFUSED, ids=lambda text: text.replace("env=CartPole-v1 ", "")
)
def test_a_wrong_override_is_one_line_with_its_key_and_a_mend(
    overrides, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *overrides.split()]) in (1, 2)
    out, err = capsys.readouterr()
    begin, mend = REFUSED[overrides]
    assert err.startswith(begin), err
    assert mend in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "begin"),
    [
        (["trian"], "trian: unknown verb; did you mean 'train'?"),
        (["evaluate"], "evaluate: which run?"),
        (["evaluate", "no/such"], "no/such: no such run directory"),
        (
            ["evaluate", ".", "episods=3"],
            "episods: unknown key of evaluate; did you mean 'episodes'?",
        ),
        (["evaluate", ".", "episodes=many"], "episodes: expected a whole number, got 'many'"),
        (["evaluate", "."], ".: is not a run directory"),
        (["demo", "sed=3"], "sed: unknown key of demo; did you mean 'seed'?"),
        (["envs", "x"], "x: unknown key of envs"),
        (["check"], "check: which environment?"),
        (["check", "CartPol-v1"], "unknown environment 'CartPol-v1'"),
        (["check", "no_such_module:make"], "no_such_module:make: cannot be imported"),
    ],
)
def test_a_wrong_call_of_a_verb_is_one_line(arguments, begin, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) in (1, 2)
    err = capsys.readouterr().err
    assert err.startswith(begin), err
    assert len(err.strip().splitlines()) == 1


def test_train_evaluate_and_resume(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *TINY_OVERRIDES, "seed=3", "directory=run"]) == 0
    out = capsys.readouterr().out
    assert "12 updates x 32 = 384" in out
    assert "run/metrics.jsonl" in out
    assert cli.main(["evaluate", "run", "episodes=5"]) == 0
    first = capsys.readouterr().out
    assert "5 episodes" in first
    assert cli.main(["train", "resume=run", "total_steps=640"]) == 0
    assert "20 updates x 32 = 640" in capsys.readouterr().out
    assert cli.main(["evaluate", "run", "episodes=5"]) == 0


def test_a_wrapped_env_is_trained_and_evaluated_by_its_run_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    stack = "wrappers={RewardScaling: {scale: 0.1}, TimeLimit: {max_steps: 100}}"
    changed = "wrappers.TimeLimit.max_steps=5"
    assert cli.main(["train", *TINY_OVERRIDES, stack, changed, "directory=run"]) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["env"]["wrappers"] == [
        {"RewardScaling": {"scale": 0.1}}, {"TimeLimit": {"max_steps": 5}},
    ]  # fmt: skip
    capsys.readouterr()
    assert cli.main(["evaluate", "run", "episodes=5"]) == 0
    assert "return 0.5 ± 0.0 (min 0.5, max 0.5), length 5.0, 5 episodes" in capsys.readouterr().out


def test_a_multirun_makes_a_run_for_every_combination(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "-m", *TINY_OVERRIDES, "seed=0,1"]) == 0
    assert len(list(tmp_path.glob("runs/*/config.json"))) == 2


def test_plan_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["plan", "env=CartPole-v1", "total_steps=300_000"]) == 0
    out = capsys.readouterr().out
    assert "293 updates x 1,024 = 300,032 (asked for 300,000" in out
    assert list(tmp_path.iterdir()) == []


def test_check_of_an_own_environment(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_env_of_test.py").write_text(
        "import mazejax\n\ndef make():\n    return mazejax.make('Pendulum-v1')\n"
    )
    monkeypatch.chdir(tmp_path)
    assert cli.main(["check", "my_env_of_test:make"]) == 0
    assert "Pendulum" in capsys.readouterr().out


def test_help_version_table_and_doctor(capsys):
    assert cli.main([]) == 0
    assert "usage: mazejax VERB" in capsys.readouterr().out
    assert cli.main(["--version"]) == 0
    assert re.match(r"\d+\.\d+\.\d+", capsys.readouterr().out)
    assert cli.main(["envs"]) == 0
    table = capsys.readouterr().out
    assert re.search(r"CartPole-v1 +Box\[4\] +Discrete\(2\)", table)
    assert "gymnax/Breakout-MinAtar" in table
    assert cli.main(["doctor"]) == 0
    assert "all is well" in capsys.readouterr().out


def test_python_dash_m_is_the_same_and_interrupts_exit_with_130(tmp_path):
    code = f"""
import os, signal, sys
os.chdir({str(tmp_path)!r})
from mazejax.runners import training
original = training.TrainingLoop._report
def report(loop, chunk):
    original(loop, chunk)
    if chunk is not None and not loop.seed:
        loop.seed = 1
        os.kill(os.getpid(), signal.SIGINT)
training.TrainingLoop._report = report
training.CHUNK_SECONDS = 0.0
sys.argv = ["mazejax", "train", "directory=run", *{TINY_OVERRIDES!r}]
import runpy
runpy.run_module("mazejax", run_name="__main__")
"""
    process = child(code)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    assert "go on with: mazejax train resume=run" in out
