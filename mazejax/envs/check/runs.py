"""The rules of `check_env` about whole episodes.

They run when the rules about single calls have passed, on two compiled programs: a long
random walk and a vmapped flat step.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from mazejax.envs.check.findings import (
    Finding,
    check_rows_contained,
    error,
    first_difference,
    leaves,
    warning,
)
from mazejax.envs.check.trial import Rule, Trial, limit_path
from mazejax.envs.check.walk import substep_keys
from mazejax.types import PyTree

_SCANNED_STEPS = 5


# --- the walk -------------------------------------------------------------------------


def observations_stay_in_their_space(trial: Trial) -> Iterator[Finding]:
    """The observations of every sub-step of a random walk lie in the next actor's space."""
    moves = trial.walks[0]
    starts = np.concatenate([[True], moves[-1].step.done[:-1]])
    first = trial.observation_spaces[trial.actors[0].step_key]
    obs = jax.tree.map(lambda leaf: leaf[starts], moves[0].obs)
    yield from check_rows_contained(first, obs, "reset", trial.axis(0), "episode", trial.seer(0))
    seen = [
        (trial.label(substep), trial.next_substep(substep), move.step.obs)
        for substep, move in enumerate(moves)
    ]
    # Values of the last state are asked from every actor.
    seen += [("at_substep", i, obs) for i, obs in enumerate(moves[-1].next_obs, start=1)]
    for method, substep, obs in seen:
        space = trial.observation_spaces[trial.actors[substep].step_key]
        axis, after = trial.axis(substep), trial.seer(substep)
        yield from check_rows_contained(space, obs, method, axis, "step", after)


def rewards_are_finite(trial: Trial) -> Iterator[Finding]:
    """No reward of a random walk is nan or infinite, and no credit."""
    for substep, move in enumerate(trial.walks[0]):
        named = {"reward": move.step.reward}
        for index, reward in enumerate(move.step.info.get("actor_rewards", ())):
            named[f"info['actor_rewards'][{index}]"] = reward
        for name, reward in named.items():
            for index, *_ in np.argwhere(~np.isfinite(reward))[:1]:
                yield error(
                    f"{trial.label(substep)}: {name}: got {reward[index]}, expected a finite "
                    f"number; find its source (step {index})"
                )


def time_counts_flat_steps(trial: Trial) -> Iterator[Finding]:
    """The time is 0 after a reset, grows by 1 with the last sub-step, and with no other."""
    start = int(trial.env.time(trial.first[1]))
    if start != 0:
        yield error(f"time: got {start} after reset, expected 0; start the count in reset_state")
    for substep, move in enumerate(trial.walks[0]):
        is_last = trial.next_substep(substep) == 0
        when = "" if trial.num_substeps == 1 else f" in {trial.label(substep)}"
        mend = "add 1 to it in step_state" if is_last else "count flat steps, after the last actor"
        for index in np.flatnonzero(move.next_time != move.time + is_last)[:1]:
            yield error(
                f"time: got {move.next_time[index]} after {move.time[index]}{when} (step {index}), "
                f"expected {move.time[index] + is_last}; {mend}"
            )


def equal_keys_give_equal_bits(trial: Trial) -> Iterator[Finding]:
    """The same compiled walk run twice gives the same bits."""
    for substep, (one, other) in enumerate(zip(*trial.walks[:2], strict=True)):
        difference = first_difference("walk", one, other)
        if difference:
            yield error(
                f"{trial.label(substep)}: {difference}: two runs with equal keys differ, expected "
                f"the same bits; draw from the key only"
            )
            return


# --- the walk beside other programs ---------------------------------------------------


def resets_stay_in_their_space(trial: Trial) -> Iterator[Finding]:
    """The first observations of many keys lie in the space of the first actor."""
    space = trial.observation_spaces[trial.actors[0].step_key]
    obs, axis = trial.vectorized[0], trial.axis(0)
    yield from check_rows_contained(space, obs, "reset", axis, "key", trial.seer(0))


def keys_change_resets(trial: Trial) -> Iterator[Finding]:
    """Resets with other keys differ (a warning: one start may be meant)."""
    rows = leaves("state", trial.vectorized[1]).values()
    if trial.num_envs > 1 and all((row == row[:1]).all() for row in rows):
        yield warning(
            f"reset: state: got equal states from {trial.num_envs} keys, expected different ones; "
            f"draw the start from the key, unless one start is meant"
        )


def vmap_agrees(trial: Trial) -> Iterator[Finding]:
    """Rows of a vmapped reset and flat step equal single calls within 1e-6."""
    for row in range(trial.num_envs):
        together = _row(trial.vectorized, row)
        obs, state = trial.jit_reset(trial.env, trial.reset_keys[row])
        pairs: list[tuple[str, Any, Any]] = [
            ("reset", {"obs": obs, "state": state}, dict(zip(("obs", "state"), together[:2])))  # noqa: B905
        ]
        for substep, (action, step) in enumerate(together[2]):
            env_key = substep_keys(trial.keys[row % trial.num_steps], substep)[0]
            alone = trial.compiled_step(substep, env_key, state, action)
            pairs.append((trial.label(substep), alone._asdict(), step._asdict()))
            state = alone.state
        for method, one, other in pairs:
            difference = first_difference("", one, other, trial.tolerance)
            if difference:
                yield error(
                    f"{method}: {difference}: alone and in row {row} under vmap differ, expected "
                    f"equality within {trial.tolerance}; let no env look at the others"
                )
                return


def scan_agrees(trial: Trial) -> Iterator[Finding]:
    """The first steps of a scan equal single compiled steps."""
    state = trial.jit_reset(trial.env, trial.key)[1]
    for index in range(min(_SCANNED_STEPS, trial.num_steps)):
        for substep, moves in enumerate(trial.walks[0]):
            move = _row(moves, index)
            env_key = substep_keys(trial.keys[index], substep)[0]
            step = trial.compiled_step(substep, env_key, state, move.action)
            # Roundings grow with the steps that they pass through.
            tolerance = 10 * (index + 1) * trial.tolerance
            alone, scanned = (s._replace(state=())._asdict() for s in (step, move.step))
            difference = first_difference("", alone, scanned, tolerance)
            if difference:
                yield error(
                    f"{trial.label(substep)}: {difference}: alone and in a scan differ (step "
                    f"{index}), expected equality within {tolerance:.0e}; keep nothing outside the "
                    f"state"
                )
                return
            state = step.state
        if bool(step.done):
            return


def episodes_end(trial: Trial) -> Iterator[Finding]:
    """Some episode ends under random actions (a warning: the task may have no end)."""
    ended = trial.walks[0][-1].step.done.any() or trial.vectorized[2][-1][1].done.any()
    if not ended and limit_path(trial.env) is None:
        yield warning(
            f"step: terminated: got no end of an episode in {trial.num_steps} random steps, "
            f"expected one; wrap the env in TimeLimit, unless it is meant to go on"
        )


EPISODES: tuple[Rule, ...] = (
    observations_stay_in_their_space,
    rewards_are_finite,
    time_counts_flat_steps,
    equal_keys_give_equal_bits,
)
TOGETHER: tuple[Rule, ...] = (
    resets_stay_in_their_space,
    keys_change_resets,
    vmap_agrees,
    scan_agrees,
    episodes_end,
)


def _row(tree: PyTree, row: int) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[row], tree)
