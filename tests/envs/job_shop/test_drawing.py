"""Gantt charts show every operation where and when it runs."""

import numpy as np

from mazejax import random
from mazejax.envs.episode import play
from mazejax.envs.job_shop.drawing import draw_schedule, job_color
from mazejax.envs.job_shop.instances import FT06, OPTIMAL_ORDERS
from mazejax.envs.job_shop.make import make_job_shop
from mazejax.envs.job_shop.policies import DispatchOrder
from mazejax.rendering.rasterizer import rasterize

ENV = make_job_shop("ft06")
EPISODE = play(ENV, DispatchOrder(OPTIMAL_ORDERS["ft06"]), random.key(0), 36)
COLORS = {job_color(job, 6): job for job in range(6)}


def bars(scene):
    """(job, left, right, bottom) of the bars."""
    found = [s for s in scene.shapes if s.kind == "polygon" and s.color in COLORS]
    return [(COLORS[s.color], s.points[0][0], s.points[1][0], s.points[0][1]) for s in found]


def test_bars_lie_where_the_operations_run_one_row_for_each_machine():
    core = EPISODE.final_state.core
    got = {(job, left, right) for job, left, right, _ in bars(ENV.draw(EPISODE.final_state))}
    starts = np.asarray(core.starts)
    wanted = {
        (job, starts[job, k], starts[job, k] + FT06.durations[job][k])
        for job, k in np.ndindex(6, 6)
    }
    assert got == wanted
    rows = {}
    for job, left, _, bottom in bars(ENV.draw(EPISODE.final_state)):
        (k,) = np.flatnonzero(starts[job] == left)
        rows.setdefault(FT06.machines[job][k], set()).add(bottom)
    heights = [rows[machine] for machine in range(6)]
    assert all(len(height) == 1 for height in heights)
    assert heights == sorted(heights, key=min, reverse=True)  # the first machine on top


def test_an_empty_chart_can_be_drawn_and_colors_differ():
    scene = ENV.draw(ENV.reset_state(random.key(0)))
    assert not bars(scene) and "operations 0/36" in scene.title
    assert len(COLORS) == 6
    assert len({job_color(job, 30) for job in range(30)}) == 30


def test_charts_become_pictures():
    picture = rasterize(ENV.draw(EPISODE.final_state), width=300)
    for color in COLORS:
        assert (picture == color).all(axis=-1).any()
    wide = draw_schedule(
        np.zeros((1, 1), int), np.full((1, 1), 900), np.zeros((1, 1), int), lower_bound=900
    )
    assert wide.bounds[2] > 900 and rasterize(wide, width=200).shape[1] == 200
