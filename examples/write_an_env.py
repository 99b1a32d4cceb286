"""An environment from nothing to trained: ordering stock for a shop.

Every day the shop orders up to five units at 2 each, sells at 4 what customers ask for
(0 to 4 units), and pays 0.1 for every unit left in the evening. `python -m
examples.write_an_env` checks the environment, trains PPO on it and draws an evening.
"""

import jax.numpy as jnp

import mazejax
from mazejax import random
from mazejax.events import Attribute, Event, EventLog, Topic
from mazejax.spaces import Box, Discrete

CAPACITY = 20


class ShopEvents(Topic):
    sold_out = Event("Customers left with nothing.", {"missed": Attribute((), "int32")})


class ShopState(mazejax.Pytree):
    stock: mazejax.Array  # int32 []
    demand: mazejax.Array  # of the day before, int32 []


class Shop(mazejax.CoreEnv):
    """The problem itself: no spaces, no time limit, no learning."""

    price: float = 4.0
    cost: float = 2.0
    storage: float = 0.1

    def reset(self, key):
        return mazejax.CoreReset(ShopState(random.randint(key, (), 5), jnp.int32(0)))

    def step(self, key, state, order, actor):
        demand = random.randint(key, (), 5)
        available = jnp.minimum(state.stock + order, CAPACITY)
        sold = jnp.minimum(available, demand)
        left = available - sold
        reward = self.price * sold - self.cost * order - self.storage * left
        log = EventLog.empty(ShopEvents)
        log = log.fire(ShopEvents.sold_out, demand > sold, missed=demand - sold)
        never = jnp.zeros((), bool)
        return mazejax.CoreStep(ShopState(left, demand), reward, never, never, log)

    def draw(self, state):
        left, top = 0.0, float(state.stock)
        stock = mazejax.Shape("polygon", ((left, 0), (1, 0), (1, top), (left, top)), (70, 130, 180))
        return mazejax.Scene((-1, 0, 2, CAPACITY), (stock,), title=f"{int(state.stock)} in stock")


class StockLevel(mazejax.ObservationConversion):
    """What the agent sees: the stock, scaled."""

    def space(self):
        return Box(0.0, 1.0, (1,))

    def maze_to_space(self, state, agent):
        return (state.stock / CAPACITY).astype(jnp.float32)[None]


class OrderUpToFive(mazejax.ActionConversion):
    """What the agent does: how many units it orders."""

    def space(self):
        return Discrete(6)

    def space_to_maze(self, action, state, agent):
        return action


def make_shop(max_steps: int = 50, **numbers: float) -> mazejax.TimeLimit:
    """The environment, as `mazejax check examples.write_an_env:make_shop` finds it."""
    env = mazejax.MazeEnv(Shop(**numbers), StockLevel(), OrderUpToFive())
    return mazejax.TimeLimit(env, max_steps)


if __name__ == "__main__":
    env = make_shop()
    print(mazejax.check_env(env))
    run = mazejax.train("ppo", env, total_steps=200_000, gamma=0.9)
    print(run.evaluate(episodes=100))  # ordering up to four units a day earns about 190
    print(run.render())
