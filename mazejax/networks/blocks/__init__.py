"""Blocks that networks are composed of, from arrays by key to arrays by key."""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Block": "mazejax.networks.blocks.base",
        "DenseBlock": "mazejax.networks.blocks.dense",
        "LinearOutputBlock": "mazejax.networks.blocks.dense",
    },
)
