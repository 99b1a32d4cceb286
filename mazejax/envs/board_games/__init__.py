"""Games of two players in turn, with masks of legal moves: tic-tac-toe and connect four."""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "BoardGame": "mazejax.envs.board_games.core",
        "BoardObservation": "mazejax.envs.board_games.conversions",
        "BoardState": "mazejax.envs.board_games.core",
        "ChooseMove": "mazejax.envs.board_games.conversions",
        "ConnectFour": "mazejax.envs.board_games.connect_four",
        "ConnectFourState": "mazejax.envs.board_games.connect_four",
        "GameKPIs": "mazejax.envs.board_games.core",
        "MinimaxPolicy": "mazejax.envs.board_games.policies",
        "RandomPolicy": "mazejax.envs.board_games.policies",
        "RolloutPolicy": "mazejax.envs.board_games.policies",
        "TicTacToe": "mazejax.envs.board_games.tic_tac_toe",
        "TicTacToeState": "mazejax.envs.board_games.tic_tac_toe",
        "Versus": "mazejax.envs.board_games.policies",
        "make_connect_four": "mazejax.envs.board_games.make",
        "make_tic_tac_toe": "mazejax.envs.board_games.make",
    },
)
