"""Networks: linen modules behind a pure boundary, and templates from the spaces alone."""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "ActionHead": "mazejax.networks.heads",
        "ActorCritic": "mazejax.networks.policy",
        "GRU": "mazejax.networks.recurrent",
        "LSTM": "mazejax.networks.recurrent",
        "LSTMCarry": "mazejax.networks.recurrent",
        "MLPActorCritic": "mazejax.networks.template",
        "MLPPolicy": "mazejax.networks.template",
        "OutputDense": "mazejax.networks.layers",
        "TwinDense": "mazejax.networks.layers",
        "ValueHead": "mazejax.networks.heads",
    },
)
