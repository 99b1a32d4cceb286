"""What observations and actions may be, and how policies draw them.

Spaces are immutable descriptions that compare and hash by value and import no jax;
distributions are pytrees over batches. Every name is imported when it is first used.
"""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Space": "mazejax.spaces.base",
        "Box": "mazejax.spaces.simple",
        "Discrete": "mazejax.spaces.simple",
        "MultiBinary": "mazejax.spaces.simple",
        "MultiDiscrete": "mazejax.spaces.simple",
        "Dict": "mazejax.spaces.composite",
        "from_gymnasium": "mazejax.spaces.convert",
        "from_gymnax": "mazejax.spaces.convert",
        "to_gymnasium": "mazejax.spaces.convert",
        "to_gymnax": "mazejax.spaces.convert",
        "Bernoulli": "mazejax.spaces.distributions",
        "Categorical": "mazejax.spaces.distributions",
        "Beta": "mazejax.spaces.continuous",
        "DiagonalGaussian": "mazejax.spaces.continuous",
        "SquashedGaussian": "mazejax.spaces.continuous",
        "Distribution": "mazejax.spaces.distributions",
        "MultiCategorical": "mazejax.spaces.distributions",
        "Product": "mazejax.spaces.distributions",
        "DistributionFamily": "mazejax.spaces.mapper",
        "DistributionMapper": "mazejax.spaces.mapper",
    },
)
