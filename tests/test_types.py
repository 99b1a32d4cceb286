import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.types import SINGLE_ACTOR, ActorID, Rollout, Scene, Shape, Step, Transition

FLAGS = [(False, False), (False, True), (True, False), (True, True)]


def step(terminated, truncated):
    return Step("obs", "state", 1.0, terminated, truncated, {})


def test_a_step_unpacks_like_that_of_gymnax():
    import gymnax

    obs, state, reward, terminated, truncated, info = step(False, True)
    assert (obs, state, reward, terminated, truncated, info) == (
        "obs",
        "state",
        1.0,
        False,
        True,
        {},
    )
    env, params = gymnax.make("CartPole-v1")
    key = jax.random.key(0)
    _, start = env.reset(key, params)
    theirs = Step(*env.step(key, start, 0, params))
    assert theirs.obs.shape == (4,) and theirs.reward == 1.0 and isinstance(theirs.info, dict)
    assert theirs.terminated.dtype == theirs.truncated.dtype == jnp.bool_


@pytest.mark.parametrize(("terminated", "truncated"), FLAGS)
def test_done_is_either_flag_and_the_discount_knows_only_termination(terminated, truncated):
    for flag in (bool, np.bool_, jnp.bool_):
        one = step(flag(terminated), flag(truncated))
        assert one.done == (terminated or truncated) and one.discount == 1 - terminated


def test_done_and_discount_of_many_envs_have_strong_types():
    flags = jnp.array(FLAGS)
    for run in (lambda s: (s.done, s.discount), jax.jit(lambda s: (s.done, s.discount))):
        done, discount = run(Step(1.0, 1.0, 1.0, flags[:, 0], flags[:, 1], {}))
        assert done.tolist() == [False, True, True, True] and done.dtype == jnp.bool_
        assert discount.tolist() == [1.0, 1.0, 0.0, 0.0]
        assert discount.dtype == jnp.float32 and not discount.weak_type
    host = Step(1.0, 1.0, 1.0, np.array(FLAGS)[:, 0], np.array(FLAGS)[:, 1], {})
    assert host.discount.dtype == np.float32 and isinstance(host.discount, np.ndarray)


def test_actors_are_plain_tuples_that_can_be_static():
    assert SINGLE_ACTOR == ActorID("0", 0) == ("0", 0)
    assert {ActorID("cut", 1): 1}[ActorID("cut", 1)] == 1


def test_transitions_and_rollouts_are_trees_of_arrays_in_their_declared_order():
    shape = (3, 2)
    names = typing.get_type_hints(Transition).keys() - {"compile_time"}
    transition = Transition(**{name: jnp.zeros(shape) for name in names if name[0] != "_"})
    rollout = Rollout({"cut": transition}, next_value={"cut": jnp.ones(shape)})
    fields = ["obs", "action", "reward", "terminated", "truncated", "log_prob", "value"]
    optional = ["active", "actor_done"]
    assert paths_of(rollout) == [
        *(f".transitions['cut'].{name}" for name in fields + optional),
        ".next_value['cut']",
    ]
    row = jax.tree.map(lambda x: x[0], rollout)
    assert row.transitions["cut"].reward.shape == (2,)
    assert row.next_value["cut"].tolist() == [1.0, 1.0]
    without = Transition(*(jnp.zeros(shape) for _ in fields))
    assert paths_of(without) == [f".{name}" for name in fields], "what is None has no leaves"


def paths_of(tree):
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def test_scenes_are_values_without_arrays():
    circle = Shape("circle", ((0.0, 0.5),), width=2.0)
    scene = Scene((0.0, 0.0, 1.0, 1.0), (circle,), title="x")
    again = Scene((0.0, 0.0, 1.0, 1.0), (Shape("circle", ((0.0, 0.5),), width=2),), title="x")
    assert scene == again and hash(scene) == hash(again) and jax.tree.leaves(scene) == []
    assert scene != scene.replace(shapes=(circle.replace(color=(255, 0, 0)),))
    assert circle.color == (0, 0, 0) and scene.background == (255, 255, 255)
