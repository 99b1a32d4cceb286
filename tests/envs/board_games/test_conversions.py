"""Both players see the board alike, each from its own side."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.envs.board_games.conversions import BoardObservation, ChooseMove
from mazejax.envs.board_games.make import make_connect_four, make_tic_tac_toe
from mazejax.spaces import Box, Dict, Discrete

KEY = random.key(0)
MAKERS = [make_tic_tac_toe, make_connect_four]


def test_the_spaces_are_those_of_one_player():
    for make, shape, num_moves in zip(MAKERS, [(3, 3), (6, 7)], [9, 7], strict=True):
        env = make()
        assert env.observation_space == Dict(
            {
                "board": Box(False, True, (*shape, 2), bool),
                "action_mask": Box(False, True, (num_moves,), bool),
            }
        )
        assert env.action_space == Discrete(num_moves)


@pytest.mark.parametrize("make", MAKERS)
def test_the_beginner_sees_the_same_whether_it_is_player_0_or_1(make):
    game, observation = make(True).core_env, make(True).observation_conversion
    step = jax.jit(game.step, static_argnames="actor")
    states = [game.state_class.empty(jnp.int8(first)) for first in (0, 1)]
    for time, move in enumerate((0, 1, 3, 2, 0, 4)):
        seen = []
        for first, state in enumerate(states):
            player = (first + time) % 2
            seen.append([observation.maze_to_space(state, agent) for agent in (player, 1 - player)])
            states[first] = step(KEY, state, jnp.int32(move), actor=game.actors[player]).state
        jax.tree.map(np.testing.assert_array_equal, *seen)
        np.testing.assert_array_equal(seen[0][0]["board"], seen[0][1]["board"][..., ::-1])


@pytest.mark.parametrize("make", MAKERS)
def test_on_a_full_board_the_mask_allows_everything(make):
    game, observation = make().core_env, make().observation_conversion
    state = game.state_class.empty(jnp.int8(0))
    while not state.is_full():
        assert (
            not observation.maze_to_space(state, 0)["action_mask"].all()
            or state.legal_moves().all()
        )
        state = state.play(int(state.to_move), state.legal_moves().argmax())
    assert observation.maze_to_space(state, 0)["action_mask"].all()


def test_moves_convert_both_ways():
    conversion = ChooseMove(7)
    assert conversion.space_to_maze(jnp.int32(5), None, 0) == 5
    assert conversion.maze_to_space(jnp.int32(5)) == 5
    assert repr(BoardObservation(6, 7, 7)) == "BoardObservation(rows=6, columns=7, num_moves=7)"
