"""A policy and a critic of arrays by key, joined into the module of an `ActorCritic`.

Either may be any linen module from a dict of arrays to a dict of arrays, such as an
`InferenceBlock`; one that remembers has a method `initial_carry(batch_shape)` and maps
(inputs [T, ..., *shape], carry, begins [T, ...]) to (outputs, carry).
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from mazejax.errors import ConfigError
from mazejax.networks.heads import VALUE, by_path, head_shapes, nested
from mazejax.networks.pure import call_pure
from mazejax.networks.recurrent import GRU, LSTM
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.spaces.mapper import DistributionMapper
from mazejax.types import Array, PyTree


class JoinedActorCritic(nn.Module):
    """Inputs by key to (distribution parameters, value).

    What the policy gives beside its heads, its embeddings, the critic takes as further
    inputs. What is privileged, and all under it, the policy is not given. Without a critic
    the value is what the policy gives as "value", if it does.
    """

    policy: nn.Module
    critic: nn.Module | None
    action_space: Space
    mapper: DistributionMapper
    privileged_keys: tuple[str, ...] = ()

    def __call__(self, inputs: dict[str, Array]) -> tuple[PyTree, Array | None]:
        """(parameters, each [..., *shape], values [...] if there are any)."""
        given = call_pure(self.policy, "policy", self._own(inputs))
        parameters, embeddings, batch = self._read(given)
        if self.critic is None:
            return parameters, self._value(given, batch)
        judged = call_pure(self.critic, "critic", self._seen(inputs, embeddings))
        return parameters, self._value(judged, batch)

    def _own(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """What the policy may see."""
        hidden = self.privileged_keys
        return {key: x for key, x in inputs.items() if key.split("/")[0] not in hidden}

    def _seen(self, inputs: dict[str, Array], embeddings: dict[str, Array]) -> dict[str, Array]:
        """What the critic sees; ConfigError for an embedding that would hide an observation."""
        for key in embeddings:
            if key in inputs and embeddings[key] is not inputs[key]:
                raise ConfigError(
                    f"policy: {type(self.policy).__name__} gives {key!r} besides its heads, which "
                    f"would hide the observation {key!r} from the critic; give it another key"
                )
        return {**inputs, **embeddings}

    def _read(self, given: Any) -> tuple[PyTree, dict[str, Array], tuple[int, ...]]:
        """Parameters as the mapper nests them, all other outputs, and the batch axes."""
        if not isinstance(given, Mapping):
            raise ConfigError(
                f"policy: {type(self.policy).__name__} gave a {type(given).__name__}, expected a "
                f"dict with the keys {', '.join(head_shapes(self.action_space, self.mapper))}"
            )
        left, found = dict(given), {}
        for path, shape in by_path(self.mapper.parameters(self.action_space)).items():
            key = "/".join(path)
            name = key if key in left else _short(key, self.action_space)
            if name not in left:
                raise ConfigError(
                    f"policy: {type(self.policy).__name__} gives no {key!r}, but "
                    f"{', '.join(map(repr, given))}; it needs one of shape {shape}"
                )
            found[path] = left.pop(name)
            if found[path].shape[found[path].ndim - len(shape) :] != shape:
                raise ConfigError(
                    f"policy: {name!r} has shape {found[path].shape}, expected any batch axes and "
                    f"then {shape}"
                )
            batch = found[path].shape[: found[path].ndim - len(shape)]
        return nested(found), left, batch

    def _value(self, given: Any, batch: tuple[int, ...]) -> Array | None:
        if isinstance(given, Mapping) and VALUE in given:
            value = given[VALUE]
            if value.shape in (batch, (*batch, 1)):
                return value.reshape(batch)
            raise ConfigError(f"critic: {VALUE!r} has shape {value.shape}, expected {batch}")
        if self.critic is None:
            return None
        raise ConfigError(
            f"critic: {type(self.critic).__name__} gives no {VALUE!r}, but "
            f"{', '.join(map(repr, given))}"
        )


class JoinedWithMemory(JoinedActorCritic):
    """The same over sequences, where the policy, the critic or both remember."""

    def __call__(  # type: ignore[override]
        self, inputs: dict[str, Array], carry: dict[str, PyTree], begins: Array
    ) -> tuple[tuple[PyTree, Array | None], dict[str, PyTree]]:
        """((parameters, values), carry) of sequences [T, ...]."""
        own = self._own(inputs)
        given, policy_carry = _unroll(self.policy, "policy", own, carry["policy"], begins)
        parameters, embeddings, batch = self._read(given)
        if self.critic is None:
            return (parameters, self._value(given, batch)), {"policy": policy_carry, "critic": ()}
        seen = self._seen(inputs, embeddings)
        judged, critic_carry = _unroll(self.critic, "critic", seen, carry["critic"], begins)
        value = self._value(judged, batch)
        return (parameters, value), {"policy": policy_carry, "critic": critic_carry}

    @nn.nowrap
    def initial_carry(self, batch_shape: tuple[int, ...]) -> dict[str, PyTree]:
        """Memory at the beginning of episodes, [*batch_shape, ...]."""
        parts = {"policy": self.policy, "critic": self.critic}
        return {
            name: part.initial_carry(batch_shape) if remembers(part) else ()  # type: ignore[union-attr]
            for name, part in parts.items()
        }


class WithMemory(nn.Module):
    """A recurrent cell between a graph that ends in the key "hidden" and one from "latent"."""

    front: nn.Module
    cell: LSTM | GRU
    head: nn.Module

    def __call__(
        self, inputs: dict[str, Array], carry: PyTree, begins: Array
    ) -> tuple[dict[str, Array], PyTree]:
        """(outputs of the head and of the front, carry)."""
        given = dict(self.front(inputs))
        given["latent"], carry = self.cell(given.pop("hidden"), carry, begins)
        return {**given, **self.head(given)}, carry

    @nn.nowrap
    def initial_carry(self, batch_shape: tuple[int, ...]) -> PyTree:
        """Memory at the beginning of episodes, [*batch_shape, ...]."""
        return self.cell.initial_carry(batch_shape)


def remembers(module: nn.Module | None) -> bool:
    """Whether a policy or critic has a memory."""
    return hasattr(module, "initial_carry")


def join(
    policy: nn.Module,
    critic: nn.Module | None,
    action_space: Space,
    mapper: DistributionMapper,
    privileged_keys: tuple[str, ...] = (),
) -> JoinedActorCritic:
    """The module of an `ActorCritic`, with a memory if one of the two has one.

    Policy and critic have weights of their own even if both are made of the same modules.
    """
    kind = JoinedWithMemory if remembers(policy) or remembers(critic) else JoinedActorCritic
    # To flax one module in two places is one set of weights.
    own = None if critic is None else critic.clone(_deep_clone=True)
    return kind(policy, own, action_space, mapper, privileged_keys)


def _unroll(
    module: nn.Module, label: str, inputs: dict[str, Array], carry: PyTree, begins: Array
) -> tuple[Any, PyTree]:
    if remembers(module):
        return call_pure(module, label, inputs, carry, begins)
    return call_pure(module, label, inputs), carry


def _short(key: str, space: Space) -> str:
    """The name of a head alone, for logits: "gear" for "gear/logits"."""
    head, _, parameter = key.rpartition("/")
    if parameter != "logits":
        return key
    return head if isinstance(space, Dict) else "action"
