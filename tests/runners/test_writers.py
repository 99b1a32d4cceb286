"""Tests of mazejax.runners.writers."""

import errno
import io
import json
import math
import os
import resource
import struct

import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.errors import ConfigError, FileError
from mazejax.events.distribution import Distribution
from mazejax.runners.read_run import read_distributions
from mazejax.runners.writers import (
    METRICS_FILE,
    JSONLinesWriter,
    MetricsWriter,
    TensorBoardWriter,
    read_metrics,
)
from tests.runners.tiny import tiny_run

CHOSEN = Distribution(np.array([3.0, 0.0, 1.0]), np.arange(4) - 0.5, "relative_bars")
SEEN = Distribution(np.array([[1.0, 2.5], [0.0, 4.0]]), np.array([-1.0, 0.0, 3.0]), "violin")


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


def protos_of(folder):
    """Every event of TensorBoard's files."""
    from tensorboardX.proto.event_pb2 import Event

    for name in sorted(os.listdir(folder)):
        data = (folder / name).read_bytes()
        while data:  # records of length (8 bytes), checksum (4), content, checksum (4)
            (length,) = struct.unpack("<Q", data[:8])
            yield Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def values_of(folder, kind):
    """(step, tag, value) of every summary of a kind."""
    return [
        (event.step, value.tag, getattr(value, kind))
        for event in protos_of(folder)
        for value in event.summary.value
        if value.WhichOneof("value") == kind
    ]


def events_of(folder):
    """(step, tag, value) of every scalar and the steps at which TensorBoard is to purge."""
    purges = [event.step for event in protos_of(folder) if event.HasField("session_log")]
    return values_of(folder, "simple_value"), purges


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


def test_distributions_stand_beside_the_scalars_of_their_step(tmp_path):
    writer = JSONLinesWriter(tmp_path / METRICS_FILE)
    writer.write(1, {"loss": 0.5}, {"train_A/chosen": CHOSEN, "train_A/seen": SEEN})
    writer.write(2, {"loss": 0.25}, {})
    writer.write(3, {}, {"train_A/chosen": CHOSEN})
    writer.close()
    lines = [json.loads(line) for line in (tmp_path / METRICS_FILE).read_text().splitlines()]
    edges = [-0.5, 0.5, 1.5, 2.5]
    stored = {"counts": [3, 0, 1], "edges": edges, "plot": "relative_bars"}
    assert lines[0]["distributions"]["train_A/chosen"] == stored
    assert "distributions" not in lines[1]
    assert read_metrics(tmp_path / METRICS_FILE)["loss"][1].tolist() == [0.5, 0.25]
    found = read_distributions(tmp_path)
    steps, distributions = found["train_A/chosen"]
    assert steps.tolist() == [1, 3] and steps.dtype == np.int64
    for distribution in distributions:
        np.testing.assert_array_equal(distribution.counts, CHOSEN.counts)
        np.testing.assert_array_equal(distribution.edges, CHOSEN.edges)
        assert distribution.plot == "relative_bars" and distribution.counts.dtype == np.float64
    (seen,) = found["train_A/seen"][1]
    np.testing.assert_array_equal(seen.counts, SEEN.counts)


@pytest.mark.parametrize("kind", [JSONLinesWriter, TensorBoardWriter])
def test_of_distributions_what_is_empty_is_absent_and_what_is_not_finite_is_named(tmp_path, kind):
    path = tmp_path / METRICS_FILE
    writer = kind(path)
    empty = CHOSEN._replace(counts=np.zeros(3))
    broken = CHOSEN._replace(edges=np.array([0.0, 1.0, 2.0, math.inf]))
    writer.write(1, {"kl": math.nan}, {"empty": empty, "broken": broken, "good": CHOSEN})
    with pytest.raises(ConfigError, match=r"'skewed': got counts \(3,\) and edges \(3,\)"):
        writer.write(2, {}, {"skewed": CHOSEN._replace(edges=np.arange(3.0))})
    writer.close()
    assert writer.nonfinite == {"broken": 1, "kl": 1}
    if kind is TensorBoardWriter:
        assert [tag for _, tag, _ in values_of(path, "histo")] == ["good"]
        return
    (line,) = [json.loads(line) for line in path.read_text().splitlines()]
    assert line["nonfinite"] == ["broken", "kl"] and list(line["distributions"]) == ["good"]


def test_resuming_drops_later_distributions_too(tmp_path):
    path = tmp_path / METRICS_FILE
    writer = JSONLinesWriter(path)
    for step in (1, 2, 3):
        writer.write(step, {}, {"chosen": CHOSEN})
    writer.close()
    with open(path, "ab") as file:
        file.write(b'{"step": 4, "scalars": {}, "distributions": {"chosen": {"cou')
    JSONLinesWriter(path, resume_step=2).close()
    assert read_distributions(tmp_path)["chosen"][0].tolist() == [1, 2]


def test_tensorboard_gets_histograms_with_their_own_bins(tmp_path):
    writer = TensorBoardWriter(tmp_path)
    writer.write(5, {"loss": 1.0}, {"train_A/chosen": CHOSEN, "train_A/seen": SEEN})
    writer.close()
    histograms = {tag: (step, histo) for step, tag, histo in values_of(tmp_path, "histo")}
    step, chosen = histograms["train_A/chosen"]
    assert step == 5 and (chosen.min, chosen.max, chosen.num) == (-0.5, 2.5, 4.0)
    assert list(chosen.bucket) == [3.0, 0.0, 1.0] and list(chosen.bucket_limit) == [0.5, 1.5, 2.5]
    assert (chosen.sum, chosen.sum_squares) == (2.0, 4.0)  # three times 0 and once 2
    assert list(histograms["train_A/seen"][1].bucket) == [1.0, 6.5]  # its entries together


@pytest.mark.parametrize("plot", ["relative_bars", "binary_bars", "violin", "histogram"])
def test_tensorboard_gets_a_figure_of_every_kind(tmp_path, plot):
    from PIL import Image

    counts = np.array([[3.0, 1.0], [0.0, 2.0]])
    distribution = Distribution(counts, np.arange(3) - 0.5, plot)
    writer = TensorBoardWriter(tmp_path)
    writer.write(5, {}, {"train_A/chosen": distribution})
    ((step, tag, image),) = values_of(tmp_path, "image")  # at once, not at the end
    writer.close()
    assert len(values_of(tmp_path, "image")) == 1
    assert (step, tag) == (5, "train_A/chosen/figure")
    picture = Image.open(io.BytesIO(image.encoded_image_string))
    assert picture.format == "PNG" and picture.size == (image.width, image.height)
    assert len(picture.convert("RGB").getcolors(10**6)) > 10


def test_figures_are_drawn_at_first_then_seldom_and_at_last(tmp_path):
    writer = TensorBoardWriter(tmp_path / "seldom", figure_seconds=3600.0)
    for step in (1, 2, 3):
        writer.write(step, {}, {"chosen": CHOSEN})
    writer.write(4, {}, {"seen": SEEN})
    writer.close()
    drawn = [(step, tag) for step, tag, _ in values_of(tmp_path / "seldom", "image")]
    assert drawn == [(1, "chosen/figure"), (4, "seen/figure"), (3, "chosen/figure")]
    assert len(values_of(tmp_path / "seldom", "histo")) == 4
    writer = TensorBoardWriter(tmp_path / "each", figure_seconds=0.0)
    for step in (1, 2, 3):
        writer.write(step, {}, {"chosen": CHOSEN})
    writer.close()
    assert [step for step, _, _ in values_of(tmp_path / "each", "image")] == [1, 2, 3]


def test_tensorboard_itself_shows_histograms_and_figures(tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    writer = TensorBoardWriter(tmp_path)
    writer.write(7, {"loss": 0.5}, {"train_A/chosen": CHOSEN})
    writer.close()
    (name,) = os.listdir(tmp_path)
    read = accumulators.EventAccumulator(str(tmp_path / name)).Reload()
    (image,) = read.Images("train_A/chosen/figure")
    (histogram,) = read.Histograms("train_A/chosen")
    assert image.step == histogram.step == 7
    assert list(histogram.histogram_value.bucket) == [3.0, 0.0, 1.0]


class LargestReturn:
    """A writer of one's own."""

    def __init__(self):
        self.nonfinite, self.largest, self.steps, self.closed = {}, 0.0, [], False

    def write(self, step, scalars, distributions=None):
        self.steps.append(step)
        self.largest = max(self.largest, scalars.get("train/episode_return", 0.0))

    def flush(self): ...

    def close(self):
        self.closed = True


def test_a_class_with_the_four_methods_is_a_writer(tmp_path, monkeypatch):
    mine: MetricsWriter = LargestReturn()
    run = tiny_run(tmp_path / "run")
    theirs = run._writers
    monkeypatch.setattr(run, "_writers", lambda *args: [*theirs(*args), mine])
    run.train()
    steps, returns = run.metrics["train/episode_return"]
    assert mine.largest == returns.max() and mine.closed
    assert set(steps) <= set(mine.steps) and mine.steps == sorted(mine.steps)
