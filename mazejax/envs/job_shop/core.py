"""Job-shop scheduling as a sequence of dispatching decisions.

A schedule is built by choosing, again and again, the job whose next operation is put on
its machine, as in Zhang et al., 2020, arXiv:2010.12367. What is observed of it stands in
`conversions`, where instances come from in `instances`.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from mazejax.base import Pytree, is_concrete
from mazejax.envs.base import flag
from mazejax.envs.core import CoreEnv, CoreReset, CoreStep
from mazejax.envs.job_shop.drawing import draw_schedule
from mazejax.envs.job_shop.events import JobShopEvents, JobShopKPIs
from mazejax.envs.job_shop.instances import Instances, UniformInstances
from mazejax.errors import ConfigError
from mazejax.events.log import EventLog
from mazejax.types import ActorID, Array, Key, Scene


class JobShopState(Pytree):
    """Instance and schedule; J jobs of M operations. Times are int16 where that suffices.

    J M (1 + 2 times) + J (1 + time) + M times + time bytes: ft06 212, ft10 552.
    """

    machines: Array
    """[J, M] int8: the machine of each operation."""
    durations: Array
    """[J, M]."""
    starts: Array
    """[J, M]: when each operation starts, -1 where it is not dispatched."""
    next_operation: Array
    """[J] int8: dispatched operations of each job."""
    job_ready: Array
    """[J]: when each job's last dispatched operation ends."""
    machine_ready: Array
    """[M]: when each machine's last dispatched operation ends."""
    lower_bound: Array
    """[]: no schedule is shorter than the longest job and the busiest machine."""

    @property
    def makespan(self) -> Array:
        """When the last dispatched operation ends, []."""
        return self.job_ready.max()


class NextOperations(NamedTuple):
    """The next operation of each job, [J] each."""

    is_open: Array
    """bool: whether the job has an operation left."""
    machine: Array
    """int8; -1 where the job is finished."""
    duration: Array
    """0 where the job is finished."""
    earliest_start: Array
    """When job and machine are ready; when the job ended where it is finished."""


def next_operations(state: JobShopState) -> NextOperations:
    """What could be dispatched, by job."""
    num_machines = state.machine_ready.shape[0]
    # Compared and summed, not gathered: M is small, and a sum over one hit is exact.
    each = jnp.arange(num_machines, dtype=jnp.int8)[None]
    is_next = each == state.next_operation[:, None]
    is_open = state.next_operation < num_machines
    machine = jnp.where(is_open, _chosen(is_next, state.machines), -1)
    ready = _chosen(each == machine[:, None], state.machine_ready[None])
    return NextOperations(
        is_open,
        machine.astype(jnp.int8),
        _chosen(is_next, state.durations),
        jnp.maximum(state.job_ready, ready),
    )


class JobShop(CoreEnv):
    """Build a schedule of J jobs on M machines, one operation at a time.

    maze action  the job, int32, whose next operation is dispatched
    dynamics     the operation starts when its job and its machine are both ready:
                 max(job ready, machine ready). That builds semi-active schedules,
                 among which is an optimal one: never is an operation put into a gap
                 before one that its machine has already been given
    reward       minus the increase of the makespan, so that an episode earns exactly
                 -makespan (whole numbers in float32)
    terminated   all J M operations are dispatched
    reset        the instance drawn from `instances`, nothing dispatched
    illegal      dispatching a finished job changes nothing and earns -illegal_penalty
    """

    instances: Instances = UniformInstances()
    """Where the instance of an episode comes from."""
    illegal_penalty: float = 1.0
    """Cost of dispatching a job that has no operation left."""

    def validate(self) -> None:
        """Raise ConfigError for a negative penalty."""
        penalty = self.illegal_penalty
        if is_concrete(penalty) and not np.all(np.asarray(penalty) >= 0):
            raise ConfigError(f"JobShop.illegal_penalty: must be at least 0, got {penalty}")

    def reset(self, key: Key) -> CoreReset:
        """An instance of which nothing is dispatched."""
        machines, durations = self.instances.draw(key)
        nothing = jnp.zeros_like(durations)
        state = JobShopState(
            machines=machines,
            durations=durations,
            starts=jnp.full_like(durations, -1),
            next_operation=jnp.zeros(machines.shape[0], jnp.int8),
            job_ready=nothing[:, 0],
            machine_ready=nothing[0],
            lower_bound=_lower_bound(machines, durations),
        )
        return CoreReset(state)

    def step(self, key: Key, state: JobShopState, maze_action: Array, actor: ActorID) -> CoreStep:
        """The next operation of the job dispatched, if it has one."""
        num_jobs, num_machines = state.machines.shape
        operations = next_operations(state)
        is_job = jnp.arange(num_jobs) == maze_action
        is_legal = (is_job & operations.is_open).any()
        machine = _chosen(is_job, operations.machine)
        start = _chosen(is_job, operations.earliest_start)
        end = start + _chosen(is_job, operations.duration)

        changes = is_job & is_legal
        each = jnp.arange(num_machines, dtype=jnp.int8)
        here = changes[:, None] & (each[None] == state.next_operation[:, None])
        new = state.replace(
            starts=jnp.where(here, start, state.starts),
            next_operation=state.next_operation + changes.astype(jnp.int8),
            job_ready=jnp.where(changes, end, state.job_ready),
            machine_ready=jnp.where((each == machine) & is_legal, end, state.machine_ready),
        )
        terminated = (new.next_operation == num_machines).all()
        longer = (new.makespan - state.makespan).astype(jnp.float32)
        reward = jnp.where(is_legal, -longer, -jnp.asarray(self.illegal_penalty, jnp.float32))
        events = _log(maze_action, machine, start, end, is_legal, terminated, new.makespan)
        return CoreStep(new, reward, terminated, flag(), events)

    def kpi_calculator(self) -> JobShopKPIs:
        """Makespan, its ratio to the lower bound, and the use of the machines."""
        return JobShopKPIs()

    def draw(self, state: JobShopState) -> Scene:
        """A Gantt chart: a row for every machine, a colour for every job."""
        machines, durations, starts = map(
            np.asarray, (state.machines, state.durations, state.starts)
        )
        return draw_schedule(machines, durations, starts, int(state.lower_bound))


def _chosen(mask: Array, values: Array) -> Array:
    """The one value where the mask holds, along the last axis; 0 where it holds nowhere."""
    return jnp.sum(jnp.where(mask, values, 0), axis=-1, dtype=values.dtype)


def _lower_bound(machines: Array, durations: Array) -> Array:
    """The longest job or the busiest machine, []."""
    jobs = durations.sum(axis=1, dtype=durations.dtype)
    each = jnp.arange(machines.shape[1], dtype=jnp.int8)[:, None, None]
    loads = jnp.where(each == machines[None], durations[None], 0)
    loads = loads.sum(axis=(1, 2), dtype=durations.dtype)
    return jnp.maximum(jobs.max(), loads.max())


def _log(
    job: Array,
    machine: Array,
    start: Array,
    end: Array,
    is_legal: Array,
    terminated: Array,
    makespan: Array,
) -> EventLog:
    log = EventLog.empty(JobShopEvents)
    log = log.fire(
        JobShopEvents.operation_dispatched, is_legal, job=job, machine=machine, start=start, end=end
    )
    log = log.fire(JobShopEvents.dispatch_refused, ~is_legal, job=job)
    return log.fire(JobShopEvents.schedule_finished, is_legal & terminated, makespan=makespan)
