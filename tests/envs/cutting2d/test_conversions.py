"""What agents see and do in Cutting-2D."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.envs.cutting2d.conversions import CutPiece, SelectAndCut, SelectPiece
from mazejax.envs.cutting2d.core import CutAction, CuttingAction, SelectAction
from mazejax.envs.cutting2d.demand import RandomDemand
from mazejax.envs.cutting2d.make import make_cutting2d
from mazejax.envs.episode import play, random_policy
from mazejax.spaces import Box, Dict, Discrete

KEY, STEPS = random.key(5), 120
ENV = make_cutting2d(True, True, RandomDemand((1, 1), (4, 3)), max_pieces=3)
EPISODE = jax.device_get(jax.jit(lambda key: play(ENV, random_policy(ENV), key, STEPS))(KEY))


def test_spaces_are_those_of_the_tutorial():
    env = make_cutting2d(masked=True)
    sizes = np.broadcast_to(np.float32([5, 4]), (50, 2))
    assert env.observation_space == Dict(
        {
            "inventory": Box(0.0, sizes),
            "inventory_size": Box(0.0, 51.0, (1,)),
            "ordered_piece": Box(0.0, 5.0, (2,)),
            "piece_idx_mask": Box(False, True, (50,), bool),
        }
    )
    switches = {"cut_rotation": Discrete(2), "cut_order": Discrete(2)}
    assert env.action_space == Dict({"piece_idx": Discrete(50), **switches})
    assert "piece_idx_mask" not in make_cutting2d().observation_space
    structured = make_cutting2d(structured=True, masked=True)
    assert structured.observation_spaces["selection"] == env.observation_space
    assert structured.observation_spaces["cutting"] == Dict(
        {
            "selected_piece": Box(0.0, [5.0, 4.0]),
            "ordered_piece": Box(0.0, 5.0, (2,)),
            "cut_rotation_mask": Box(False, True, (2,), bool),
        }
    )
    assert structured.action_spaces == {
        "selection": Dict({"piece_idx": Discrete(50)}),
        "cutting": Dict(switches),
    }


def test_observations_show_the_stock_and_the_order():
    state, obs = EPISODE.substeps[0].state.core, EPISODE.substeps[0].obs
    np.testing.assert_array_equal(obs["inventory"], state.inventory.pieces)
    np.testing.assert_array_equal(obs["inventory_size"][:, 0], state.inventory.num_pieces)
    np.testing.assert_array_equal(obs["ordered_piece"], state.demand)
    assert len(np.unique(obs["inventory_size"])) == 3
    space = ENV.observation_spaces["selection"]
    for t in range(0, STEPS, 10):
        space.validate(jax.tree.map(lambda leaf, t=t: leaf[t], obs))


def test_the_second_sub_step_shows_the_piece_that_was_selected():
    selection, cutting = EPISODE.substeps
    rows = np.arange(STEPS), selection.action["piece_idx"]
    np.testing.assert_array_equal(cutting.obs["selected_piece"], selection.obs["inventory"][rows])
    np.testing.assert_array_equal(cutting.obs["ordered_piece"], selection.obs["ordered_piece"])


def test_masks_allow_what_can_be_cut():
    selection, cutting = EPISODE.substeps
    seen = set()
    for t in range(STEPS):
        pieces, order = selection.obs["inventory"][t], selection.obs["ordered_piece"][t]
        serves = [all(np.sort(order) <= np.sort(piece)) for piece in pieces]
        wanted = serves if any(serves) else [True] * 3
        assert selection.obs["piece_idx_mask"][t].tolist() == wanted
        piece = cutting.obs["selected_piece"][t]
        turns = [bool(all(order <= piece)), bool(all(order[::-1] <= piece))]
        assert cutting.obs["cut_rotation_mask"][t].tolist() == (turns if any(turns) else [True] * 2)
        seen.add(tuple(turns))
    assert {(True, True), (True, False), (False, True)} <= seen


def test_where_nothing_can_be_cut_all_is_allowed():
    state = ENV.core_env.reset(KEY).state
    small = state.replace(
        inventory=state.inventory.replace(words=jnp.array([1 + 256, 2 + 256, 0], jnp.int16)),
        demand=jnp.array([1, 3], jnp.int8),
        selected=jnp.int8(1),
    )
    obs = ENV.observation_conversion["selection"].maze_to_space(small, 0)
    assert obs["piece_idx_mask"].tolist() == [True] * 3
    for index, size in ((1, [2, 1]), (2, [0, 0])):
        selected = small.replace(selected=jnp.int8(index))
        obs = ENV.observation_conversion["cutting"].maze_to_space(selected, 0)
        assert obs["selected_piece"].tolist() == size
        assert obs["cut_rotation_mask"].tolist() == [True, True]


@pytest.mark.parametrize(
    ("conversion", "maze_action"),
    [
        (SelectAndCut(), CuttingAction(jnp.int32(7), jnp.bool(True), jnp.bool(False))),
        (SelectAndCut(), CuttingAction(jnp.int32(0), jnp.bool(False), jnp.bool(True))),
        (SelectPiece(), SelectAction(jnp.int32(7))),
        (CutPiece(), CutAction(jnp.bool(False), jnp.bool(True))),
    ],
)
def test_actions_convert_both_ways(conversion, maze_action):
    action = conversion.maze_to_space(maze_action)
    conversion.space().validate(jax.device_get(action))
    again = conversion.space_to_maze(action, None, 0)
    assert type(again) is type(maze_action)
    assert [x.tolist() for x in again] == [x.tolist() for x in maze_action]
