"""Tests of mazejax.runners.read_run."""

import math

import numpy as np
import pytest

from mazejax.errors import FileError
from mazejax.runners.read_run import read_distributions, read_run
from mazejax.runners.writers import METRICS_FILE, JSONLinesWriter


@pytest.fixture
def run(tmp_path):
    writer = JSONLinesWriter(tmp_path / METRICS_FILE)
    writer.write(32, {"loss": 0.5, "kl": 1.0})
    writer.write(64, {"loss": math.nan})
    writer.write(64, {"eval/return_mean": 7.0})
    writer.write(96, {"loss": 0.25, "kl": 2.0})
    writer.close()
    return tmp_path


def test_metrics_are_columns_aligned_on_all_steps(run):
    table = read_run(run)
    assert list(table) == ["step", "loss", "kl", "eval/return_mean"]
    assert table["step"].tolist() == [32, 64, 96] and table["step"].dtype == np.int64
    nan = math.nan
    np.testing.assert_array_equal(table["loss"], [0.5, nan, 0.25])
    np.testing.assert_array_equal(table["kl"], [1.0, nan, 2.0])
    np.testing.assert_array_equal(table["eval/return_mean"], [nan, 7.0, nan])
    assert all(table[name].dtype == np.float64 for name in list(table)[1:])


def test_the_last_value_of_a_step_counts_and_a_metric_may_be_called_step(tmp_path):
    writer = JSONLinesWriter(tmp_path / METRICS_FILE)
    for value in (1.0, 2.0):
        writer.write(8, {"step": value})
    writer.close()
    table = read_run(tmp_path)
    assert table["step"].tolist() == [8] and table["step (metric)"].tolist() == [2.0]


def test_the_table_is_a_data_frame(run):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(read_run(run)).set_index("step")
    assert frame.loc[64, "eval/return_mean"] == 7.0 and frame["loss"].isna().sum() == 1


def test_of_a_run_that_wrote_nothing_the_table_is_empty(tmp_path):
    JSONLinesWriter(tmp_path / METRICS_FILE).close()
    assert [(name, column.tolist()) for name, column in read_run(tmp_path).items()] == [
        ("step", [])
    ]
    assert read_distributions(tmp_path) == {}


def test_what_is_no_run_is_a_file_error(tmp_path):
    for read in (read_run, read_distributions):
        with pytest.raises(FileError, match=r"is not a run directory, it has no metrics\.jsonl"):
            read(tmp_path)


@pytest.mark.parametrize(
    "stored",
    [
        "[]",
        '{"counts": [1]}',
        '{"counts": [1], "edges": [1], "plot": "violin"}',
        '{"counts": ["a"], "edges": [0, 1], "plot": "violin"}',
        '{"counts": [1], "edges": [0, 1], "plot": 3}',
    ],
)
def test_damaged_distributions_are_named(tmp_path, stored):
    line = f'{{"step": 1, "scalars": {{}}, "distributions": {{"train_A/b": {stored}}}}}\n'
    (tmp_path / METRICS_FILE).write_text(line)
    with pytest.raises(FileError, match=r"metrics\.jsonl, line 1: train_A/b: is no distribution"):
        read_distributions(tmp_path)
    assert read_run(tmp_path)["step"].tolist() == []
