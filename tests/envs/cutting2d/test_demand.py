"""What the demand generators order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.envs.cutting2d.core import Cutting2D, CuttingAction
from mazejax.envs.cutting2d.demand import (
    CyclicDemand,
    DemandGenerator,
    MixedPeriodicDemand,
    RandomDemand,
    StaticDemand,
)
from mazejax.envs.cutting2d.events import InventoryEvents
from mazejax.errors import ConfigError
from mazejax.types import SINGLE_ACTOR

KEY = random.key(11)


def stream_of(generator, num_steps):
    """States before each order, and the orders, [T, ...]."""

    def one_order(state, key):
        after, order = generator.next(key, state)
        return after, (state, order, after)

    start = generator.init(KEY)
    run = jax.jit(lambda keys: jax.lax.scan(one_order, start, keys)[1])
    return jax.device_get(run(jax.random.split(KEY, num_steps)))


def test_random_orders_are_uniform_within_their_bounds():
    _, orders, _ = stream_of(RandomDemand((1, 2), (3, 4), rotate=False), 3000)
    sizes, counts = np.unique(orders, axis=0, return_counts=True)
    assert sizes.tolist() == [[w, h] for w in (1, 2, 3) for h in (2, 3, 4)]
    assert counts.min() > 3000 / 9 * 0.8


def test_turned_orders_are_as_many_as_others():
    _, orders, _ = stream_of(RandomDemand((1, 5), (2, 6)), 2000)
    turned = orders[:, 0] > orders[:, 1]
    assert 900 < turned.sum() < 1100
    assert sorted(np.unique(orders[turned], axis=0).tolist()) == [[5, 1], [5, 2], [6, 1], [6, 2]]


@pytest.mark.parametrize(
    ("raw", "num_raw", "num_orders"),
    [((4, 3), 3, 10), ((4, 3), 2, 12), ((7, 9), 3, 3), ((1, 1), 2, 2)],
)
def test_a_period_uses_up_its_raw_pieces(raw, num_raw, num_orders):
    generator = MixedPeriodicDemand(raw, num_raw, num_orders)
    _, orders, after = stream_of(generator, 12 * num_orders)
    assert (orders > 0).all()
    areas = orders.prod(axis=1).reshape(12, num_orders).sum(axis=1)
    assert (areas == num_raw * raw[0] * raw[1]).all()
    assert (after.orders_left == np.tile(np.arange(num_orders)[::-1], 12)).all()
    assert not after.pieces[num_orders - 1 :: num_orders].any()


def test_periods_differ_and_strips_of_all_kinds_come():
    _, orders, _ = stream_of(MixedPeriodicDemand((4, 3), rotate=False), 2000)
    periods = orders.reshape(200, -1)
    assert len(np.unique(periods, axis=0)) > 190
    sizes = {tuple(size) for size in orders.tolist()}
    assert sizes == {(w, h) for w in range(1, 5) for h in range(1, 4)}


def test_who_cuts_as_the_generator_did_needs_no_more_raw_pieces():
    generator = MixedPeriodicDemand((5, 3), num_raw_pieces=3, num_orders=11)
    core_env = Cutting2D((5, 3), 20, generator)
    cut = jax.jit(lambda key, state, action: core_env.step(key, state, action, SINGLE_ACTOR))
    state, replenished = core_env.reset(KEY).state, 0
    for t in range(22):
        if t % 11 == 0:
            own = np.tile((5, 3), (3, 1))  # what the generator had before it cut the order
        later = np.asarray(state.demand_state.pieces)
        (row,) = np.flatnonzero((own != later).any(axis=1))
        strip = np.where(own[row] == later[row], own[row], own[row] - later[row])
        (index, *_) = np.flatnonzero((np.asarray(state.inventory.pieces) == own[row]).all(axis=1))
        is_turned = (np.asarray(state.demand) != strip).any()
        action = CuttingAction(jnp.int32(index), jnp.bool(is_turned), jnp.bool(False))
        step = cut(jax.random.fold_in(KEY, t), state, action)
        assert step.reward >= -1
        replenished += int(step.events.count(InventoryEvents.piece_replenished))
        state, own = step.state, later
    assert replenished == 6
    assert int(state.inventory.num_pieces) == 1 and int(state.inventory.raw_index) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StaticDemand((0, 1)), "StaticDemand.order: expected .width, height."),
        (lambda: CyclicDemand(()), "CyclicDemand.orders: expected a tuple of at least one"),
        (lambda: CyclicDemand(((1, 1), (1, 2, 3))), r"CyclicDemand.orders\[1\]: expected"),
        (lambda: RandomDemand((3, 1), (2, 2)), "RandomDemand.smallest: got .3, 1., expected at"),
        (lambda: MixedPeriodicDemand((4, 3), 3, 19), "num_orders: got 19, expected from 3 to 18"),
        (lambda: MixedPeriodicDemand((4, 3), 0, 0), "num_raw_pieces: must be a positive integer"),
    ],
)
def test_wrong_orders_are_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    "demand",
    [
        CyclicDemand(((1, 1), (4, 4))),
        RandomDemand(largest=(5, 1)),
        MixedPeriodicDemand((3, 4)),
    ],
)
def test_orders_that_no_raw_piece_serves_are_refused(demand):
    with pytest.raises(ConfigError, match=type(demand).__name__):
        Cutting2D((4, 3), demand=demand)


def test_orders_that_fit_only_when_turned_are_served():
    assert Cutting2D((4, 3), demand=CyclicDemand(((3, 4),))).demand.orders == ((3, 4),)


def test_generators_of_ones_own_need_two_methods():
    class Growing(DemandGenerator):
        def init(self, key):
            return jnp.zeros((), jnp.int32)

        def next(self, key, state):
            return state + 1, jnp.stack([state % 4 + 1, 1])

    _, orders, _ = stream_of(Growing(), 5)
    assert orders[:, 0].tolist() == [1, 2, 3, 4, 1]
    assert Cutting2D(demand=Growing()).reset(KEY).state.demand.tolist() == [1, 1]
