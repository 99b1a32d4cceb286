"""Credit of rollouts of several actors, worked by hand and against walks over the schedule.

Discounts and lambdas are a half unless said otherwise, so that every number is exact.
"""

import hypothesis
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.algos import credit, returns
from mazejax.algos.credit import assign, assign_shared
from mazejax.envs.base import Env
from mazejax.types import ActorID, Rollout, Transition

NAN = np.nan
"""Stands wherever a number must not be read."""


def scheduled(*actors, counts=None, credits=False):
    """An env of which only the schedule matters."""

    class Scheduled(Env):
        has_actor_rewards = credits

    Scheduled.actors = tuple(ActorID(*actor) for actor in actors)
    if counts is not None:
        Scheduled.agent_counts = counts
    return Scheduled()


def steps_of(reward, value, active=None, terminated=None, truncated=None, actor_done=None):
    """Transitions of one step key; flags are all false where not given."""
    reward = np.asarray(reward, np.float32)
    no = np.zeros(reward.shape[:2], bool)
    return Transition(
        obs=(),
        action=(),
        reward=reward,
        terminated=no if terminated is None else np.asarray(terminated, bool),
        truncated=no if truncated is None else np.asarray(truncated, bool),
        log_prob=np.zeros_like(reward),
        value=np.asarray(value, np.float32),
        active=None if active is None else np.asarray(active, bool),
        actor_done=None if actor_done is None else np.asarray(actor_done, bool),
    )


def rollout_of(next_value, **transitions):
    return Rollout(transitions, {k: np.asarray(v, np.float32) for k, v in next_value.items()})


def check(got, key, advantage, value, waiting=None):
    """The advantage [T, N] or [T, N, S], and the target: the advantage on top of the value.

    `waiting` holds the targets where the actor is inactive, NAN where there is none.
    """
    advantage, value = np.asarray(advantage, np.float32), np.asarray(value, np.float32)
    np.testing.assert_array_equal(got[key].advantage, advantage)
    has_target = got[key].has_target
    if waiting is None:
        np.testing.assert_array_equal(got[key].target, advantage + value)
        assert has_target is None or has_target.all()
        return
    target = np.where(advantage == 0, waiting, advantage + value)
    np.testing.assert_array_equal(has_target, ~np.isnan(target))
    np.testing.assert_array_equal(got[key].target[has_target], target[has_target])


# --- one reward in common: the sub-steps are links of a chain -------------------------------

CHAIN = scheduled(("select", 0), ("cut", 0))
SCENES = {
    # scene: (first flat step: reward of both, cut active, terminated, truncated;
    #         next value of select; advantages of select and cut in it, target of an idle cut)
    # Second flat step, in all scenes: cut 8 + .5 * 16 - 4 = 12; select 0 + 4 - 2 + .5 * 12 = 8.
    # cut 8 + .5 * 2 - 3 + .25 * 8 = 8; select 0 + 3 - 1 + .5 * 8 = 6: no discount between them
    "goes on": ((0, 8), True, False, False, NAN, (6, 8, NAN)),
    # cut 8 - 3 = 5; select 0 + 3 - 1 + .5 * 5 = 4.5
    "terminated by cut": ((0, 8), True, True, False, NAN, (4.5, 5, NAN)),
    # cut 8 + .5 * 6 - 3 = 8; select as above
    "truncated": ((0, 8), True, False, True, 6, (6, 8, NAN)),
    "both at once": ((0, 8), True, True, True, NAN, (4.5, 5, NAN)),
    # select 4 - 1 = 3
    "terminated by select": ((4, 0), False, True, False, NAN, (3, 0, NAN)),
    # select 4 + .5 * 6 - 1 = 6: the flat step takes its time all the same
    "truncated in select": ((4, 0), False, False, True, 6, (6, 0, NAN)),
    # select 0 + 8 + .5 * 2 - 1 = 8, and .5 * .5 * 8 = 2; cut is worth 8 + .5 * 2, and 2
    "nothing to cut": ((0, 8), False, False, False, NAN, (10, 0, 11)),
}


@pytest.mark.parametrize("scene", SCENES)
def test_in_a_chain_only_the_last_sub_step_takes_time(scene):
    (first, second), cuts, terminated, truncated, following, expected = SCENES[scene]
    flags = {"terminated": [[terminated], [False]], "truncated": [[truncated], [False]]}
    values = {"select": [[1], [2]], "cut": [[3], [4]]}
    got = assign(
        CHAIN,
        rollout_of(
            {"select": [[following], [16]], "cut": [[NAN], [NAN]]},
            select=steps_of([[first], [0]], values["select"], [[True], [True]], **flags),
            cut=steps_of([[second], [8]], values["cut"], [[cuts], [True]], **flags),
        ),
        0.5,
        0.5,
    )
    check(got, "select", [[expected[0]], [8]], values["select"])
    check(got, "cut", [[expected[1]], [12]], values["cut"], expected[2])


@pytest.mark.parametrize(
    ("terminated", "truncated", "last"), [(True, False, 4), (False, True, 12), (True, True, 4)]
)
def test_the_last_flat_step_of_a_rollout_may_be_that_of_an_episode(terminated, truncated, last):
    # cut 8 - 4 = 4, or 8 + .5 * 16 - 4 = 12; select 0 + 4 - 2 + .5 * cut
    flags = {"terminated": [[terminated]], "truncated": [[truncated]]}
    got = assign(
        CHAIN,
        rollout_of(
            {"select": [[16]], "cut": [[NAN]]},
            select=steps_of([[0]], [[2]], [[True]], **flags),
            cut=steps_of([[8]], [[4]], [[True]], **flags),
        ),
        0.5,
        0.5,
    )
    check(got, "cut", [[last]], [[4]])
    check(got, "select", [[2 + 0.5 * last]], [[2]])


@pytest.mark.parametrize("active", [None, np.ones((2, 1, 2))])
def test_a_step_key_may_stand_several_times_in_a_chain(active):
    env = scheduled(("work", 0), ("rest", 0), ("work", 0))
    values = {"work": [[[1, 3]], [[4, 2]]], "rest": [[2], [6]]}
    got = assign(
        env,
        rollout_of(
            {"work": [[[NAN, NAN]], [[8, NAN]]], "rest": [[NAN], [NAN]]},
            work=steps_of([[[1, 2]], [[0, 1]]], values["work"], active),
            rest=steps_of([[4], [2]], values["rest"], active if active is None else active[..., 0]),
        ),
        0.5,
        0.0,
    )
    # TD errors: work 1 + 2 - 1 = 2, rest 4 + 3 - 2 = 5, work 2 + .5 * 4 - 3 = 1;
    # work 0 + 6 - 4 = 2, rest 2 + 2 - 6 = -2, work 1 + .5 * 8 - 2 = 3
    check(got, "work", [[[2, 1]], [[2, 3]]], values["work"])
    check(got, "rest", [[5], [-2]], values["rest"])


def test_one_agent_that_acts_with_an_agent_axis_is_a_link_like_others():
    env = scheduled(("select", 0), ("cut", None), counts={"select": 1, "cut": 1})
    values = {"select": [[1], [2]], "cut": [[[3]], [[4]]]}
    got = assign(
        env,
        rollout_of(
            {"select": [[NAN], [16]], "cut": [[[NAN]], [[NAN]]]},
            select=steps_of([[0], [0]], values["select"], np.ones((2, 1))),
            cut=steps_of([[[8]], [[8]]], values["cut"], np.ones((2, 1, 1))),
        ),
        0.5,
        0.5,
    )
    check(got, "select", [[6], [8]], values["select"])
    check(got, "cut", [[[8]], [[12]]], values["cut"])


@st.composite
def chains(draw, steps=5, envs=2, links=3):
    """Rewards, values [T, N, 3], active, terminated, truncated, next value of the first."""
    numbers = arrays.arrays(np.float32, (2, steps, envs, links), elements=st.integers(-8, 8))
    flags = arrays.arrays(bool, (2, steps, envs), elements=st.booleans())
    active = arrays.arrays(bool, (steps, envs, links), elements=st.booleans())
    following = arrays.arrays(np.float32, (steps, envs), elements=st.integers(-8, 8))
    return (*draw(numbers), draw(active), *draw(flags), draw(following))


THREE = scheduled(("a", 0), ("b", 0), ("a", 0))


@jax.jit
def assign_three(rollout):
    return assign(THREE, rollout, 0.75, 0.5)


def rollout_of_three(reward, value, active, terminated, truncated, following):
    """The first and the last link are slots of one step key."""
    flags = {"terminated": terminated, "truncated": truncated}
    ends = jnp.array([0, 2])
    return rollout_of(
        {"a": np.stack([following, np.full_like(following, NAN)], -1), "b": following * NAN},
        a=steps_of(reward[..., ends], value[..., ends], active[..., ends], **flags),
        b=steps_of(reward[..., 1], value[..., 1], active[..., 1], **flags),
    )


@hypothesis.given(chains())
def test_a_chain_is_what_a_walk_from_link_to_link_gives(chain):
    reward, value, active, terminated, truncated, following = chain
    got = assign_three(rollout_of_three(*chain))
    advantage = np.stack(
        [got["a"].advantage[..., 0], got["b"].advantage, got["a"].advantage[..., 1]], -1
    )
    steps, envs, links = reward.shape
    expected = np.zeros_like(advantage)
    for i in range(envs):
        later, worth = 0.0, following[-1, i]  # advantage and value of the next active link
        for t in reversed(range(steps)):
            for link in reversed(range(links)):
                discount = 0.75 if link == links - 1 else 1.0
                if link == links - 1 and (terminated[t, i] or truncated[t, i]):
                    later, worth = 0.0, 0.0 if terminated[t, i] else following[t, i]
                worth = reward[t, i, link] + discount * worth
                later = discount * later
                if active[t, i, link]:
                    later = worth - value[t, i, link] + 0.5 * later
                    worth = value[t, i, link]
                    expected[t, i, link] = later
    np.testing.assert_allclose(advantage, expected, rtol=1e-5, atol=1e-4)


# --- rewards of one's own: every slot is a stream -------------------------------------------


def test_the_loser_of_a_turn_game_sees_its_loss_at_its_last_move():
    game = scheduled(("player", 0), ("player", 1), credits=True)
    # Player 0 wins with the first move of the third flat step: player 1 had no move in it.
    values = np.array([[[1, 2]], [[2, 4]], [[3, 50]], [[1, 1]]])
    got = assign(
        game,
        rollout_of(
            {"player": [[[NAN, NAN]]] * 3 + [[[8, 4]]]},
            player=steps_of(
                reward=[[[0, 0]], [[0, 0]], [[1, -1]], [[0, 0]]],
                value=values,
                active=[[[True, True]], [[True, True]], [[True, False]], [[True, True]]],
                terminated=[[False], [False], [True], [False]],
            ),
        ),
        0.5,
        0.5,
    )
    # Winner: t=2: 1 - 3 = -2; t=1: .5 * 3 - 2 + .25 * -2 = -1; t=0: .5 * 2 - 1 + .25 * -1 = -.25
    # Loser: t=1: .5 * -1 - 4 = -4.5; t=0: .5 * 4 - 2 + .25 * -4.5 = -1.125
    # The next game: .5 * 8 - 1 = 3 and .5 * 4 - 1 = 1
    check(got, "player", [[[-0.25, -1.125]], [[-1, -4.5]], [[-2, 0]], [[3, 1]]], values, NAN)


def test_who_moves_second_may_win_and_a_clock_may_end_the_game():
    game = scheduled(("white", 0), ("black", 0), credits=True)
    flags = {"terminated": [[True, False]], "truncated": [[False, True]]}
    values = {"white": [[2, 2]], "black": [[1, 1]]}
    got = assign(
        game,
        rollout_of(
            {"white": [[NAN, 4]], "black": [[NAN, 8]]},
            white=steps_of([[-1, 0]], values["white"], [[True, True]], **flags),
            black=steps_of([[1, 0]], values["black"], [[True, True]], **flags),
        ),
        0.5,
        0.5,
    )
    # -1 - 2 and 1 - 1; truncated: each by its own next value, .5 * 4 - 2 and .5 * 8 - 1
    check(got, "white", [[-3, 0]], values["white"])
    check(got, "black", [[0, 3]], values["black"])


def test_who_waits_for_its_turn_has_a_value_and_no_advantage():
    team = scheduled(("carry", None), counts={"carry": 2})
    values = np.array([[[1, 2]], [[2, 9]], [[4, 2]]])
    got = assign(
        team,
        rollout_of(
            {"carry": [[[NAN, NAN]], [[NAN, NAN]], [[8, 4]]]},
            carry=steps_of(
                reward=[[[1, 1]], [[1, 2]], [[1, 1]]],
                value=values,
                active=[[[True, True]], [[True, False]], [[True, True]]],
                terminated=[[False], [False], [True]],
                actor_done=np.zeros((3, 1, 2)),
            ),
        ),
        0.5,
        0.5,
    )
    # Agent 0: 1 - 4 = -3; 1 + 2 - 2 - .75 = .25; 1 + 1 - 1 + .0625
    # Agent 1: 1 - 2 = -1; it waits for 2 + .5 * 2 = 3, less .25; 1 + 1 + .25 * 2 - 2 - .125
    advantage = [[[1.0625, 0.375]], [[0.25, 0]], [[-3, -1]]]
    check(got, "carry", advantage, values, [[[NAN, NAN]], [[NAN, 2.75]], [[NAN, NAN]]])


def test_agents_that_drop_out_have_no_next_value():
    team = scheduled(("carry", None), counts={"carry": 3})
    values = np.array([[[1, 2, 4]], [[2, 60, 2]], [[4, 70, 1]]])
    # Agent 1 drops out in the first flat step, and agent 2 in the last; agent 0 stays.
    active = [[[True, True, True]], [[True, False, True]], [[True, False, True]]]
    done = [[[False, True, False]], [[False, True, False]], [[False, True, True]]]
    got = assign(
        team,
        rollout_of(
            {"carry": [[[NAN, NAN, NAN]], [[NAN, NAN, NAN]], [[8, 80, 90]]]},
            carry=steps_of(np.ones((3, 1, 3)), values, active, actor_done=done),
        ),
        0.5,
        0.0,
    )
    # Agent 0: 1 + .5 * 2 - 1 = 1; 1 + .5 * 4 - 2 = 1; 1 + .5 * 8 - 4 = 1
    # Agent 1: what it still earns, and nothing after: 1 + .5 + .25 - 2 = -.25
    # Agent 2: 1 + .5 * 2 - 4 = -2; 1 + .5 * 1 - 2 = -.5; 1 - 1 = 0
    advantage = [[[1, -0.25, -2]], [[1, 0, -0.5]], [[1, 0, 0]]]
    # Who is gone has nothing to value; the 0 of agent 2 is an advantage like others.
    check(got, "carry", advantage, values, [[[NAN] * 3], [[NAN] * 3], [[NAN, NAN, 1]]])


@pytest.mark.parametrize("truncated", [False, True])
def test_a_cut_bootstraps_only_those_who_stay(truncated):
    team = scheduled(("carry", None), counts={"carry": 2})
    got = assign(
        team,
        rollout_of(
            {"carry": [[[8, 8]]]},
            carry=steps_of(
                [[[1, 1]]],
                [[[1, 1]]],
                [[[True, True]]],
                truncated=[[truncated]],
                actor_done=[[[False, True]]],
            ),
        ),
        0.5,
        0.5,
    )
    check(got, "carry", [[[4, 0]]], [[[1, 1]]])


def test_agents_in_turn_are_streams_of_their_own_even_within_a_flat_step():
    pair = scheduled(("work", 0), ("work", 1))
    values = np.array([[[1, 3]], [[4, 2]]])
    got = assign(
        pair,
        rollout_of(
            {"work": [[[NAN, NAN]], [[8, 4]]]},
            work=steps_of([[[1, 2]], [[0, 1]]], values, np.ones((2, 1, 2))),
        ),
        0.5,
        0.5,
    )
    # Agent 0: 0 + .5 * 8 - 4 = 0; 1 + .5 * 4 - 1 = 2, and .25 * 0
    # Agent 1: 1 + .5 * 4 - 2 = 1; 2 + .5 * 2 - 3 = 0, and .25 * 1
    check(got, "work", [[[2, 0.25]], [[0, 1]]], values)


@pytest.mark.parametrize("everyone", [None, True])
def test_whoever_always_acts_has_the_advantages_of_gae(everyone):
    numbers = np.random.default_rng(0)
    reward, value, last = numbers.normal(size=(3, 6, 4, 2)).astype(np.float32)
    terminated, truncated = numbers.random((2, 6, 4)) < 0.2
    following = np.where(truncated[..., None], last, np.concatenate([value[1:], last[-1:]]))
    flags = {"terminated": terminated, "truncated": truncated}
    active = None if everyone is None else np.ones(reward.shape, bool)
    rollout = rollout_of({"carry": following}, carry=steps_of(reward, value, active, **flags))
    team = scheduled(("carry", None), counts={"carry": 2})
    got = jax.jit(lambda rollout: assign(team, rollout, 0.9, 0.8))(rollout)
    for slot in range(2):
        alone = (x[..., slot] for x in (reward, value, following))
        expected = returns.gae(*alone, terminated, truncated, 0.9, 0.8)
        np.testing.assert_allclose(got["carry"].advantage[..., slot], expected, atol=1e-5)


def test_a_flat_env_is_a_stream_and_its_target_is_the_advantage_on_top_of_the_value():
    flat = scheduled(("0", 0))
    got = assign(
        flat,
        rollout_of(
            {"0": [[2, 2], [8, 8], [8, 8]]},
            **{
                "0": steps_of(
                    np.ones((3, 2)),
                    np.full((3, 2), 2),
                    terminated=[[False, False], [False, True], [False, False]],
                    truncated=[[False, False], [True, False], [False, False]],
                )
            },
        ),
        0.5,
        1.0,
    )
    check(got, "0", [[1.5, -0.5], [3, -1], [3, 3]], np.full((3, 2), 2))


def test_rewards_are_own_where_they_are_redistributed_or_an_actor_has_several_agents():
    assert not credit.has_own_rewards(scheduled(("a", 0), ("b", 0)))
    assert not credit.has_own_rewards(scheduled(("a", 0), ("b", 0), ("a", 0)))
    assert credit.has_own_rewards(scheduled(("a", 0), ("b", 0), credits=True))
    assert credit.has_own_rewards(scheduled(("a", 0), ("b", 0), ("b", 1)))
    assert credit.has_own_rewards(scheduled(("a", 0), ("b", None), counts={"a": 1, "b": 2}))


# --- one advantage for all ------------------------------------------------------------------


def test_shared_credit_is_that_of_the_flat_step_for_every_slot():
    env = scheduled(("plan", 0), ("carry", None), counts={"plan": 1, "carry": 2})
    terminated, truncated = [[False, False], [True, False]], [[False, False], [False, True]]
    flags = {"terminated": terminated, "truncated": truncated}
    got = assign_shared(
        env,
        rollout_of(
            {"plan": [[2, 2], [8, 8]], "carry": np.full((2, 2, 2), NAN)},
            plan=steps_of([[1, 1], [1, 1]], [[4, 4], [2, 2]], np.ones((2, 2)), **flags),
            carry=steps_of(
                [[[2, 3], [2, 3]], [[0, 0], [1, 2]]], np.full((2, 2, 2), NAN), np.ones((2, 2, 2)),
                **flags,
            ),
        ),
        0.5,
        0.5,
    )  # fmt: skip
    # Flat rewards 6, 6 and 1, 4. Env 0, terminated: 1 - 2 = -1; 6 + .5 * 2 - 4 + .25 * -1 = 2.75
    # Env 1, truncated: 4 + .5 * 8 - 2 = 6; 6 + 1 - 4 + .25 * 6 = 4.5
    advantage = np.array([[2.75, 4.5], [-1, 6]])
    target = advantage + [[4, 4], [2, 2]]
    np.testing.assert_array_equal(got["plan"].advantage, advantage)
    np.testing.assert_array_equal(got["plan"].target, target)
    assert got["plan"].has_target.all() and not got["carry"].has_target.any()
    for slot in range(2):
        np.testing.assert_array_equal(got["carry"].advantage[..., slot], advantage)
        np.testing.assert_array_equal(got["carry"].target[..., slot], target)


def test_the_shared_value_of_agents_at_once_is_the_mean_of_theirs():
    team = scheduled(("carry", None), counts={"carry": 2})
    got = assign_shared(
        team,
        rollout_of({"carry": [[[6, 10]]]}, carry=steps_of([[[1, 2]]], [[[1, 3]]])),
        0.5,
        0.5,
    )
    # 3 + .5 * 8 - 2 = 5
    np.testing.assert_array_equal(got["carry"].advantage, [[[5, 5]]])
    np.testing.assert_array_equal(got["carry"].target, [[[7, 7]]])
    assert got["carry"].has_target.all()


def test_the_shared_value_is_learned_by_all_who_are_in_its_mean_and_only_the_active_are_credited():
    team = scheduled(("carry", None), counts={"carry": 2})
    active, done = [[[True, False]]], [[[False, True]]]
    steps = steps_of([[[1, 2]]], [[[1, 3]]], active, actor_done=done)
    got = assign_shared(team, rollout_of({"carry": [[[6, 10]]]}, carry=steps), 0.5, 0.5)
    np.testing.assert_array_equal(got["carry"].advantage, [[[5, 0]]])
    np.testing.assert_array_equal(got["carry"].target, [[[7, 7]]])
    assert got["carry"].has_target.all()


def test_the_shared_value_is_what_is_seen_before_any_sub_step():
    values = np.array([[[1, NAN]], [[4, NAN]]])
    got = assign_shared(
        THREE,
        rollout_of(
            {"a": [[[4, NAN]], [[8, NAN]]], "b": [[NAN], [NAN]]},
            a=steps_of([[[1, 2]], [[0, 1]]], values, np.ones((2, 1, 2))),
            b=steps_of([[4], [2]], [[NAN], [NAN]], np.ones((2, 1))),
        ),
        0.5,
        0.0,
    )
    # 7 + .5 * 4 - 1 = 8 and 3 + .5 * 8 - 4 = 3
    np.testing.assert_array_equal(got["a"].advantage, [[[8, 8]], [[3, 3]]])
    np.testing.assert_array_equal(got["b"].target, [[9], [7]])
    np.testing.assert_array_equal(got["a"].has_target, [[[True, False]]] * 2)
    assert not got["b"].has_target.any()


@hypothesis.given(chains())
def test_with_lambda_of_one_both_credits_tell_the_first_actor_the_same(chain):
    reward, value, active, terminated, truncated, following = chain
    active = np.ones_like(active)
    # Values that belong together: the next value is that of the first link that follows.
    together = np.concatenate([value[1:, :, 0], following[-1:]])
    following = np.where(truncated, following, together)
    rollout = rollout_of_three(reward, value, active, terminated, truncated, following)
    one, other = both_with_lambda_of_one(rollout)
    np.testing.assert_allclose(one["a"].target[..., 0], other["a"].target[..., 0], atol=1e-3)


@jax.jit
def both_with_lambda_of_one(rollout):
    return assign(THREE, rollout, 0.75, 1.0), assign_shared(THREE, rollout, 0.75, 1.0)


# --- numbers of any kind --------------------------------------------------------------------


def test_discounts_may_be_swept():
    rollout = rollout_of(
        {"select": [[NAN], [16]], "cut": [[NAN], [NAN]]},
        select=steps_of([[0], [0]], [[1], [2]], [[True], [True]]),
        cut=steps_of([[8], [8]], [[3], [4]], [[True], [True]]),
    )
    gammas = jnp.array([0.5, 0.75, 1.0])
    for function in (assign, assign_shared):
        swept = jax.vmap(lambda gamma, f=function: f(CHAIN, rollout, gamma, 0.5))(gammas)
        for i, gamma in enumerate(gammas):
            alone = function(CHAIN, rollout, gamma, 0.5)
            jax.tree.map(
                lambda one, all_, i=i: np.testing.assert_allclose(all_[i], one, rtol=1e-6),
                alone,
                swept,
            )
