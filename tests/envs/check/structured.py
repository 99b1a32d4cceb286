"""Tiny structured envs of core env and conversions, without fault, and how to make mutants."""

import jax
import jax.numpy as jnp

from mazejax import random
from mazejax.base import Pytree
from mazejax.envs.base import flag
from mazejax.envs.conversion import ActionConversion, ObservationConversion
from mazejax.envs.core import CoreEnv, CoreReset, CoreStep
from mazejax.envs.maze_env import MazeEnv
from mazejax.events.kpi import KPICalculator
from mazejax.events.log import EventLog
from mazejax.events.topic import Attribute, Event, Topic
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box, Discrete
from mazejax.types import ActorID, Scene, Shape
from tests.envs.check.tiny import Duel

# --- two sub-steps with spaces, masks, events, KPIs and drawings of their own ------------


class PieceEvents(Topic):
    arrived = Event("A piece has arrived.", capacity=3)
    picked = Event("A piece was picked.", {"piece": Attribute((), "int32")})
    dropped = Event("A piece was pushed over the edge.")


class PieceState(Pytree):
    left: jax.Array
    position: jax.Array


class PieceShare(KPICalculator):
    """Pieces picked per flat step."""

    def calculate(self, episode, state):
        picked = episode.count(PieceEvents.picked).astype(jnp.float32)
        return {"pieces_per_step": picked / jnp.maximum(episode.num_steps, 1)}


class Pieces(CoreEnv):
    """One of three pieces is picked, then pushed by some strength; done when none is left."""

    strength: float = 0.5

    @property
    def actors(self):
        return (ActorID("pick", 0), ActorID("push", 0))

    def reset(self, key):
        events = EventLog.empty(PieceEvents.arrived).fire(PieceEvents.arrived)
        state = PieceState(jnp.ones(3, bool), random.uniform(key, (), -0.5, 0.5))
        return CoreReset(state, events)

    def step(self, key, state, maze_action, actor):
        log = EventLog.empty(PieceEvents)
        if actor.step_key == "pick":
            state = state.replace(left=state.left & (jnp.arange(3) != maze_action))
            log = log.fire(PieceEvents.picked, piece=maze_action)
            return CoreStep(state, jnp.zeros((), jnp.float32), flag(), flag(), log)
        position = jnp.clip(state.position + self.strength * maze_action, -1.0, 1.0)
        log = log.fire(PieceEvents.dropped, jnp.abs(position) >= 1.0)
        ended = ~state.left.any()
        return CoreStep(state.replace(position=position), position, ended, flag(), log)

    def kpi_calculator(self):
        return PieceShare()

    def draw(self, state):
        place = (float(state.position), 0.0)
        return Scene((-1.0, -1.0, 1.0, 1.0), (Shape("circle", (place,), width=0.1),))


class PickView(ObservationConversion):
    """The position, and which pieces may be picked: any in the end, when none is left."""

    def space(self):
        mask = Box(False, True, (3,), bool)
        return Dict({"position": Box(-1.0, 1.0, (1,)), "action_mask": mask})

    def maze_to_space(self, state, agent):
        mask = state.left | ~state.left.any()
        return {"position": state.position[None], "action_mask": mask}


class PushView(ObservationConversion):
    """The position."""

    def space(self):
        return Box(-1.0, 1.0, (1,))

    def maze_to_space(self, state, agent):
        return state.position[None]


class Pick(ActionConversion):
    """One of three."""

    def space(self):
        return Discrete(3)

    def space_to_maze(self, action, state, agent):
        return action


class Push(ActionConversion):
    """A strength from -1 to 1."""

    def space(self):
        return Box(-1.0, 1.0, (1,))

    def space_to_maze(self, action, state, agent):
        return action[0]


def pieces_with(pick_view=None, push_view=None, pick=None, push=None, name="Mutant", **members):
    """Pieces as a MazeEnv: members of the core env replaced, and of the conversions by dicts."""

    def part(cls, changes):
        return type(name, (cls,), changes)() if changes else cls()

    return MazeEnv(
        part(Pieces, members),
        {"pick": part(PickView, pick_view), "push": part(PushView, push_view)},
        {"pick": part(Pick, pick), "push": part(Push, push)},
    )


# --- three at once, who drop out --------------------------------------------------------


class TrioState(Pytree):
    position: jax.Array
    walks: jax.Array


class Trio(CoreEnv):
    """Three walk at once on a line of their own; who passes 1 drops out. They share rewards."""

    stride: float = 0.5

    @property
    def actors(self):
        return (ActorID("walk", None),)

    @property
    def agent_counts(self):
        return {"walk": 3}

    def reset(self, key):
        return CoreReset(TrioState(random.uniform(key, (3,), -0.5, 0.5), jnp.ones(3, bool)))

    def step(self, key, state, maze_action, actor):
        moved = state.position + self.stride * maze_action
        position = jnp.where(state.walks, moved, state.position)
        reward = jnp.where(state.walks, -jnp.abs(position), 0.0)
        walks = state.walks & (jnp.abs(position) <= 1.0)
        return CoreStep(TrioState(position, walks), reward, ~walks.any(), flag())

    def actor_active(self, state, actor):
        return state.walks

    def actor_done(self, state, actor):
        return ~state.walks

    def actor_rewards(self, state, rewards):
        return (jnp.broadcast_to(rewards[0].sum() / 3.0, (3,)),)


class TrioView(ObservationConversion):
    """One's own position; a mask of all, which is empty for who dropped out."""

    def space(self):
        mask = Box(False, True, (3,), bool)
        return Dict({"position": Box(-2.0, 2.0, ()), "action_mask": mask})

    def maze_to_space(self, state, agent):
        mine = jnp.arange(3) == agent
        position = jnp.where(mine, state.position, 0.0).sum()
        walks = (state.walks & mine).any()
        return {"position": position, "action_mask": jnp.broadcast_to(walks, (3,))}


class Walk(ActionConversion):
    """A step down, none, or one up."""

    def space(self):
        return Discrete(3)

    def space_to_maze(self, action, state, agent):
        return action.astype(jnp.float32) - 1.0


def trio_with(view=None, **members):
    """Trio as a MazeEnv: members of the core env replaced, and of its view by a dict."""
    core = type("Mutant", (Trio,), members)() if members else Trio()
    observation = type("Mutant", (TrioView,), view)() if view else TrioView()
    return MazeEnv(core, observation, Walk())


# --- a turn game that ends early ----------------------------------------------------------


class Nim(CoreEnv):
    """Two take one or two stones in turn; who takes the last wins, at times in the first turn."""

    @property
    def actors(self):
        return (ActorID("take", 0), ActorID("take", 1))

    def reset(self, key):
        return CoreReset(random.randint(key, (), 5) + 1)

    def step(self, key, state, maze_action, actor):
        stones = jnp.maximum(state - maze_action, 0)
        won = stones == 0
        return CoreStep(stones, won.astype(jnp.float32), won, flag())

    def actor_done(self, state, actor):
        return state == 0


class Stones(ObservationConversion):
    """The stones left, and how many may be taken: any when the game is over."""

    def space(self):
        mask = Box(False, True, (2,), bool)
        return Dict({"stones": Box(0, 5, (), "int32"), "action_mask": mask})

    def maze_to_space(self, state, agent):
        mask = (jnp.arange(1, 3) <= state) | (state == 0)
        return {"stones": state, "action_mask": mask}


class Take(ActionConversion):
    """One or two."""

    def space(self):
        return Discrete(2)

    def space_to_maze(self, action, state, agent):
        return action + 1


def nim_with(view=None, **members):
    """Nim as a MazeEnv: members of the core env replaced, and of its view by a dict."""
    core = type("Mutant", (Nim,), members)() if members else Nim()
    return MazeEnv(core, type("Mutant", (Stones,), view)() if view else Stones(), Take())


GOOD = {
    "pieces": pieces_with(),
    "trio": trio_with(),
    "nim": nim_with(),
    "solitaire": nim_with(actors=property(lambda self: (ActorID("take", 0),) * 2)),
    "duel": Duel(),
}
"""Structured envs that keep the contract."""
