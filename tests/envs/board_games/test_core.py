"""Both games against plain Python, the rule for illegal moves, turns, credit and KPIs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.envs.board_games.core import GameKPIs
from mazejax.envs.board_games.make import make_connect_four, make_tic_tac_toe
from mazejax.envs.board_games.tic_tac_toe import TicTacToe
from mazejax.envs.episode import play
from mazejax.types import ActorID

KEY = random.key(0)
NUM_GAMES = 100
FIRST, SECOND = ActorID("player", 0), ActorID("player", 1)


class Reference:
    """The rules on a list of rows; cells are None, 0 or 1."""

    def __init__(self, rows, columns, line, drops):
        self.board = [[None] * columns for _ in range(rows)]
        self.line, self.drops = line, drops

    def target(self, move):
        rows, columns = len(self.board), len(self.board[0])
        if not self.drops:
            cells = [divmod(move, columns)]
        else:
            cells = [(row, move) for row in reversed(range(rows))]
        return next(((r, c) for r, c in cells if self.board[r][c] is None), None)

    def moves(self):
        num = len(self.board[0]) * (1 if self.drops else len(self.board))
        return [self.target(move) is not None for move in range(num)]

    def wins(self, player):
        own = {(r, c) for r, row in enumerate(self.board) for c, x in enumerate(row) if x == player}
        return any(
            all((r + i * dr, c + i * dc) in own for i in range(self.line))
            for r, c in own
            for dr, dc in ((0, 1), (1, 0), (1, 1), (1, -1))
        )

    def planes(self, player):
        return [[[x == player, x == 1 - player] for x in row] for row in self.board]

    def play(self, player, move):
        """(reward, over) of the player's move."""
        cell = self.target(move)
        if cell is None:
            return -1, True
        self.board[cell[0]][cell[1]] = player
        won = self.wins(player)
        return int(won), won or not any(self.moves())


GAMES = {
    "TicTacToe": (make_tic_tac_toe, 6, (3, 3, 3, False)),
    "ConnectFour": (make_connect_four, 22, (6, 7, 4, True)),
}


def any_move(key, obs, maze_state, actor):
    """Legal or not."""
    return random.randint(key, (), maze_state.num_moves)


def legal_move(key, obs, maze_state, actor):
    scores = jax.random.uniform(key, obs["action_mask"].shape) + obs["action_mask"]
    return jnp.argmax(scores).astype(jnp.int32)


def played(env, num_steps, policy):
    keys = jax.random.split(KEY, NUM_GAMES)
    return jax.device_get(jax.jit(jax.vmap(lambda key: play(env, policy, key, num_steps)))(keys))


def check_against(reference, substeps, length, first):
    """Play the recorded moves [T, ...] again; who won (None: nobody), and how it ended."""
    to_move, over, won, reward = first, False, None, 0
    for time in range(length):
        assert not over
        earned = [0, 0]
        for player, substep in enumerate(substeps):
            at = jax.tree.map(lambda leaf, time=time: leaf[time], substep)
            mask = reference.moves()
            np.testing.assert_array_equal(at.obs["board"], reference.planes(player))
            np.testing.assert_array_equal(
                at.obs["action_mask"], mask if any(mask) else [True] * len(mask)
            )
            assert at.active == (not over and to_move == player)
            if at.active:
                reward, over = reference.play(player, int(at.action))
                won = {1: player, 0: None, -1: 1 - player}[reward]
                earned[player], to_move = reward, 1 - player
            assert at.reward == earned[player]
        credit = substeps[1].info["actor_rewards"]
        expected = {None: (0, 0), 0: (1, -1), 1: (-1, 1)}[won if over else None]
        assert (credit[0][time], credit[1][time]) == expected
    assert over
    return won, reward


@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize("policy", [legal_move, any_move])
@pytest.mark.parametrize("name", GAMES)
def test_random_games_go_as_in_plain_python(name, policy, random_start):
    make, num_steps, rules = GAMES[name]
    episodes = played(make(random_start), num_steps, policy)
    assert episodes.terminated.all() and not episodes.truncated.any()
    kpis = jax.vmap(lambda state: GameKPIs().calculate(None, state))(episodes.final_state.core)
    ends = set()
    for game in range(NUM_GAMES):
        reference = Reference(*rules)
        substeps, length = jax.tree.map(
            lambda x, g=game: x[g], (episodes.substeps, episodes.length)
        )
        first = 0 if substeps[0].active[0] else 1
        won, reward = check_against(reference, substeps, length, first)
        shares = {key: float(values[game]) for key, values in kpis.items()}
        assert shares == {
            "player_0_won": won == 0,
            "player_1_won": won == 1,
            "drawn": won is None,
            "lost_by_illegal_move": reward == -1,
            "plies": sum(cell is not None for row in reference.board for cell in row),
        }
        ends.add((first, won))
    assert {first for first, _ in ends} == ({0, 1} if random_start else {0})
    assert {won for _, won in ends} >= {0, 1}


def test_each_player_begins_half_of_the_games():
    game = TicTacToe(random_start=True)
    first = jax.vmap(lambda key: game.reset(key).state.to_move)(jax.random.split(KEY, 4000))
    assert 0.47 < first.mean() < 0.53


@pytest.mark.parametrize("make", [make_tic_tac_toe, make_connect_four])
def test_the_move_of_an_inactive_player_has_no_effect(make):
    game = make(True).core_env
    state = game.state_class.empty(jnp.int8(1))
    assert not game.actor_active(state, FIRST) and game.actor_active(state, SECOND)
    for move in range(state.num_moves):
        step = game.step(KEY, state, jnp.int32(move), FIRST)
        assert step.state == state
        assert (float(step.reward), bool(step.terminated)) == (0.0, False)
    full = state.replace(stones=jax.tree.map(jnp.invert, state.stones))
    assert float(game.step(KEY, full, jnp.int32(0), FIRST).reward) == 0.0


def test_who_moves_illegally_loses_and_the_rest_of_the_flat_step_stands_still():
    env = make_tic_tac_toe()
    state = env.reset_state(KEY)
    for move in (4, 0, 4):
        step = env.step(KEY, state, move)
        before, state = state, step.state
    assert (float(step.reward), bool(step.terminated)) == (-1.0, True)
    assert state.core == before.core
    assert not env.actor_active(state)
    step = env.step(KEY, state, 8)
    assert step.state.core == before.core
    assert (float(step.reward), bool(step.terminated)) == (0.0, True)
    assert [float(credit) for credit in step.info["actor_rewards"]] == [-1.0, 1.0]


def test_the_ninth_stone_ends_a_draw_in_the_middle_of_a_flat_step():
    env = make_tic_tac_toe()
    state, rewards = env.reset_state(KEY), []
    for move in (0, 1, 2, 4, 3, 5, 7, 6, 8):
        step = env.step(KEY, state, move)
        state = step.state
        rewards.append(float(step.reward))
    assert rewards == [0.0] * 9
    assert step.terminated and env.substep(state) == 1 and state.core.is_full()
    assert step.obs["action_mask"].all()
    step = env.step(KEY, state, 0)
    assert (int(step.state.time), float(step.reward), bool(step.terminated)) == (5, 0.0, True)
