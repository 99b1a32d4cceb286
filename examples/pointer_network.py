"""Networks of one's own: the logit of a piece to cut is how well it fits the order.

`python -m examples.pointer_network` draws the graph of that policy into
`pointer_network.svg`, trains it on Cutting-2D with PPO and evaluates it.
"""

import mazejax
from mazejax.networks import ConcatModelBuilder, CustomActorCritic, InferenceBlock, for_spaces
from mazejax.networks.blocks import ConcatenationBlock, CorrelationBlock, DenseBlock
from mazejax.networks.blocks import LinearOutputBlock as Linear
from mazejax.rendering import InferenceGraph

SELECT = InferenceBlock(
    in_keys=("inventory", "ordered_piece"),
    out_keys="piece_idx",
    blocks={
        "pieces": DenseBlock("inventory", "pieces", (32,), "relu"),
        "keys": Linear("pieces", "keys", 8, kernel_scale=1.0),
        "order": DenseBlock("ordered_piece", "order", (32,), "relu"),
        "query": Linear("order", "query", 8, kernel_scale=1.0),
        "fit": CorrelationBlock(("keys", "query"), "piece_idx", in_ndims=(2, 1), reduce=True),
    },
)
CUT = InferenceBlock(
    in_keys=("selected_piece", "ordered_piece"),
    out_keys=("cut_rotation", "cut_order"),
    blocks={
        "join": ConcatenationBlock(("selected_piece", "ordered_piece"), "both"),
        "torso": DenseBlock("both", "latent", (32,), "relu"),
        "rotation": Linear("latent", "cut_rotation", 2),
        "order": Linear("latent", "cut_order", 2),
    },
)


@for_spaces
def critic(observation_space, action_space):
    """A value of whatever is observed."""
    builder = ConcatModelBuilder(hidden={"hidden": (32,), "activation": "relu"})
    stem = builder.build(observation_space, action_space)
    head = Linear("latent", "value", kernel_scale=1.0)
    return InferenceBlock(stem.in_keys, "value", {**dict(stem.blocks), "value": head})


def main() -> None:
    graph = InferenceGraph(SELECT, {"inventory": (50, 2), "ordered_piece": (2,)})
    print(graph)
    graph.save("pointer_network.svg")
    run = mazejax.train(
        "ppo",
        "Cutting2D-v0",
        env_parameters={"structured": True, "masked": True},
        network=CustomActorCritic({"selection": SELECT, "cutting": CUT}, critic),
        total_steps=60_000,
        learning_rate=1e-3,
        gamma=0.999,
    )
    print(run.evaluate(episodes=20))


if __name__ == "__main__":
    main()
