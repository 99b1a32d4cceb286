"""Faults in schedules, masks, and in what inactive and departed actors may do."""

import itertools

import jax.numpy as jnp
import pytest

from mazejax.envs.base import Env, flag
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box, Discrete, MultiBinary, MultiDiscrete
from mazejax.types import ActorID
from mazejax.wrappers.base import Wrapper
from mazejax.wrappers.time import TimeLimit
from tests.envs.check import structured, tiny
from tests.envs.check.structured import Trio, TrioState, pieces_with, trio_with
from tests.envs.check.tiny import Duel, Line, change_state, duel_with

turns = itertools.count()


def every_time_another(self):
    return Duel.actors.fget(self)[:: 1 if next(turns) % 2 else -1]


# --- masks ------------------------------------------------------------------------------


def pick_mask(mask, dtype=bool):
    """Pieces with this mask(state) in the space and the observation of `pick`."""
    space = Dict({"position": Box(-1.0, 1.0, (1,)), "action_mask": Box(0, 1, (3,), dtype)})

    def maze_to_space(self, state, agent):
        return {"position": state.position[None], "action_mask": mask(state).astype(dtype)}

    return pieces_with({"space": lambda self: space, "maze_to_space": maze_to_space})


def duel_masks(**sizes):
    """Duel with masks of these sizes, by step key, in its spaces: a MazeEnv refuses bad ones."""
    spaces = {key: Dict({"action_mask": Box(0, 1, (n,), bool)}) for key, n in sizes.items()}
    return duel_with(
        observation_spaces=property(lambda self: {**Duel.observation_spaces.fget(self), **spaces})
    )


class TwoMasks(Line):
    """Line with a Dict of actions, each with a mask; in one entry nothing is allowed later."""

    @property
    def observation_space(self):
        mask = {"go_mask": Box(False, True, (2,), bool), "pair_mask": Box(False, True, (5,), bool)}
        return Dict(mask)

    @property
    def action_space(self):
        return Dict({"go": Discrete(2), "pair": MultiDiscrete((2, 3))})

    def observe(self, state):
        early = state.time < 2
        return {"go_mask": jnp.ones(2, bool), "pair_mask": jnp.arange(5) < jnp.where(early, 5, 2)}

    def step_state(self, key, state, action):
        return Line.step_state(self, key, state, action["go"])


class Switches(Line):
    """Line with two bits for an action, of which a mask allows fewer and fewer."""

    @property
    def observation_space(self):
        return Dict({"action_mask": Box(False, True, (2,), bool)})

    @property
    def action_space(self):
        return MultiBinary((1, 2))

    def observe(self, state):
        return {"action_mask": jnp.arange(2) < 2 - state.time}

    def step_state(self, key, state, action):
        return Line.step_state(self, key, state, action[0, 0])


NAMED_PICK = {
    "space": lambda self: Dict({"piece": Discrete(3)}),
    "space_to_maze": lambda self, action, state, agent: action["piece"],
}
NO_MASK_FOR_ONE = {
    "maze_to_space": lambda self, state, agent: {
        **(obs := structured.TrioView.maze_to_space(self, state, agent)),
        "action_mask": obs["action_mask"] & (agent != 1),
    }
}


# --- who acts -----------------------------------------------------------------------------


def trio_step(change):
    """Trio's step, with `change(step, state before, maze action)` made to what it returns."""

    def step(self, key, state, maze_action, actor):
        return change(Trio.step(self, key, state, maze_action, actor), state, maze_action)

    return step


def move_all(step, state, maze_action):
    position = state.position + 0.01 * maze_action
    moved = jnp.where(state.walks, step.state.position, position)
    return step._replace(state=step.state.replace(position=moved))


def pay_all(step, state, maze_action):
    return step._replace(reward=step.reward + 0.01 * maze_action)


def revive(step, state, maze_action):
    position = jnp.where(state.walks, step.state.position, 0.0)
    return step._replace(state=TrioState(position, step.state.walks | ~state.walks))


class Toll(Wrapper):
    """Takes a toll of every sub-step."""

    def step_state(self, key, state, action):
        step = self.env.step_state(key, state, action)
        return step._replace(reward=step.reward - 0.5)


ERRORS = {
    "schedule_is_a_list": (
        duel_with(actors=property(lambda self: [ActorID("first", 0)])),
        ["Mutant.actors: expected a tuple of at least one ActorID"],
    ),
    "schedule_of_names": (
        duel_with(actors=property(lambda self: ("first", "second"))),
        ["Mutant.actors: got 'first', expected an ActorID"],
    ),
    "schedule_varies": (
        duel_with(actors=property(every_time_another)),
        ["Mutant.actors: got two different schedules", "static fields only"],
    ),
    "agents_are_not_counted": (
        duel_with(agent_counts=property(lambda self: {"first": 1})),
        ["Mutant.agent_counts: missing for step key 'second'"],
    ),
    "actor_without_a_space": (
        duel_with(observation_spaces=property(lambda self: {"first": Box(-5.0, 5.0, (1,))})),
        ["Mutant.observation_spaces: missing for step key 'second'"],
    ),
    "no_look_for_other_actors": (
        duel_with(at_substep=Env.at_substep),
        ["at_substep: raised EnvError"],
    ),
    "look_for_the_wrong_actor": (
        duel_with(at_substep=lambda self, state, substep: state),
        ["at_substep: got a state of sub-step 0, expected 1", "static field"],
    ),
    "mask_of_wrong_shape": (
        duel_masks(first=3),
        ["observation_spaces['first']['action_mask']: got shape (3,), expected (2,)"],
    ),
    "mask_of_numbers": (
        pick_mask(lambda s: s.left | ~s.left.any(), dtype="int32"),
        ["observation_spaces['pick']['action_mask']: got int32, expected bool", "Box(False, True"],
    ),
    "mask_of_a_box": (
        duel_masks(second=1),
        ["observation_spaces['second']['action_mask']: masks a Box"],
    ),
    "mask_without_an_action": (
        pieces_with(pick=NAMED_PICK),
        ["observation_spaces['pick']['action_mask']: masks nothing, expected 'piece_mask'"],
    ),
    "mask_is_empty_in_the_end": (
        pick_mask(lambda s: s.left),
        ["obs['action_mask']: allows nothing in the observation of the end (seen by 'pick')"],
    ),
    "mask_is_empty_in_one_entry": (
        TwoMasks(),
        ["obs['pair_mask']: allows nothing in the observation", "(step 2)"],
    ),
    "mask_is_empty_for_one_agent": (
        trio_with(view=NO_MASK_FOR_ONE),
        ["obs['action_mask']: allows nothing for agent 1 in the observation (step 0)"],
    ),
    "one_activity_for_all_agents": (
        trio_with(actor_active=lambda self, s, actor: s.walks.any()),
        ["actor_active before step: got bool[], expected bool[3]; return one for each"],
    ),
    "activity_is_a_number": (
        trio_with(actor_active=lambda self, s, actor: s.walks.astype("float32")),
        ["actor_active before step: got float32[3], expected bool[3]; convert it"],
    ),
    "end_of_actors_is_a_number": (
        trio_with(actor_done=lambda self, s, actor: 1 - s.walks.astype("int32")),
        ["step: info['actor_done']: got int32[3], expected bool[3]"],
    ),
    "inactive_actor_moves": (
        trio_with(step=trio_step(move_all)),
        ["step: state.core.position: depends on the action of an actor that is not active"],
    ),
    "inactive_actor_earns": (
        trio_with(step=trio_step(pay_all)),
        ["step: reward: depends on the action of an actor that is not active"],
    ),
    "inactivity_is_kept_secret": (
        duel_with(has_inactive_actors=False),
        ["has_inactive_actors: got False, expected True"],
    ),
    "departed_actor_returns": (
        trio_with(step=trio_step(revive)),
        ["step: info['actor_done']: went back to False", "actor_active instead"],
    ),
    "departed_actor_is_active": (
        trio_with(actor_active=lambda self, s, actor: jnp.ones(3, bool)),
        ["step: actor_active: got True of an actor that is done"],
    ),
    "credit_of_no_actor": (
        trio_with(actor_rewards=lambda self, s, rewards: ()),
        ["info['actor_rewards']: got 0 entries, expected a tuple of 1, one entry for every"],
    ),
    "credit_is_no_tuple": (
        trio_with(actor_rewards=lambda self, s, rewards: rewards[0]),
        ["info['actor_rewards']: got", "expected a tuple of 1"],
    ),
    "credit_is_one_for_all_agents": (
        trio_with(actor_rewards=lambda self, s, rewards: (rewards[0].sum(),)),
        ["info['actor_rewards'][0]: got float32[], expected float32[3]; return one for each"],
    ),
    "credit_is_infinite": (
        trio_with(actor_rewards=lambda self, s, rewards: (rewards[0] / s.walks,)),
        ["step: info['actor_rewards'][0]: got", "expected a finite number"],
    ),
    "credit_in_every_substep": (
        duel_with(after=lambda step, s: step._replace(info={"actor_rewards": (step.reward,) * 2})),
        ["step 'first': info['actor_rewards']: got it, expected it after the last sub-step only"],
    ),
    "credit_is_kept_secret": (
        duel_with(
            after=lambda step, s: step._replace(
                info={"actor_rewards": (step.reward,) * 2} if s.substep == 1 else {}
            )
        ),
        ["has_actor_rewards: got False, expected True", "override it"],
    ),
    "flags_are_forgotten": (
        duel_with(
            after=lambda step, s: step._replace(terminated=step.terminated & (s.substep == 0))
        ),
        ["step 'second': terminated: got False after an end in an earlier sub-step"],
    ),
    "reward_after_the_end": (
        Toll(structured.nim_with()),
        ["step 'take' 1: reward: got another than 0 after an end"],
    ),
    "state_moves_after_the_end": (
        duel_with(after=change_state(position=lambda s: 0.9 * s.position)),
        ["step 'second': maze_state['position']: got a change after an end"],
    ),
    "active_after_the_end": (
        duel_with(actor_active=lambda self, s: flag(True)),
        ["step 'second': actor_active: got True after an end"],
    ),
}

WARNINGS = {
    "credit_does_not_add_up": (
        trio_with(actor_rewards=lambda self, s, rewards: (0.5 * rewards[0],)),
        [["actor_rewards: sum to", "expected equal sums"]],
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_planted_fault_is_an_error_that_names_method_and_field(name):
    tiny.assert_found(*ERRORS[name])


@pytest.mark.parametrize("name", WARNINGS)
def test_a_doubtful_choice_is_a_warning_and_no_error(name):
    tiny.assert_warned(*WARNINGS[name])


def test_masks_may_forbid_all_bits():
    report = tiny.check(Switches())
    assert report.errors == report.warnings == ()


@pytest.mark.parametrize("wrap", [lambda env: env, lambda env: TimeLimit(env, 4)])
@pytest.mark.parametrize("name", structured.GOOD)
def test_structured_envs_pass_bare_and_wrapped(name, wrap):
    report = tiny.check(wrap(structured.GOOD[name]))
    assert report.errors == report.warnings == report.skipped == ()
