"""Everything that the README tells people to type, typed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mazejax import cli, registry

pytestmark = pytest.mark.optimized

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()


def run(arguments, folder):
    """Run a program in the folder; its output, after its success is checked."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MPLBACKEND": "Agg"}
    done = subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("snippet", re.findall(r"```python\n(.*?)```", README, re.S), ids=range(3))
def test_python_snippets_run(tmp_path, snippet):
    out = run([sys.executable, "-W", "error", "-c", snippet], tmp_path)
    if "run.evaluate" in snippet:
        assert "return 500.0" in out or re.search(r"return 4[0-9]{2}\.", out), out


def run_guide(name, folder):
    guide = (REPOSITORY / "docs" / name).read_text()
    snippets = re.findall(r"```python\n(.*?)```", guide, re.S)
    return run([sys.executable, "-c", "\n".join(snippets)], folder)


def test_the_guide_to_networks_runs_from_top_to_bottom(tmp_path):
    out = run_guide("networks.md", tmp_path)
    assert "VGGConvolutionDenseBlock" in out and (tmp_path / "policy.svg").exists()


def test_the_guide_to_learners_runs_from_top_to_bottom(tmp_path):
    out = run_guide("learners.md", tmp_path)
    assert "RunningStatistics" not in out and "95% interval" in out


def test_the_guide_to_events_runs_from_top_to_bottom(tmp_path):
    out = run_guide("events.md", tmp_path)
    assert "('train_StockEvents/sold/mean_episode_sold/0/pear', 7.0)" in out
    assert "eval_BaseEnvEvents/kpi/mean/crates_per_day" in out and "best 1." in out
    assert (tmp_path / "runs/crates/event_logs/StockEvents.sold.tsv").exists()


def test_the_guide_to_wrappers_runs_from_top_to_bottom(tmp_path):
    out = run_guide("wrappers.md", tmp_path)
    assert "TimeLimit<RewardScaling<TimeLimit<CartPole>>>" in out
    assert "observation_statistics.npz" in out and "(warning)" not in out


def test_the_guide_to_wrappers_lists_every_one():
    table = (REPOSITORY / "docs" / "wrappers.md").read_text().split("## By configuration")[0]
    assert {*re.findall(r"`(\w+)`", table)} >= {*registry.wrappers.names()}


def test_shell_commands_run_in_their_order(tmp_path, monkeypatch, capsys):
    commands = re.findall(r"^    mazejax (.*?)(?:  +#.*)?$", README, re.M)
    assert len(commands) == 8
    monkeypatch.chdir(tmp_path)
    for command in commands:
        directories = sorted(tmp_path.glob("runs/*"))
        words = [
            w.replace("RUN_DIR", str(directories[0])) if directories else w for w in command.split()
        ]
        # In one process, for each of its own imports jax anew; the demo below has its own.
        assert cli.main(words) == 0, command
        assert capsys.readouterr().out.strip(), command


def test_demo_solves_cartpole_and_says_where_everything_is(tmp_path):
    out = run([sys.executable, "-m", "mazejax", "demo"], tmp_path)
    assert re.search(r"100 fresh episodes of the best policy: return (4[7-9]\d|500)", out), out
    for path in re.findall(r"(runs/\S+)", out):
        assert (tmp_path / path).exists(), path
    assert (tmp_path / re.search(r"runs/\S+rollout.gif", out)[0]).read_bytes()[:3] == b"GIF"
