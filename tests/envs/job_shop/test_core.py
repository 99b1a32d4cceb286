"""Schedules grow as a plain Python simulation says, and rewards add up to the makespan."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.envs.check import check_env
from mazejax.envs.job_shop.core import JobShop, next_operations
from mazejax.envs.job_shop.events import JobShopEvents
from mazejax.envs.job_shop.instances import FT06, FixedInstance, UniformInstances
from mazejax.envs.job_shop.make import make_job_shop
from mazejax.errors import ConfigError
from mazejax.types import SINGLE_ACTOR
from mazejax.wrappers.time import TimeLimit

KEY = random.key(7)
JOBS, MACHINES = 4, 3
SHOP = JobShop(UniformInstances(JOBS, MACHINES, 2, 9), illegal_penalty=2.5)
SMALL = FixedInstance(((0, 1, 2), (1, 0, 2), (2, 1, 0)), ((3, 2, 4), (2, 5, 1), (4, 3, 3)))
LOCKED = FixedInstance(((0, 1), (1, 0)), ((2, 1), (3, 2)))


def dispatch_all(shop, key, jobs):
    """First state and, by step, (state, reward, terminated, events) of these dispatches."""

    def one_dispatch(state, job):
        step = shop.step(key, state, job, SINGLE_ACTOR)
        return step.state, (step.state, step.reward, step.terminated, step.events)

    first = shop.reset(key).state
    return first, jax.lax.scan(one_dispatch, first, jobs)[1]


run = jax.jit(jax.vmap(lambda key, jobs: dispatch_all(SHOP, key, jobs)))


class Reference:
    """The rules, one operation at a time, in Python."""

    def __init__(self, machines, durations):
        self.machines, self.durations = machines.tolist(), durations.tolist()
        self.starts = [[-1] * len(row) for row in self.machines]
        self.count = [0] * len(self.machines)
        self.job_ready = [0] * len(self.machines)
        self.machine_ready = [0] * len(self.machines[0])

    def dispatch(self, job):
        """(reward, terminated, firing of operation_dispatched or None)."""
        if self.count[job] == len(self.machines[job]):
            return -2.5, self.is_finished(), None
        before, k = max(self.job_ready), self.count[job]
        machine = self.machines[job][k]
        start = max(self.job_ready[job], self.machine_ready[machine])
        end = start + self.durations[job][k]
        self.starts[job][k] = start
        self.count[job] += 1
        self.job_ready[job] = self.machine_ready[machine] = end
        return before - max(self.job_ready), self.is_finished(), (job, machine, start, end)

    def is_finished(self):
        return all(count == len(row) for count, row in zip(self.count, self.machines, strict=True))


def test_random_dispatches_follow_the_rules_exactly():
    keys = jax.random.split(KEY, 8)
    jobs = np.asarray(jax.random.randint(KEY, (8, 3 * JOBS * MACHINES), 0, JOBS))
    first, (states, rewards, terminated, events) = jax.device_get(run(keys, jobs))
    dispatched = events[JobShopEvents.operation_dispatched]
    refused = events[JobShopEvents.dispatch_refused]
    num_refused = num_ends = 0
    for env in range(8):
        reference = Reference(first.machines[env], first.durations[env])
        for t, job in enumerate(jobs[env]):
            reward, is_end, firing = reference.dispatch(job)
            assert rewards[env, t] == reward and terminated[env, t] == is_end
            for name in ("starts", "job_ready", "machine_ready"):
                got = getattr(states, name)[env, t].tolist()
                assert got == getattr(reference, name), name
            assert states.next_operation[env, t].tolist() == reference.count
            assert dispatched.count[env, t] == (firing is not None)
            assert refused.count[env, t] == (firing is None)
            if firing is not None:
                names = ("job", "machine", "start", "end")
                assert tuple(dispatched.attributes[n][env, t, 0] for n in names) == firing
            else:
                assert refused.attributes["job"][env, t, 0] == job
                num_refused += 1
            finished = events[JobShopEvents.schedule_finished].count[env, t]
            assert finished == (is_end and firing is not None)
            num_ends += finished
    assert num_refused > 20 and num_ends > 4  # all of the rules were met


def test_an_episode_earns_minus_the_makespan_exactly():
    orders = np.stack([np.random.default_rng(i).permutation(12) % JOBS for i in range(6)])
    _, (states, rewards, terminated, events) = run(jax.random.split(KEY, 6), orders)
    makespan = states.starts[:, -1] + states.durations[:, -1]
    np.testing.assert_array_equal(rewards.sum(axis=1), -makespan.max(axis=(1, 2)))
    finished = events[JobShopEvents.schedule_finished]
    np.testing.assert_array_equal(finished.attributes["makespan"][:, -1, 0], -rewards.sum(axis=1))
    assert terminated[:, -1].all() and not terminated[:, :-1].any()
    assert rewards.dtype == np.float32


def test_no_order_beats_the_best_orientation_and_the_best_order_reaches_it():
    orders = np.array([*sorted(set(itertools.permutations([0, 0, 0, 1, 1, 1, 2, 2, 2])))])
    assert len(orders) == 1680
    shop = JobShop(SMALL)
    returns = jax.jit(jax.vmap(lambda order: dispatch_all(shop, KEY, order)[1][1].sum()))(orders)
    assert -returns.max() == _best_orientation(SMALL)
    assert len(np.unique(returns)) > 5


def test_every_schedule_respects_jobs_machines_and_the_lower_bound():
    orders = np.stack([np.random.default_rng(i).permutation(12) % JOBS for i in range(20)])
    _, (states, *_) = jax.device_get(run(jax.random.split(KEY, 20), orders))
    for env in range(20):
        machines, durations, starts, bound = (
            np.asarray(getattr(states, name)[env, -1])
            for name in ("machines", "durations", "starts", "lower_bound")
        )
        ends = starts + durations
        assert (starts[:, 1:] >= ends[:, :-1]).all()
        loads = []
        for machine in range(MACHINES):
            at = sorted(zip(starts[machines == machine], ends[machines == machine], strict=True))
            assert all(one[1] <= other[0] for one, other in itertools.pairwise(at))
            loads.append(durations[machines == machine].sum())
        assert bound == max(*loads, *durations.sum(axis=1)) <= ends.max()


def test_what_can_be_dispatched_is_told_by_job():
    shop = JobShop(LOCKED)
    _, (states, *_) = jax.jit(lambda: dispatch_all(shop, KEY, jnp.array([0, 0])))()
    after_one, after_two = (jax.tree.map(lambda x, t=t: x[t], states) for t in range(2))
    first = next_operations(after_one)
    assert first.machine.tolist() == [1, 1] and first.duration.tolist() == [1, 3]
    assert first.earliest_start.tolist() == [2, 0] and first.is_open.all()
    second = next_operations(after_two)
    assert second.machine.tolist() == [-1, 1] and second.duration.tolist() == [0, 3]
    assert second.earliest_start.tolist() == [3, 3] and second.is_open.tolist() == [False, True]


def test_states_are_small_and_go_on_from_their_numbers():
    shop, orders = JobShop(FT06), jnp.arange(36) % 6
    first, (states, rewards, *_) = jax.jit(lambda: dispatch_all(shop, KEY, orders))()
    one_step = jax.jit(lambda state, job: shop.step(KEY, state, job, SINGLE_ACTOR))
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(first)) == 212
    middle = jax.tree.map(lambda x: np.array(x[17]), states)
    leaves, structure = jax.tree.flatten(middle)
    again = jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in leaves])
    for t in range(18, 36):
        step = one_step(again, orders[t])
        again = step.state
        assert step.reward == rewards[t]
    assert all(
        (x == y[-1]).all()
        for x, y in zip(jax.tree.leaves(again), jax.tree.leaves(states), strict=True)
    )


def test_a_negative_penalty_is_refused():
    with pytest.raises(ConfigError, match="illegal_penalty: must be at least 0, got -1"):
        JobShop(illegal_penalty=-1.0)


@pytest.mark.slow
def test_it_keeps_the_contract():
    env = make_job_shop("random", num_jobs=3, num_machines=2, max_duration=9)
    report = check_env(TimeLimit(env, 20), num_steps=40, num_envs=4)
    assert all("illegal_penalty" in warning for warning in report.warnings)  # masks forbid it


def _best_orientation(instance):
    """The shortest makespan over all orders of the jobs on each machine, by longest paths."""
    sizes = instance.num_jobs, instance.num_machines
    best = 10**9
    for orders in itertools.product([*itertools.permutations(range(sizes[0]))], repeat=sizes[1]):
        best = min(best, _longest_path(instance, orders))
    return best


def _longest_path(instance, orders):
    ends, changed = {}, True
    while changed:
        changed = False
        for job, machine in itertools.product(range(instance.num_jobs), repeat=2):
            k = instance.machines[job].index(machine)
            place = orders[machine].index(job)
            before = [(job, instance.machines[job][k - 1])] if k else []
            before += [(orders[machine][place - 1], machine)] if place else []
            if (job, machine) in ends or any(b not in ends for b in before):
                continue
            start = max((ends[b] for b in before), default=0)
            ends[job, machine] = start + instance.durations[job][k]
            changed = True
    return max(ends.values()) if len(ends) == 9 else 10**9  # a cycle: no schedule
