"""A run's metrics as tables: what plots, notebooks and data frames begin with."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from mazejax.errors import FileError
from mazejax.events.distribution import Distribution
from mazejax.runners.writers import METRICS_FILE, read_metrics, read_records


def read_run(directory: str | os.PathLike) -> dict[str, np.ndarray]:
    """All scalars of a run as columns of one length: `step` int64, the others float64 by tag.

    Rows are the steps at which anything was written, ascending; nan is where a metric did
    not happen or was not finite. `pandas.DataFrame(read_run(directory))` is the table.
    """
    metrics = read_metrics(_metrics_file(directory))
    every = [steps for steps, _ in metrics.values()]
    steps = np.unique(np.concatenate(every)) if every else np.zeros(0, np.int64)
    table = {"step": steps}
    for name, (own, values) in metrics.items():
        column = np.full(len(steps), np.nan)
        column[np.searchsorted(steps, own)] = values
        # A metric of that name would hide the steps.
        table[name if name != "step" else "step (metric)"] = column
    return table


def read_distributions(
    directory: str | os.PathLike,
) -> dict[str, tuple[np.ndarray, list[Distribution]]]:
    """Tag -> (steps int64 [n], n distributions) of a run, in the order of writing."""
    path, found = _metrics_file(directory), dict[str, tuple[list[int], list[Distribution]]]()
    for number, record in enumerate(read_records(path)):
        for tag, stored in record.get("distributions", {}).items():
            steps, distributions = found.setdefault(tag, ([], []))
            steps.append(record["step"])
            distributions.append(_distribution(stored, f"{path}, line {number + 1}: {tag}"))
    return {tag: (np.asarray(steps, np.int64), each) for tag, (steps, each) in found.items()}


def _metrics_file(directory: str | os.PathLike) -> Path:
    path = Path(directory) / METRICS_FILE
    if not path.exists():
        raise FileError(f"{directory}: is not a run directory, it has no {METRICS_FILE}")
    return path


def _distribution(stored: Any, where: str) -> Distribution:
    try:
        counts, edges = (np.asarray(stored[name], np.float64) for name in ("counts", "edges"))
        whole = counts.ndim in (1, 2) and edges.shape == (counts.shape[-1] + 1,)
        plot = stored["plot"]
    except (KeyError, TypeError, ValueError):
        whole = False
    if not (whole and isinstance(plot, str)):
        raise FileError(f"{where}: is no distribution; remove the line")
    return Distribution(counts, edges, plot)
