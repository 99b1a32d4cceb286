"""The dynamics of Cutting-2D beside a re-implementation with plain lists, and its contract."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.envs.cutting2d.core import (
    CUTTING,
    SELECTION,
    CutAction,
    Cutting2D,
    CuttingAction,
    SelectAction,
)
from mazejax.envs.cutting2d.demand import (
    CyclicDemand,
    MixedPeriodicDemand,
    RandomDemand,
    StaticDemand,
)
from mazejax.envs.cutting2d.events import CuttingEvents, InventoryEvents
from mazejax.errors import ConfigError
from mazejax.types import SINGLE_ACTOR, Scene

KEY = random.key(3)
NUM_ENVS, NUM_STEPS = 6, 80


class ListCutting:
    """Cutting-2D as a list of [size, is_raw]; events are (name, what they say) in firing order."""

    def __init__(self, raw, max_pieces):
        self.raw, self.max_pieces = raw, max_pieces
        self.pieces, self.events = [], []
        self.store(raw, True)

    def store(self, size, is_raw=False):
        if len(self.pieces) == self.max_pieces:
            self.events.append(("piece_discarded", self.pieces.pop(0)[0]))
        self.pieces.append([size, is_raw])

    def step(self, piece_id, rotate, reverse, demand):
        self.events, reward = [], 0.0
        order = demand[::-1] if rotate else demand
        if piece_id >= len(self.pieces):
            self.events.append(("invalid_piece_selected",))
            reward -= 2
        elif any(order[d] > self.pieces[piece_id][0][d] for d in (0, 1)):
            self.events.append(("invalid_cut", demand, self.pieces[piece_id][0], self.raw))
            reward -= 2
        else:
            reward -= self.cut(piece_id, order, demand, reverse)
        self.events.append(("pieces_in_inventory", len(self.pieces)))
        return reward

    def cut(self, piece_id, order, demand, reverse):
        size, is_raw = self.pieces.pop(piece_id)
        self.events.append(("valid_cut", demand, size, self.raw))
        left = list(size)
        for d in (1, 0) if reverse else (0, 1):
            residual = list(left)
            residual[d] -= order[d]
            left[d] = order[d]
            if residual[d] > 0:
                self.store(tuple(residual))
        if is_raw:
            self.store(self.raw, True)
            self.events.append(("piece_replenished",))
        return is_raw


@functools.cache
def played(core_env, num_steps=NUM_STEPS):
    """States before, maze actions, steps and selections, [T, N, ...]; most pieces are in stock."""

    def one_step(carry, inputs):
        key, draws = inputs
        piece_id = draws[0] % (carry.inventory.num_pieces.astype(jnp.int32) + 1)
        action = CuttingAction(piece_id, draws[1] % 2 == 1, draws[2] % 2 == 1)
        if core_env.structured:
            chosen = core_env.step(key, carry, SelectAction(piece_id), SELECTION)
            step = core_env.step(key, chosen.state, CutAction(*action[1:]), CUTTING)
            return step.state, (carry, action, step, chosen)
        step = core_env.step(key, carry, action, SINGLE_ACTOR)
        return step.state, (carry, action, step, None)

    def episode(key):
        draws = random.randint(random.stream(key, "draws"), (num_steps, 3), 2**20)
        keys = jax.random.split(random.stream(key, "steps"), num_steps)
        return jax.lax.scan(one_step, core_env.reset(key).state, (keys, draws))[1]

    return jax.device_get(jax.jit(jax.vmap(episode, out_axes=1))(jax.random.split(KEY, NUM_ENVS)))


def at(tree, *index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def pieces_of(inventory):
    """Decoded from the words, which are 0 behind the last piece."""
    half = 8 if inventory.words.dtype == np.int16 else 16
    words = [int(word) for word in inventory.words]
    assert not any(words[int(inventory.num_pieces) :])
    return [(word % 2**half, word >> half) for word in words[: int(inventory.num_pieces)]]


def events_of(log):
    """The log in the form of `ListCutting`, sorted; nothing may be lost."""
    fired = []
    for event in (*CuttingEvents.events, *InventoryEvents.events):
        firings = log[event]
        assert firings.count <= (firings.capacity or firings.count)
        for i in range(firings.count):
            said = (firings.attributes[name][i].tolist() for name in event.attributes)
            said = [tuple(value) if isinstance(value, list) else value for value in said]
            fired.append((event.name, *said))
    return sorted(fired)


ENVS = {
    "as in the tutorial": Cutting2D(),
    "one place": Cutting2D(max_pieces=1),
    "two places": Cutting2D(max_pieces=2, demand=StaticDemand((1, 2))),
    "four places, larger pieces": Cutting2D((7, 9), 4, RandomDemand((1, 1), (6, 3))),
    "sizes beyond int8": Cutting2D((300, 200), 6, RandomDemand((90, 20), (150, 150))),
    "in two sub-steps": Cutting2D((7, 5), 3, MixedPeriodicDemand((7, 5)), structured=True),
}


@pytest.mark.parametrize("name", ENVS)
def test_every_step_is_that_of_the_plain_lists(name):
    core_env = ENVS[name]
    before, actions, steps, _ = played(core_env)
    for env in range(NUM_ENVS):
        lists = ListCutting(core_env.raw_piece_size, core_env.max_pieces)
        for t in range(NUM_STEPS):
            state, step = at(before, t, env), at(steps, t, env)
            demand = tuple(state.demand.tolist())
            reward = lists.step(*(x.item() for x in at(actions, t, env)), demand)
            after = step.state.inventory
            assert pieces_of(after) == [size for size, _ in lists.pieces]
            raw = [i for i, (_, is_raw) in enumerate(lists.pieces) if is_raw]
            assert after.raw_index == (raw[0] if raw else -1) and len(raw) <= 1
            assert events_of(step.events) == sorted(lists.events)
            assert step.reward == reward and not step.terminated and not step.truncated


def test_the_random_actions_reach_what_is_seldom():
    counts = {
        name: {e.name: steps.events.count(e).sum() for e in InventoryEvents.events[:1]}
        | {"both at once": (steps.events.count(InventoryEvents.piece_discarded) == 2).sum()}
        | {"raw piece lost": (steps.state.inventory.raw_index == -1).sum()}
        for name, steps in ((name, played(ENVS[name])[2]) for name in ENVS)
    }
    assert counts["one place"]["both at once"] > 10
    assert counts["two places"]["raw piece lost"] > 10
    assert counts["four places, larger pieces"]["piece_discarded"] > 10
    assert counts["as in the tutorial"]["piece_discarded"] == 0


def test_two_sub_steps_do_what_one_step_does():
    structured = ENVS["in two sub-steps"]
    flat = structured.replace(structured=False)
    _, actions, steps, _ = played(flat)
    _, same_actions, cut_steps, chosen = played(structured)
    jax.tree.map(np.testing.assert_array_equal, actions, same_actions)
    steps = steps._replace(state=steps.state.replace(selected=cut_steps.state.selected))
    jax.tree.map(np.testing.assert_array_equal, steps, cut_steps)
    np.testing.assert_array_equal(chosen.state.selected, actions.piece_id)
    assert (cut_steps.state.selected == -1).all()


def test_a_selection_changes_nothing_else_and_earns_nothing():
    before, _, _, chosen = played(ENVS["in two sub-steps"])
    assert not chosen.reward.any() and not chosen.terminated.any()
    assert not any(firings.count.any() for firings in chosen.events.firings.values())
    unselected = chosen.state.replace(selected=before.selected)
    jax.tree.map(np.testing.assert_array_equal, unselected, before)


def test_the_first_cut_leaves_the_longer_strip():
    core_env = Cutting2D(demand=StaticDemand((1, 2)))
    state = core_env.reset(KEY).state

    @jax.jit
    def inventory_after(rotate, reverse):
        action = CuttingAction(jnp.int32(0), rotate, reverse)
        return core_env.step(KEY, state, action, SINGLE_ACTOR).state.inventory

    def pieces_after(rotate, reverse):
        return pieces_of(jax.device_get(inventory_after(rotate, reverse)))

    assert pieces_after(False, False) == [(3, 3), (1, 1), (4, 3)]
    assert pieces_after(False, True) == [(4, 1), (3, 2), (4, 3)]
    assert pieces_after(True, False) == [(2, 3), (2, 2), (4, 3)]
    assert pieces_after(True, True) == [(4, 2), (2, 1), (4, 3)]


def test_a_piece_that_is_never_there_is_invalid():
    core_env = Cutting2D(structured=True)
    state = core_env.reset(KEY).state

    def invalid(piece_id):
        chosen = core_env.step(KEY, state, SelectAction(piece_id), SELECTION)
        cut = CutAction(jnp.bool(False), jnp.bool(False))
        step = core_env.step(KEY, chosen.state, cut, CUTTING)
        return step.events.count(CuttingEvents.invalid_piece_selected)

    ids = jnp.array([-1, 0, 1, 49, 50, 256, 10**6])
    assert jax.jit(jax.vmap(invalid))(ids).tolist() == [1, 0, 1, 1, 1, 1, 1]


def test_the_reset_stocks_a_raw_piece_and_says_so():
    state, events = Cutting2D((6, 5), 4, StaticDemand((2, 2))).reset(KEY)
    assert pieces_of(state.inventory) == [(6, 5)] and state.inventory.raw_index == 0
    assert events.count(InventoryEvents.piece_replenished) == 1
    assert state.inventory.words.dtype == jnp.int16


def test_the_default_orders_go_round():
    orders = played(ENVS["as in the tutorial"])[0].demand[:12, 0].tolist()
    assert orders == 2 * [[1, 2], [1, 2], [1, 1], [2, 2], [1, 2], [1, 1]]


def test_only_the_two_sub_steps_share_credit():
    assert not Cutting2D().defines("actor_rewards") and not Cutting2D().defines("actor_done")
    structured = Cutting2D(structured=True)
    assert structured.defines("actor_rewards")
    assert structured.actor_rewards(None, (jnp.float32(0), jnp.float32(-3))) == (-1.5, -1.5)
    assert structured.agent_counts == {"selection": 1, "cutting": 1}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"raw_piece_size": (4, 0)}, "Cutting2D.raw_piece_size: expected .width, height."),
        ({"raw_piece_size": (4.0, 3.0)}, "two integers from 1 to 32767, got .4.0, 3.0."),
        ({"max_pieces": 0}, "Cutting2D.max_pieces: must be an integer from 1 to 32000, got 0"),
        ({"demand": (1, 2)}, "Cutting2D.demand: expected a DemandGenerator"),
        ({"demand": StaticDemand((5, 1))}, "StaticDemand.order: got .5, 1., which fits into a raw"),
    ],
)
def test_wrong_fields_are_named(fields, message):
    with pytest.raises(ConfigError, match=message):
        Cutting2D(**fields)


def test_it_can_be_drawn():
    before, _, _, chosen = played(ENVS["in two sub-steps"])
    core_env = ENVS["in two sub-steps"]
    assert isinstance(core_env.draw(at(chosen.state, 40, 0)), Scene)
    assert isinstance(core_env.draw(at(before, 0, 0)), Scene)
    assert isinstance(Cutting2D().draw(Cutting2D().reset(KEY).state), Scene)


def test_demands_may_be_longer_than_what_is_compared():
    orders = tuple((1 + i % 4, 1 + i % 3) for i in range(130))
    before = played(Cutting2D(max_pieces=2, demand=CyclicDemand(orders)), 140)[0]
    assert [tuple(size) for size in before.demand[:, 0].tolist()] == [*orders, *orders[:10]]
