"""A trained policy, on one observation and on many, for one actor and for several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.deployment.policy import Policy
from mazejax.errors import ConfigError, SpaceError
from mazejax.networks.template import MLPActorCritic
from mazejax.spaces import Box, Dict, Discrete

SPACES = {
    "select": (Box(-1.0, 1.0, (2,)), Discrete(5)),
    "cut": (
        Dict({"x": Box(-1.0, 1.0, (3,)), "action_mask": Box(False, True, (3,), bool)}),
        Discrete(3),
    ),
    "move": (Box(-1.0, 1.0, ()), Box(-0.1, 0.1, (2,))),
}
NETWORKS = {key: MLPActorCritic((8,)).build(*spaces) for key, spaces in SPACES.items()}
VARIABLES = {
    key: network.init(random.stream(random.key(0), key)) for key, network in NETWORKS.items()
}
POLICY = Policy(NETWORKS, VARIABLES)


def only(step_key):
    return Policy({step_key: NETWORKS[step_key]}, {step_key: VARIABLES[step_key]})


def test_each_actor_acts_by_its_own_network():
    for key, (observations, actions) in SPACES.items():
        obs = observations.sample(random.key(1))
        output, _ = NETWORKS[key].apply(VARIABLES[key], obs)
        mode = NETWORKS[key].to_env(output.distribution.mode())
        np.testing.assert_array_equal(POLICY.act(obs, step_key=key), mode)
        np.testing.assert_array_equal(only(key).act(obs), mode)
        actions.validate(jax.device_get(POLICY.act(obs, step_key=key)))


def test_of_a_single_actor_it_need_not_be_said_who_acts():
    obs = np.zeros(2, np.float32)
    assert only("select").act(obs) == only("select").act(obs, step_key="select")


@pytest.mark.parametrize(
    ("step_key", "message"),
    [
        (None, r"policy.act: step_key: got None; known names: cut, move, select"),
        ("selct", r"policy.act: step_key: got 'selct'; did you mean 'select'"),
    ],
)
def test_who_acts_must_be_said_where_there_are_several(step_key, message):
    with pytest.raises(ConfigError, match=message):
        POLICY.act(np.zeros(2, np.float32), step_key=step_key)


def test_observations_of_another_actor_are_refused():
    with pytest.raises(SpaceError, match=r"obs: got shape \(3,\), expected \(2,\)"):
        POLICY.act(np.zeros(3, np.float32), step_key="select")


def test_batches_and_agents_act_row_by_row():
    rows = np.random.default_rng(0).uniform(-1, 1, (4, 2)).astype(np.float32)
    many = POLICY.act(rows, step_key="select")
    assert many.tolist() == [int(POLICY.act(row, step_key="select")) for row in rows]


def test_draws_follow_the_seed_and_the_mask():
    obs = {"x": jnp.zeros(3), "action_mask": jnp.array([True, False, True])}
    drawn = [int(POLICY.act(obs, seed=seed, step_key="cut")) for seed in range(40)]
    assert set(drawn) == {0, 2}
    assert drawn == [int(POLICY.act(obs, seed=seed, step_key="cut")) for seed in range(40)]


def test_it_shows_what_each_actor_sees_and_does():
    shown = repr(only("select"))
    assert shown.startswith("Policy(Box") and shown.endswith(" -> Discrete(5), 102 parameters)")
    title, *lines = repr(POLICY).splitlines()
    assert title == "Policy:"
    assert [line.split()[0] for line in lines] == ["select", "cut", "move"]
    assert all(line.endswith(" parameters") for line in lines)
