"""Cutting-2D: serve orders of rectangles by guillotine cuts from as few raw pieces as can be."""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "CutAction": "mazejax.envs.cutting2d.core",
        "CutObservation": "mazejax.envs.cutting2d.conversions",
        "CutPiece": "mazejax.envs.cutting2d.conversions",
        "Cutting2D": "mazejax.envs.cutting2d.core",
        "CuttingAction": "mazejax.envs.cutting2d.core",
        "CuttingEvents": "mazejax.envs.cutting2d.events",
        "CuttingKPIs": "mazejax.envs.cutting2d.events",
        "CuttingRewardAggregator": "mazejax.envs.cutting2d.reward",
        "CuttingState": "mazejax.envs.cutting2d.core",
        "CyclicDemand": "mazejax.envs.cutting2d.demand",
        "DemandGenerator": "mazejax.envs.cutting2d.demand",
        "GreedyPolicy": "mazejax.envs.cutting2d.policies",
        "Inventory": "mazejax.envs.cutting2d.inventory",
        "InventoryEvents": "mazejax.envs.cutting2d.events",
        "InventoryObservation": "mazejax.envs.cutting2d.conversions",
        "MixedPeriodicDemand": "mazejax.envs.cutting2d.demand",
        "PeriodState": "mazejax.envs.cutting2d.demand",
        "RandomDemand": "mazejax.envs.cutting2d.demand",
        "SelectAction": "mazejax.envs.cutting2d.core",
        "SelectAndCut": "mazejax.envs.cutting2d.conversions",
        "SelectPiece": "mazejax.envs.cutting2d.conversions",
        "StaticDemand": "mazejax.envs.cutting2d.demand",
        "make_cutting2d": "mazejax.envs.cutting2d.make",
    },
)
