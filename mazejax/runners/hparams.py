"""TensorBoard's HPARAMS tab: a row for each run, with its configuration and its results.

Made of finished runs from what their directories hold, as often as one likes: the file
of the last time is replaced.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mazejax import files
from mazejax.errors import ConfigError, FileError, did_you_mean
from mazejax.runners import tensorboard
from mazejax.runners.read_run import read_run
from mazejax.runners.run_context import CONFIG_FILE, read_run_config
from mazejax.runners.writers import METRICS_FILE

EVENT_FILE = "events.out.tfevents.0.hparams"
"""Sorts before what a run writes, so that TensorBoard goes on to that when the run goes on."""

_OMITTED = ("mazejax", "env.repr")  # long, or the same everywhere

_CHOICES: dict[str, Callable[[np.ndarray], Any]] = {
    "last": lambda values: values[-1],
    "max": np.max,
    "min": np.min,
    "mean": np.mean,
}


class Result(NamedTuple):
    """A number by which runs are compared; it stands under `hparams/METRIC/CHOICE`."""

    metric: str
    choice: str = "last"
    """`last`, `max`, `min` or `mean` of its finite values."""

    @property
    def tag(self) -> str:
        """Of the scalar in TensorBoard."""
        return f"hparams/{self.metric}/{self.choice}"


RESULTS = (Result("train/episode_return", "max"), Result("eval/return_mean", "last"))


def write_hparams(
    directory: str | os.PathLike, results: Sequence[Result] = RESULTS
) -> dict[str, dict[str, Any]]:
    """Write the tab for a run directory, or for all runs in a folder; returns its rows.

    Rows are by the run's path in the folder: hyper-parameters by dotted key, and results
    by tag, without those that a run has not measured. `tensorboard --logdir directory`
    shows them.
    """
    for result in results:
        if result.choice not in _CHOICES:
            hint = did_you_mean(result.choice, _CHOICES)
            raise ConfigError(f"write_hparams: choice: got {result.choice!r}; {hint}")
    folder = Path(directory)
    runs = {run: hyperparameters(run) for run in _run_directories(folder)}
    columns = _experiment(runs.values(), results)
    rows = {}
    for run, settings in runs.items():
        measured = _measured(run, results)
        values = tensorboard.session(settings)
        values += [tensorboard.scalar(tag, value) for tag, value in measured.items()]
        # TensorBoard takes the first description of columns that it finds.
        _write(run / "tensorboard", [columns, *values] if run == folder else values)
        rows[str(run.relative_to(folder))] = {**settings, **measured}
    if folder not in runs:
        _write(folder, [columns])
    return rows


def hyperparameters(run: str | os.PathLike) -> dict[str, bool | int | float | str]:
    """A run's configuration by dotted key; lists are JSON texts, what is None is left out."""
    config = read_run_config(Path(run))
    flat = {name: value for name, value in _flattened("", config) if name not in _OMITTED}
    return {
        name: value if isinstance(value, (bool, int, float, str)) else json.dumps(value)
        for name, value in flat.items()
        if value is not None
    }


def _flattened(prefix: str, config: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flattened(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", value


def _run_directories(folder: Path) -> list[Path]:
    """The folder itself if it is a run, else all runs below it."""
    if (folder / METRICS_FILE).exists():
        return [folder]
    found = sorted(path.parent for path in folder.glob(f"**/{METRICS_FILE}"))
    runs = [path for path in found if (path / CONFIG_FILE).exists()]
    if not runs:
        raise FileError(f"{folder}: holds no run, that is no {CONFIG_FILE} with {METRICS_FILE}")
    return runs


def _measured(run: Path, results: Sequence[Result]) -> dict[str, float]:
    table = read_run(run)
    measured = {}
    for result in results:
        values = table.get(result.metric, np.zeros(0))
        values = values[np.isfinite(values)]
        if values.size:
            measured[result.tag] = float(_CHOICES[result.choice](values))
    return measured


def _experiment(rows: Iterable[Mapping[str, Any]], results: Sequence[Result]) -> Any:
    """Columns for all that any of the runs has set, and for the results."""
    every = dict(item for row in rows for item in row.items())
    return tensorboard.experiment(every, [result.tag for result in results])


def _write(folder: Path, values: Sequence[Any]) -> None:
    files.make_folder(folder)
    # At step 0, so that no restart of the run makes TensorBoard forget it.
    content = tensorboard.version_record() + tensorboard.summary_record(0, values)
    files.write_bytes(folder / EVENT_FILE, content)
