"""Where metrics go: JSON lines, TensorBoard, and back into NumPy arrays.

A writer takes named scalars of one step. What did not happen is absent; what is not
finite is named and counted and never written as a number. A killed run leaves whole
records, and a resumed one drops those of the future that it abandons.
"""

import errno
import json
import math
import os
import struct
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mazejax import files
from mazejax.errors import ConfigError, FileError

MAX_METRICS_BYTES = 2**30
"""Largest file of JSON lines that is read."""


class MetricsWriter(Protocol):
    """What the training loop asks of a writer."""

    nonfinite: dict[str, int]
    """Metric -> how often it was nan or infinite in what this writer was given."""

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Record the metrics of a step; those that are absent did not happen."""

    def flush(self) -> None:
        """Bring all records to the disk."""

    def close(self) -> None:
        """Flush and let go of the file; nothing may be written after."""


class JSONLinesWriter:
    """One line a write: `{"step": 128, "scalars": {"loss": 0.5, "kl": null}, "nonfinite": ["kl"]}`.

    An existing file is continued. With `resume_step` the lines of later steps are dropped
    first, and in any case a last line that a killed process left half written.
    """

    def __init__(self, path: str | os.PathLike, resume_step: int | None = None) -> None:
        self.nonfinite: dict[str, int] = {}
        _drop_future(Path(path), resume_step)
        self._file = _AppendedFile(Path(path))

    def write(self, step: int, scalars: dict[str, float]) -> None:
        finite, bad = _sort_out(scalars, self.nonfinite)
        record: dict[str, Any] = {"step": int(step), "scalars": {n: finite.get(n) for n in scalars}}
        if bad:
            record["nonfinite"] = bad
        self._file.append(json.dumps(record, allow_nan=False).encode() + b"\n")

    def flush(self) -> None:
        self._file.sync()

    def close(self) -> None:
        self._file.close()


class TensorBoardWriter:
    """TensorBoard scalars; how often a metric was not finite stands under `nonfinite/`.

    With `resume_step` TensorBoard is told to forget what is later in older files.
    """

    def __init__(self, directory: str | os.PathLike, resume_step: int | None = None) -> None:
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self.nonfinite: dict[str, int] = {}
        files.make_folder(directory)
        # TensorBoard reads the files of a folder in the order of their names.
        name = f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        self._file = _AppendedFile(Path(directory) / name)
        self._append(Event(file_version="brain.Event:2"))
        if resume_step is not None:
            restart = SessionLog(status=SessionLog.START)
            self._append(Event(step=resume_step + 1, session_log=restart))

    def write(self, step: int, scalars: dict[str, float]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        finite, bad = _sort_out(scalars, self.nonfinite)
        counts = {f"nonfinite/{name}": float(self.nonfinite[name]) for name in bad}
        values = [
            Summary.Value(tag=name, simple_value=value) for name, value in (finite | counts).items()
        ]
        self._append(Event(step=int(step), summary=Summary(value=values)))

    def flush(self) -> None:
        self._file.sync()

    def close(self) -> None:
        self._file.close()

    def _append(self, event: Any) -> None:
        # Not through tensorboardX's own writer: its queue and thread lose what is pending
        # at a kill, and wait for ever once the disk is full.
        from tensorboardX.record_writer import masked_crc32c

        event.wall_time = time.time()
        content = event.SerializeToString()
        length = struct.pack("<Q", len(content))
        checks = [struct.pack("<I", masked_crc32c(part)) for part in (length, content)]
        self._file.append(length + checks[0] + content + checks[1])


def read_metrics(path: str | os.PathLike) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Metric -> (steps int64 [n], values float64 [n]) from JSON lines; null comes back as nan.

    A last line that is cut off is passed over.
    """
    columns: dict[str, tuple[list[int], list[float]]] = {}
    for record in _read_records(Path(path)):
        for name, value in record["scalars"].items():
            steps, values = columns.setdefault(name, ([], []))
            steps.append(record["step"])
            values.append(math.nan if value is None else value)
    return {
        name: (np.asarray(steps, np.int64), np.asarray(values, np.float64))
        for name, (steps, values) in columns.items()
    }


class _AppendedFile:
    """A file to which whole records are appended; the system has each when `append` returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = open(path, "ab", buffering=0)
        except OSError as error:
            raise files.as_file_error(path, "write", error) from error

    def append(self, record: bytes) -> None:
        try:
            begin = self._file.seek(0, os.SEEK_END)
            if self._file.write(record) != len(record):
                self._file.truncate(begin)  # or the next record would stand on half a one
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise files.as_file_error(self._path, "write", error) from error

    def sync(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise files.as_file_error(self._path, "flush", error) from error

    def close(self) -> None:
        if not self._file.closed:
            self.sync()
            self._file.close()


def _sort_out(
    scalars: dict[str, float], counts: dict[str, int]
) -> tuple[dict[str, float], list[str]]:
    """(finite values, names of the others), the others counted in `counts`."""
    try:
        values = {name: float(value) for name, value in scalars.items()}
    except (TypeError, ValueError) as error:
        raise ConfigError(f"metrics {sorted(scalars)}: expected scalars ({error})") from error
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    for name in bad:
        counts[name] = counts.get(name, 0) + 1
    return {name: value for name, value in values.items() if math.isfinite(value)}, bad


def _drop_future(path: Path, resume_step: int | None) -> None:
    """Rewrite the file without cut-off and later lines, if it has any."""
    if not path.exists():
        return
    content = files.read_bytes(path, MAX_METRICS_BYTES, "mazejax.runners.writers.MAX_METRICS_BYTES")
    lines = content.splitlines(keepends=True)
    records = _parse(content, path)
    kept = b"".join(
        line
        for line, record in zip(lines, records, strict=False)
        if resume_step is None or record["step"] <= resume_step
    )
    if kept != content:
        files.write_bytes(path, kept)


def _read_records(path: Path) -> list[dict[str, Any]]:
    cap = "mazejax.runners.writers.MAX_METRICS_BYTES"
    return _parse(files.read_bytes(path, MAX_METRICS_BYTES, cap), path)


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
    ):
        raise FileError(f"{where}: is no record of metrics; remove the line")
    return record
