"""Foragers do what a plain Python simulation says, in any order, and drop out for good."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.envs.check import check_env
from mazejax.envs.foraging.core import Foraging, ForagingState
from mazejax.envs.foraging.events import ForagingEvents
from mazejax.envs.foraging.make import make_foraging
from mazejax.envs.vector import VectorEnv
from mazejax.errors import ConfigError
from mazejax.types import ActorID

KEY = random.key(11)
AGENTS = ActorID("agent", None)
SMALL = Foraging(
    num_agents=4, min_agents=2, size=5, num_food=4, initial_energy=7, food_energy=5, max_energy=9
)
NUM_ENVS, NUM_STEPS = 16, 24


def simulate(core_env, key, actions):
    """First state and, by step, (state, reward, terminated, events, done), after the end too."""

    def one_step(state, action):
        step = core_env.step(key, state, action, AGENTS)
        done = core_env.actor_done(step.state, AGENTS)
        return step.state, (step.state, step.reward, step.terminated, step.events, done)

    first = core_env.reset(key).state
    return first, jax.lax.scan(one_step, first, actions)[1]


run = jax.jit(jax.vmap(simulate, in_axes=(None, 0, 0)), static_argnums=0)
step_once = jax.jit(lambda core_env, *args: core_env.step(KEY, *args, AGENTS), static_argnums=0)


def random_run(core_env):
    # More go right and down than back, so that some meet in the corner.
    shape = (NUM_ENVS, NUM_STEPS, core_env.num_agents)
    actions = np.random.default_rng(0).choice(5, shape, p=[0.1, 0.15, 0.3, 0.3, 0.15])
    keys = jax.random.split(KEY, NUM_ENVS)
    return actions, *jax.device_get(run(core_env, keys, jnp.asarray(actions, jnp.int32)))


def cells(words):
    return {(r, c) for r, word in enumerate(words) for c in range(32) if int(word) >> c & 1}


class Reference:
    """The rules, one agent after the other, in Python."""

    def __init__(self, core_env, first):
        self.rules, self.walls, self.food = core_env, cells(first.walls), cells(first.food)
        self.at = [*zip(first.row.tolist(), first.column.tolist(), strict=True)]
        self.energy = first.energy.tolist()

    def step(self, actions):
        """(reward, collected, dropped out) of each agent, and whether the episode ended."""
        acting = [energy > 0 for energy in self.energy]
        for agent in itertools.compress(range(len(acting)), acting):
            down, right = ((0, 0), (-1, 0), (0, 1), (1, 0), (0, -1))[actions[agent]]
            target = self.at[agent][0] + down, self.at[agent][1] + right
            if all(0 <= side < self.rules.size for side in target) and target not in self.walls:
                self.at[agent] = target
        shares, eaten = [np.float32(0)] * len(acting), set()
        for agent in itertools.compress(range(len(acting)), acting):
            mates = sum(
                1
                for a in itertools.compress(range(len(acting)), acting)
                if self.at[a] == self.at[agent]
            )
            gained = 0
            if self.at[agent] in self.food:
                eaten.add(self.at[agent])
                shares[agent] = np.float32(1) / np.float32(mates)
                gained = self.rules.food_energy // mates
            self.energy[agent] = min(self.energy[agent] - 1 + gained, self.rules.max_energy)
        self.food -= eaten
        dropped = [was and energy == 0 for was, energy in zip(acting, self.energy, strict=True)]
        reward = shares
        if self.rules.reward == "team":
            reward = [len(eaten) / len(acting) if was else 0.0 for was in acting]
        return reward, shares, dropped, not self.food or not any(self.energy)


@pytest.mark.parametrize("reward_of", ["individual", "team"])
def test_random_actions_have_exactly_the_effects_that_the_rules_say(reward_of):
    core_env = SMALL.replace(reward=reward_of)
    actions, first, (states, rewards, terminated, events, done) = random_run(core_env)
    met = {"shared": 0, "collected": 0, "dropped": 0, "cleared": 0, "full": 0}
    for env in range(NUM_ENVS):
        state = jax.tree.map(lambda x, env=env: x[env], first)
        reference = Reference(core_env, state)
        for t in range(NUM_STEPS):
            wanted, shares, dropped, is_end = reference.step(actions[env, t])
            now = jax.tree.map(lambda x, at=(env, t): x[at], states)
            assert [*zip(now.row.tolist(), now.column.tolist(), strict=True)] == reference.at
            assert now.energy.tolist() == reference.energy
            assert cells(now.food) == reference.food and cells(now.walls) == reference.walls
            np.testing.assert_array_equal(rewards[env, t], np.float32(wanted))
            assert terminated[env, t] == is_end
            assert done[env, t].tolist() == [energy == 0 for energy in reference.energy]
            log = jax.tree.map(lambda x, at=(env, t): x[at], events)
            check_events(log, shares, dropped)
            met["shared"] += any(0 < share < 1 for share in shares)
            met["collected"] += any(share == 1 for share in shares)
            met["dropped"] += any(dropped)
            met["cleared"] += not reference.food
            met["full"] += core_env.max_energy in reference.energy
    assert all(met.values()), met  # all of the rules were met


def check_events(log, shares, dropped):
    collected = log[ForagingEvents.food_collected]
    who = [agent for agent, share in enumerate(shares) if share]
    assert collected.count == len(who)
    assert collected.attributes["agent"][: len(who)].tolist() == who
    np.testing.assert_array_equal(
        collected.attributes["share"][: len(who)], [shares[agent] for agent in who]
    )
    lost = log[ForagingEvents.agent_dropped_out]
    assert lost.attributes["agent"][: lost.count].tolist() == [*np.flatnonzero(dropped)]


def test_what_the_dropped_out_do_changes_nothing():
    actions, _, (states, *_) = random_run(SMALL)
    active = states.energy > 0
    rng = np.random.default_rng(1)
    checked = 0
    for env, t in [*np.argwhere(active.any(-1) & ~active.all(-1))][:40]:
        state = jax.tree.map(lambda x, at=(env, t): jnp.asarray(x[at]), states)
        action = jnp.asarray(actions[env, t], jnp.int32)
        other = jnp.where(state.active, action, rng.integers(0, 5, 4, dtype=np.int32))
        one, two = step_once(SMALL, state, action), step_once(SMALL, state, other)
        assert all(
            (x == y).all() for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
        )
        inactive = ~np.asarray(state.active)
        assert (np.asarray(one.reward)[inactive] == 0).all()
        assert not np.asarray(one.state.active)[inactive].any()
        checked += bool((action != other).any())
    assert checked > 10


def test_reordered_agents_meet_reordered_fates():
    actions, _, (states, *_) = random_run(SMALL)
    order = np.array([2, 0, 3, 1])
    for env, t in itertools.product(range(6), (0, 3, 6)):
        state = jax.tree.map(lambda x, at=(env, t): jnp.asarray(x[at]), states)
        mixed = state.replace(
            row=state.row[order], column=state.column[order], energy=state.energy[order]
        )
        action = jnp.asarray(actions[env, t], jnp.int32)
        one = step_once(SMALL, state, action)
        two = step_once(SMALL, mixed, action[order])
        np.testing.assert_array_equal(one.reward[order], two.reward)
        for name in ("row", "column", "energy"):
            np.testing.assert_array_equal(getattr(one.state, name)[order], getattr(two.state, name))
        np.testing.assert_array_equal(one.state.food, two.state.food)
        assert one.terminated == two.terminated


def test_two_who_reach_food_at_once_share_it():
    core_env = Foraging(num_agents=3, size=3, num_food=1, food_energy=5, wall_density=0.0)
    state = ForagingState(
        row=jnp.array([0, 0, 2], jnp.int8),
        column=jnp.array([0, 2, 2], jnp.int8),
        energy=jnp.array([1, 7, 1], jnp.int16),
        walls=jnp.zeros(3, jnp.uint32),
        food=jnp.array([2, 1, 0], jnp.uint32),  # (0, 1) and (1, 0)
    )
    step = step_once(core_env, state, jnp.array([2, 4, 0]))
    assert step.reward.tolist() == [0.5, 0.5, 0.0]
    assert step.state.energy.tolist() == [2, 8, 0]  # the first would have starved
    assert step.state.food.tolist() == [0, 1, 0] and not step.terminated
    assert core_env.actor_active(step.state, AGENTS).tolist() == [True, True, False]
    step = step_once(core_env, step.state, jnp.array([0, 3, 0]))
    assert step.state.food_left == 1
    step = step_once(core_env, step.state, jnp.array([0, 4, 0]))
    assert step.reward.tolist() == [0, 1, 0] and step.terminated  # the first starved before


def test_first_states_are_valid_and_every_cell_can_be_reached():
    core_env = Foraging(num_agents=5, min_agents=2, size=8, num_food=7, wall_density=0.7)
    reset = jax.jit(jax.vmap(lambda key: core_env.reset(key).state))
    states = jax.device_get(reset(jax.random.split(KEY, 400)))
    present = (states.energy > 0).sum(axis=1)
    np.testing.assert_allclose(np.bincount(present) / 400, [0, 0, *[0.25] * 4], atol=0.07)
    num_walls = 0
    for env in range(400):
        state = jax.tree.map(lambda x, env=env: x[env], states)
        walls, food = cells(state.walls), cells(state.food)
        agents = {
            (int(state.row[i]), int(state.column[i])) for i in range(5) if state.energy[i] == 12
        }
        assert len(food) == 7 and len(agents) == present[env]
        assert not (walls & food or walls & agents or food & agents)
        assert (state.energy[present[env] :] == 0).all() and (state.row[present[env] :] == -1).all()
        assert all(r % 2 == c % 2 == 1 and max(r, c) < 8 for r, c in walls)
        if env < 20:
            assert reachable(walls, 8) == 64 - len(walls)
        num_walls += len(walls)
    assert num_walls / 400 == pytest.approx(0.7 * 16, abs=0.4)


def reachable(walls, size):
    seen, todo = {(0, 0)}, [(0, 0)]
    while todo:
        r, c = todo.pop()
        for cell in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
            if cell not in seen | walls and all(0 <= side < size for side in cell):
                seen.add(cell)
                todo.append(cell)
    return len(seen)


def test_an_empty_place_stays_empty():
    _, first, (states, rewards, *_) = random_run(SMALL)
    empty = first.energy == 0
    assert empty.any()
    assert (states.energy.swapaxes(1, 2)[empty] == 0).all()
    assert (states.row.swapaxes(1, 2)[empty] == -1).all()
    assert (rewards.swapaxes(1, 2)[empty] == 0).all()


def test_states_are_small_and_go_on_from_their_numbers():
    state = jax.jit(lambda key: Foraging().reset(key).state)(KEY)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(state)) == 128
    leaves, structure = jax.tree.flatten(state)
    again = jax.tree.unflatten(structure, [jnp.asarray(np.array(leaf)) for leaf in leaves])
    action = jnp.arange(8) % 5
    one, two = (step_once(Foraging(), s, action) for s in (state, again))
    for x, y, z in zip(*map(jax.tree.leaves, (one.state, two.state, state)), strict=True):
        assert (x == y).all() and x.dtype == z.dtype and not x.weak_type and not z.weak_type


def test_numbers_can_differ_between_vectorized_envs():
    envs = VectorEnv(
        make_foraging(num_agents=3, num_food=4, size=5),
        2,
        batched={"initial_energy": jnp.array([1, 9]), "wall_density": jnp.array([0.0, 1.0])},
    )
    _, state = jax.jit(envs.reset)(KEY)
    core = envs.env.maze_state(state.envs)
    assert core.energy.tolist() == [[1] * 3, [9] * 3]
    assert core.walls.tolist() == [[0] * 5, [0, 10, 0, 10, 0]]
    stepped = jax.jit(envs.step)(state, jnp.zeros((2, 3), jnp.int32))
    assert stepped.reward.shape == (2, 3) and stepped.terminated.tolist() == [True, False]
    assert stepped.info["actor_done"].tolist() == [[True] * 3, [False] * 3]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"reward": "teams"}, "reward: unknown 'teams'; did you mean 'team'"),
        ({"size": 40}, "size: got 40, expected from 2 to 32"),
        ({"min_agents": 9}, "min_agents: got 9, expected from 1 to 8"),
        ({"size": 4}, "8 agents and 16 food need 24 cells, got 12 without"),
        ({"initial_energy": 0}, "initial_energy: got 0, expected from 1 to 32767"),
        ({"wall_density": 1.5}, "wall_density: got 1.5, expected from 0 to 1"),
        ({"food_energy": -1}, "food_energy: got -1"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(numbers, message):
    with pytest.raises(ConfigError, match=message):
        Foraging(**numbers)


@pytest.mark.slow
def test_it_keeps_the_contract():
    env = make_foraging(num_agents=3, min_agents=1, size=6, num_food=5)
    assert not check_env(env, num_steps=40, num_envs=4).warnings
