"""Job-shop environments from their parts."""

from typing import Any

from mazejax.envs.job_shop.conversions import DispatchJob, JobFeatures
from mazejax.envs.job_shop.core import JobShop
from mazejax.envs.job_shop.instances import INSTANCES, Instances, UniformInstances
from mazejax.envs.maze_env import MazeEnv
from mazejax.errors import ConfigError, did_you_mean


def make_job_shop(
    instance: str | Instances = "ft06",
    illegal_penalty: float = JobShop.illegal_penalty,
    **sizes: int,
) -> MazeEnv:
    """Job shop of a classical instance (`ft06`, `ft10`), of random ones, or of one's own.

    Sizes are fields of `UniformInstances` and go with `random` only: num_jobs, num_machines,
    min_duration, max_duration. A policy that obeys the mask needs J M steps.
    """
    instances = _instances(instance, sizes)
    num_jobs, num_machines = instances.num_jobs, instances.num_machines
    return MazeEnv(
        JobShop(instances, illegal_penalty),
        JobFeatures(num_jobs, num_machines, instances.max_duration),
        DispatchJob(num_jobs),
    )


def _instances(instance: str | Instances, sizes: dict[str, Any]) -> Instances:
    if instance == "random":
        return UniformInstances().replace(**sizes)
    if sizes:
        raise ConfigError(
            f"make_job_shop: {', '.join(sizes)} given with the instance {instance!r}, whose sizes "
            f"are fixed; use instance='random'"
        )
    if isinstance(instance, Instances):
        return instance
    if instance not in INSTANCES:
        known = ("random", *INSTANCES)
        raise ConfigError(
            f"make_job_shop: unknown instance {instance!r}; {did_you_mean(str(instance), known)}"
        )
    return INSTANCES[instance]
