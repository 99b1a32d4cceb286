"""`PerceptionActorCritic`: policy and critic as graphs of blocks, from the spaces alone."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import flax.linen as nn
import numpy as np
from flax.core import FrozenDict

from mazejax.base import static
from mazejax.errors import ConfigError, did_you_mean
from mazejax.networks.blocks.base import Block
from mazejax.networks.blocks.output import ActionHeadBlock, ValueHeadBlock
from mazejax.networks.builder import HIDDEN, LATENT, ConcatModelBuilder
from mazejax.networks.heads import VALUE
from mazejax.networks.inference import InferenceBlock
from mazejax.networks.initializers import initializer, probability_bias
from mazejax.networks.joined import WithMemory, join
from mazejax.networks.template import (
    CELLS,
    NetworkTemplate,
    as_keys,
    check_keys,
    check_memory,
)
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.spaces.mapper import DistributionMapper
from mazejax.spaces.simple import MultiBinary


class PerceptionTemplate(NetworkTemplate):
    """What `PerceptionActorCritic` and `PerceptionPolicy` share."""

    by_key: ClassVar[bool] = True

    builder: ConcatModelBuilder = ConcatModelBuilder()
    """Of the graph from observations to "latent"."""
    recurrence: str = static(default="none")
    """`lstm` or `gru` puts a memory of the episode before "latent"; `none`."""
    memory_size: int = static(default=64)
    """Width of the memory."""
    kernel_init: str = static(default="orthogonal")
    """Initial weights of the action head: `orthogonal`, `normc`, `lecun_normal`, `he_normal`."""
    kernel_scale: float = static(default=0.01)
    """Scale of the initial weights of the action head; small makes first actions nearly even."""
    probabilities: dict[str, float] = static(default=FrozenDict())
    """With which the bits of a MultiBinary action begin to be 1, by the name of the action, or
    "action" where actions are no Dict."""

    def __post_init__(self) -> None:
        if isinstance(self.probabilities, Mapping):
            object.__setattr__(self, "probabilities", FrozenDict(self.probabilities))
        if isinstance(self.memory_size, np.integer):
            object.__setattr__(self, "memory_size", int(self.memory_size))
        super().__post_init__()

    def validate(self) -> None:
        """Raise ConfigError for unknown choices and numbers out of range."""
        super().validate()
        if not isinstance(self.builder, ConcatModelBuilder):
            raise ConfigError(f"builder: expected a ConcatModelBuilder, got {self.builder!r}")
        if not isinstance(self.probabilities, Mapping):
            raise ConfigError(f"probabilities: expected them by name, got {self.probabilities!r}")
        check_memory(self.recurrence, self.memory_size)
        initializer(self.kernel_init, self.kernel_scale)
        for name, probability in self.probabilities.items():
            try:
                probability_bias(probability)
            except (ConfigError, TypeError):
                raise ConfigError(
                    f"probabilities.{name}: must be between 0 and 1, got {probability!r}"
                ) from None

    def _module(
        self,
        observation_space: Space,
        action_space: Space,
        mapper: DistributionMapper,
        num_agents: int,
    ) -> nn.Module:
        whole = stem = self.builder.build(observation_space, action_space)
        if self.privileged_keys and isinstance(observation_space, Dict):
            own = observation_space.without(self.privileged_keys)
            stem = self.builder.without(self.privileged_keys).build(own, action_space)
        head = ActionHeadBlock.of(
            LATENT,
            action_space,
            mapper,
            kernel_init=self.kernel_init,
            kernel_scale=self.kernel_scale,
            probabilities=self._biased(action_space),
        )
        for key in (*head.out_keys, VALUE):
            if key in whole.in_keys:
                raise ConfigError(
                    f"observation {key!r}: a head gives this key already; rename the observation"
                )
        policy, critic = self._networks(stem, whole, head)
        return join(policy, critic, action_space, mapper, self.privileged_keys)

    def _networks(
        self, stem: InferenceBlock, whole: InferenceBlock, head: Block
    ) -> tuple[nn.Module, nn.Module | None]:
        """The policy, on what it sees, and if there is to be one the critic, on everything."""
        raise NotImplementedError

    def _network(
        self, stem: InferenceBlock, name: str, head: Block, embeddings: tuple[str, ...]
    ) -> nn.Module:
        """The graph with a head, and a memory between them if there is to be one."""
        if self.recurrence == "none":
            keys = (*head.out_keys, *embeddings)
            return InferenceBlock(stem.in_keys, keys, {**dict(stem.blocks), name: head})
        own = tuple(key for key in embeddings if key != LATENT)
        front = InferenceBlock(stem.in_keys, (HIDDEN, *own), _renamed(stem))
        back = InferenceBlock(LATENT, head.out_keys, {name: head})
        return WithMemory(front, CELLS[self.recurrence](self.memory_size), back)

    def _biased(self, action_space: Space) -> tuple[tuple[str, float], ...]:
        """The probabilities by head, "" for an action that is no Dict."""
        names = {path or "action": path for path in _bits(action_space)}
        for name in self.probabilities:
            if name not in names:
                raise ConfigError(
                    f"probabilities.{name}: no MultiBinary action of this name; "
                    f"{did_you_mean(name, names)}"
                )
        return tuple((names[name], float(p)) for name, p in self.probabilities.items())


class PerceptionActorCritic(PerceptionTemplate):
    """A graph for the policy and one of the same kind for the critic, for any spaces.

        PerceptionActorCritic(ConcatModelBuilder(hidden={"block": "DenseBlock"}))

    They share no weights but those before `shared_embedding_keys`.
    """

    shared_embedding_keys: tuple[str, ...] = static(default=())
    """Keys of the policy's graph that the critic takes instead of making its own, such as
    "latent" for all but the heads, or "camera_image" for the convolutions of one image."""

    def __post_init__(self) -> None:
        as_keys(self, "shared_embedding_keys")
        super().__post_init__()

    def validate(self) -> None:
        """Raise ConfigError as every template, and for keys that are no strings."""
        super().validate()
        check_keys(self, "shared_embedding_keys")

    def _networks(
        self, stem: InferenceBlock, whole: InferenceBlock, head: Block
    ) -> tuple[nn.Module, nn.Module]:
        shared = tuple(dict.fromkeys(self.shared_embedding_keys))
        known = [key for _, block in stem.blocks for key in block.out_keys]
        for key in shared:
            if key not in known:
                raise ConfigError(
                    f"shared_embedding_keys: no block gives {key!r}; {did_you_mean(key, known)}"
                )
        policy = self._network(stem, "policy", head, shared)
        value, rest = ValueHeadBlock(LATENT, VALUE), _cut(whole, shared)
        self._check_seen(rest)
        if LATENT in shared:
            return policy, InferenceBlock(LATENT, VALUE, {"value": value})
        return policy, self._network(rest, "value", value, ())

    def _check_seen(self, graph: InferenceBlock) -> None:
        """Raise ConfigError if the critic's graph leads from no privileged key to its end."""
        read = {key.split("/")[0] for _, block in graph.computed for key in block.in_keys}
        for key in self.privileged_keys:
            if key not in read:
                shared = ", ".join(map(repr, self.shared_embedding_keys))
                raise ConfigError(
                    f"shared_embedding_keys: a critic that takes {shared} of the policy sees "
                    f"nothing of privileged_keys {key!r}; share less"
                )


class PerceptionPolicy(PerceptionTemplate):
    """A graph for the policy alone: its value is 0 everywhere, as ES needs none."""

    def _networks(
        self, stem: InferenceBlock, whole: InferenceBlock, head: Block
    ) -> tuple[nn.Module, None]:
        return self._network(stem, "policy", head, ()), None


def _bits(space: Space, path: str = "") -> Iterator[str]:
    """Names of the MultiBinary actions of a space, "" for one that is no Dict."""
    if isinstance(space, MultiBinary):
        yield path
    for name, part in space.items() if isinstance(space, Dict) else ():
        yield from _bits(part, f"{path}/{name}" if path else name)


def _cut(stem: InferenceBlock, keys: tuple[str, ...]) -> InferenceBlock:
    """The graph with these keys as inputs, without the blocks that gave them."""
    blocks = {n: b for n, b in stem.blocks if not any(key in keys for key in b.out_keys)}
    return InferenceBlock((*stem.in_keys, *keys), stem.out_keys, blocks)


def _renamed(stem: InferenceBlock) -> dict[str, Block]:
    """The blocks of a graph that ends in "hidden" instead of "latent"."""
    return {
        name: block.clone(out_keys=HIDDEN) if block.out_keys == (LATENT,) else block
        for name, block in stem.blocks
    }
