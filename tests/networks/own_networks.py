"""Networks as a user writes them, importable so that runs can name them."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from mazejax.networks import GRU, InferenceBlock, for_spaces
from mazejax.networks.blocks import Block, DenseBlock, LinearOutputBlock


class Policy(nn.Module):
    """Logits under the short key, and an embedding for the critic."""

    width: int = 8

    @nn.compact
    def __call__(self, inputs):
        x = nn.tanh(nn.Dense(self.width, name="torso")(inputs["observation"]))
        return {"action": nn.Dense(2, name="logits")(x), "embedding": x}


class Plain(nn.Module):
    """A layer and an activation for one array."""

    features: int
    activation: Callable

    @nn.compact
    def __call__(self, x):
        return self.activation(nn.Dense(self.features)(x))


class Critic(nn.Module):
    """A value [..., 1] from the observation, and the embedding where there is one."""

    @nn.compact
    def __call__(self, inputs):
        x = [inputs[key] for key in ("observation", "embedding") if key in inputs]
        return {"value": nn.Dense(1, name="value")(jnp.concatenate(x, -1))}


class Remembering(nn.Module):
    """Logits and value from a GRU."""

    features: int = 4

    def setup(self):
        self.cell, self.logits, self.value = GRU(self.features), nn.Dense(2), nn.Dense(1)

    def __call__(self, inputs, carry, begins):
        x, carry = self.cell(inputs["observation"], carry, begins)
        return {"logits": self.logits(x), "value": self.value(x)[..., 0]}, carry

    @nn.nowrap
    def initial_carry(self, batch_shape):
        return jnp.zeros((*batch_shape, self.features))


@for_spaces
def make_critic(observation_space, action_space):
    """A critic for whatever space."""
    keys = ("observation",)
    torso = DenseBlock("observation", "latent", (observation_space.flat_size,))
    blocks = {"torso": torso, "head": LinearOutputBlock("latent", "value")}
    return InferenceBlock(keys, "value", blocks)


@for_spaces
def make_nothing(observation_space, action_space):
    return None


def unmarked(observation_space, action_space):
    return Policy()


class Standardized(nn.Module):
    """Logits of what a batch normalization makes of the observation."""

    running: bool = True

    @nn.compact
    def __call__(self, inputs):
        x = nn.BatchNorm(use_running_average=self.running, name="norm")(inputs["observation"])
        return {"action": nn.Dense(2, name="logits")(x)}


class Noisy(nn.Module):
    """Logits of a part of the observation, drawn at every step."""

    @nn.compact
    def __call__(self, inputs):
        x = nn.Dropout(0.5, deterministic=False)(inputs["observation"])
        return {"action": nn.Dense(2)(x)}


class Hiding(nn.Module):
    """Logits, and other arrays under the keys of observations, or the observations as they are."""

    key: str = "observation"
    factor: float | None = 0.0

    @nn.compact
    def __call__(self, inputs):
        x = inputs["observation"]
        same = self.factor is None
        return {"action": nn.Dense(2)(x), self.key: x if same else self.factor * x}


class HidingAndRemembering(Remembering):
    """The same with a memory."""

    def __call__(self, inputs, carry, begins):
        given, carry = super().__call__(inputs, carry, begins)
        return {"logits": given["logits"], "observation": 0.0 * inputs["observation"]}, carry


class NormBlock(Block):
    """A batch normalization within a block of one's own."""

    @nn.compact
    def forward(self, x):
        return nn.Dense(2)(nn.BatchNorm(use_running_average=False, name="norm")(x))
