"""Instances are what their sources say, and random ones are uniform."""

import jax
import numpy as np
import pytest

from mazejax import random
from mazejax.envs.job_shop.core import JobShop
from mazejax.envs.job_shop.instances import (
    FT06,
    FT10,
    INSTANCES,
    OPTIMAL_MAKESPANS,
    OPTIMAL_ORDERS,
    FixedInstance,
    UniformInstances,
)
from mazejax.errors import ConfigError
from mazejax.types import SINGLE_ACTOR

KEY = random.key(1)


@pytest.mark.parametrize("name", ["ft06", "ft10"])
def test_the_stored_orders_reach_the_known_optimum(name):
    shop = JobShop(INSTANCES[name])

    def one_dispatch(state, job):
        step = shop.step(KEY, state, job, SINGLE_ACTOR)
        return step.state, (step.reward, step.terminated)

    order = np.asarray(OPTIMAL_ORDERS[name])
    assert (np.bincount(order) == shop.instances.num_machines).all()
    state, (rewards, terminated) = jax.lax.scan(one_dispatch, shop.reset(KEY).state, order)
    assert -rewards.sum() == state.makespan == OPTIMAL_MAKESPANS[name]
    assert terminated[-1]


def test_the_classical_instances_have_their_known_sums():
    for instance, work, bound in ((FT06, 197, 47), (FT10, 5109, 655)):
        assert sum(map(sum, instance.durations)) == work
        assert JobShop(instance).reset(KEY).state.lower_bound == bound


def test_random_instances_visit_every_machine_once_for_uniform_times():
    instances = UniformInstances(num_jobs=3, num_machines=4, min_duration=2, max_duration=5)
    machines, durations = jax.vmap(instances.draw)(jax.random.split(KEY, 2000))
    assert (np.sort(machines, axis=-1) == np.arange(4)).all()
    assert machines.dtype == np.int8 and durations.dtype == np.int16
    shares = np.bincount(durations.ravel(), minlength=6) / durations.size
    np.testing.assert_allclose(shares, [0, 0, 0.25, 0.25, 0.25, 0.25], atol=0.015)
    for place in range(4):
        first = np.bincount(machines[..., place].ravel(), minlength=4) / 6000
        np.testing.assert_allclose(first, 0.25, atol=0.03)


def test_long_horizons_take_wide_integers():
    wide = UniformInstances(num_jobs=30, num_machines=20)
    machines, durations = wide.draw(KEY)
    assert durations.dtype == np.int32 and machines.dtype == np.int8
    assert UniformInstances(num_jobs=10, num_machines=10).time_dtype == np.int16


@pytest.mark.parametrize(
    ("machines", "durations", "message"),
    [
        ((), (), "expected M of both in each of J rows"),
        (((0, 1),), ((1,),), r"got \[2\] machines and \[1\] durations"),
        (((0, 1), (0,)), ((1, 1), (1,)), "expected M of both"),
        (((0, 0),), ((1, 1),), r"machines\[0\]: got \(0, 0\), expected each of 0 to 1 once"),
        (((0, 1),), ((1, 0),), r"durations\[0\]: got \(1, 0\), expected at least 1 each"),
    ],
)
def test_wrong_instances_are_refused(machines, durations, message):
    with pytest.raises(ConfigError, match=message):
        FixedInstance(machines, durations)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"min_duration": 0}, "min_duration: got 0, expected from 1 to max_duration, which is 99"),
        ({"min_duration": 5, "max_duration": 4}, "which is 4"),
        ({"num_jobs": 0}, "num_jobs: got 0, expected from 1 to 127"),
        ({"num_machines": 200}, "num_machines: got 200"),
        ({"max_duration": 10**6}, "float32 rewards are exact; use a coarser time unit"),
    ],
)
def test_wrong_sizes_are_refused(sizes, message):
    with pytest.raises(ConfigError, match=message):
        UniformInstances(**sizes)
