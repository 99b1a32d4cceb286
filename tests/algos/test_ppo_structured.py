"""PPO on tiny envs of several actors with known answers: choices in turn, agents at once, games.

Every probe isolates one thing: credit that must pass from one actor to another undiscounted,
stay with its agent, or wait for it; a value that must be right although an actor is
inactive; an action that must never be taken.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.algos import batch
from mazejax.algos.metrics import merge_rows
from mazejax.algos.ppo import PPO
from mazejax.base import static
from mazejax.envs.base import flag
from mazejax.envs.conversion import ActionConversion, ObservationConversion
from mazejax.envs.core import CoreEnv, CoreReset, CoreStep
from mazejax.envs.maze_env import MazeEnv
from mazejax.networks.mlp import MLPActorCritic
from mazejax.spaces import Box, Dict, Discrete
from mazejax.types import ActorID
from mazejax.wrappers.time import TimeLimit

GAMMA = 0.5
SEEDS = 3
SETTINGS = {
    "network": MLPActorCritic((16,)),
    "num_envs": 8,
    "num_steps": 15,  # odd, so that rollouts are cut in every phase of an env
    "num_epochs": 4,
    "num_minibatches": 2,
    "total_steps": 120 * 60,
    "learning_rate": 1e-2,
    "learning_rate_schedule": "constant",
    "gamma": GAMMA,
    "ent_coef": 0.0,
}


class See(ObservationConversion):
    """One number of the state, one-hot, for each agent its own where there are several."""

    field: str = static(default="time")
    size: int = static(default=2)

    def space(self):
        return Box(0.0, 1.0, (self.size,))

    def maze_to_space(self, state, agent):
        number = state[self.field]
        number = number if number.ndim == 0 else number[agent]
        return (jnp.arange(self.size) == number).astype(jnp.float32)


class Choose(ActionConversion):
    size: int = static(default=2)

    def space(self):
        return Discrete(self.size)

    def space_to_maze(self, action, state, agent):
        return action


class Trained:
    """What PPO has learned from a probe, over seeds."""

    def __init__(self, env, critic="step", **changes):
        self.algorithm = PPO(env, critic=critic, **{**SETTINGS, **changes})
        self.networks = self.algorithm.actor_critics
        self.state, self.rows = jax.jit(jax.vmap(self.algorithm.train))(
            jax.random.split(random.key(0), SEEDS)
        )

    def output(self, step_key, obs):
        """(probabilities [SEEDS, B, actions], values [SEEDS, B]) of observations [B, ...]."""
        apply = jax.vmap(self.networks[step_key].apply, (0, None))
        output, _ = jax.jit(apply)(self.state.variables[step_key], obs)
        return np.asarray(jax.nn.softmax(output.distribution.logits)), np.asarray(output.value)

    def returns(self, num_episodes=20):
        """Of evaluation by the mode, [SEEDS, episodes]."""
        evaluate = functools.partial(self.algorithm.evaluate, num_episodes=num_episodes)
        keys = jax.random.split(random.key(1), SEEDS)
        return np.asarray(jax.jit(jax.vmap(evaluate))(self.state.variables, keys).returns)


trained = functools.cache(Trained)


def assert_values(got, true):
    np.testing.assert_allclose(got, np.tile(true, (SEEDS, 1)), atol=0.1)


# --- two choices in turn --------------------------------------------------------------------


class Lock(CoreEnv):
    """Two rounds: the right answer depends on the choice before it, and so does its worth.

    Choice 0 makes answer 1 worth 1, choice 1 makes answer 2 worth 0.5; choice 2 takes 0.25
    and ends the episode before there is an answer. Best: 2 in all, 1 + gamma at the start.
    """

    actors = (ActorID("choose", 0), ActorID("answer", 0))

    def reset(self, key):
        nothing = jnp.zeros((), jnp.int32)
        return CoreReset({"time": nothing, "seen": nothing})

    def step(self, key, state, maze_action, actor):
        time = state["time"]
        if actor.step_key == "choose":
            stops = maze_action == 2
            new = {"time": time, "seen": 2 * maze_action + time}
            return CoreStep(new, jnp.where(stops, 0.25, 0.0), stops, flag())
        chosen = state["seen"] // 2
        reward = jnp.where(maze_action == chosen + 1, jnp.where(chosen == 0, 1.0, 0.5), 0.0)
        return CoreStep({**state, "time": time + 1}, reward, time + 1 >= 2, flag())


LOCK = MazeEnv(
    Lock(),
    {"choose": See("time", 3), "answer": See("seen", 6)},
    {"choose": Choose(3), "answer": Choose(3)},
)


@pytest.mark.parametrize("critic", ["step", "shared"])
def test_the_first_choice_is_made_for_the_sake_of_the_second(critic):
    learned = trained(LOCK, critic)
    assert (learned.returns() == 2.0).all()
    # Between the sub-steps of a flat step nothing is discounted.
    assert_values(learned.output("choose", jnp.eye(3)[:2])[1], [1 + GAMMA, 1.0])
    if critic == "step":
        assert_values(learned.output("answer", jnp.eye(6)[:2])[1], [1 + GAMMA, 1.0])


@pytest.mark.parametrize("critic", ["step", "shared"])
def test_metrics_are_told_by_step_key(critic):
    rows = jax.device_get(jax.tree.map(lambda leaf: leaf[0, -1], trained(LOCK, critic).rows))
    found = merge_rows([rows])
    for name in ("loss/policy", "policy/entropy", "policy/approx_kl", "policy/clip_fraction"):
        assert {f"{name}/choose", f"{name}/answer"} <= found.keys() and name not in found
    assert {"loss/total", "optimizer/grad_norm", "train/episode_return"} <= found.keys()
    assert "loss/value/choose" in found
    judges = {name.rsplit("/")[-1] for name in found if "value/" in name}
    assert judges == ({"choose"} if critic == "shared" else {"choose", "answer"})
    assert found["train/episode_length"]["mean"] == 2


# --- agents at once -------------------------------------------------------------------------


class Pair(CoreEnv):
    """Two agents repeat what each sees, for a reward of its own: 1 and 2; two flat steps.

    Agent 1 drops out after the first. V = 1 + gamma, then 1; 2.
    """

    actors = (ActorID("repeat", None),)
    agent_counts = {"repeat": 2}  # noqa: RUF012

    def reset(self, key):
        bits = random.randint(key, (2,), 2)
        return CoreReset({"time": jnp.zeros((), jnp.int32), "seen": self.seen(bits, 0)})

    def seen(self, bits, time):
        return bits + 2 * jnp.arange(2, dtype=jnp.int32) + 4 * time

    def step(self, key, state, maze_action, actor):
        right = (maze_action == state["seen"] % 2) & self.actor_active(state, actor)
        time = state["time"] + 1
        new = {"time": time, "seen": self.seen(random.randint(key, (2,), 2), time)}
        return CoreStep(new, right * jnp.array([1.0, 2.0]), time >= 2, flag())

    def actor_active(self, state, actor):
        return (jnp.arange(2) == 0) | (state["time"] == 0)

    def actor_done(self, state, actor):
        return jnp.arange(2) == 1


PAIR = MazeEnv(Pair(), See("seen", 12), Choose(2))


@pytest.mark.parametrize("critic", ["step", "shared"])
def test_agents_at_once_learn_from_rewards_of_their_own(critic):
    learned = trained(PAIR, critic)
    assert (learned.returns() == 4.0).all()
    probability, value = learned.output("repeat", jnp.eye(12)[:6])
    best = np.tile([0, 1], 3)
    assert (probability[:, np.arange(6), best] > 0.9).all()
    # Agent 0 first, agent 1 first, agent 0 second; the shared value is that of both.
    own, both = [1 + GAMMA, 2.0, 1.0], [3 + GAMMA, 3 + GAMMA, 1.0]
    assert_values(value, np.repeat(own if critic == "step" else both, 2))


class Sleeper(CoreEnv):
    """Two agents earn 1 in every step, endlessly; agent 1 acts in every other step only.

    V = 1 / (1 - gamma) for both, also while agent 1 waits for its turn.
    """

    actors = (ActorID("work", None),)
    agent_counts = {"work": 2}  # noqa: RUF012

    def reset(self, key):
        return CoreReset({"seen": jnp.array([0, 2], jnp.int32)})

    def step(self, key, state, maze_action, actor):
        seen = jnp.array([0, 2], jnp.int32) + 1 - state["seen"] % 2
        return CoreStep({"seen": seen}, jnp.ones(2, jnp.float32), flag(), flag())

    def actor_active(self, state, actor):
        return (jnp.arange(2) == 0) | (state["seen"] % 2 == 0)


@pytest.mark.parametrize("critic", ["step", "shared"])
def test_cuts_while_an_actor_waits_for_its_turn_do_not_change_its_value(critic):
    # Episodes of three steps are truncated, and rollouts cut, before a step in which it waits.
    learned = trained(TimeLimit(MazeEnv(Sleeper(), See("seen", 4), Choose(2)), 3), critic)
    true = 1 / (1 - GAMMA) if critic == "step" else 2 / (1 - GAMMA)
    assert_values(learned.output("work", jnp.eye(4))[1], [true] * 4)


# --- a game in turn -------------------------------------------------------------------------


class Copycat(CoreEnv):
    """The first player moves 0 or 1, the second sees it and wins 1 by copying it, else loses 1.

    The first loses what the second wins, and is paid 2 for moving 1. Only with the first's
    move of the second flat step, whatever it is, the game ends and both are paid: the
    second, which has no move in it, learns of its gain through `actor_rewards`.
    """

    actors = (ActorID("first", 0), ActorID("second", 0))

    def reset(self, key):
        nothing = jnp.zeros((), jnp.int32)
        gain = jnp.zeros((), jnp.float32)
        return CoreReset({"time": nothing, "move": nothing, "gain": gain, "over": flag()})

    def step(self, key, state, maze_action, actor):
        if actor.step_key == "first":
            over = state["time"] == 1
            move = jnp.where(over, state["move"], maze_action)
            reward = jnp.where(over, 2.0 * move - state["gain"], 0.0)
            return CoreStep({**state, "move": move, "over": over}, reward, over, flag())
        gain = jnp.where(maze_action == state["move"], 1.0, -1.0).astype(jnp.float32)
        new = {**state, "time": state["time"] + 1, "gain": gain}
        return CoreStep(new, jnp.zeros((), jnp.float32), flag(), flag())

    def actor_rewards(self, state, rewards):
        return rewards[0], jnp.where(state["over"], state["gain"], 0.0)


def test_both_players_of_a_game_are_credited_with_what_they_win_whoever_ends_it():
    see = {"first": See("time"), "second": See("move")}
    learned = trained(MazeEnv(Copycat(), see, {"first": Choose(2), "second": Choose(2)}))
    probability, value = learned.output("first", jnp.eye(2))
    assert (probability[:, 0, 1] > 0.9).all(), "the first is paid for moving 1"
    assert_values(value, [GAMMA, 1.0])
    probability, value = learned.output("second", jnp.eye(2))
    # It sees a move of 0 no more once the first has learned.
    assert (probability[:, [0, 1], [0, 1]] > 0.8).all(), "the second copies either move"
    assert_values(value[:, 1:], [GAMMA])
    assert (learned.returns() == 1.0).all()


# --- actions that are not allowed -----------------------------------------------------------


class Forbidden(CoreEnv):
    """Of three actions each agent sees which one is forbidden; that one would pay 10.

    The next one pays 1, the other nothing. V = 1.
    """

    actors = (ActorID("pick", None),)
    agent_counts = {"pick": 2}  # noqa: RUF012

    def reset(self, key):
        return CoreReset({"forbidden": random.randint(key, (2,), 3)})

    def step(self, key, state, maze_action, actor):
        distance = (maze_action - state["forbidden"]) % 3
        reward = jnp.where(distance == 0, 10.0, jnp.where(distance == 1, 1.0, 0.0))
        return CoreStep(state, reward, flag(True), flag())


class SeeMask(ObservationConversion):
    def space(self):
        return Dict({"action_mask": Box(False, True, (3,), bool)})

    def maze_to_space(self, state, agent):
        return {"action_mask": jnp.arange(3) != state["forbidden"][agent]}


def test_a_forbidden_action_is_never_taken_however_well_it_pays():
    learned = trained(MazeEnv(Forbidden(), SeeMask(), Choose(3)), ent_coef=0.01)
    every = ~np.eye(3, dtype=bool)
    probability, value = learned.output("pick", {"action_mask": jnp.asarray(every)})
    assert (probability[:, ~every] == 0.0).all()
    assert (probability[:, [0, 1, 2], [1, 2, 0]] > 0.9).all()
    assert_values(value, [1.0] * 3)
    assert (learned.returns() == 2.0).all()
    # While it learned, too: no step ever paid 10, and nothing was not finite.
    found = merge_rows([jax.device_get(jax.tree.map(lambda leaf: leaf[0, -1], learned.rows))])
    assert not [name for name in found if "nonfinite" in name]
    best = np.asarray(learned.rows["train/episode_return"].max)
    assert best.max() == 2.0


def test_rollouts_under_masks_have_finite_probabilities_that_the_loss_repeats():
    learned = trained(MazeEnv(Forbidden(), SeeMask(), Choose(3)), ent_coef=0.01)
    algorithm = learned.algorithm
    state = jax.jit(algorithm.init)(random.key(0))
    _, rollout, _ = jax.jit(algorithm.collect)(state)
    steps = rollout.transitions["pick"]
    mask, action = steps.obs["action_mask"], steps.action
    assert jnp.take_along_axis(mask, action[..., None], -1).all()
    assert np.isfinite(steps.log_prob).all() and (np.exp(steps.log_prob) > 0.2).all()
    output, _ = jax.jit(learned.networks["pick"].apply)(state.variables["pick"], steps.obs)
    repeated = output.distribution.log_prob(action)
    np.testing.assert_allclose(repeated, steps.log_prob, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_less(output.distribution.entropy(), np.log(2) + 1e-6)
    gradient, parts = jax.jit(jax.grad(algorithm.loss, has_aux=True))(
        state.variables, batch.from_rollout(algorithm, rollout)
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((gradient, parts)))
    assert abs(parts["policy/approx_kl"]) < 1e-6 and parts["policy/clip_fraction"] == 0
