"""Tests of mazejax.runners.hparams."""

import json
import os

import pytest

from mazejax.errors import ConfigError, FileError
from mazejax.runners.hparams import EVENT_FILE, Result, hyperparameters, write_hparams
from mazejax.runners.writers import METRICS_FILE, JSONLinesWriter, TensorBoardWriter
from tests.runners.test_writers import protos_of

RETURNS = "hparams/train/episode_return/max"
EVALUATED = "hparams/eval/return_mean/last"


def make_run(directory, seed, returns, evaluated=(), **fields):
    """A run directory as training leaves it, without the training."""
    os.makedirs(directory)
    config = {
        "mazejax": "0.1.0",
        "env": {"name": "CartPole-v1", "parameters": {"gravity": 9.5}, "repr": "CartPole(...)"},
        "algorithm": {
            "name": "ppo",
            "learning_rate": 1e-3,
            "network": {"hidden": [8, 8]},
            **fields,
        },
        "run": {"target_return": None, "tensorboard": True},
        "seed": seed,
    }
    (directory / "config.json").write_text(json.dumps(config))
    writer = JSONLinesWriter(directory / METRICS_FILE)
    for step, value in enumerate(returns):
        writer.write(step, {"train/episode_return": value})
    for step, value in enumerate(evaluated):
        writer.write(step, {"eval/return_mean": value})
    writer.close()


def hparams_of(folder):
    """Contents of the HPARAMS plugin by kind, and the scalars, of the file in a folder."""
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    contents, scalars = {}, {}
    for event in protos_of(folder):
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "hparams":
                data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                kind = data.WhichOneof("data")
                contents[kind] = getattr(data, kind)
            elif value.WhichOneof("value") == "simple_value":
                scalars[value.tag] = value.simple_value
    return contents, scalars


def started_with(folder):
    start = hparams_of(folder)[0]["session_start_info"]
    return {name: getattr(v, v.WhichOneof("kind")) for name, v in start.hparams.items()}


def test_a_run_gets_its_hyperparameters_and_results(tmp_path):
    run = tmp_path / "run"
    make_run(run, seed=3, returns=[10.0, 30.0, 20.0], evaluated=[5.0, 4.0])
    rows = write_hparams(run)
    settings = {
        "env.name": "CartPole-v1",
        "env.parameters.gravity": 9.5,
        "algorithm.name": "ppo",
        "algorithm.learning_rate": 1e-3,
        "algorithm.network.hidden": "[8, 8]",
        "run.tensorboard": True,
        "seed": 3,
    }
    found = hyperparameters(run)
    assert settings.items() <= found.items()
    assert not found.keys() & {"mazejax", "env.repr", "run.target_return"}
    assert rows == {".": {**found, RETURNS: 30.0, EVALUATED: 4.0}}
    contents, scalars = hparams_of(run / "tensorboard")
    assert started_with(run / "tensorboard") == found
    assert scalars == {RETURNS: 30.0, EVALUATED: 4.0}
    columns = contents["experiment"]
    assert {info.name for info in columns.hparam_infos} == found.keys()
    assert [info.name.tag for info in columns.metric_infos] == [RETURNS, EVALUATED]
    assert "session_end_info" in contents


def test_a_folder_of_runs_has_the_columns_of_all_of_them(tmp_path):
    make_run(tmp_path / "sweep" / "0", 0, [1.0], [2.0])
    make_run(tmp_path / "sweep" / "deep" / "1", 1, [], extra="x")
    rows = write_hparams(tmp_path)
    assert rows.keys() == {"sweep/0", "sweep/deep/1"}
    assert RETURNS not in rows["sweep/deep/1"]  # what was not measured is absent
    (file,) = [path for path in tmp_path.iterdir() if path.is_file()]
    assert file.name == EVENT_FILE
    folder = tmp_path / "columns"
    folder.mkdir()
    file.rename(folder / EVENT_FILE)
    contents, _ = hparams_of(folder)
    assert "algorithm.extra" in {info.name for info in contents["experiment"].hparam_infos}
    for path, extra in (("0", None), ("deep/1", "x")):
        assert (
            started_with(tmp_path / "sweep" / path / "tensorboard").get("algorithm.extra") == extra
        )
        assert "experiment" not in hparams_of(tmp_path / "sweep" / path / "tensorboard")[0]


def test_results_are_chosen_and_an_older_table_is_replaced(tmp_path):
    make_run(tmp_path / "run", 0, [1.0, float("nan"), 3.0])
    write_hparams(tmp_path / "run")
    choices = ("last", "max", "min", "mean")
    results = [Result("train/episode_return", choice) for choice in choices]
    row = write_hparams(tmp_path / "run", results)["."]
    values = [row[f"hparams/train/episode_return/{choice}"] for choice in choices]
    assert values == [3.0, 3.0, 1.0, 2.0]
    assert os.listdir(tmp_path / "run" / "tensorboard") == [EVENT_FILE]
    assert len(hparams_of(tmp_path / "run" / "tensorboard")[1]) == 4


def test_the_file_comes_before_those_of_the_run(tmp_path):
    make_run(tmp_path / "run", 0, [1.0])
    TensorBoardWriter(tmp_path / "run" / "tensorboard").close()
    write_hparams(tmp_path / "run")
    assert sorted(os.listdir(tmp_path / "run" / "tensorboard"))[0] == EVENT_FILE


def test_what_is_no_run_and_unknown_choices_are_refused(tmp_path):
    with pytest.raises(FileError, match="holds no run"):
        write_hparams(tmp_path)
    with pytest.raises(ConfigError, match="choice: got 'best'"):
        write_hparams(tmp_path, [Result("train/episode_return", "best")])


def test_tensorboard_itself_compares_the_runs(tmp_path):
    multiplexer = pytest.importorskip(
        "tensorboard.backend.event_processing.plugin_event_multiplexer"
    )
    metadata = pytest.importorskip("tensorboard.plugins.hparams.metadata")
    for seed in (0, 1):
        make_run(tmp_path / str(seed), seed, [10.0 * seed])
    write_hparams(tmp_path)
    read = multiplexer.EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    found = read.PluginRunToTagToContent("hparams")
    assert found.keys() == {".", "0/tensorboard", "1/tensorboard"}
    start = found["1/tensorboard"][metadata.SESSION_START_INFO_TAG]
    assert metadata.parse_session_start_info_plugin_data(start).hparams["seed"].number_value == 1
    (tensor,) = read.Tensors("1/tensorboard", RETURNS)
    assert tensor.tensor_proto.float_val[0] == 10.0
