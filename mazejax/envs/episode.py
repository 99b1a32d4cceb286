"""Episodes of one env: played by a policy, and played again from a key and the actions.

An episode is a pure function of its key and its actions, since every draw of the env
follows from the key. So a key and some integers are all there is to keep of it, and a
copy of a state is a clone of the simulation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mazejax import random
from mazejax.base import Pytree
from mazejax.envs import keys
from mazejax.envs.base import Env, check_action, select
from mazejax.envs.declared import empty_log
from mazejax.envs.structured import agent_axis, flat_reward
from mazejax.errors import EnvError
from mazejax.events.log import EventLog
from mazejax.events.statistics import EpisodeStatistics
from mazejax.spaces.masks import action_masks, sample_masked
from mazejax.types import ActorID, Array, Key, PyTree

Policy = Callable[[Key, PyTree, PyTree, ActorID], PyTree]
"""(key, obs, maze_state, actor) -> action of one env; of agents at once, of all, [A, ...]."""


class EventPolicy(NamedTuple):
    """A policy that is told what was fired, as a `Policy` of `play`."""

    act: Callable[[Key, PyTree, PyTree, ActorID, tuple[EventLog, ...]], PyTree]
    """As a policy, with the logs of the last flat step by sub-step, those of the one under way in
    their places; empty ones when an episode begins."""


class SubStep(NamedTuple):
    """What happened in one sub-step of the schedule, over T flat steps."""

    obs: PyTree
    """Observation that the action answered, [T, ...] or [T, A, ...]."""
    state: PyTree
    """State before the action, [T, ...]."""
    active: Array
    """Whether the actor acted, bool [T] or [T, A]; false after the end of the episode."""
    action: PyTree
    """[T, ...] or [T, A, ...]."""
    reward: Array
    """As returned by `step`, float32 [T] or [T, A]; 0 after the end."""
    info: dict[str, PyTree]
    """Declared extras of the sub-step, [T, ...]; 0 after the end."""


class Episode(Pytree):
    """One episode of one env, T flat steps long or ended before."""

    key: Key
    """All that the env drew follows from it."""
    substeps: tuple[SubStep, ...]
    """In the order of the env's schedule; a flat env has one."""
    length: Array
    """Flat steps until the end, T if the end was not reached, int32 []."""
    terminated: Array
    """bool []."""
    truncated: Array
    """bool []."""
    final_state: PyTree
    """State after the last step."""
    final_obs: PyTree
    """Its observation."""

    @property
    def actions(self) -> tuple[PyTree, ...]:
        """What `replay` plays again: actions [T, ...] by sub-step."""
        return tuple(substep.action for substep in self.substeps)

    @property
    def episode_return(self) -> Array:
        """Sum of all rewards, float32 []."""
        return flat_reward([substep.reward for substep in self.substeps])

    def statistics(self) -> EpisodeStatistics:
        """Statistics of all events of the episode; of a single one, `vmap` it over several."""
        found = (substep.info.get("events") for substep in self.substeps)
        logs = tuple(log for log in found if isinstance(log, EventLog))
        start = EpisodeStatistics.start(logs[0].events if logs else ())

        def one_flat_step(now: EpisodeStatistics, at: tuple) -> tuple[EpisodeStatistics, None]:
            time, logs = at
            return select(time < self.length, now.add(*logs), now), None

        num_steps = self.substeps[0].reward.shape[0]
        return jax.lax.scan(one_flat_step, start, (jnp.arange(num_steps), logs))[0]

    def kpis(self, env: Env) -> dict[str, Array]:
        """KPIs of the episode on this env by name, float32 []; {} if it has none."""
        calculator = env.kpi_calculator()
        if calculator is None:
            return {}
        return calculator.calculate(self.statistics(), env.maze_state(self.final_state))


def play(
    env: Env,
    policy: Policy | EventPolicy,
    key: Key,
    num_steps: int,
    key_impl: str = random.DEFAULT_IMPL,
) -> Episode:
    """The episode of this key under the policy, for at most `num_steps` flat steps.

    Pure: `vmap` it over keys for many episodes. What is not read under `jit` is not kept.
    A key of `VectorEnv.episode_keys` gives the episode that this env plays there; a key of
    another implementation than `key_impl` seeds one of it, as there.
    """
    key = random.as_key(key, key_impl)

    def choose(now: _Now, index: int, inputs: PyTree) -> PyTree:
        policy_key = keys.moment_key(key, env.time(now.state), index, "policy")
        given = (policy_key, now.obs, env.maze_state(now.state), env.actors[index])
        return policy.act(*given, now.logs) if isinstance(policy, EventPolicy) else policy(*given)

    log = empty_log(env) if isinstance(policy, EventPolicy) else None
    return _run(env, key, choose, num_steps, None, log)


def replay(env: Env, key: Key, actions: PyTree, key_impl: str = random.DEFAULT_IMPL) -> Episode:
    """The episode of this key and these actions, as it was.

    Actions are [T, ...] of a flat env, else a tuple with one entry for every sub-step.
    All draws and whatever is discrete are the same in every program; floats are the same
    bits in the same compiled program, and within rounding in others, since compilers
    contract products and sums as they fuse them. Raises EnvError where the number of
    actions, SpaceError where their shapes do not fit.
    """
    by_substep = actions if isinstance(actions, tuple) else (actions,)
    num_steps = _num_steps(env, by_substep)

    def choose(now: _Now, index: int, inputs: PyTree) -> PyTree:
        return inputs[index]

    return _run(env, random.as_key(key, key_impl), choose, num_steps, by_substep)


def random_policy(env: Env) -> Policy:
    """Every allowed action is equally likely, for each agent."""
    spaces = env.action_spaces

    def act(key: Key, obs: PyTree, maze_state: PyTree, actor: ActorID) -> PyTree:
        space = spaces[actor.step_key]

        def draw(key: Key, obs: PyTree) -> PyTree:
            return sample_masked(space, key, action_masks(space, obs))

        if actor.agent_id is not None:
            return draw(key, obs)
        agents = jnp.arange(env.agent_counts[actor.step_key])
        return jax.vmap(draw)(jax.vmap(jax.random.fold_in, (None, 0))(key, agents), obs)

    return act


class _Now(NamedTuple):
    """What a policy may ask for."""

    state: PyTree
    obs: PyTree
    logs: tuple[EventLog, ...]


class _Running(NamedTuple):
    state: PyTree
    obs: PyTree
    logs: tuple[EventLog, ...]
    length: Array
    terminated: Array
    truncated: Array


def _run(
    env: Env, key: Key, choose: Any, num_steps: int, inputs: PyTree, log: EventLog | None = None
) -> Episode:
    """A scan over flat steps in which nothing changes once the episode ended.

    With an empty log, what was fired last is at hand when an action is chosen.
    """

    def one_flat_step(now: _Running, inputs: PyTree) -> tuple[_Running, tuple[SubStep, ...]]:
        goes_on = ~(now.terminated | now.truncated)
        state, obs, logs, substeps = now.state, now.obs, list(now.logs), []
        ended = (now.terminated, now.truncated)
        for index in range(len(env.actors)):
            action = choose(_Now(state, obs, tuple(logs)), index, inputs)
            step = env.step(keys.moment_key(key, env.time(state), index, "env"), state, action)
            active = env.actor_active(state) & goes_on
            reward, info = select(goes_on, *_and_nothing((step.reward, step.info)))
            substeps.append(SubStep(obs, state, active, action, reward, info))
            state, obs, ended = step.state, step.obs, (step.terminated, step.truncated)
            if logs:
                logs[index] = step.info["events"]
        new = _Running(state, obs, tuple(logs), now.length + 1, *ended)
        return select(goes_on, new, now), tuple(substeps)

    no = jnp.zeros((), bool)
    state = env.reset_state(keys.reset_key(key))
    logs = () if log is None else (log,) * len(env.actors)
    start = _Running(state, env.observe(state), logs, jnp.zeros((), jnp.int32), no, no)
    end, substeps = jax.lax.scan(one_flat_step, start, inputs, length=num_steps)
    return Episode(key, substeps, end.length, end.terminated, end.truncated, end.state, end.obs)


def _and_nothing(tree: PyTree) -> tuple[PyTree, PyTree]:
    return tree, jax.tree.map(jnp.zeros_like, tree)


def _num_steps(env: Env, actions: tuple[PyTree, ...]) -> int:
    if len(actions) != len(env.actors):
        raise EnvError(
            f"{env}.replay: got actions of {len(actions)} sub-steps, expected "
            f"{len(env.actors)}, one entry for each of {[*map(tuple, env.actors)]}"
        )
    num_steps = jax.tree.leaves(actions)[0].shape[0]
    for actor, action in zip(env.actors, actions, strict=True):
        space = env.action_spaces[actor.step_key]
        check_action(space, action, (num_steps, *agent_axis(actor, env.agent_counts)))
    return num_steps
