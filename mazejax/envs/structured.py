"""Schedules: who acts in which sub-step of a flat step.

A schedule is a static tuple of `ActorID`, one for every sub-step, so the loop over it is
unrolled while tracing and every actor has spaces and a policy of its own. Agents of one
step key act one after another, or all at once along a leading axis [A].
"""

from collections.abc import Iterable, Mapping
from typing import Any

import jax

from mazejax.errors import EnvError, did_you_mean
from mazejax.types import ActorID, Array, PyTree


def check_schedule(actors: Any, agent_counts: Mapping[str, int], where: str) -> None:
    """Raise EnvError unless the schedule is a tuple of actors whose agents are counted."""
    if not isinstance(actors, tuple) or not actors:
        raise EnvError(f"{where}.actors: expected a tuple of at least one ActorID, got {actors!r}")
    for actor in actors:
        if not isinstance(actor, ActorID) or not isinstance(actor.step_key, str):
            raise EnvError(
                f"{where}.actors: got {actor!r}, expected an ActorID of a step key (str) and an "
                f"agent, such as ActorID('select', 0)"
            )
    for step_key in step_keys(actors):
        _check_agents(step_key, actors, agent_counts, where)
    check_step_keys(agent_counts, actors, f"{where}.agent_counts")


def check_step_keys(named: Iterable[str], actors: tuple[ActorID, ...], where: str) -> None:
    """Raise EnvError unless exactly the schedule's step keys are named."""
    wanted, got = step_keys(actors), tuple(named)
    for step_key in got:
        if step_key not in wanted:
            raise EnvError(
                f"{where}: unknown step key {step_key!r}; {did_you_mean(str(step_key), wanted)}"
            )
    for step_key in wanted:
        if step_key not in got:
            raise EnvError(f"{where}: missing for step key {step_key!r} of the schedule")


def step_keys(actors: tuple[ActorID, ...]) -> tuple[str, ...]:
    """The step keys of a schedule, each once, in the order of their first sub-step."""
    return tuple(dict.fromkeys(actor.step_key for actor in actors))


def count_agents(actors: tuple[ActorID, ...]) -> dict[str, int]:
    """Agents per step key of a schedule in which all act one after another."""
    counts: dict[str, int] = {}
    for step_key, agent_id in actors:
        counts[step_key] = max(counts.get(step_key, 0), (agent_id or 0) + 1)
    return counts


def agent_axis(actor: ActorID, agent_counts: Mapping[str, int]) -> tuple[int, ...]:
    """(A,) where the agents of the step key act at once, () elsewhere."""
    return (agent_counts[actor.step_key],) if actor.agent_id is None else ()


def map_agents(function: Any, actor: ActorID, num_agents: int, *args: PyTree) -> PyTree:
    """`function(agent, *args)`; of simultaneous agents, for each its own row of the args."""
    if actor.agent_id is not None:
        return function(actor.agent_id, *args)
    return jax.vmap(function)(jax.numpy.arange(num_agents), *args)


def flat_reward(rewards: Iterable[Array], batch_ndim: int = 0) -> Array:
    """Sum of the sub-steps' rewards over sub-steps and agents, float32 [*batch]."""
    parts = [reward.sum(tuple(range(batch_ndim, reward.ndim))) for reward in rewards]
    return sum(parts[1:], parts[0])


def _check_agents(
    step_key: str, actors: tuple[ActorID, ...], agent_counts: Mapping[str, int], where: str
) -> None:
    agents = [actor.agent_id for actor in actors if actor.step_key == step_key]
    if step_key not in agent_counts:
        raise EnvError(f"{where}.agent_counts: missing for step key {step_key!r} of the schedule")
    count = agent_counts[step_key]
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise EnvError(f"{where}.agent_counts[{step_key!r}]: must be positive, got {count!r}")
    if None in agents:
        if len(agents) > 1:
            raise EnvError(
                f"{where}.actors: step key {step_key!r} stands {len(agents)} times, but its "
                f"agents act at once (agent_id None); list it once, or give it other step keys"
            )
    elif set(agents) != set(range(count)):
        got = list(dict.fromkeys(agents))
        raise EnvError(
            f"{where}.actors: step key {step_key!r} has the agents {got}, "
            f"expected 0 to {count - 1} (agent_counts says {count})"
        )
