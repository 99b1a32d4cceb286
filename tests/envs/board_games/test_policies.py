"""Perfect play against plain Python, play by simulation, and games between policies."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.envs.board_games.connect_four import ConnectFourState
from mazejax.envs.board_games.make import make_connect_four, make_tic_tac_toe
from mazejax.envs.board_games.policies import (
    MinimaxPolicy,
    RandomPolicy,
    RolloutPolicy,
    Versus,
)
from mazejax.envs.board_games.tic_tac_toe import LINES, TicTacToeState
from mazejax.envs.episode import play, random_policy
from mazejax.errors import ConfigError
from mazejax.types import ActorID

KEY = random.key(0)
FIRST, SECOND = ActorID("player", 0), ActorID("player", 1)
PLAY = jax.jit(lambda state, player, move: state.play(player, move), static_argnums=1)
TIC_TAC_TOE, CONNECT_FOUR = make_tic_tac_toe(), make_connect_four()


def results(env, policy, num_games, num_steps):
    """Shares (won by player 0, won by player 1, drawn)."""

    def game(key):
        episode = play(env, policy, key, num_steps)
        kpis = env.core_env.kpi_calculator().calculate(None, episode.final_state.core)
        return jnp.stack([kpis["player_0_won"], kpis["player_1_won"], kpis["drawn"]])

    shares = jax.jit(jax.vmap(game))(jax.random.split(KEY, num_games))
    assert (shares.sum(axis=1) == 1).all()
    return np.asarray(shares.mean(axis=0))


def position(state_class, moves, first=0):
    state = state_class.empty(jnp.int8(first))
    for move in moves:
        state = PLAY(state, int(state.to_move), jnp.int32(move))
    return state


# --- random play --------------------------------------------------------------------------


def test_legal_moves_are_drawn_alike():
    state = position(ConnectFourState, [3] * 6 + [0] * 6)
    obs = CONNECT_FOUR.observation_conversion.maze_to_space(state, 0)
    moves = jax.vmap(lambda key: RandomPolicy()(key, obs, state, FIRST))(
        jax.random.split(KEY, 5000)
    )
    np.testing.assert_allclose(
        np.bincount(moves) / 5000, [0, 0.2, 0.2, 0, 0.2, 0.2, 0.2], atol=0.02
    )


def test_random_players_of_connect_four_win_as_often_as_is_known():
    # About 55.6 % of random games go to the first player, 0.3 % are drawn.
    first, _, drawn = results(CONNECT_FOUR, RandomPolicy(), 4000, 21)
    assert abs(first - 0.556) < 0.025 and drawn < 0.01


def test_each_player_has_its_policy():
    def least(key, obs, maze_state, actor):
        return obs["action_mask"].argmax().astype(jnp.int32)

    def greatest(key, obs, maze_state, actor):
        return 8 - obs["action_mask"][::-1].argmax().astype(jnp.int32)

    episode = jax.jit(lambda key: play(TIC_TAC_TOE, Versus(least, greatest), key, 3))(KEY)
    assert episode.actions[0].tolist() == [0, 1, 2] and episode.actions[1].tolist()[:2] == [8, 7]


# --- perfect play -------------------------------------------------------------------------


@functools.cache
def worths(own, other):
    """What each legal move is worth to the mover, by plain recursion."""
    free = [cell for cell in range(9) if not (own | other) >> cell & 1]
    found = {}
    for cell in free:
        after = own | 1 << cell
        if any(after & line == line for line in LINES):
            found[cell] = len(free)
        else:
            found[cell] = -max(worths(other, after).values(), default=0)
    return found


def test_the_table_has_the_best_moves_of_every_position():
    worths(0, 0)
    policy = MinimaxPolicy()
    assert policy.best_moves.shape == (3**9,) and policy.best_moves.dtype == jnp.uint16
    reached, open_ones = set(), [(0, 0)]
    while open_ones:
        own, other = open_ones.pop()
        if (own, other) in reached or any(other & line == line for line in LINES):
            continue
        reached.add((own, other))
        open_ones += [
            (other, own | 1 << cell) for cell in range(9) if not (own | other) >> cell & 1
        ]
    table = np.asarray(policy.best_moves)
    for own, other in reached:
        number = sum(3**c * ((own >> c & 1) + 2 * (other >> c & 1)) for c in range(9))
        values = worths(own, other)
        best = [cell for cell, worth in values.items() if worth == max(values.values())]
        assert table[number] == sum(1 << cell for cell in best)
    assert len(reached) > 4000


def test_the_best_moves_are_looked_up_from_the_movers_side():
    policy = MinimaxPolicy()
    for actor in (FIRST, SECOND):
        state = position(TicTacToeState, [0, 3, 1, 4], first=actor.agent_id)
        assert int(policy(KEY, None, state, actor)) == 2  # wins, and does not block at 5
        state = position(TicTacToeState, [0, 3, 1], first=actor.agent_id)
        other = SECOND if actor == FIRST else FIRST
        assert int(policy(KEY, None, state, other)) == 2  # blocks


def test_perfect_play_never_loses_to_random_play():
    policy = MinimaxPolicy()
    won, lost, _ = results(TIC_TAC_TOE, Versus(policy, RandomPolicy()), 1000, 5)
    assert lost == 0 and won > 0.9
    lost, won, _ = results(TIC_TAC_TOE, Versus(random_policy(TIC_TAC_TOE), policy), 1000, 5)
    assert lost == 0 and won > 0.7


def test_perfect_play_always_draws_against_itself():
    policy = MinimaxPolicy()
    assert results(make_tic_tac_toe(True), policy, 1000, 6).tolist() == [0, 0, 1]


# --- play by simulation -------------------------------------------------------------------

DECIDE = jax.jit(
    jax.vmap(lambda key, state: RolloutPolicy(2)(key, None, state, FIRST), in_axes=(0, None))
)


def decisions(moves):
    keys = jax.random.split(KEY, 16)
    state = position(ConnectFourState, moves, first=len(moves) % 2)
    return set(np.asarray(DECIDE(keys, state)).tolist())


def test_it_wins_where_it_can_and_else_blocks():
    assert decisions([2, 5, 2, 5, 2, 5]) == {2}  # both have three: its own column comes first
    assert decisions([5, 2, 0, 2, 6, 2]) == {2}  # only the opponent has three


def test_it_does_not_prepare_the_opponents_line():
    # The opponent has (4, 1), (4, 2), (4, 3) and none of the stones below (4, 0) and (4, 4):
    # a stone in column 0 or 4 would let it complete the row.
    state = position(ConnectFourState, [])
    own, other = [(5, 1), (5, 3), (3, 2)], [(5, 2), (4, 1), (4, 2), (4, 3)]
    color = {**dict.fromkeys(own, 0), **dict.fromkeys(other, 1)}
    for row, column in sorted(color, reverse=True):
        state = PLAY(state, color[row, column], jnp.int32(column))
    keys = jax.random.split(KEY, 32)
    assert not set(np.asarray(DECIDE(keys, state)).tolist()) & {0, 4}


def test_it_beats_random_play_nearly_always():
    strong, weak = RolloutPolicy(8), RandomPolicy()
    won = [
        results(CONNECT_FOUR, Versus(strong, weak), 32, 21)[0],
        results(CONNECT_FOUR, Versus(weak, strong), 32, 21)[1],
    ]
    assert min(won) > 0.9


def test_it_plays_tic_tac_toe_too():
    won, lost, _ = results(TIC_TAC_TOE, Versus(RolloutPolicy(8), RandomPolicy()), 64, 5)
    assert won > 0.85 and lost < 0.05


def test_there_must_be_a_game_to_judge_by():
    with pytest.raises(
        ConfigError, match=r"RolloutPolicy\.num_rollouts: must be at least 1, got 0"
    ):
        RolloutPolicy(0)
