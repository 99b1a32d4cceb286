"""`ActionValue`: what actions are worth, the critic of learners that compare actions.

A template is built for the spaces as policies are. Several critics side by side are one set
of stacked variables, since learners take the least of their judgements.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mazejax.base import Pytree, static
from mazejax.errors import ConfigError
from mazejax.networks import observations
from mazejax.networks.blocks.base import Block
from mazejax.networks.blocks.dense import LinearOutputBlock
from mazejax.networks.blocks.output import ValueHeadBlock
from mazejax.networks.builder import LATENT, ConcatModelBuilder, block_name, unused
from mazejax.networks.heads import VALUE
from mazejax.networks.inference import InferenceBlock
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Discrete
from mazejax.types import Array, Key, PyTree

ACTION = "action"
"""The key under which the graph of an `ActionValue` takes the action."""


class PerceptionActionValue(Pytree):
    """Template: a graph of blocks from observation and action to the value of the action.

    Where all actions are Discrete the graph takes no action but gives the values of all:
    of several in a Dict each has its own, as if the others did not matter. Else the action
    is one more observation: mixed ones too, categories as one-hot vectors.
    """

    compile_time: ClassVar[bool] = True

    builder: ConcatModelBuilder = ConcatModelBuilder()
    """Of the graph from observations, and the action under "action", to "latent"."""
    num_critics: int = static(default=2)
    """Critics side by side, E."""

    def validate(self) -> None:
        """Raise ConfigError for no builder and a number of critics that is no positive integer."""
        if not isinstance(self.builder, ConcatModelBuilder):
            raise ConfigError(f"builder: expected a ConcatModelBuilder, got {self.builder!r}")
        number = self.num_critics
        is_integer = isinstance(number, (int, np.integer)) and not isinstance(number, bool)
        if not is_integer or number < 1:
            raise ConfigError(f"num_critics: must be a positive integer, got {number!r}")

    def build(self, observation_space: Space, action_space: Space) -> "ActionValue":
        """The critics for these spaces; ConfigError for an observation called as what they give."""
        names = _discrete(action_space)
        space = observation_space if names else _with_action(observation_space, action_space)
        stem = self.builder.build(space, action_space)
        heads: dict[str, Block] = {
            name: LinearOutputBlock(LATENT, f"{VALUE}/{name}", n, kernel_scale=1.0)
            for name, n in names.items()
        }
        heads = heads or {VALUE: ValueHeadBlock(LATENT, VALUE)}
        keys = tuple(head.out_keys[0] for head in heads.values())
        blocks = dict(stem.blocks)
        for name, head in heads.items():
            if head.out_keys[0] in stem.in_keys:
                raise ConfigError(
                    f"observation {head.out_keys[0]!r}: a head gives this key already; rename the "
                    "observation"
                )
            blocks[unused(block_name(f"head_{name}"), blocks)] = head
        module = InferenceBlock(stem.in_keys, keys, blocks)
        return ActionValue(module, observation_space, action_space, self.num_critics)


class ActionValue(Pytree):
    """E critics of actions behind a pure boundary."""

    compile_time: ClassVar[bool] = True

    module: nn.Module = static()
    """From arrays by key to "value" [...], or "value/NAME" [..., n] for each Discrete action."""
    observation_space: Space = static()
    action_space: Space = static()
    num_critics: int = static(default=2)
    """Critics side by side, E."""

    def init(self, key: Key) -> PyTree:
        """Fresh variables, [E, ...]."""
        inputs = jax.tree.map(
            lambda s: jnp.zeros(s.shape, s.dtype),
            observations.input_shapes(self._space, self.action_space),
        )
        keys = jax.random.split(key, self.num_critics)
        return jax.vmap(self.module.init, in_axes=(0, None))(keys, inputs)

    def apply(self, variables: PyTree, obs: PyTree, action: PyTree) -> Array:
        """Values [E, ...] of actions [..., *action]; several Discrete ones add up theirs."""
        names = _discrete(self.action_space)
        if not names:
            return self._judge(variables, _joined(obs, action))[VALUE]
        values, total = self.of_all_actions(variables, obs), jnp.zeros((), jnp.float32)
        for name in names:
            space, taken = _part(self.action_space, action, name)
            index = (taken - space.start)[None, ..., None]
            total += jnp.take_along_axis(values[name], index, axis=-1)[..., 0]
        return total

    def of_all_actions(self, variables: PyTree, obs: PyTree) -> dict[str, Array]:
        """Values [E, ..., n] of each category by the name of the action, "action" if it has none.

        Raises ConfigError where an action is not Discrete.
        """
        if not _discrete(self.action_space):
            raise ConfigError(
                f"of_all_actions: {self.action_space.summary} is not Discrete; use apply"
            )
        values = self._judge(variables, obs)
        return {key.removeprefix(f"{VALUE}/"): value for key, value in values.items()}

    @property
    def _space(self) -> Space:
        if _discrete(self.action_space):
            return self.observation_space
        return _with_action(self.observation_space, self.action_space)

    def _judge(self, variables: PyTree, obs: PyTree) -> dict[str, Array]:
        inputs = observations.arrays_by_key(self._space, self.action_space, obs)
        values: Any = jax.vmap(self.module.apply, in_axes=(0, None))(variables, inputs)
        return values


def _discrete(space: Space) -> dict[str, int]:
    """Numbers of categories by action, if all are Discrete; else nothing."""
    parts = dict(space.items()) if isinstance(space, Dict) else {ACTION: space}
    categories = {name: part.n for name, part in parts.items() if isinstance(part, Discrete)}
    return dict(sorted(categories.items())) if len(categories) == len(parts) else {}


def _part(space: Space, action: PyTree, name: str) -> tuple[Discrete, Array]:
    found: Any = space[name] if isinstance(space, Dict) else space
    return found, action[name] if isinstance(space, Dict) else action


def _with_action(observation_space: Space, action_space: Space) -> Dict:
    parts = {observations.KEY: observation_space}
    if isinstance(observation_space, Dict):
        parts = dict(observation_space.items())
    if ACTION in parts:
        raise ConfigError(f"observation {ACTION!r}: the action goes by this name; rename it")
    return Dict({**parts, ACTION: action_space})


def _joined(obs: PyTree, action: PyTree) -> dict[str, PyTree]:
    parts = obs if isinstance(obs, dict) else {observations.KEY: obs}
    return {**parts, ACTION: action}
