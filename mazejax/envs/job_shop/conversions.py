"""What a dispatcher sees of a job shop, and how it says which job comes next.

Times are shares of the instance's lower bound, so that observations of small and large
instances look alike. Sizes are those of the instances.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from mazejax.base import static
from mazejax.envs.conversion import ActionConversion, ObservationConversion
from mazejax.envs.job_shop.core import JobShopState, next_operations
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box, Discrete
from mazejax.types import Array


class JobFeatures(ObservationConversion):
    """A row of features for every job, the machines' ready times, and what may be dispatched.

        jobs            [J, 4 + M] float32, of the next operation of each job:
                        duration / max_duration, earliest start, work of the job that is not
                        dispatched, share of its operations that are, its machine one-hot
        machine_ready   [M] float32
        action_mask     [J] bool: jobs with an operation left; all, once the episode ended

    Times are divided by the instance's lower bound. Of a finished job duration, work and
    machine are 0, and the earliest start is when it ended.
    """

    num_jobs: int = static()
    num_machines: int = static()
    max_duration: int = static()

    def space(self) -> Dict:
        """Shares are at most 1; no semi-active schedule is longer than min(J, M) lower bounds."""
        longest = float(min(self.num_jobs, self.num_machines))
        highest = np.ones((self.num_jobs, 4 + self.num_machines), np.float32)
        highest[:, 1] = longest
        return Dict(
            {
                "jobs": Box(0.0, highest),
                "machine_ready": Box(0.0, longest, (self.num_machines,)),
                "action_mask": Box(False, True, (self.num_jobs,), bool),
            }
        )

    def maze_to_space(self, state: JobShopState, agent: int) -> dict[str, Array]:
        """The features of the state."""
        longest = float(min(self.num_jobs, self.num_machines))
        bound, operations = state.lower_bound, next_operations(state)
        machines = jnp.arange(self.num_machines, dtype=jnp.int8)[None]
        work = jnp.where(machines >= state.next_operation[:, None], state.durations, 0)
        shares = [
            _share(operations.duration, self.max_duration, 1.0),
            _share(operations.earliest_start, bound, longest),
            _share(work.sum(axis=1, dtype=work.dtype), bound, 1.0),
            _share(state.next_operation, self.num_machines, 1.0),
        ]
        one_hot = (machines == operations.machine[:, None]).astype(jnp.float32)
        return {
            "jobs": jnp.concatenate([jnp.stack(shares, axis=1), one_hot], axis=1),
            "machine_ready": _share(state.machine_ready, bound, longest),
            "action_mask": operations.is_open | ~operations.is_open.any(),
        }


class DispatchJob(ActionConversion):
    """The action is the job."""

    num_jobs: int = static()

    def space(self) -> Discrete:
        """One action for every job."""
        return Discrete(self.num_jobs)

    def space_to_maze(self, action: Array, state: Any, agent: int) -> Array:
        """The job, int32 []."""
        return jnp.asarray(action, jnp.int32)

    def maze_to_space(self, maze_action: Array) -> Array:
        """The job, int32 []."""
        return jnp.asarray(maze_action, jnp.int32)


def _share(part: Array, whole: Array | int, highest: float) -> Array:
    # Compilers divide by a constant as they multiply by its reciprocal: 1 ulp too much.
    return jnp.minimum(part.astype(jnp.float32) / whole, highest)
