"""PPO in the shape that JAX users know, as the yardstick of `benchmarks.train`.

One scan over updates with gymnax envs and threefry keys, a random permutation of the
batch in every epoch, and Adam; the same arithmetic as our PPO. The field's published
loops of this shape are within 30 % of each other.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import gymnax
import jax
import jax.numpy as jnp
import optax


class Row(NamedTuple):
    """One env step, [T, N, ...]."""

    done: jax.Array
    action: jax.Array
    value: jax.Array
    reward: jax.Array
    log_prob: jax.Array
    obs: jax.Array


class Network(nn.Module):
    """Two separate tanh networks."""

    num_actions: int

    @nn.compact
    def __call__(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        outputs = []
        for width, scale in ((self.num_actions, 0.01), (1, 1.0)):
            x = obs.reshape(*obs.shape[:1], -1)
            for _ in range(2):
                x = nn.tanh(nn.Dense(64, kernel_init=nn.initializers.orthogonal(2**0.5))(x))
            outputs.append(nn.Dense(width, kernel_init=nn.initializers.orthogonal(scale))(x))
        return outputs[0], outputs[1][..., 0]


def make_train(
    env_name: str,
    num_envs: int,
    num_steps: int,
    num_updates: int,
    num_epochs: int = 4,
    num_minibatches: int = 4,
    learning_rate: float = 2.5e-4,
) -> Callable[[jax.Array], Any]:
    """`train(key) -> variables`, to be jitted."""
    env, params = gymnax.make(env_name)
    network = Network(env.action_space(params).n)
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(learning_rate, eps=1e-5))

    def log_prob_of(logits: jax.Array, action: jax.Array) -> jax.Array:
        return jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], axis=1)[:, 0]

    def env_step(carry: tuple, _: None) -> tuple:
        variables, state, obs, key = carry
        key, key_act, key_step = jax.random.split(key, 3)
        logits, value = network.apply(variables, obs)
        action = jax.random.categorical(key_act, logits)
        keys = jax.random.split(key_step, num_envs)
        new_obs, state, reward, terminated, truncated, _ = jax.vmap(env.step, (0, 0, 0, None))(
            keys, state, action, params
        )
        log_prob = log_prob_of(logits, action)
        row = Row(terminated | truncated, action, value, reward, log_prob, obs)
        return (variables, state, new_obs, key), row

    def advantages(rows: Row, last_value: jax.Array) -> jax.Array:
        def one(carry: tuple, row: Row) -> tuple:
            advantage, next_value = carry
            delta = row.reward + 0.99 * next_value * (1 - row.done) - row.value
            advantage = delta + 0.99 * 0.95 * (1 - row.done) * advantage
            return (advantage, row.value), advantage

        return jax.lax.scan(one, (jnp.zeros_like(last_value), last_value), rows, reverse=True)[1]

    def loss(variables: Any, row: Row, advantage: jax.Array, target: jax.Array) -> jax.Array:
        logits, value = network.apply(variables, row.obs)
        ratio = jnp.exp(log_prob_of(logits, row.action) - row.log_prob)
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        surrogate = jnp.minimum(ratio * advantage, jnp.clip(ratio, 0.8, 1.2) * advantage)
        probabilities = jax.nn.softmax(logits)
        entropy = -(probabilities * jax.nn.log_softmax(logits)).sum(-1).mean()
        return -surrogate.mean() + 0.25 * jnp.square(value - target).mean() - 0.01 * entropy

    def update(carry: tuple, _: None) -> tuple:
        variables, opt_state, state, obs, key = carry
        (variables, state, obs, key), rows = jax.lax.scan(
            env_step, (variables, state, obs, key), length=num_steps
        )
        last_value = network.apply(variables, obs)[1]
        advantage = advantages(rows, last_value)
        batch = (rows, advantage, advantage + rows.value)
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)

        def epoch(carry: tuple, _: None) -> tuple:
            variables, opt_state, key = carry
            key, key_shuffle = jax.random.split(key)
            order = jax.random.permutation(key_shuffle, num_envs * num_steps)
            parts = jax.tree.map(
                lambda x: x[order].reshape(num_minibatches, -1, *x.shape[1:]), flat
            )

            def minibatch(carry: tuple, part: tuple) -> tuple:
                variables, opt_state = carry
                gradient = jax.grad(loss)(variables, *part)
                change, opt_state = optimizer.update(gradient, opt_state)
                return (optax.apply_updates(variables, change), opt_state), None

            (variables, opt_state), _ = jax.lax.scan(minibatch, (variables, opt_state), parts)
            return (variables, opt_state, key), None

        (variables, opt_state, key), _ = jax.lax.scan(
            epoch, (variables, opt_state, key), length=num_epochs
        )
        return (variables, opt_state, state, obs, key), None

    def train(key: jax.Array) -> Any:
        key, key_init, key_reset = jax.random.split(key, 3)
        obs, state = jax.vmap(env.reset, (0, None))(jax.random.split(key_reset, num_envs), params)
        variables = network.init(key_init, obs)
        carry = (variables, optimizer.init(variables), state, obs, key)
        return jax.lax.scan(update, carry, length=num_updates)[0][0]

    return train
