"""Looking ahead in Cutting-2D: a state is a value, so to simulate is to call `step`.

`python -m examples.beam_search` plays 180 orders of 1 x 2 greedily, and with a beam search
of three orders: the greedy cuts leave scraps of 1 x 1, the search learns to avoid them.
"""

import operator

import jax
import jax.numpy as jnp

import mazejax
from mazejax import static
from mazejax.envs import play
from mazejax.envs.cutting2d import (
    Cutting2D,
    CuttingAction,
    GreedyPolicy,
    SelectAndCut,
    StaticDemand,
)
from mazejax.types import SINGLE_ACTOR


class BeamSearch(mazejax.Pytree):
    """Simulates every action from the best `width` states, `depth` orders ahead."""

    core_env: Cutting2D
    to_action: SelectAndCut
    depth: int = static(default=3)
    width: int = static(default=4)

    def __call__(self, key, obs, maze_state, actor):
        num_pieces = self.core_env.max_pieces
        grid = jnp.meshgrid(jnp.arange(num_pieces), jnp.arange(2), jnp.arange(2), indexing="ij")
        pieces, rotations, orders = (axis.reshape(-1) for axis in grid)
        actions = CuttingAction(pieces, rotations == 1, orders == 1)

        def expand(state, total):
            step = jax.vmap(lambda action: self.core_env.step(key, state, action, SINGLE_ACTOR))
            after = step(actions)
            return after.state, total + after.reward

        states, totals = expand(maze_state, 0.0)
        first = jnp.arange(totals.size)
        for _ in range(self.depth - 1):
            _, kept = jax.lax.top_k(totals + jax.vmap(worth)(states), self.width)
            states, totals = jax.vmap(expand)(
                jax.tree.map(operator.itemgetter(kept), states), totals[kept]
            )
            states = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), states)
            first, totals = jnp.repeat(first[kept], actions.piece_id.size), totals.reshape(-1)
        best = first[jnp.argmax(totals + jax.vmap(worth)(states))]
        return self.to_action.maze_to_space(jax.tree.map(operator.itemgetter(best), actions))


def worth(state):
    """What the stock may still serve: large pieces are worth more than their scraps."""
    width, height = state.inventory.pieces.astype(jnp.float32).T
    return 0.01 * jnp.sum(width * height * jnp.maximum(width, height))


if __name__ == "__main__":
    env = mazejax.TimeLimit(mazejax.envs.cutting2d.make_cutting2d(demand=StaticDemand((1, 2))), 180)
    core_env = env.unwrapped.core_env
    for policy in (GreedyPolicy(), BeamSearch(core_env, env.unwrapped.action_conversion)):
        episode = jax.jit(lambda key, p=policy: play(env, p, key, 180))(jax.random.key(0))
        print(f"{type(policy).__name__:15} {float(episode.episode_return):.0f}")
