"""Instances of the job-shop problem: classical ones as data, and random ones from a key.

An instance says for every job which machines it visits, each once, in which order and for
how long. `OPTIMAL_ORDERS` are dispatch orders whose makespan is the known optimum.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.base import Pytree, static
from mazejax.errors import ConfigError
from mazejax.types import Array, Key

_LARGEST_SIZE = 127  # jobs and machines are counted in int8
_LARGEST_HORIZON = 2**24  # float32 rewards are exact up to here


class Instances(Pytree):
    """Where the instance of an episode comes from: J jobs of M operations, one per machine."""

    compile_time: ClassVar[bool] = True

    @property
    def num_jobs(self) -> int:
        """J."""
        raise NotImplementedError

    @property
    def num_machines(self) -> int:
        """M, also the operations of each job."""
        raise NotImplementedError

    @property
    def max_duration(self) -> int:
        """No operation takes longer."""
        raise NotImplementedError

    def draw(self, key: Key) -> tuple[Array, Array]:
        """Machine int8 and duration (`time_dtype`) of each job's operations in order, [J, M]."""
        raise NotImplementedError

    @property
    def time_dtype(self) -> np.dtype[Any]:
        """The smaller of int16 and int32 that holds every time of every schedule."""
        return np.dtype(np.int16 if self._horizon <= np.iinfo(np.int16).max else np.int32)

    @property
    def _horizon(self) -> int:
        """All work one after another: no semi-active schedule is longer."""
        return self.num_jobs * self.num_machines * self.max_duration

    def validate(self) -> None:
        """Raise ConfigError for sizes that the state cannot hold."""
        for name in ("num_jobs", "num_machines"):
            size = getattr(self, name)
            if not 1 <= size <= _LARGEST_SIZE:
                raise ConfigError(
                    f"{type(self).__name__}.{name}: got {size}, expected from 1 to {_LARGEST_SIZE}"
                )
        if self._horizon > _LARGEST_HORIZON:
            raise ConfigError(
                f"{type(self).__name__}: {self.num_jobs} jobs x {self.num_machines} machines x "
                f"duration {self.max_duration} is {self._horizon}, expected at most "
                f"{_LARGEST_HORIZON}, so that float32 rewards are exact; use a coarser time unit"
            )


class FixedInstance(Instances):
    """One instance, the same in every episode."""

    machines: tuple[tuple[int, ...], ...] = static()
    """[J, M]: the machine, from 0 to M - 1, of each operation of each job."""
    durations: tuple[tuple[int, ...], ...] = static()
    """[J, M], at least 1."""

    def validate(self) -> None:
        """Raise ConfigError unless every job visits every machine once, for a positive time."""
        sizes = [*map(len, self.machines)]
        if not sizes or sizes != [*map(len, self.durations)] or len({*sizes}) > 1:
            raise ConfigError(
                f"FixedInstance: got {sizes} machines and {[*map(len, self.durations)]} durations "
                f"in its rows, expected M of both in each of J rows"
            )
        for job, (machines, durations) in enumerate(
            zip(self.machines, self.durations, strict=True)
        ):
            if sorted(machines) != list(range(sizes[0])):
                raise ConfigError(
                    f"FixedInstance.machines[{job}]: got {machines}, expected each of "
                    f"0 to {sizes[0] - 1} once"
                )
            if min(durations) < 1:
                raise ConfigError(
                    f"FixedInstance.durations[{job}]: got {durations}, expected at least 1 each"
                )
        super().validate()

    @property
    def num_jobs(self) -> int:
        """J."""
        return len(self.machines)

    @property
    def num_machines(self) -> int:
        """M."""
        return len(self.machines[0])

    @property
    def max_duration(self) -> int:
        """The longest operation's."""
        return max(map(max, self.durations))

    def draw(self, key: Key) -> tuple[Array, Array]:
        """The instance, whatever the key."""
        return jnp.asarray(self.machines, jnp.int8), jnp.asarray(self.durations, self.time_dtype)


class UniformInstances(Instances):
    """A new instance in every episode: uniform durations, machines in a uniform order.

    As the benchmarks of Taillard, 1993, which have durations from 1 to 99.
    """

    num_jobs: int = static(default=6)
    num_machines: int = static(default=6)
    min_duration: int = static(default=1)
    max_duration: int = static(default=99)

    def validate(self) -> None:
        """Raise ConfigError unless 1 <= min_duration <= max_duration, and sizes fit."""
        if not 1 <= self.min_duration <= self.max_duration:
            raise ConfigError(
                f"UniformInstances.min_duration: got {self.min_duration}, expected from 1 to "
                f"max_duration, which is {self.max_duration}"
            )
        super().validate()

    def draw(self, key: Key) -> tuple[Array, Array]:
        """A random instance."""
        job_keys = jax.random.split(random.stream(key, "machines"), self.num_jobs)
        machines = jax.vmap(lambda key: random.permutation(key, self.num_machines))(job_keys)
        shape, choices = (self.num_jobs, self.num_machines), self.max_duration - self.min_duration
        durations = random.randint(random.stream(key, "durations"), shape, choices + 1)
        return machines.astype(jnp.int8), (durations + self.min_duration).astype(self.time_dtype)


# Fisher and Thompson in Muth and Thompson, Industrial Scheduling, 1963: 6 x 6, optimum 55.
FT06 = FixedInstance(
    machines=(
        (2, 0, 1, 3, 5, 4),
        (1, 2, 4, 5, 0, 3),
        (2, 3, 5, 0, 1, 4),
        (1, 0, 2, 3, 4, 5),
        (2, 1, 4, 5, 0, 3),
        (1, 3, 5, 0, 4, 2),
    ),
    durations=(
        (1, 3, 6, 7, 3, 6),
        (8, 5, 10, 10, 10, 4),
        (5, 4, 8, 9, 1, 7),
        (5, 5, 5, 3, 8, 9),
        (9, 3, 5, 4, 3, 1),
        (3, 3, 9, 10, 4, 1),
    ),
)

# The same source: 10 x 10, optimum 930, proved by Carlier and Pinson, 1989.
FT10 = FixedInstance(
    machines=(
        (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
        (0, 2, 4, 9, 3, 1, 6, 5, 7, 8),
        (1, 0, 3, 2, 8, 5, 7, 6, 9, 4),
        (1, 2, 0, 4, 6, 8, 7, 3, 9, 5),
        (2, 0, 1, 5, 3, 4, 8, 7, 9, 6),
        (2, 1, 5, 3, 8, 9, 0, 6, 4, 7),
        (1, 0, 3, 2, 6, 5, 9, 8, 7, 4),
        (2, 0, 1, 5, 4, 6, 8, 9, 7, 3),
        (0, 1, 3, 5, 2, 9, 6, 7, 4, 8),
        (1, 0, 2, 6, 8, 9, 5, 3, 4, 7),
    ),
    durations=(
        (29, 78, 9, 36, 49, 11, 62, 56, 44, 21),
        (43, 90, 75, 11, 69, 28, 46, 46, 72, 30),
        (91, 85, 39, 74, 90, 10, 12, 89, 45, 33),
        (81, 95, 71, 99, 9, 52, 85, 98, 22, 43),
        (14, 6, 22, 61, 26, 69, 21, 49, 72, 53),
        (84, 2, 52, 95, 48, 72, 47, 65, 6, 25),
        (46, 37, 61, 13, 32, 21, 32, 89, 30, 55),
        (31, 86, 46, 74, 32, 88, 19, 48, 36, 79),
        (76, 69, 76, 51, 85, 11, 40, 89, 26, 74),
        (85, 13, 61, 7, 64, 76, 47, 52, 90, 45),
    ),
)

INSTANCES = {"ft06": FT06, "ft10": FT10}
"""The classical instances by name."""

OPTIMAL_MAKESPANS = {"ft06": 55, "ft10": 930}

# fmt: off
OPTIMAL_ORDERS = {
    "ft06": (
        1, 2, 0, 2, 0, 3, 1, 2, 4, 5, 3, 1, 5, 0, 2, 5, 4, 3,
        0, 4, 2, 1, 5, 3, 2, 3, 0, 1, 4, 5, 3, 4, 1, 0, 5, 4,
    ),
    "ft10": (
        1, 3, 5, 0, 8, 3, 5, 6, 5, 9, 5, 6, 4, 3, 7, 8, 1, 6, 5, 4,
        3, 9, 7, 5, 4, 8, 2, 4, 6, 9, 1, 3, 5, 6, 3, 8, 4, 9, 7, 2,
        5, 9, 3, 8, 6, 1, 4, 6, 0, 7, 2, 4, 5, 5, 8, 9, 8, 7, 6, 0,
        4, 0, 2, 7, 0, 1, 8, 4, 2, 0, 9, 1, 0, 6, 8, 9, 2, 7, 1, 2,
        7, 8, 0, 3, 9, 1, 2, 7, 0, 1, 6, 3, 7, 4, 2, 3, 1, 9, 0, 2,
    ),
}
"""By name: the jobs to dispatch, in the order of their operations' starts."""
# fmt: on
