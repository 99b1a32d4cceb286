"""Cutting-2D put together: core env, conversions and reward."""

from mazejax.envs.cutting2d.conversions import (
    CutObservation,
    CutPiece,
    InventoryObservation,
    SelectAndCut,
    SelectPiece,
)
from mazejax.envs.cutting2d.core import CUTTING, SELECTION, Cutting2D
from mazejax.envs.cutting2d.demand import DemandGenerator
from mazejax.envs.cutting2d.reward import CuttingRewardAggregator
from mazejax.envs.maze_env import MazeEnv


def make_cutting2d(
    structured: bool = False,
    masked: bool = False,
    demand: DemandGenerator = Cutting2D.demand,
    raw_piece_size: tuple[int, int] = Cutting2D.raw_piece_size,
    max_pieces: int = Cutting2D.max_pieces,
    invalid_action_penalty: float = CuttingRewardAggregator.invalid_action_penalty,
    raw_piece_usage_penalty: float = CuttingRewardAggregator.raw_piece_usage_penalty,
) -> MazeEnv:
    """Cutting-2D without a time limit; Maze's tutorial has one of 180 steps.

    `structured` selects and cuts in two sub-steps, `masked` puts masks of the pieces that
    serve the order, and of its rotation, into the observations.
    """
    core_env = Cutting2D(raw_piece_size, max_pieces, demand, structured)
    reward = CuttingRewardAggregator(invalid_action_penalty, raw_piece_usage_penalty)
    pieces = InventoryObservation(raw_piece_size, max_pieces, masked)
    if not structured:
        return MazeEnv(core_env, pieces, SelectAndCut(max_pieces), reward)
    return MazeEnv(
        core_env,
        {
            SELECTION.step_key: pieces,
            CUTTING.step_key: CutObservation(raw_piece_size, masked),
        },
        {SELECTION.step_key: SelectPiece(max_pieces), CUTTING.step_key: CutPiece()},
        reward,
    )
