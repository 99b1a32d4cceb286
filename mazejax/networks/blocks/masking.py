"""Masks of allowed actions applied to logits inside a network."""

from mazejax.errors import ConfigError
from mazejax.networks.blocks.base import Block
from mazejax.networks.blocks.checks import check_integers, check_shape, set_in_ndims
from mazejax.spaces.distributions import mask_logits
from mazejax.types import Array


class ActionMaskingBlock(Block):
    """Logits [..., n] with the lowest finite number where the mask [..., n] is 0 or false.

    Those actions have probability 0 then. A mask that allows nothing leaves its logits as
    they are, so they stay a proper distribution with finite gradients. That is for categories:
    a mask of bits, which may all be 0, is left to the observation `NAME_mask`.

    With `num_actors` A and `num_actor_actions` K there is an output [..., K] for each actor,
    of logits [..., A * K], actor by actor, and the mask [..., A, K]. Huang & Ontañón, 2020,
    arXiv:2006.14171.
    """

    num_actors: int | None = None
    """How many actors share the logits; None for one of whom the mask has no axis."""
    num_actor_actions: int | None = None
    """Actions of each actor; given if `num_actors` is."""

    num_inputs = (2,)
    num_outputs = ()

    def validate(self) -> None:
        """Raise ConfigError for half a choice of actors, and other than an output for each."""
        name = type(self).__name__
        if (self.num_actors is None) != (self.num_actor_actions is None):
            raise ConfigError(
                f"{name}.num_actors: goes with num_actor_actions, got {self.num_actors!r} and "
                f"{self.num_actor_actions!r}"
            )
        if self.num_actors is not None:
            check_integers(self, "num_actors", least=1)
            check_integers(self, "num_actor_actions", least=1)
        if len(self.out_keys) != (self.num_actors or 1):
            raise ConfigError(
                f"{name}.out_keys: expected {self.num_actors or 1}, one for each actor, got "
                f"{len(self.out_keys)}: {', '.join(self.out_keys)}"
            )
        set_in_ndims(self, 1, 1 if self.num_actors is None else 2)

    def forward(self, logits: Array, mask: Array) -> Array | tuple[Array, ...]:
        """[..., n], or [..., K] for each of A actors."""
        if self.num_actors is None or self.num_actor_actions is None:
            check_shape(self, 1, mask, logits.shape)
            return mask_logits(logits, mask)
        actors, actions = self.num_actors, self.num_actor_actions
        check_shape(self, 0, logits, (*logits.shape[:-1], actors * actions))
        shape = (*logits.shape[:-1], actors, actions)
        check_shape(self, 1, mask, shape)
        masked = mask_logits(logits.reshape(shape), mask)
        return tuple(masked[..., i, :] for i in range(actors))
