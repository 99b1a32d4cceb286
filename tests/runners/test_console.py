"""Tests of mazejax.runners.console."""

import io
import sys

import numpy as np
import pytest
from rich.console import Console

from mazejax.events.distribution import Distribution
from mazejax.runners.console import MAX_GROUPS, ConsoleWriter, summarize
from mazejax.runners.progress import LiveLine

TALLY = Distribution(np.array([5.0, 0.0, 2.0, 3.0]), np.arange(5) - 0.5, "relative_bars")
VALUES = Distribution(np.full((2, 10), 5.0), np.linspace(0.0, 10.0, 11), "violin")
FLAGS = Distribution(np.array([[3.0, 1.0], [0.0, 4.0]]), np.arange(3) - 0.5, "binary_bars")

SCALARS = {
    "train_StockEvents/sold/best_episode/0/1": 9.0,
    "train_StockEvents/sold/mean_episode_sold/0/1": 1 / 3,
    "eval_BaseEnvEvents/reward/total_step_count": 1234567.0,
    "train_CuttingEvents/valid_cut/mean_episode_total": 1e-7,
    "loss/policy": 3.0,
    "train/episode_return": 4.0,
}
DISTRIBUTIONS = {
    "train_ActionEvents/discrete_action/select/piece_idx": TALLY,
    "train_ObservationEvents/observation_processed/select/ordered_piece": VALUES,
}


def shown(width=80, terminal=True, scalars=SCALARS, distributions=DISTRIBUTIONS):
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None)
    writer = ConsoleWriter(console)
    writer.write(131072, scalars, distributions)
    writer.show()
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal_and_holds_every_statistic_of_events(width):
    lines = [line.rstrip() for line in shown(width).splitlines()]
    assert max(map(len, lines)) <= width
    rows = [line.split() for line in lines]
    assert ["train_StockEvents"] in rows and ["eval_BaseEnvEvents"] in rows
    assert ["131,072", "sold/best_episode/0/1", "9"] in rows
    assert ["131,072", "sold/mean_episode_sold/0/1", "0.333333"] in rows
    assert ["131,072", "reward/total_step_count", "1234567"] in rows
    assert ["131,072", "valid_cut/mean_episode_total", "1e-07"] in rows
    text = " ".join(" ".join(row) for row in rows)
    assert "loss/policy" not in text and "episode_return" not in text


def test_what_is_not_a_terminal_gets_plain_lines_with_whole_tags():
    text = shown(terminal=False)
    assert text.isascii()
    lines = text.splitlines()
    assert len(lines) == 1 + 4 + 2 and lines[0].split() == ["step", "path", "value"]
    assert "131072  train_StockEvents/sold/best_episode/0/1  " in text
    value = lines[0].index("value")
    assert all(line[value - 1] == " " != line[value] for line in lines)
    (found,) = [line for line in lines if "discrete_action" in line]
    assert found[value:] == "n=10  0: 50%, 3: 30%, 2: 20%"


def test_distributions_are_summarized_in_a_few_words():
    assert summarize(VALUES) == "n=100  mean=5  5/50/95%: 0.5 5 9.5"
    assert summarize(FLAGS) == "n=8  ones 0.25 1"
    assert summarize(FLAGS._replace(counts=np.array([3.0, 1.0]))).startswith("n=4  mean=0.25")
    many = FLAGS._replace(counts=np.tile([1.0, 1.0], (9, 1)))
    assert summarize(many) == "n=18  ones" + " 0.5" * 8 + " ..."


def test_only_the_newest_value_is_shown_and_only_once(capsys):
    writer = ConsoleWriter()
    writer.write(1, {"train_A/b/c": 1.0})
    writer.write(2, {"train_A/b/d": 2.0})
    writer.write(3, {"train_A/b/c": 3.0}, {"train_A/e": TALLY._replace(counts=np.zeros(4))})
    writer.show()
    writer.show()
    writer.write(4, {"loss/policy": 1.0})
    writer.flush()
    writer.close()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["3", "train_A/b/c", "3"],
        ["2", "train_A/b/d", "2"],
    ]


def test_closing_shows_what_has_not_been_shown(capsys):
    writer = ConsoleWriter()
    writer.write(1, {"train_A/b/c": 1.0})
    writer.close()
    assert "train_A/b/c" in capsys.readouterr().out


def test_of_many_groups_the_first_are_shown_and_the_others_counted():
    scalars = {f"train_A/sold/best/{i}": float(i) for i in range(MAX_GROUPS + 5)}
    text = shown(terminal=False, scalars=scalars, distributions={})
    assert len(text.splitlines()) == 1 + MAX_GROUPS + 1
    assert text.splitlines()[-1].split() == [
        "131072",
        "train_A/sold/best/...",
        "5",
        "more",
        "groups",
    ]


def test_numbers_that_are_not_finite_are_shown_as_they_are():
    text = shown(terminal=False, scalars={"train_A/b/c": float("nan"), "train_A/b/d": float("inf")})
    assert " nan\n" in text and " inf\n" in text


def test_a_table_is_printed_above_a_live_line(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    line = LiveLine(100)
    writer = ConsoleWriter()
    writer.write(1, {"train_A/b/c": 1.0})
    writer.show()
    line.close()
    assert "train_A/b/c" in file.getvalue()
