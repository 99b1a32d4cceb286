"""Every exact reset strategy gives the same states; `choose` goes by counted cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.envs import reset
from mazejax.errors import ConfigError


def reset_rows(num_envs):
    """Fresh states that tell their row: [R] and [R, 2] leaves and keys."""
    keys = jax.random.split(random.key(7), num_envs)

    def fresh(rows):
        rows = jnp.arange(num_envs, dtype=jnp.int32) if rows is None else rows
        return {"row": 100 + rows, "pair": jnp.stack([rows, -rows], -1) * 0.5, "key": keys[rows]}

    return fresh


def old_state(num_envs):
    return {
        "row": jnp.arange(num_envs, dtype=jnp.int32),
        "pair": jnp.full((num_envs, 2), 0.25),
        "key": jax.random.split(random.key(8), num_envs),
    }


def masks(num_envs):
    draw = np.random.default_rng(num_envs)
    some = [draw.random(num_envs) < share for share in (0.03, 0.2, 0.5, 0.9)]
    one = [np.arange(num_envs) == 0, np.arange(num_envs) == num_envs - 1]
    return [np.zeros(num_envs, bool), np.ones(num_envs, bool), *one, *some]


def words(tree):
    return [
        np.asarray(jax.random.key_data(leaf) if random.is_key(leaf) else leaf)
        for leaf in jax.tree.leaves(tree)
    ]


@pytest.mark.parametrize("strategy", reset.STRATEGIES)
@pytest.mark.parametrize("num_envs", [1, 5, 8, 13, 64, 700])
def test_only_the_envs_that_ended_are_fresh_for_any_pattern_of_ends(strategy, num_envs):
    run = jax.jit(
        jax.vmap(
            lambda done: reset.reset_ended(
                strategy, old_state(num_envs), done, reset_rows(num_envs)
            )
        )
    )
    patterns = np.stack(masks(num_envs))
    got = words(run(patterns))
    old, fresh = words(old_state(num_envs)), words(reset_rows(num_envs)(None))
    for leaf, before, after in zip(got, old, fresh, strict=True):
        chosen = patterns.reshape(patterns.shape + (1,) * (before.ndim - 1))
        np.testing.assert_array_equal(leaf, np.where(chosen, after[None], before[None]))


@pytest.mark.parametrize("num_ended", [0, 1, 16, 17, 64])
def test_compact_resets_no_more_blocks_than_the_ended_envs_fill(num_ended):
    blocks = []

    def counted(rows):
        jax.debug.callback(lambda rows: blocks.append(rows.shape[0]), rows)
        return reset_rows(64)(rows)

    done = jnp.arange(64) >= 64 - num_ended
    jax.block_until_ready(
        jax.jit(
            lambda done: reset.reset_compacted(
                old_state(64)["row"], done, lambda rows: counted(rows)["row"]
            )
        )(done)
    )
    jax.effects_barrier()
    assert blocks == [16] * -(-num_ended // 16)


def test_the_cost_multiplies_loops_out_and_weighs_random_words():
    x = jnp.zeros(5)
    cost = reset.primitive_cost
    assert cost(lambda x: x + 1.0, x) == 5
    assert cost(lambda x: jax.lax.scan(lambda c, _: (c + 1.0, None), x, length=7)[0], x) == 35
    assert cost(jax.jit(lambda x: jax.jit(jnp.square)(x)), x) == 5
    branches = [lambda x: x + 1.0, lambda x: x + 1.0 - 2.0 * x]
    assert cost(lambda i, x: jax.lax.cond(i, *branches, x), jnp.asarray(True), x) in (15, 16)
    key = random.key(0)
    assert cost(lambda key: jax.random.bits(key, (3,)), key) == 24
    looping = cost(lambda x: jax.lax.while_loop(lambda x: x.sum() < 3, lambda x: x + 1.0, x), x)
    assert looping > 16 * 5


def test_the_choice_goes_by_the_cost_of_a_reset():
    x = jnp.zeros(20)

    def work(times):
        return lambda x: jax.lax.scan(lambda c, _: (c * 2.0, None), x, length=times)[0]

    assert reset.choose(work(2), x) == "always"
    assert reset.choose(work(64), x) == "compact"


def test_an_unknown_strategy_is_told_with_the_nearest_one():
    with pytest.raises(ConfigError, match="auto_reset: unknown 'compct'; did you mean 'compact'"):
        reset.check_strategy("compct")
    for strategy in ("auto", *reset.STRATEGIES):
        reset.check_strategy(strategy)


def test_what_nothing_depends_on_costs_nothing():
    def wasteful(x):
        unused = jnp.zeros((1000, 1000)) + x.sum()
        return x + 1.0, unused.shape

    x = jnp.zeros(4)
    assert reset.primitive_cost(lambda x: wasteful(x)[0], x) == 4
