"""Return and advantage estimators.

Pure functions over [T, ...] arrays, any trailing axes; nearly all are instances of one
reverse affine scan. Termination zeroes the value of what follows, truncation keeps it,
and both end the sum.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mazejax.types import Array


class VTrace(NamedTuple):
    """What off-policy rollouts teach critic and policy, [T, ...]."""

    target: Array
    """Of the values, vs_t."""
    advantage: Array
    """Of the actions, with their importance weights in them."""


def affine_reverse_scan(offset: Array, factor: Array, last: Array) -> Array:
    """Solution x of x_t = offset_t + factor_t * x_{t+1} with x_T = last, [T, ...]."""

    def add_step(later: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        offset_t, factor_t = now
        x_t = offset_t + factor_t * later
        return x_t, x_t

    return jax.lax.scan(add_step, last, (offset, factor), reverse=True)[1]


def gae(
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: Array,
    truncated: Array,
    gamma: float | Array,
    gae_lambda: float | Array,
) -> Array:
    """Generalised advantage estimates, [T, ...].

    A_t = d_t + gamma * lambda * (1 - ended_t) * A_{t+1},
    d_t = r_t + gamma * (1 - terminated_t) * v(s_{t+1}) - v(s_t).
    `next_value` is the value of the true next observation, of the final one where an
    episode was truncated. Schulman et al., 2016, arXiv:1506.02438.
    """
    delta = reward + gamma * jnp.where(terminated, 0.0, next_value) - value
    decay = gamma * gae_lambda * jnp.where(terminated | truncated, 0.0, 1.0)
    return affine_reverse_scan(delta, decay, jnp.zeros_like(delta[0]))


def gae_between_active(
    reward: Array,
    value: Array,
    next_value: Array,
    active: Array,
    terminated: Array,
    truncated: Array,
    gamma: float | Array,
    gae_lambda: float | Array,
) -> Array:
    """Generalised advantages of an actor that does not act in every step, [T, ...].

    Time between two active steps passes as in a semi-Markov process: rewards of inactive
    steps accrue, discounted, to the last active one, and the next value is that of the
    next active step, `lambda` counting active steps. Where all are active this is `gae`.
    An inactive step has an advantage for the critic's sake only: plus its value it is what
    the actor can look forward to while it waits. `next_value` is read where an episode
    was truncated and at the end; `gamma` may be [T, ...], for steps that take no time.
    """

    def add_step(later: tuple[Array, Array], now: tuple[Array, ...]) -> tuple[tuple, Array]:
        worth_tp1, advantage_tp1 = later
        r_t, v_t, next_t, active_t, terminated_t, truncated_t, gamma_t = now
        future = jnp.where(truncated_t, next_t, worth_tp1)
        future = r_t + gamma_t * jnp.where(terminated_t, 0.0, future)
        trace = gamma_t * jnp.where(terminated_t | truncated_t, 0.0, advantage_tp1)
        advantage = future - v_t + gae_lambda * trace
        worth = jnp.where(active_t, v_t, future)
        return (worth, jnp.where(active_t, advantage, trace)), advantage

    steps = (reward, value, next_value, active, terminated, truncated)
    gammas = jnp.broadcast_to(gamma, reward.shape)
    last = (next_value[-1], jnp.zeros_like(next_value[-1]))
    return jax.lax.scan(add_step, last, (*steps, gammas), reverse=True)[1]


def vtrace(
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: Array,
    truncated: Array,
    ratio: Array,
    gamma: float | Array,
    lambda_: float | Array = 1.0,
    rho_clip: float | Array = 1.0,
    c_clip: float | Array = 1.0,
) -> VTrace:
    """Value targets and advantages from steps that another policy took, [T, ...].

    vs_t = v(s_t) + x_t with x_t = rho_t * d_t + gamma * c_t * (1 - ended_t) * x_{t+1},
    A_t = rho_t * (d_t + gamma * lambda * (1 - ended_t) * x_{t+1}), and d_t of `gae`;
    rho_t = min(rho_clip, ratio_t) and c_t = lambda * min(c_clip, ratio_t). `ratio` is the
    probability of the action under the policy that learns over that under the one that
    acted; where all are 1, x_t and A_t are the advantages of `gae`.
    Espeholt et al., 2018, arXiv:1802.01561.
    """
    rho, c = jnp.minimum(ratio, rho_clip), jnp.minimum(ratio, c_clip)
    delta = reward + gamma * jnp.where(terminated, 0.0, next_value) - value
    decay = gamma * lambda_ * jnp.where(terminated | truncated, 0.0, 1.0)
    nothing = jnp.zeros_like(delta[0])
    error = affine_reverse_scan(rho * delta, c * decay, nothing)
    later = jnp.concatenate([error[1:], nothing[None]])
    return VTrace(target=value + error, advantage=rho * (delta + decay * later))


def lambda_returns(
    reward: Array,
    next_value: Array,
    terminated: Array,
    truncated: Array,
    gamma: float | Array,
    lambda_: float | Array,
) -> Array:
    """Returns of TD(lambda), [T, ...]; `gae` plus values where those belong together.

    G_t = r_t + gamma * (1 - terminated_t) * ((1 - lambda) * v(s_{t+1}) + lambda * G_{t+1}),
    and v(s_{t+1}) alone where an episode was truncated and at the end. The values may be
    those of another network than the one that learns.
    """
    following = jnp.where(terminated, 0.0, next_value)
    trace = jnp.where(terminated | truncated, 0.0, lambda_)
    offset = reward + gamma * (1.0 - trace) * following
    return affine_reverse_scan(offset, gamma * trace, following[-1])


def n_step_returns(
    reward: Array,
    next_value: Array,
    terminated: Array,
    truncated: Array,
    gamma: float | Array,
    num_steps: int,
) -> Array:
    """Rewards of `num_steps` steps and the value of what follows them, discounted, [T, ...].

    G_t = r_t + gamma * r_{t+1} + ... + gamma^n * v(s_{t+n}); of fewer steps where the episode
    or the rollout ends sooner.
    """
    following = jnp.where(terminated, 0.0, next_value)
    goes_on = jnp.logical_not(terminated | truncated).at[-1].set(False)

    def add_step(_: Array, later: Array) -> Array:
        # The return of n steps is one step and the return of n - 1 from there.
        later = jnp.concatenate([later[1:], later[-1:]])
        return reward + gamma * jnp.where(goes_on, later, following)

    return jax.lax.fori_loop(1, num_steps, add_step, reward + gamma * following)


def explained_variance(prediction: Array, target: Array, where: Array | None = None) -> Array:
    """1 - Var[target - prediction] / Var[target], float32; nan where the target is constant."""
    # From one of the targets on, so that rounding gives equal targets no variance.
    first = target.ravel()[0] if where is None else jnp.max(target, where=where, initial=-jnp.inf)
    variance = jnp.var(target - first, where=where)
    error = jnp.var(target - prediction, where=where)
    return jnp.where(variance > 0, 1.0 - error / variance, jnp.nan)
