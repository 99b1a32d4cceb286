"""The games as environments keep the contract."""

import jax
import pytest

import mazejax.envs.board_games as board_games
from mazejax.envs.board_games.make import make_connect_four, make_tic_tac_toe
from mazejax.envs.check import check_env
from mazejax.types import ActorID


@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize("make", [make_tic_tac_toe, make_connect_four])
def test_the_games_keep_the_contract(make, random_start):
    env = make(random_start)
    check_env(env)
    assert env.core_env.random_start is random_start
    assert env.actors == (ActorID("player", 0), ActorID("player", 1))
    assert env.agent_counts == {"player": 2}
    assert env == make(random_start) and hash(env) == hash(make(random_start))


def test_every_public_name_is_there():
    for name in board_games.__all__:
        assert getattr(board_games, name).__name__ == name
    assert jax.tree.leaves(make_tic_tac_toe()) == []
