"""Networks: linen modules behind a pure boundary, and templates from the spaces alone."""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "ActionHead": "mazejax.networks.heads",
        "ActionValue": "mazejax.networks.action_value",
        "ActorCritic": "mazejax.networks.policy",
        "ConcatModelBuilder": "mazejax.networks.builder",
        "CustomActorCritic": "mazejax.networks.custom",
        "GRU": "mazejax.networks.recurrent",
        "LSTM": "mazejax.networks.recurrent",
        "InferenceBlock": "mazejax.networks.inference",
        "LSTMCarry": "mazejax.networks.recurrent",
        "MLPActorCritic": "mazejax.networks.mlp",
        "MLPPolicy": "mazejax.networks.mlp",
        "NetworkTemplate": "mazejax.networks.template",
        "OutputDense": "mazejax.networks.layers",
        "PerStepKey": "mazejax.networks.per_step_key",
        "PerceptionActionValue": "mazejax.networks.action_value",
        "PerceptionActorCritic": "mazejax.networks.perception",
        "PerceptionPolicy": "mazejax.networks.perception",
        "TwinDense": "mazejax.networks.layers",
        "ValueHead": "mazejax.networks.heads",
        "arrays_by_key": "mazejax.networks.observations",
        "for_spaces": "mazejax.networks.settings",
        "initializer": "mazejax.networks.initializers",
        "normc": "mazejax.networks.initializers",
        "probability_bias": "mazejax.networks.initializers",
    },
)
