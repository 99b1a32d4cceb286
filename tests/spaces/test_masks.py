"""Masks: where they are found, what is drawn under them, and what they allow."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.errors import SpaceError
from mazejax.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, masks

GEARS = Discrete(5, start=-2)
SWITCHES = MultiDiscrete([[2, 3], [1, 3]], start=[[0, 10], [7, -1]])
BOTH = Dict({"gear": GEARS, "switches": SWITCHES, "wheel": Box(-1.0, 1.0, (2,))})
LAMPS = MultiBinary((2, 3))

DRAWS = 6000
CHI_SQUARE_999 = {1: 10.83, 2: 13.82, 3: 16.27, 4: 18.47}  # by degrees of freedom, p = 0.001


@functools.cache
def drawn(space):
    """Compiled: [DRAWS] actions under masks that are data."""

    @jax.jit
    def draw(seed, mask):
        keys = jax.random.split(random.key(seed), DRAWS)
        return jax.vmap(lambda key: masks.sample_masked(space, key, mask))(keys)

    return lambda seed, mask: jax.device_get(draw(seed, jax.tree.map(jnp.asarray, mask)))


def assert_uniform(values, allowed):
    """Only allowed values, all as often as chance has it (chi-square)."""
    found, counts = np.unique(values, return_counts=True)
    assert found.tolist() == sorted(allowed)
    expected = len(values) / len(allowed)
    if len(allowed) > 1:
        assert ((counts - expected) ** 2 / expected).sum() < CHI_SQUARE_999[len(allowed) - 1]


def entries(nvec, mask):
    """The mask of each entry of a MultiDiscrete; all of those of which nothing is allowed."""
    parts = np.split(mask, np.cumsum(nvec)[:-1])
    return [part if part.any() else ~part for part in parts]


# --- names ----------------------------------------------------------------------------


def test_masks_are_observations_named_after_their_action():
    assert masks.mask_names(GEARS) == {"action_mask": GEARS}
    assert masks.mask_names(BOTH) == {
        "gear_mask": GEARS,
        "switches_mask": SWITCHES,
        "wheel_mask": BOTH["wheel"],
    }


def test_masks_are_found_in_observations_and_absent_ones_are_none():
    mask = np.ones(5, bool)
    assert masks.action_masks(GEARS, {"action_mask": mask, "x": 0}) is mask
    assert masks.action_masks(GEARS, {"gear_mask": mask}) is None
    assert masks.action_masks(GEARS, mask) is None
    found = masks.action_masks(BOTH, {"gear_mask": mask, "action_mask": mask, "other_mask": mask})
    assert list(found) == ["gear"] and found["gear"] is mask
    assert masks.action_masks(BOTH, {"action_mask": mask}) is None
    tricky = Dict({"x_mask": Discrete(2), "action": Discrete(2)})
    found = masks.action_masks(tricky, {"x_mask_mask": 1, "x_mask": 2, "action_mask": 3})
    assert found == {"x_mask": 1, "action": 3}


def test_observation_spaces_must_have_an_entry_for_every_category():
    def obs(**sizes):
        return Dict({name: Box(False, True, (n,), bool) for name, n in sizes.items()})

    masks.check_mask_spaces(obs(action_mask=5), GEARS, "obs")
    masks.check_mask_spaces(obs(gear_mask=5, switches_mask=9, other_mask=1), BOTH, "obs")
    masks.check_mask_spaces(Box(0.0, 1.0, (3,)), GEARS, "obs")
    with pytest.raises(SpaceError, match=r"^obs\['action_mask'\]: got shape \(4,\), expected \(5"):
        masks.check_mask_spaces(obs(action_mask=4), GEARS, "obs")
    with pytest.raises(
        SpaceError, match=r"^obs\['switches_mask'\]: got shape \(8,\), expected \(9"
    ):
        masks.check_mask_spaces(obs(switches_mask=8), BOTH, "obs")
    with pytest.raises(SpaceError, match=r"^obs\['wheel_mask'\]: masks a Box, expected a Discrete"):
        masks.check_mask_spaces(obs(wheel_mask=2), BOTH, "obs")
    with pytest.raises(SpaceError, match="Discrete, MultiDiscrete or MultiBinary action; rename"):
        masks.check_mask_spaces(obs(action_mask=2), BOTH["wheel"], "obs")


def test_observation_spaces_must_have_an_entry_for_every_bit():
    masks.check_mask_spaces(Dict({"action_mask": Box(False, True, (6,), bool)}), LAMPS, "obs")
    for shape in [(2, 3), (5,)]:
        wrong = Dict({"action_mask": Box(False, True, shape, bool)})
        with pytest.raises(SpaceError, match=r"expected \(6,\), one entry for every bit of the"):
            masks.check_mask_spaces(wrong, LAMPS, "obs")


# --- draws ----------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", [[0, 1, 2, 3, 4], [1, 4], [0, 2, 3], [3], []])
def test_allowed_categories_are_equally_likely(allowed):
    mask = np.isin(np.arange(5), allowed)
    actions = drawn(GEARS)(1, mask)
    assert actions.dtype == np.int32 and actions.shape == (DRAWS,)
    assert_uniform(actions, [i - 2 for i in allowed or range(5)])  # none allowed is all allowed


@pytest.mark.parametrize("seed", [1, 2])
def test_entries_of_multi_discrete_are_drawn_under_their_own_masks(seed):
    mask = np.random.default_rng(seed).random(9) < 0.5
    mask[2:5] = seed == 1  # the second entry: everything allowed, or nothing
    actions = drawn(SWITCHES)(seed, mask)
    assert actions.shape == (DRAWS, 2, 2)
    parts = entries([2, 3, 1, 3], mask)
    for values, part, start in zip(actions.reshape(DRAWS, 4).T, parts, [0, 10, 7, -1], strict=True):
        assert_uniform(values, (np.flatnonzero(part) + start).tolist())
    pairs = {tuple(pair) for pair in actions.reshape(DRAWS, 4)[:, [0, 1]].tolist()}
    assert len(pairs) == parts[0].sum() * parts[1].sum()  # independent of each other


def test_parts_of_a_dict_are_drawn_on_their_own_and_unmasked_ones_from_the_space():
    mask = np.array([1, 0, 0, 1, 0], bool)
    actions = drawn(BOTH)(4, {"gear": mask})
    assert_uniform(actions["gear"], [-2, 1])
    assert set(actions) == set(BOTH) and np.abs(actions["wheel"]).max() > 0.99
    without = drawn(BOTH)(4, None)
    for name in ("switches", "wheel"):
        np.testing.assert_array_equal(actions[name], without[name])
    for row in range(50):
        BOTH.validate(jax.tree.map(lambda leaf: leaf[row], actions))  # noqa: B023


@pytest.mark.parametrize("mask", [[1, 0, 1, 1, 0, 0], [1] * 6, [0] * 6])
def test_allowed_bits_are_on_half_of_the_time_and_others_never(mask):
    actions = drawn(LAMPS)(5, np.array(mask, bool))
    assert actions.dtype == np.int8 and actions.shape == (DRAWS, 2, 3)
    for values, allowed in zip(actions.reshape(DRAWS, 6).T, mask, strict=True):
        assert_uniform(values, [0, 1] if allowed else [0])
    together = {tuple(bits) for bits in actions.reshape(DRAWS, 6).tolist()}
    assert len(together) == 2 ** sum(mask)  # independent of each other


def test_a_batch_of_masks_gives_a_batch_of_bits():
    mask = np.random.default_rng(3).random((7, 6)) < 0.5
    actions = masks.sample_masked(LAMPS, random.key(0), jnp.asarray(mask))
    assert actions.shape == (7, 2, 3)
    assert (np.asarray(actions).reshape(7, 6) <= mask).all() and actions.any()


def test_a_box_cannot_be_masked():
    with pytest.raises(SpaceError, match="Box: cannot be masked; mask a Discrete, MultiDiscrete"):
        masks.sample_masked(Box(0.0, 1.0, (2,)), random.key(0), jnp.ones(2, bool))


# --- logits and what is allowed -------------------------------------------------------


def test_masked_logits_stay_where_allowed_and_in_entries_without_any():
    logits = jnp.arange(9, dtype=jnp.float32)
    mask = jnp.array([1, 0, 0, 0, 0, 0, 1, 1, 0], bool)
    lowest = float(np.finfo(np.float32).min)
    expected = [0, lowest, 2, 3, 4, 5, 6, 7, lowest]
    np.testing.assert_array_equal(masks.masked_logits(SWITCHES, logits, mask), expected)
    batch = masks.masked_logits(SWITCHES, jnp.stack([logits] * 2), jnp.stack([mask] * 2))
    np.testing.assert_array_equal(batch, [expected] * 2)


def test_masked_logits_of_bits_have_the_shape_of_the_action_and_none_stay_free():
    logits = jnp.arange(6, dtype=jnp.float32).reshape(2, 3)
    lowest = float(np.finfo(np.float32).min)
    found = masks.masked_logits(LAMPS, logits, jnp.array([1, 0, 1, 0, 0, 1], bool))
    np.testing.assert_array_equal(found, [[0, lowest, 2], [lowest, lowest, 5]])
    batch = masks.masked_logits(LAMPS, jnp.stack([logits] * 2), jnp.zeros((2, 6), bool))
    np.testing.assert_array_equal(batch, np.full((2, 2, 3), lowest))


def test_bits_are_allowed_where_the_mask_is_true_and_off_everywhere():
    allowed = jax.jit(functools.partial(masks.is_allowed, LAMPS))
    mask = np.array([1, 0, 1, 1, 0, 0], bool)
    for bits in itertools.product((0, 1), repeat=6):
        action = np.array(bits, np.int8).reshape(2, 3)
        assert bool(allowed(action, mask)) == all(mask[i] for i in range(6) if bits[i])
    two = np.array([[2, 0, 0], [0, 0, 0]], np.int8)
    assert not allowed(two, mask) and not allowed(-two, mask)


def test_exactly_the_actions_that_can_be_drawn_are_allowed():
    allowed = jax.jit(functools.partial(masks.is_allowed, SWITCHES))
    for seed in range(4):
        mask = np.random.default_rng(seed).random(9) < 0.4
        parts = entries([2, 3, 1, 3], mask)
        for index in itertools.product(*map(range, [2, 3, 1, 3])):
            action = np.array(index).reshape(2, 2) + SWITCHES.start
            expected = all(part[i] for part, i in zip(parts, index, strict=True))
            assert bool(allowed(action, mask)) == expected


def test_actions_of_dicts_are_allowed_when_all_their_parts_are():
    action = {"gear": -2, "switches": SWITCHES.start, "wheel": np.zeros(2, np.float32)}
    gear, switches = np.eye(5, dtype=bool)[0], np.ones(9, bool)
    assert masks.is_allowed(BOTH, action, None)
    assert masks.is_allowed(BOTH, action, {"gear": gear, "switches": switches})
    assert not masks.is_allowed(BOTH, {**action, "gear": -1}, {"gear": gear})
    assert masks.is_allowed(BOTH, {**action, "gear": -1}, {"gear": np.zeros(5, bool)})
    switches = np.arange(9) != 0
    assert not masks.is_allowed(BOTH, action, {"gear": gear, "switches": switches})


@pytest.mark.parametrize("action", [-3, 3])
def test_what_is_no_category_is_not_allowed(action):
    assert not masks.is_allowed(GEARS, action, np.ones(5, bool))
    assert not masks.is_allowed(GEARS, action, np.zeros(5, bool))
