"""Faults in events, KPIs and drawings."""

import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.envs.core import CoreReset
from mazejax.events.kpi import KPICalculator
from mazejax.events.log import EventLog, Firings
from mazejax.types import Scene, Shape
from tests.envs.check import tiny
from tests.envs.check.structured import PieceEvents, Pieces, pieces_with
from tests.envs.check.tiny import line_with

BOUNDS = (-1.0, -1.0, 1.0, 1.0)


def step_with_log(change, step_key):
    """Pieces' step, with the log of one step key changed."""

    def step(self, key, state, maze_action, actor):
        step = Pieces.step(self, key, state, maze_action, actor)
        return step._replace(events=change(step.events)) if actor.step_key == step_key else step

    return step


def count_of_drops(count):
    name = PieceEvents.dropped.id
    return lambda log: log.replace(
        firings={**log.firings, name: Firings(count(log.firings[name].count), {})}
    )


class CountOfPieces(KPICalculator):
    def calculate(self, episode, state):
        return {"pieces": episode.count(PieceEvents.picked)}


class UnnamedKPI(KPICalculator):
    def calculate(self, episode, state):
        return jnp.zeros(())


def scene(*shapes, bounds=BOUNDS):
    return lambda self, state: Scene(bounds, shapes)


ERRORS = {
    "reset_fires_what_no_step_fires": (
        pieces_with(step=step_with_log(lambda log: EventLog.empty(PieceEvents.dropped), "push")),
        ["step 'push': raised EnvError: event PieceEvents.arrived: a reset may fire it"],
    ),
    "events_of_another_structure": (
        pieces_with(step=step_with_log(lambda log: EventLog.empty(PieceEvents.picked), "pick")),
        ["step 'push': info['events']", "PieceEvents.arrived", "as in the first sub-step"],
    ),
    "events_of_one_actor_only": (
        pieces_with(step=step_with_log(lambda log: (), "pick")),
        ["step 'pick': info: got no 'events'", "EventLog.empty"],
    ),
    "count_is_a_float": (
        pieces_with(step=step_with_log(count_of_drops(lambda n: n.astype("float32")), "push")),
        ["step 'push': events of PieceEvents.dropped: got a count of float32[]", "log.fire"],
    ),
    "count_is_negative": (
        pieces_with(step=step_with_log(count_of_drops(lambda n: n - 1), "push")),
        ["step 'push': events of PieceEvents.dropped: got a count of -1 (step 0)"],
    ),
    "kpi_is_an_integer": (
        pieces_with(kpi_calculator=lambda self: CountOfPieces()),
        ["kpi_calculator: KPI 'pieces': got int32[], expected float32[]"],
    ),
    "kpi_has_no_name": (
        pieces_with(kpi_calculator=lambda self: UnnamedKPI()),
        ["kpi_calculator: got ShapeDtypeStruct of calculate, expected a dict"],
    ),
    "drawing_is_no_scene": (
        pieces_with(draw=lambda self, state: np.zeros((4, 4, 3))),
        ["draw: got ndarray after reset, expected a mazejax.types.Scene"],
    ),
    "drawing_has_nan": (
        pieces_with(draw=scene(Shape("circle", ((float("nan"), 0.0),)))),
        ["draw: scene.shapes[0].points: got [[nan, 0.0]]", "finite (x, y) pairs"],
    ),
    "drawing_has_an_unknown_shape": (
        pieces_with(draw=scene(Shape("blob", ((0.0, 0.0),)))),
        ["draw: scene.shapes[0].kind: got 'blob'", "polygon"],
    ),
    "drawing_has_no_area": (
        pieces_with(draw=scene(bounds=(1.0, 0.0, -1.0, 1.0))),
        ["draw: scene.bounds: got (1.0, 0.0, -1.0, 1.0)", "rectangle"],
    ),
    "drawing_fails_after_a_step": (
        pieces_with(
            draw=lambda self, state: Pieces.draw(self, state) if state.left.all() else 1 / 0
        ),
        ["draw: raised ZeroDivisionError"],
    ),
}

WARNINGS = {
    "events_are_no_log": (
        line_with(after=lambda step, s: step._replace(info={"events": {"moved": s.position}})),
        [["step: info['events']: got dict, expected an EventLog", "declare a Topic"]],
    ),
    "events_of_the_reset_are_no_log": (
        pieces_with(
            reset=lambda self, key: CoreReset(Pieces.reset(self, key).state, {"arrived": 1})
        ),
        [["reset: events: got dict, expected an EventLog"]],
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_planted_fault_is_an_error_that_names_method_and_field(name):
    tiny.assert_found(*ERRORS[name])


@pytest.mark.parametrize("name", WARNINGS)
def test_a_doubtful_choice_is_a_warning_and_no_error(name):
    tiny.assert_warned(*WARNINGS[name])
