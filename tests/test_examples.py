"""The examples run as their first lines say, and show what they promise."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.optimized

REPOSITORY = Path(__file__).parents[1]


def run(name, folder, *warnings):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, *warnings, "-m", f"examples.{name}"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=170,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(180)
def test_an_env_is_written_checked_and_trained_in_under_a_hundred_lines(tmp_path):
    assert len((REPOSITORY / "examples/write_an_env.py").read_text().splitlines()) < 100
    out = run("write_an_env", tmp_path)
    assert "0 errors, 0 warnings" in out
    returns = [float(r) for r in re.findall(r"return (\d+\.\d)", out)]
    assert returns[-1] > 175
    assert (tmp_path / out.split()[-1]).read_bytes()[:3] == b"GIF"


@pytest.mark.timeout(180)
def test_beam_search_saves_the_raw_pieces_that_greedy_cuts_waste(tmp_path):
    out = run("beam_search", tmp_path)
    assert out.split() == ["GreedyPolicy", "-46", "BeamSearch", "-31"]


@pytest.mark.timeout(180)
def test_a_gymnasium_env_trains_a_policy_that_balances_in_both_worlds(tmp_path):
    out = run("gymnasium_env", tmp_path)
    returns = [float(r) for r in re.findall(r"return (\d+\.\d) ±", out)]
    assert len(returns) == 2 and min(returns) > 475


@pytest.mark.timeout(180)
def test_a_pointer_network_finds_the_piece_that_fits(tmp_path):
    out = run("pointer_network", tmp_path)
    assert "CorrelationBlock" in out and out.splitlines()[-1].startswith("return -31.0")
    assert (tmp_path / "pointer_network.svg").read_text().startswith("<svg")


@pytest.mark.timeout(180)
def test_a_sweep_compares_learning_rates_and_draws_the_curves(tmp_path):
    out = run("sweep_learning_rates", tmp_path)
    assert "best: learning_rate=" in out
    assert (tmp_path / "sweep/curves.png").read_bytes()[1:4] == b"PNG"
