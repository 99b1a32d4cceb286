"""The games as environments: core env and conversions together."""

from mazejax.envs.board_games.connect_four import ConnectFour
from mazejax.envs.board_games.conversions import BoardObservation, ChooseMove
from mazejax.envs.board_games.core import BoardGame
from mazejax.envs.board_games.tic_tac_toe import TicTacToe
from mazejax.envs.maze_env import MazeEnv


def make_tic_tac_toe(random_start: bool = TicTacToe.random_start) -> MazeEnv:
    """Tic-tac-toe for two players in turn; at most five flat steps."""
    return _assemble(TicTacToe(random_start))


def make_connect_four(random_start: bool = ConnectFour.random_start) -> MazeEnv:
    """Connect four for two players in turn; at most 22 flat steps."""
    return _assemble(ConnectFour(random_start))


def _assemble(game: BoardGame) -> MazeEnv:
    board = game.state_class
    observation = BoardObservation(board.rows, board.columns, board.num_moves)
    return MazeEnv(game, observation, ChooseMove(board.num_moves))
