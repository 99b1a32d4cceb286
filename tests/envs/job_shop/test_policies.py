"""Dispatching rules make the makespans that are published, and follow a plain reference."""

import jax
import numpy as np
import pytest

from mazejax import random
from mazejax.envs.episode import play
from mazejax.envs.job_shop.instances import OPTIMAL_ORDERS
from mazejax.envs.job_shop.make import make_job_shop
from mazejax.envs.job_shop.policies import DispatchingRule, DispatchOrder
from mazejax.errors import ConfigError

KEY = random.key(3)
RANDOM = make_job_shop("random", num_jobs=5, num_machines=4, max_duration=6)


# SPT 88 and 1074, MWKR 61 and 1108, FIFO 65 and 1184: as published for ft06 and ft10.
@pytest.mark.parametrize(
    ("rule", "ft06", "ft10"), [("spt", 88, 1074), ("mwkr", 61, 1108), ("fifo", 65, 1184)]
)
def test_non_delay_rules_make_the_published_makespans(rule, ft06, ft10):
    for name, makespan in (("ft06", ft06), ("ft10", ft10)):
        env = make_job_shop(name)
        episode = play(env, DispatchingRule(rule), KEY, len(OPTIMAL_ORDERS[name]))
        assert episode.terminated and -episode.episode_return == makespan


@pytest.mark.parametrize("candidates", ["all", "active", "non_delay"])
@pytest.mark.parametrize("rule", ["spt", "mwkr", "fifo"])
def test_rules_dispatch_what_the_reference_does(rule, candidates):
    policy = DispatchingRule(rule, candidates)
    run = jax.jit(jax.vmap(lambda key: play(RANDOM, policy, key, 20)))
    episodes = jax.device_get(run(jax.random.split(KEY, 4)))
    (actions,) = episodes.actions
    for env in range(4):
        first = jax.tree.map(lambda x, env=env: x[env, 0], episodes.substeps[0].state.core)
        wanted = reference_order(first.machines, first.durations, rule, candidates)
        assert actions[env].tolist() == wanted


def test_a_given_order_is_played_to_the_optimum():
    env = make_job_shop("ft06")
    episode = play(env, DispatchOrder(OPTIMAL_ORDERS["ft06"]), KEY, 36)
    assert episode.episode_return == -55 and episode.length == 36
    assert episode.actions[0].tolist() == [*OPTIMAL_ORDERS["ft06"]]


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="rule: unknown 'mwrk'; did you mean 'mwkr'"):
        DispatchingRule("mwrk")
    with pytest.raises(ConfigError, match="candidates: unknown 'nondelay'"):
        DispatchingRule("spt", "nondelay")


def reference_order(machines, durations, rule, candidates):
    """The jobs in the order in which the rule dispatches them."""
    num_jobs, num_machines = machines.shape
    count, job_ready, machine_ready = [0] * num_jobs, [0] * num_jobs, [0] * num_machines
    order = []
    while len(order) < num_jobs * num_machines:
        starts, ends = {}, {}
        for job in (job for job in range(num_jobs) if count[job] < num_machines):
            machine = machines[job, count[job]]
            starts[job] = max(job_ready[job], machine_ready[machine])
            ends[job] = starts[job] + durations[job, count[job]]
        chosen = [*starts]
        if candidates != "all":
            times = ends if candidates == "active" else starts
            first = min(times, key=times.get)
            machine = machines[first, count[first]]
            queue = [job for job in starts if machines[job, count[job]] == machine]
            if candidates == "active":
                chosen = [job for job in queue if starts[job] < ends[first]]
            else:
                chosen = [job for job in queue if starts[job] == starts[first]]
        priority = {
            "spt": lambda job: durations[job, count[job]],
            "mwkr": lambda job: -np.sum(durations[job, count[job] :]),
            "fifo": lambda job: job_ready[job],
        }[rule]
        job = min(chosen, key=priority)
        job_ready[job] = machine_ready[machines[job, count[job]]] = ends[job]
        count[job] += 1
        order.append(job)
    return order
