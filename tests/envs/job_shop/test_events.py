"""KPIs of a schedule."""

import jax
import numpy as np

from mazejax import random
from mazejax.envs.episode import play
from mazejax.envs.job_shop.instances import OPTIMAL_ORDERS
from mazejax.envs.job_shop.make import make_job_shop
from mazejax.envs.job_shop.policies import DispatchOrder

KEY = random.key(0)
ENV = make_job_shop("ft06")
CALCULATOR = ENV.core_env.kpi_calculator()


def kpis_after(num_steps):
    episode = play(ENV, DispatchOrder(OPTIMAL_ORDERS["ft06"]), KEY, num_steps)
    return jax.device_get(CALCULATOR.calculate(None, episode.final_state.core))


def test_kpis_of_a_whole_schedule_are_its_makespan_ratio_and_utilization():
    kpis = kpis_after(36)
    assert kpis["makespan"] == 55
    np.testing.assert_allclose(kpis["makespan_ratio"], 55 / 47, rtol=1e-6)
    np.testing.assert_allclose(kpis["machine_utilization"], 197 / (6 * 55), rtol=1e-6)
    assert all(kpi.dtype == np.float32 and kpi.shape == () for kpi in kpis.values())


def test_kpis_of_a_part_count_what_is_dispatched():
    kpis = kpis_after(2)  # 8 of job 1 on machine 1, 5 of job 2 on machine 2
    assert kpis["makespan"] == 8
    np.testing.assert_allclose(kpis["machine_utilization"], 13 / 48, rtol=1e-6)
    first = CALCULATOR.calculate(None, ENV.reset_state(KEY).core)
    assert first["makespan"] == first["machine_utilization"] == 0
