"""The rules of `check_env` about who acts: schedules, masks, and actors that are idle or gone.

A flat env passes them with its one actor, which always acts. Those about the schedule
are asked first, since every walk goes by it; those about episodes look at the walks.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from mazejax.envs.check.findings import Finding, error, leaves, signature, warning
from mazejax.envs.check.rules import cast
from mazejax.envs.check.trial import Rule, Trial
from mazejax.envs.structured import check_schedule, check_step_keys, flat_reward
from mazejax.errors import EnvError, SpaceError
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.spaces.masks import action_masks, check_mask_spaces, mask_names
from mazejax.spaces.simple import MultiBinary, MultiDiscrete
from mazejax.types import ActorID

_SAME_CREDIT = 1e-4
"""Relative difference of two sums of rewards: roundings of many small ones."""


# --- what is declared -----------------------------------------------------------------


def schedule_is_valid(trial: Trial) -> Iterator[Finding]:
    """The schedule is a constant tuple of actors, with agents counted and spaces for all."""
    env, name = trial.env, type(trial.env).__name__
    try:
        # An invalid schedule cannot be counted, but the check looks at the counts last.
        valid = isinstance(trial.actors, tuple) and all(
            isinstance(a, ActorID) for a in trial.actors
        )
        counts = trial.call("agent_counts", lambda: env.agent_counts) if valid else {}
        check_schedule(trial.actors, counts, name)
        for spaces in ("observation_spaces", "action_spaces"):
            named = trial.call(spaces, getattr, env, spaces)
            check_step_keys(named, trial.actors, f"{name}.{spaces}")
    except EnvError as wrong:
        yield error(str(wrong), wrong)
        return
    if env.actors != trial.actors or env.replace().actors != trial.actors:
        yield error(
            f"{name}.actors: got two different schedules from two calls, expected one; "
            f"let it depend on static fields only"
        )


def masks_fit_their_actions(trial: Trial) -> Iterator[Finding]:
    """Masks in observations are bool, with an entry for every category or bit of their action."""
    for step_key, action_space in trial.action_spaces.items():
        observation_space = trial.observation_spaces[step_key]
        if not isinstance(observation_space, Dict):
            continue
        where = trial.space_name("observation_space", step_key)
        try:
            check_mask_spaces(observation_space, action_space, where)
        except SpaceError as wrong:
            yield error(str(wrong), wrong)
            continue
        names = mask_names(action_space)
        for name in (name for name in names if name in observation_space):
            dtype = observation_space[name].dtype
            if dtype != np.bool_:
                yield error(
                    f"{where}[{name!r}]: got {dtype}, expected bool, for it is a mask; "
                    f"declare Box(False, True, shape, bool)"
                )
        if "action_mask" in observation_space and "action_mask" not in names:
            expected = " or ".join(map(repr, names))
            yield error(
                f"{where}['action_mask']: masks nothing, expected {expected}, after the names of "
                f"the action space; rename it"
            )


# --- calls ----------------------------------------------------------------------------


def actors_have_their_flags(trial: Trial) -> Iterator[Finding]:
    """`actor_active` and `actor_done` are bool [] or [A], `actor_rewards` one entry a sub-step."""
    for call in trial.calls:
        label, info = trial.label(call.substep), call.step.info
        axis = list(trial.axis(call.substep))
        active = trial.call("actor_active", trial.env.actor_active, call.state)
        is_last = trial.next_substep(call.substep) == 0
        if is_last and trial.env.has_actor_rewards != ("actor_rewards" in info):
            has, gives = trial.env.has_actor_rewards, "actor_rewards" in info
            yield error(
                f"has_actor_rewards: got {has}, expected {gives}, since info after {label} has "
                f"{'' if gives else 'no '}'actor_rewards'; override it to tell"
            )
        wanted = [(f"actor_active before {label}", active, f"bool{axis}")]
        if "actor_done" in info:
            wanted.append((f"{label}: info['actor_done']", info["actor_done"], f"bool{axis}"))
        if "actor_rewards" in info:
            found, credit = _credit(trial, call.substep, info["actor_rewards"])
            yield from found
            wanted += credit
        for name, value, want in wanted:
            if signature(value) != want:
                yield error(f"{name}: got {signature(value)}, expected {want}; {cast(value, want)}")


def every_actor_can_look(trial: Trial) -> Iterator[Finding]:
    """A state can be taken to every place of the schedule, to be seen by each actor."""
    for substep in range(trial.num_substeps):
        state = trial.call("at_substep", trial.env.at_substep, trial.first[1], substep)
        place = trial.env.substep(state)
        if place != substep:
            yield error(
                f"at_substep: got a state of sub-step {place}, expected {substep}; replace the "
                f"static field of the state that substep(state) returns"
            )
            return


def _credit(
    trial: Trial, substep: int, rewards: Any
) -> tuple[list[Finding], list[tuple[str, Any, str]]]:
    """Findings about `actor_rewards` as a whole, and (name, value, wanted type) of its entries."""
    where = f"{trial.label(substep)}: info['actor_rewards']"
    if trial.next_substep(substep) != 0:
        return [error(f"{where}: got it, expected it after the last sub-step only; move it")], []
    if not isinstance(rewards, tuple) or len(rewards) != trial.num_substeps:
        got = f"{len(rewards)} entries" if isinstance(rewards, tuple) else type(rewards).__name__
        message = f"expected a tuple of {trial.num_substeps}, one entry for every sub-step"
        return [error(f"{where}: got {got}, {message}; keep the rewards' order")], []
    return [], [
        (f"{where}[{index}]", reward, f"float32{list(trial.axis(index))}")
        for index, reward in enumerate(rewards)
    ]


# --- episodes -------------------------------------------------------------------------


def masks_allow_something(trial: Trial) -> Iterator[Finding]:
    """Some action is allowed to every active actor, also in the last observation."""
    moves = trial.walks[0]
    last = moves[-1].step.done
    seen = [(index, move.obs, move.active, "") for index, move in enumerate(moves)]
    first_active = moves[-1].next_active & last.reshape(-1, *(1,) * len(trial.axis(0)))
    seen.append((0, moves[-1].step.obs, first_active, " of the end"))
    for substep, obs, active, moment in seen:
        actor = trial.actors[substep]
        space = trial.action_spaces[actor.step_key]
        masks = action_masks(space, obs)
        by_name = masks if isinstance(space, Dict) else {"action": masks}
        for name, mask in (by_name or {}).items():
            if mask is None:
                continue
            part = space[name] if isinstance(space, Dict) else space
            blocked = active & ~_allows(part, mask)
            for index, *agent in np.argwhere(blocked)[:1]:
                who = f" for agent {agent[0]}" if agent else ""
                yield error(
                    f"observe: obs['{name}_mask']: allows nothing{who} in the observation"
                    f"{moment}{trial.seer(substep)} (step {index}), expected at least one true "
                    f"entry while the actor is active; allow all, or an action without effect"
                )


def inactive_actors_have_no_effect(trial: Trial) -> Iterator[Finding]:
    """Nothing depends on what an actor does while it is not active."""
    same, _, other = trial.walks
    if all(move.active.all() for move in same):
        return
    if not trial.env.has_inactive_actors:
        yield error(
            "has_inactive_actors: got False, expected True, since actor_active was false in a "
            "random walk; override it to tell"
        )
    found: list[tuple[int, int, str]] = []
    for substep, (one, two) in enumerate(zip(same, other, strict=True)):
        for name in ("state", "reward", "terminated", "truncated", "info", "obs"):
            ours = leaves(name, getattr(one.step, name))
            theirs = leaves(name, getattr(two.step, name))
            for path, leaf in ours.items():
                differs = _any(_unequal(leaf, theirs[path]))
                if differs.any():
                    found.append((int(differs.argmax()), substep, path))
    if found:
        index, substep, path = min(found, key=lambda place: place[:2])
        yield error(
            f"{trial.label(substep)}: {path}: depends on the action of an actor that is not "
            f"active (step {index}), expected no effect; keep what stands where actor_active is "
            f"false"
        )


def ends_stand_still(trial: Trial) -> Iterator[Finding]:
    """After an end within a flat step the rest of it changes nothing, and no one is active."""
    moves = trial.walks[0]
    terminated = np.zeros(trial.num_steps, bool)
    truncated = np.zeros(trial.num_steps, bool)
    for substep, move in enumerate(moves):
        ended, step = terminated | truncated, move.step
        breaches = [
            ("terminated: got False", terminated & ~step.terminated, _LATCHED),
            ("truncated: got False", truncated & ~step.truncated, _LATCHED),
            ("reward: got another than 0", ended & _any(step.reward != 0), _UNPAID),
            ("actor_active: got True", ended & _any(move.active), _INACTIVE),
            *(
                (f"{path}: got a change", ended & ~stood, _KEPT)
                for path, stood in move.stood.items()
            ),
        ]
        for got, where, wanted in breaches:
            for index in np.flatnonzero(where)[:1]:
                yield error(
                    f"{trial.label(substep)}: {got} after an end in an earlier sub-step "
                    f"(step {index}), expected {wanted}"
                )
        terminated, truncated = terminated | step.terminated, truncated | step.truncated


_LATCHED = "True until the flat step is over; keep the flags of earlier sub-steps"
_UNPAID = "0; pay nothing once the episode ended"
_INACTIVE = "False for all; and it with the flags of earlier sub-steps"
_KEPT = (
    "the same value; keep it where the episode ended, or leave bookkeeping out of maze_state(state)"
)


def actors_leave_for_good(trial: Trial) -> Iterator[Finding]:
    """`actor_done` stays true until the episode ends, and who is done is never active again."""
    moves = trial.walks[0]
    for actor in dict.fromkeys(trial.actors):
        own = [i for i, other in enumerate(trial.actors) if other == actor]
        if any("actor_done" not in moves[substep].step.info for substep in own):
            continue
        gone = np.zeros(trial.axis(own[0]), bool)
        for index in range(trial.num_steps):
            for substep in own:
                label = trial.label(substep)
                if (gone & moves[substep].active[index]).any():
                    yield error(
                        f"{label}: actor_active: got True of an actor that is done (step {index}), "
                        f"expected False; let actor_active be false wherever actor_done is true"
                    )
                    return
                done = moves[substep].step.info["actor_done"][index]
                if (gone & ~done).any():
                    yield error(
                        f"{label}: info['actor_done']: went back to False (step {index}), expected "
                        f"True until the episode ends; tell of the moment with actor_active instead"
                    )
                    return
                gone = gone | done
            if moves[-1].step.done[index]:
                gone = np.zeros_like(gone)


def credit_adds_up(trial: Trial) -> Iterator[Finding]:
    """`actor_rewards` sum to the rewards of the flat step (a warning: they need not)."""
    moves = trial.walks[0]
    if "actor_rewards" not in moves[-1].step.info:
        return
    credit = flat_reward(moves[-1].step.info["actor_rewards"], 1)
    earned = flat_reward([move.step.reward for move in moves], 1)
    differs = np.abs(credit - earned) > _SAME_CREDIT * np.maximum(1.0, np.abs(earned))
    for index in np.flatnonzero(differs)[:1]:
        yield warning(
            f"actor_rewards: sum to {credit[index]:g} and the rewards of the flat step to "
            f"{earned[index]:g} (step {index}), expected equal sums; share out what was earned, "
            f"unless more or less is meant"
        )


SCHEDULE: tuple[Rule, ...] = (schedule_is_valid,)
DECLARED: tuple[Rule, ...] = (masks_fit_their_actions,)
CALLED: tuple[Rule, ...] = (actors_have_their_flags, every_actor_can_look)
EPISODES: tuple[Rule, ...] = (
    masks_allow_something,
    ends_stand_still,
    inactive_actors_have_no_effect,
    actors_leave_for_good,
    credit_adds_up,
)


def _allows(space: Space, mask: np.ndarray) -> np.ndarray:
    """Whether masks [..., flat_size] leave a choice in every entry of the action, [...] bool."""
    if isinstance(space, MultiBinary):
        return np.ones(mask.shape[:-1], bool)  # all bits may be 0
    sizes = space.nvec.ravel().tolist() if isinstance(space, MultiDiscrete) else [mask.shape[-1]]
    entries = np.split(mask, np.cumsum(sizes)[:-1], axis=-1)
    return np.all([entry.any(axis=-1) for entry in entries], axis=0)


def _any(values: Any) -> np.ndarray:
    """Whether any entry of [T, ...] is true, [T] bool."""
    return np.any(np.reshape(values, (len(values), -1)), axis=1)


def _unequal(one: Any, other: Any) -> np.ndarray:
    """Where two arrays differ; nan equals nan."""
    return np.asarray((one != other) & ~((one != one) & (other != other)))
