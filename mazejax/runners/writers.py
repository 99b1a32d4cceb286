"""Where metrics go: JSON lines, TensorBoard, and back into NumPy arrays.

A writer takes what was measured at one step: named scalars and named distributions.
What did not happen is absent; what is not finite is named and counted and never written
as a number. A killed run leaves whole records, and a resumed one drops those of the
future that it abandons.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mazejax import files
from mazejax.errors import ConfigError, FileError
from mazejax.events.distribution import Distribution
from mazejax.runners import tensorboard
from mazejax.runners.appended_file import AppendedFile

METRICS_FILE = "metrics.jsonl"
"""Name of a run's JSON lines in its directory."""

MAX_METRICS_BYTES = 2**30
"""Largest file of JSON lines that is read."""

FIGURE_SECONDS = 30.0
"""A figure takes about 0.05 s to draw, and TensorBoard shows ten of a tag: this leaves 30 tags
at 5% of a run's time."""

Scalars = Mapping[str, float]
"""By tag: `loss/policy`, `train_CuttingEvents/valid_cut/mean_episode_total`, ..."""

Distributions = Mapping[str, Distribution]
"""By tag, as scalars."""


class MetricsWriter(Protocol):
    """What the training loop asks of a writer; any class with these four methods is one.

        class LargestLoss:
            def __init__(self):
                self.nonfinite, self.largest = {}, 0.0

            def write(self, step, scalars, distributions=None):
                self.largest = max(self.largest, scalars.get("loss/value", 0.0))

            def flush(self): ...

            def close(self):
                print("largest loss", self.largest)

    `write` is called on the host between updates, once for each row of training and once
    for each evaluation, with steps that never fall; training waits for it. Tags differ
    from call to call. Values may be nan or infinite, distributions may be empty.
    """

    nonfinite: dict[str, int]
    """Tag -> how often it was nan or infinite in what this writer was given."""

    def write(
        self, step: int, scalars: Scalars, distributions: Distributions | None = None
    ) -> None:
        """Record what was measured at a step, in env steps; what is absent did not happen."""

    def flush(self) -> None:
        """Bring all records to the disk; called at every checkpoint."""

    def close(self) -> None:
        """Flush and let go of files, also after an error; nothing may be written after."""


class JSONLinesWriter:
    """One line a write: `{"step": 128, "scalars": {"loss": 0.5, "kl": null}, "nonfinite": ["kl"]}`.

    Where there are distributions they stand under `"distributions"`, by tag, as
    `{"counts": [3, 0, 1], "edges": [-0.5, 0.5, 1.5, 2.5], "plot": "relative_bars"}`.

    An existing file is continued. With `resume_step` the lines of later steps are dropped
    first, and in any case a last line that a killed process left half written.
    """

    def __init__(self, path: str | os.PathLike, resume_step: int | None = None) -> None:
        self.nonfinite: dict[str, int] = {}
        _drop_future(Path(path), resume_step)
        self._file = AppendedFile(Path(path))

    def write(
        self, step: int, scalars: Scalars, distributions: Distributions | None = None
    ) -> None:
        counted, bad = _finite_distributions(distributions or {})
        finite, bad = _finite_scalars(scalars, bad, self.nonfinite)
        record: dict[str, Any] = {"step": int(step), "scalars": {n: finite.get(n) for n in scalars}}
        if counted:
            record["distributions"] = {tag: _plain(found) for tag, found in counted.items()}
        if bad:
            record["nonfinite"] = bad
        self._file.append(json.dumps(record, allow_nan=False).encode() + b"\n")

    def flush(self) -> None:
        self._file.sync()

    def close(self) -> None:
        self._file.close()


class TensorBoardWriter:
    """TensorBoard scalars, histograms and figures of them.

    A distribution is a histogram of its tag, and an image of `TAG/figure` as its `plot`
    says: its first, then no more than one in `figure_seconds`, and its last at `close`.
    How often a metric was not finite stands under `nonfinite/`. With `resume_step`
    TensorBoard is told to forget what is later in older files.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        resume_step: int | None = None,
        figure_seconds: float = FIGURE_SECONDS,
    ) -> None:
        self.nonfinite: dict[str, int] = {}
        self._figure_seconds = figure_seconds
        self._drawn: dict[str, float] = {}
        self._undrawn: dict[str, tuple[int, Distribution]] = {}
        files.make_folder(directory)
        # TensorBoard reads the files of a folder in the order of their names.
        name = f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        self._file = AppendedFile(Path(directory) / name)
        self._file.append(tensorboard.version_record())
        if resume_step is not None:
            self._file.append(tensorboard.restart_record(resume_step + 1))

    def write(
        self, step: int, scalars: Scalars, distributions: Distributions | None = None
    ) -> None:
        counted, bad = _finite_distributions(distributions or {})
        finite, bad = _finite_scalars(scalars, bad, self.nonfinite)
        counts = {f"nonfinite/{name}": float(self.nonfinite[name]) for name in bad}
        values = [tensorboard.scalar(tag, value) for tag, value in (finite | counts).items()]
        values += [tensorboard.histogram(tag, found) for tag, found in counted.items()]
        self._file.append(tensorboard.summary_record(int(step), values))
        self._undrawn |= {tag: (int(step), found) for tag, found in counted.items()}
        now = time.monotonic()
        for tag in counted:
            if now - self._drawn.get(tag, -math.inf) >= self._figure_seconds:
                self._drawn[tag] = now
                self._draw(tag)

    def flush(self) -> None:
        self._file.sync()

    def close(self) -> None:
        try:
            for tag in list(self._undrawn):
                self._draw(tag)
        finally:
            self._file.close()

    def _draw(self, tag: str) -> None:
        step, distribution = self._undrawn.pop(tag)
        drawn = tensorboard.figure(tag, distribution)
        self._file.append(tensorboard.summary_record(step, [drawn]))


def read_metrics(path: str | os.PathLike) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Metric -> (steps int64 [n], values float64 [n]) from JSON lines; null comes back as nan.

    A last line that is cut off is passed over.
    """
    columns: dict[str, tuple[list[int], list[float]]] = {}
    for record in read_records(path):
        for name, value in record["scalars"].items():
            steps, values = columns.setdefault(name, ([], []))
            steps.append(record["step"])
            values.append(math.nan if value is None else value)
    return {
        name: (np.asarray(steps, np.int64), np.asarray(values, np.float64))
        for name, (steps, values) in columns.items()
    }


def read_records(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The lines of a file of JSON lines as they are, in order, without one that is cut off."""
    return _parse(_content(Path(path)), Path(path))


def _finite_scalars(
    scalars: Scalars, bad: list[str], counts: dict[str, int]
) -> tuple[dict[str, float], list[str]]:
    """(finite values, names of the others after those in `bad`), all bad counted in `counts`."""
    try:
        values = {name: float(value) for name, value in scalars.items()}
    except (TypeError, ValueError) as error:
        raise ConfigError(f"metrics {sorted(scalars)}: expected scalars ({error})") from error
    bad = bad + [name for name, value in values.items() if not math.isfinite(value)]
    for name in bad:
        counts[name] = counts.get(name, 0) + 1
    return {name: value for name, value in values.items() if math.isfinite(value)}, bad


def _finite_distributions(
    distributions: Distributions,
) -> tuple[dict[str, Distribution], list[str]]:
    """(those that counted something, names of those with bins that are not finite)."""
    good, bad = {}, []
    for tag, found in distributions.items():
        counts, edges = (np.asarray(x, np.float64) for x in (found.counts, found.edges))
        if counts.ndim not in (1, 2) or edges.shape != (counts.shape[-1] + 1,):
            raise ConfigError(
                f"distribution {tag!r}: got counts {counts.shape} and edges {edges.shape}, "
                f"expected [bins] or [D, bins] and [bins + 1]"
            )
        if not (np.isfinite(counts).all() and np.isfinite(edges).all()):
            bad.append(tag)
        elif counts.sum() > 0:
            good[tag] = Distribution(counts, edges, found.plot)
    return good, bad


def _plain(found: Distribution) -> dict[str, Any]:
    """The distribution for JSON; whole counts without their point, which halves the file."""
    whole = (found.counts == np.floor(found.counts)).all()
    counts = found.counts.astype(np.int64) if whole else found.counts
    return {"counts": counts.tolist(), "edges": found.edges.tolist(), "plot": found.plot}


def _drop_future(path: Path, resume_step: int | None) -> None:
    """Rewrite the file without cut-off and later lines, if it has any."""
    if not path.exists():
        return
    content = _content(path)
    lines = content.splitlines(keepends=True)
    records = _parse(content, path)
    kept = b"".join(
        line
        for line, record in zip(lines, records, strict=False)
        if resume_step is None or record["step"] <= resume_step
    )
    if kept != content:
        files.write_bytes(path, kept)


def _content(path: Path) -> bytes:
    return files.read_bytes(path, MAX_METRICS_BYTES, "mazejax.runners.writers.MAX_METRICS_BYTES")


def _parse(content: bytes, path: Path) -> list[dict[str, Any]]:
    """Records of all whole lines, in order."""
    whole = content[: content.rfind(b"\n") + 1]
    return [_record(line, f"{path}, line {i + 1}") for i, line in enumerate(whole.splitlines())]


def _record(line: bytes, where: str) -> dict[str, Any]:
    record = files.parse_json(line, where)
    if not (
        isinstance(record, dict)
        and isinstance(record.get("step"), int)
        and isinstance(record.get("scalars"), dict)
        and all(isinstance(v, int | float | None) for v in record["scalars"].values())
        and isinstance(record.get("distributions", {}), dict)
    ):
        raise FileError(f"{where}: is no record of metrics; remove the line")
    return record
