"""Self-play: one network for both players of a game, against opponents that never learn."""

import jax
import numpy as np
import pytest

import mazejax
from mazejax import random
from mazejax.envs import episode
from mazejax.envs.board_games import MinimaxPolicy, RandomPolicy, Versus, make_tic_tac_toe
from mazejax.networks.mlp import MLPActorCritic

GAMES = 1000
ENV = make_tic_tac_toe()


@pytest.fixture(scope="module")
def learned():
    """The moves that PPO has learned by playing against itself."""
    algorithm = mazejax.PPO(
        env=ENV,
        network=MLPActorCritic((128, 128)),
        total_steps=2_000_000,
        num_envs=256,
        num_steps=16,
        learning_rate=1e-3,
        ent_coef=0.25,
        gamma=1.0,
    )
    state, _ = jax.jit(algorithm.train)(random.key(0))
    network, variables = algorithm.actor_critics["player"], state.variables["player"]

    def move(key, obs, maze_state, actor):
        return network.apply(variables, obs)[0].distribution.mode()

    return move


def results(first, second):
    """Games in which player 0 and player 1 had a line, and all that were played."""
    keys = jax.random.split(random.key(1), GAMES)

    @jax.jit
    @jax.vmap
    def lines(key):
        played = episode.play(ENV, Versus(first, second), key, 5)
        board = ENV.maze_state(played.final_state)
        return board.has_line(0), board.has_line(1), played.terminated

    return [int(np.sum(leaf)) for leaf in lines(keys)]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("opponent", [RandomPolicy(), MinimaxPolicy()], ids=["random", "minimax"])
def test_self_play_learns_not_to_lose_at_tic_tac_toe(learned, opponent):
    """No loss in 1000 games against perfect play, as first and as second player.

    With ent_coef 0.25 both sides go on trying moves that look worse, so that the answers
    to them are learned. Of 6 seeds with jaxlib 0.10.2 none lost to perfect play; to random
    play they lost 0 to 5 of 1000 games, in lines that hardly ever come up. With 0.15, one
    seed of 5 lost 114 games to perfect play.
    """
    is_random = isinstance(opponent, RandomPolicy)
    most_losses = 20 if is_random else 0
    won, lost, over = results(learned, opponent)
    assert over == GAMES and lost <= most_losses
    assert won > 0.9 * GAMES if is_random else won == 0
    lost, won, over = results(opponent, learned)
    assert over == GAMES and lost <= most_losses
    assert won > 0.7 * GAMES if is_random else won == 0
