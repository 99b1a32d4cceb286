"""The rules of `check_env` about what an env may have besides: events, KPIs and drawings.

An env that has none of them passes. Reset logs and KPIs are those of the core env, so
they are looked at where a `MazeEnv` is inside.
"""

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from mazejax.envs.base import Env
from mazejax.envs.check.findings import Finding, error, first_changes, signature, warning
from mazejax.envs.check.trial import Rule, Trial
from mazejax.events.log import EventLog
from mazejax.events.statistics import EpisodeStatistics
from mazejax.types import Scene

_KINDS = ("polygon", "line", "circle", "text")


# --- events and KPIs ------------------------------------------------------------------


def events_are_logs(trial: Trial) -> Iterator[Finding]:
    """Events are logs that list the same events in every sub-step, with int32 counts."""
    logs = [
        (trial.label(call.substep), call.step.info["events"])
        for call in trial.calls
        if "events" in call.step.info
    ]
    if trial.core_env is not None:
        start = trial.call("reset", trial.core_env.reset, trial.key).events
        if not (isinstance(start, EventLog) or (isinstance(start, tuple) and not start)):
            yield _no_log("reset: events", start)
    if not logs:
        return
    if len(logs) < len(trial.calls):
        silent = next(c.substep for c in trial.calls if "events" not in c.step.info)
        yield error(
            f"{trial.label(silent)}: info: got no 'events', expected them as in the other "
            f"sub-steps; begin every step with EventLog.empty of the same events"
        )
    for label, log in logs:
        if not isinstance(log, EventLog):
            yield _no_log(f"{label}: info['events']", log)
            return
        for name, firings in log.firings.items():
            if signature(firings.count) != "int32[]":
                yield error(
                    f"{label}: events of {name}: got a count of {signature(firings.count)}, "
                    f"expected int32[]; let only log.fire change a log"
                )
    yield from first_changes("info['events']", logs[0][1], logs[1:], "in the first sub-step")


def kpis_are_scalars(trial: Trial) -> Iterator[Finding]:
    """KPIs are a dict of float32 scalars, computed from counts and the last core state."""
    calculator = trial.core_env.kpi_calculator() if trial.core_env is not None else None
    if calculator is None:
        return
    call = trial.calls[-1]
    log = call.step.info.get("events")
    log = log if isinstance(log, EventLog) else EventLog.empty()
    episode = EpisodeStatistics.start(log.events).add(log)
    state = trial.env.maze_state(call.step.state)
    kpis = trial.call("kpi_calculator", jax.eval_shape, calculator.calculate, episode, state)
    if not isinstance(kpis, dict):
        got = type(kpis).__name__
        yield error(f"kpi_calculator: got {got} of calculate, expected a dict by name; name them")
        return
    for name, value in kpis.items():
        if signature(value) != "float32[]":
            yield error(
                f"kpi_calculator: KPI {name!r}: got {signature(value)}, expected float32[]; "
                f"convert it with jnp.asarray(value, 'float32')"
            )


def events_count_up(trial: Trial) -> Iterator[Finding]:
    """No event is fired less than 0 times."""
    for substep, move in enumerate(trial.walks[0]):
        log = move.step.info.get("events")
        if not isinstance(log, EventLog):
            continue
        for name, firings in log.firings.items():
            for index in np.flatnonzero(firings.count < 0)[:1]:
                yield error(
                    f"{trial.label(substep)}: events of {name}: got a count of "
                    f"{firings.count[index]} (step {index}), expected 0 or more; let only log.fire "
                    f"change a log"
                )


def _no_log(where: str, got: Any) -> Finding:
    return warning(
        f"{where}: got {type(got).__name__}, expected an EventLog, since statistics and KPIs "
        f"count nothing else; declare a Topic and begin with EventLog.empty(topic)"
    )


# --- drawings -------------------------------------------------------------------------


def drawings_are_scenes(trial: Trial) -> Iterator[Finding]:
    """Where the env draws, it draws scenes of finite shapes, after a reset and after steps."""
    core, inner = trial.core_env, trial.env.unwrapped
    if not (core.defines("draw") if core is not None else type(inner).draw is not Env.draw):
        return
    states = {"after reset": trial.first[1]}
    for call in (*trial.calls[: trial.num_substeps], trial.calls[-1]):
        states[f"after {trial.label(call.substep)}"] = call.step.state
    for when, state in states.items():
        scene = trial.call("draw", trial.env.draw, state)
        if not isinstance(scene, Scene):
            got = type(scene).__name__
            yield error(f"draw: got {got} {when}, expected a mazejax.types.Scene; return one")
            return
        found = list(_check_scene(scene, when))
        yield from found
        if found:
            return


def _check_scene(scene: Scene, when: str) -> Iterator[Finding]:
    left, bottom, right, top = scene.bounds
    if not (all(map(math.isfinite, scene.bounds)) and left < right and bottom < top):
        yield error(
            f"draw: scene.bounds: got {scene.bounds} {when}, expected (left, bottom, right, top) "
            f"of a rectangle; give finite numbers in this order"
        )
    for index, shape in enumerate(scene.shapes):
        where = f"draw: scene.shapes[{index}]"
        points = np.asarray(shape.points, np.float64)
        if shape.kind not in _KINDS:
            yield error(
                f"{where}.kind: got {shape.kind!r} {when}, expected one of {', '.join(_KINDS)}"
            )
        if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
            yield error(
                f"{where}.points: got {points.tolist()[:4]} {when}, expected finite (x, y) pairs; "
                f"did the state diverge?"
            )
        if not (math.isfinite(shape.width) and shape.width >= 0):
            yield error(f"{where}.width: got {shape.width} {when}, expected a number from 0 on")


CALLED: tuple[Rule, ...] = (events_are_logs, kpis_are_scalars, drawings_are_scenes)
EPISODES: tuple[Rule, ...] = (events_count_up,)
