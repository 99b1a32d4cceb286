"""Masked logits, against those of the distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.errors import ConfigError
from mazejax.networks.blocks.masking import ActionMaskingBlock
from mazejax.spaces.distributions import mask_logits

BATCH = (2, 3)


def _logits_and_mask(*own, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(*BATCH, *own)).astype(np.float32)
    mask = rng.random(logits.shape) < 0.5
    mask[(0,) * len(BATCH)] = False
    return logits, mask


@pytest.mark.parametrize("as_type", [bool, np.float32, np.int32])
def test_excluded_actions_have_the_lowest_logit(apply_block, as_type):
    logits, mask = _logits_and_mask(5)
    block = ActionMaskingBlock(("logits", "mask"), "masked")
    outputs, _ = apply_block(block, len(BATCH), logits=logits, mask=mask.astype(as_type))
    expected = logits.copy()
    for place in np.ndindex(*logits.shape):
        if mask[place[:-1]].any() and not mask[place]:
            expected[place] = np.finfo(np.float32).min
    np.testing.assert_array_equal(outputs["masked"], expected)
    np.testing.assert_array_equal(outputs["masked"], mask_logits(logits, jnp.asarray(mask)))


@pytest.mark.parametrize("actors", [1, 3])
def test_each_actor_has_an_output_under_its_own_mask(apply_block, actors):
    logits, mask = _logits_and_mask(actors, 4)
    keys = tuple(f"actor_{i}" for i in range(actors))
    block = ActionMaskingBlock(("logits", "mask"), keys, actors, 4)
    outputs, _ = apply_block(
        block, len(BATCH), logits=logits.reshape(*BATCH, actors * 4), mask=mask
    )
    for i, key in enumerate(keys):
        expected = mask_logits(logits[..., i, :], jnp.asarray(mask[..., i, :]))
        np.testing.assert_array_equal(outputs[key], expected)


def test_a_mask_of_nothing_leaves_probabilities_and_gradients_alone():
    block = ActionMaskingBlock(("logits", "mask"), "masked")
    logits = jnp.array([[1.0, -2.0, 0.5], [1.0, -2.0, 0.5]])
    mask = jnp.array([[0, 0, 0], [1, 0, 1]])

    @jax.jit
    def log_probs(logits):
        masked = block.apply({}, {"logits": logits, "mask": mask})["masked"]
        return jax.nn.log_softmax(masked)

    np.testing.assert_array_equal(log_probs(logits)[0], jax.nn.log_softmax(logits[0]))
    gradient = jax.jit(jax.grad(lambda logits: log_probs(logits)[:, 0].sum()))(logits)
    assert np.isfinite(gradient).all() and gradient[1, 1] == 0 and gradient[0, 1] != 0


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: ActionMaskingBlock("logits", "y"), "in_keys: expected 2, got 1"),
        (lambda: ActionMaskingBlock(("l", "m"), ("y", "z")), "out_keys: expected 1, one for each"),
        (lambda: ActionMaskingBlock(("l", "m"), "y", 2), "num_actors: goes with num_actor_actions"),
        (lambda: ActionMaskingBlock(("l", "m"), "y", 2, 3), "out_keys: expected 2, one for each"),
        (lambda: ActionMaskingBlock(("l", "m"), ("y", "z"), 2, 0), "num_actor_actions: must be"),
    ],
)
def test_fields_that_make_no_block_are_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


@pytest.mark.parametrize(
    "block, logits, mask, said",
    [
        (ActionMaskingBlock(("l", "m"), "y"), (2, 5), (2, 4), r"'m' has shape \(2, 4\), expected"),
        (ActionMaskingBlock(("l", "m"), "y"), (2, 5), (5,), r"'m' has shape \(5,\), expected \(2"),
        (ActionMaskingBlock(("l", "m"), ("y", "z"), 2, 3), (2, 5), (2, 2, 3), "'l' has shape"),
        (ActionMaskingBlock(("l", "m"), ("y", "z"), 2, 3), (2, 6), (2, 3, 2), "'m' has shape"),
        (ActionMaskingBlock(("l", "m"), ("y", "z"), 2, 3), (6,), (6,), "at least 2 axes"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_by_key(block, logits, mask, said):
    with pytest.raises(ConfigError, match=said):
        block.apply({}, {"l": jnp.ones(logits), "m": jnp.ones(mask)})
