"""The greedy forager takes the way to the nearest food, and wanders without."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.envs.episode import play, random_policy
from mazejax.envs.foraging.make import make_foraging
from mazejax.envs.foraging.policies import GreedyForager
from mazejax.types import ActorID

KEY = random.key(5)
ACTOR = ActorID("agent", None)
STAY, UP, RIGHT, DOWN, LEFT = range(5)
act = jax.jit(lambda key, obs: GreedyForager()(key, obs, None, ACTOR))


def action_for(food, allowed=(0, 1, 2, 3, 4), key=KEY):
    window = np.zeros((1, 3, 5, 5), bool)
    for row, column in food:
        window[0, 1, row, column] = True
    mask = np.isin(np.arange(5), allowed)[None]
    obs = {"window": jnp.asarray(window), "action_mask": jnp.asarray(mask)}
    return int(act(key, obs)[0])


@pytest.mark.parametrize(
    ("food", "allowed", "action"),
    [
        ([(0, 2)], (0, 1, 2, 3, 4), UP),
        ([(2, 3)], (0, 1, 2, 3, 4), RIGHT),
        ([(4, 1)], (0, 1, 2, 3, 4), DOWN),  # two down, one left: the longer way first
        ([(4, 1)], (0, 1, 2, 4), LEFT),
        ([(3, 3)], (0, 1, 2, 3, 4), DOWN),
        ([(0, 0), (2, 1)], (0, 1, 2, 3, 4), LEFT),  # the nearer
        ([(0, 2), (4, 2)], (0, 1, 2, 3, 4), UP),  # the first of two
        ([(0, 2)], (0, 2), RIGHT),  # a wall on the only way: the only move
        ([], (0, 4), LEFT),
        ([], (0,), STAY),
    ],
)
def test_it_goes_to_the_nearest_food_where_walls_let_it(food, allowed, action):
    assert action_for(food, allowed) == action


def test_without_food_in_sight_all_moves_are_equally_likely():
    mask = jnp.broadcast_to(jnp.array([True, True, False, True, True]), (3000, 5))
    obs = {"window": jnp.zeros((3000, 3, 5, 5), bool), "action_mask": mask}
    actions = act(KEY, obs)
    assert actions.dtype == jnp.int32
    shares = np.bincount(actions, minlength=5) / 3000
    np.testing.assert_allclose(shares, [0, 1 / 3, 0, 1 / 3, 1 / 3], atol=0.03)


def test_it_collects_more_than_chance_and_keeps_more_agents():
    env = make_foraging()

    def outcome(policy):
        def one(key):
            episode = play(env, policy, key, 80)
            core = episode.final_state.core
            return episode.episode_return, core.active.sum(), episode.terminated

        return [np.mean(x) for x in jax.jit(jax.vmap(one))(jax.random.split(KEY, 16))]

    food, alive, ended = outcome(GreedyForager())
    by_chance, alive_by_chance, _ = outcome(random_policy(env))
    assert food > 14 > 9 > by_chance and alive > 2 > alive_by_chance and ended == 1
