"""`collect`: the one place where env and policy meet inside a compiled program.

Training, evaluation and rollouts step envs through here. Values of final observations
are computed only where an episode was truncated, a few rows at a time, so truncation is
exact and costs next to nothing.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mazejax.base import Pytree
from mazejax.envs.base import select
from mazejax.envs.vector import VectorEnv, VectorState
from mazejax.types import Array, Key, PyTree, Rollout, Transition


class Acted(NamedTuple):
    """What a policy answers to observations [N, ...]."""

    action: PyTree
    """As drawn, [N, ...]: what learners see."""
    env_action: PyTree
    """As the env takes it, [N, ...]: clipped to its space, for instance."""
    log_prob: Array
    """[N] float32."""
    value: Array
    """[N] float32."""
    carry: PyTree
    """The policy's memory after it acted, [N, ...]."""


Act = Callable[[Key, PyTree, PyTree], Acted]
"""(keys [N], obs [N, ...], carry [N, ...]) -> Acted."""

Evaluate = Callable[[PyTree, PyTree], Array]
"""(obs [R, ...], carry [R, ...]) -> values [R] float32."""


class CollectState(Pytree):
    """Where the envs and the policy's memory stand between two rollouts."""

    envs: VectorState
    obs: PyTree
    """[N, ...]."""
    carry: PyTree
    """The policy's memory, [N, ...]."""
    episode_return: Array
    """Reward so far in each running episode, [N] float32."""
    episode_length: Array
    """Flat steps so far in each running episode, [N] int32."""


class Episodes(Pytree):
    """Episodes by the step in which they ended, [T, N]; meaningful where `ended`."""

    ended: Array
    """bool."""
    returns: Array
    """Sum of the rewards of the episode so far, float32."""
    lengths: Array
    """Flat steps of the episode so far, int32."""


def start(env: VectorEnv, key: Key, carry: PyTree = ()) -> CollectState:
    """Reset the envs; the carry [N, ...] is what the policy begins each episode with."""
    obs, envs = env.reset(key)
    return CollectState(
        envs=envs,
        obs=obs,
        carry=carry,
        episode_return=jnp.zeros(env.num_envs, jnp.float32),
        episode_length=jnp.zeros(env.num_envs, jnp.int32),
    )


def collect(
    env: VectorEnv,
    act: Act,
    evaluate: Evaluate,
    state: CollectState,
    num_steps: int,
    initial_carry: PyTree = (),
) -> tuple[CollectState, Rollout, Episodes]:
    """A rollout of `num_steps` flat steps in every env, continuing where the last ended.

    `next_value` of the rollout is the value of the true next observation: of the final
    one, with the memory from before the reset, where an episode was truncated; of the
    following one elsewhere (unused where terminated).
    """

    def one_step(
        state: CollectState, _: None
    ) -> tuple[CollectState, tuple[Transition, Array, Episodes]]:
        state, transition, episodes, final = step(env, act, state, initial_carry)
        bootstrap = transition.truncated & ~transition.terminated
        return state, (transition, values_where(evaluate, bootstrap, *final), episodes)

    state, (transitions, final_value, episodes) = jax.lax.scan(
        one_step, state, None, length=num_steps
    )
    following = jnp.concatenate([transitions.value[1:], evaluate(state.obs, state.carry)[None]])
    next_value = jnp.where(transitions.truncated, final_value, following)
    return state, Rollout(transitions, next_value), episodes


def step(
    env: VectorEnv, act: Act, state: CollectState, initial_carry: PyTree = ()
) -> tuple[CollectState, Transition, Episodes, tuple[PyTree, PyTree]]:
    """One flat step of every env: (state, transition, episodes, (final obs, final carry))."""
    acted = act(env.keys(state.envs, "policy"), state.obs, state.carry)
    stepped = env.step(state.envs, acted.env_action)
    done = stepped.done
    transition = Transition(
        obs=state.obs,
        action=acted.action,
        reward=stepped.reward,
        terminated=stepped.terminated,
        truncated=stepped.truncated,
        log_prob=acted.log_prob,
        value=acted.value,
    )
    episodes = Episodes(
        ended=done,
        returns=state.episode_return + stepped.reward,
        lengths=state.episode_length + 1,
    )
    new_state = CollectState(
        envs=stepped.state,
        obs=stepped.obs,
        carry=select(done, initial_carry, acted.carry),
        episode_return=jnp.where(done, 0.0, episodes.returns),
        episode_length=jnp.where(done, 0, episodes.lengths),
    )
    return new_state, transition, episodes, (stepped.info["final_obs"], acted.carry)


def values_where(evaluate: Evaluate, where: Array, obs: PyTree, carry: PyTree) -> Array:
    """Values [N] of the rows where the mask is true, 0 elsewhere.

    Rows are evaluated in blocks, as many blocks as the mask asks for: exact for any
    pattern, and no work when nothing was truncated.
    """
    num_envs = where.shape[0]
    block = min(num_envs, max(8, num_envs // 16))

    def evaluate_block(loop: tuple[Array, Array]) -> tuple[Array, Array]:
        left, values = loop
        rows = jnp.nonzero(left, size=block, fill_value=num_envs)[0]
        taken = jax.tree.map(lambda leaf: leaf.at[rows].get(mode="clip"), (obs, carry))
        values = values.at[rows].set(evaluate(*taken), mode="drop")
        return left.at[rows].set(False, mode="drop"), values

    nothing = jnp.zeros(num_envs, jnp.float32)
    return jax.lax.while_loop(lambda loop: loop[0].any(), evaluate_block, (where, nothing))[1]


def run_episodes(
    env: VectorEnv, act: Act, key: Key, max_steps: int, initial_carry: PyTree = ()
) -> Episodes:
    """The first episode of every env, [N]; `ended` is false where `max_steps` did not suffice."""

    def one_step(
        loop: tuple[Array, CollectState, Episodes],
    ) -> tuple[Array, CollectState, Episodes]:
        time, state, first = loop
        state, _, now, _ = step(env, act, state, initial_carry)
        return time + 1, state, select(first.ended, first, now)

    def goes_on(loop: tuple[Array, CollectState, Episodes]) -> Array:
        return (loop[0] < max_steps) & ~loop[2].ended.all()

    nothing = Episodes(
        ended=jnp.zeros(env.num_envs, bool),
        returns=jnp.zeros(env.num_envs, jnp.float32),
        lengths=jnp.zeros(env.num_envs, jnp.int32),
    )
    begin = (jnp.zeros((), jnp.int32), start(env, key, initial_carry), nothing)
    return jax.lax.while_loop(goes_on, one_step, begin)[2]
