"""Tests of mazejax.runners.writers."""

import errno
import json
import math
import os
import resource
import struct

import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.errors import ConfigError, FileError
from mazejax.runners.writers import JSONLinesWriter, TensorBoardWriter, read_metrics


def write_some(path, steps, **options):
    writer = JSONLinesWriter(path, **options)
    for step in steps:
        writer.write(step, {"loss": step / 2})
    writer.close()


def test_metrics_come_back_by_name_with_their_steps(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = JSONLinesWriter(path)
    writer.write(1, {"loss": 0.1, "kl": jnp.float32(0.25)})
    writer.write(2, {"loss": np.float64(1e-300)})
    writer.close()
    metrics = read_metrics(path)
    assert metrics.keys() == {"loss", "kl"}
    assert metrics["loss"][0].tolist() == [1, 2] and metrics["loss"][0].dtype == np.int64
    assert metrics["loss"][1].tolist() == [0.1, 1e-300]
    assert metrics["kl"][0].tolist() == [1]  # what did not happen is absent


def test_each_write_is_one_whole_line_at_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = JSONLinesWriter(path)
    for step in range(3):
        writer.write(step, {"a": 1.0})
        lines = path.read_text().split("\n")
        assert len(lines) == step + 2 and lines[-1] == ""
        assert json.loads(lines[step]) == {"step": step, "scalars": {"a": 1.0}}
    writer.close()
    writer.close()


def test_what_is_not_finite_is_named_counted_and_never_a_number(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = JSONLinesWriter(path)
    writer.write(1, {"loss": math.nan, "kl": 1.0, "ratio": -math.inf})
    writer.write(2, {"loss": math.inf})
    writer.close()
    first = json.loads(path.read_text().splitlines()[0])
    assert first["scalars"] == {"loss": None, "kl": 1.0, "ratio": None}
    assert first["nonfinite"] == ["loss", "ratio"]
    assert writer.nonfinite == {"loss": 2, "ratio": 1}
    assert np.isnan(read_metrics(path)["loss"][1]).all()


def test_resuming_drops_the_future_and_goes_on(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_some(path, [1, 2, 3, 4])
    write_some(path, [3, 5], resume_step=2)
    steps, values = read_metrics(path)["loss"]
    assert steps.tolist() == [1, 2, 3, 5] and values.tolist() == [0.5, 1.0, 1.5, 2.5]
    write_some(path, [6])  # without a step nothing is dropped
    assert read_metrics(path)["loss"][0].tolist() == [1, 2, 3, 5, 6]
    write_some(path, [], resume_step=0)
    assert path.read_bytes() == b"" and read_metrics(path) == {}


def test_a_line_cut_off_by_a_kill_is_dropped_wherever_it_was_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_some(path, [1, 2])
    whole = path.read_bytes()
    second = whole.index(b"\n") + 1
    for end in range(second, len(whole)):
        path.write_bytes(whole[:end])
        assert read_metrics(path)["loss"][0].tolist() == [1]
        write_some(path, [7])
        assert read_metrics(path)["loss"][0].tolist() == [1, 7]


@pytest.mark.parametrize(
    "line",
    ["nonsense", "[]", "{}", '{"step": "1", "scalars": {}}', '{"step": 1, "scalars": {"a": "b"}}'],
)
def test_a_damaged_line_in_the_middle_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1, "scalars": {{}}}}\n{line}\n{{"step": 3, "scalars": {{}}}}\n')
    with pytest.raises(FileError, match=r"metrics\.jsonl, line 2: "):
        read_metrics(path)
    with pytest.raises(FileError, match=r"metrics\.jsonl, line 2: "):
        JSONLinesWriter(path, resume_step=1)


def test_a_full_disk_is_a_file_error_and_leaves_no_half_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_some(path, [1])
    before = path.read_bytes()
    writer = JSONLinesWriter(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 7, hard))  # room for 7 bytes
    try:
        for _ in range(2):
            with pytest.raises(FileError, match="the disk is full"):
                writer.write(2, {"loss": 0.5})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.close()
    assert path.read_bytes() == before


def test_vectors_are_refused_by_name(tmp_path):
    writer = JSONLinesWriter(tmp_path / "metrics.jsonl")
    with pytest.raises(ConfigError, match="grad_norm"):
        writer.write(1, {"grad_norm": np.ones(2)})
    writer.close()
    assert (tmp_path / "metrics.jsonl").read_bytes() == b""


def test_absent_files_and_folders_are_file_errors(tmp_path):
    with pytest.raises(FileError, match="does not exist"):
        read_metrics(tmp_path / "absent")
    with pytest.raises(FileError, match="does not exist"):
        JSONLinesWriter(tmp_path / "absent" / "metrics.jsonl")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="in the way"):
        TensorBoardWriter(tmp_path / "file")


def events_of(folder):
    """(step, tag, value) of every scalar and the steps at which TensorBoard is to purge."""
    from tensorboardX.proto.event_pb2 import Event

    scalars, purges = [], []
    for name in sorted(os.listdir(folder)):
        data = (folder / name).read_bytes()
        while data:  # records of length (8 bytes), checksum (4), content, checksum (4)
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            scalars += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
            purges += [event.step] * event.HasField("session_log")
    return scalars, purges


def test_tensorboard_gets_finite_scalars_and_counts_of_the_others(tmp_path):
    writer = TensorBoardWriter(tmp_path / "tensorboard")
    writer.write(3, {"train/loss": 0.5, "train/kl": math.nan})
    writer.write(4, {"train/kl": math.inf})
    writer.flush()
    scalars, purges = events_of(tmp_path / "tensorboard")
    assert sorted(scalars) == [
        (3, "nonfinite/train/kl", 1.0),
        (3, "train/loss", 0.5),
        (4, "nonfinite/train/kl", 2.0),
    ]
    assert purges == [] and writer.nonfinite == {"train/kl": 2}
    writer.close()


def test_tensorboard_itself_reads_the_file_with_its_checksums(tmp_path):
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    writer = TensorBoardWriter(tmp_path)
    writer.write(7, {"loss": 0.5, "kl": 0.25})
    writer.close()
    (name,) = os.listdir(tmp_path)
    raw = loader.RawEventFileLoader(str(tmp_path / name))
    assert len(list(raw.Load())) == 2  # the version and the step


def test_tensorboard_is_told_what_a_resumed_run_abandons(tmp_path):
    writer = TensorBoardWriter(tmp_path, resume_step=10)
    writer.write(11, {"loss": 1.0})
    writer.close()
    assert events_of(tmp_path) == ([(11, "loss", 1.0)], [11])


def test_a_disk_error_while_flushing_names_the_path(tmp_path, monkeypatch):
    writer = JSONLinesWriter(tmp_path / "metrics.jsonl")

    def fail(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(FileError, match=r"metrics\.jsonl: cannot flush: the disk is full"):
            writer.flush()
    writer.close()
