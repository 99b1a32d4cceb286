"""Statistics of observations of a run: estimated once, kept in its directory, the same ever after.

Where the env of a run has an `ObservationNormalization`, its numbers follow from the run's
seed alone, so that a run stays a function of its configuration.
"""

import warnings
from pathlib import Path

from mazejax import random
from mazejax.algos.base import Algorithm
from mazejax.runners import observation_statistics

FILE = "observation_statistics.npz"


def settled(algorithm: Algorithm, directory: Path | None, seed: int) -> Algorithm:
    """The algorithm whose env has the statistics it needs: those of a directory, else estimated.

    Nothing is written. Raises FileError for a file that does not fit the env.
    """
    env = algorithm.env
    if not observation_statistics.is_missing(env):
        return algorithm
    if directory is not None and (directory / FILE).exists():
        return algorithm.replace(env=observation_statistics.load_statistics(directory / FILE, env))
    return algorithm.replace(env=observation_statistics.estimate(env, random.key(seed)))


def keep(algorithm: Algorithm, directory: Path) -> None:
    """Write the statistics of the env, if it has any, into the directory, unless they are there."""
    normalizers = observation_statistics.normalizers(algorithm.env)
    if any(wrapper.statistics for wrapper in normalizers) and not (directory / FILE).exists():
        observation_statistics.save_statistics(directory / FILE, algorithm.env)
    if normalizers and getattr(algorithm, "normalize_obs", False):
        warnings.warn(
            "normalize_obs: observations are normalized by the wrapper ObservationNormalization "
            "already; one of the two is enough",
            stacklevel=3,
        )
