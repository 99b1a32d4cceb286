"""An env that is known by its spaces alone: all that learners need, and nothing to step."""

import numpy as np
import pytest

from mazejax import random
from mazejax.algos.ppo import PPO
from mazejax.envs.bridges.host_spec import HostEnvSpec
from mazejax.errors import EnvError
from mazejax.runners.evaluation import evaluate
from mazejax.spaces.simple import Box, Discrete
from mazejax.types import SINGLE_ACTOR

SPEC = HostEnvSpec("Far-v0", (Box(-1.0, 1.0, (3,)), Discrete(2)))


def test_it_is_an_env_of_one_actor_that_compares_by_value():
    assert SPEC == HostEnvSpec("Far-v0", (Box(-1.0, 1.0, (3,)), Discrete(2)))
    assert hash(SPEC) == hash(SPEC.replace()) and SPEC != SPEC.replace(env_id="Near-v0")
    assert SPEC.actors == (SINGLE_ACTOR,) and str(SPEC) == "Far-v0"
    assert (SPEC.observation_space, SPEC.action_space) == SPEC.spaces


def test_algorithms_know_their_networks_and_their_schedule_by_it():
    algorithm = PPO(SPEC, num_envs=4, num_steps=8, total_steps=100)
    assert algorithm.num_updates == 4
    shapes = algorithm.init_variables(random.key(0))["0"]["params"]
    assert {np.shape(leaf)[0] for leaf in shapes["policy"]["dense"].values()} == {2}


@pytest.mark.parametrize(
    ("what", "call"),
    [
        ("reset", lambda: SPEC.reset(random.key(0))),
        ("stepped", lambda: SPEC.step(random.key(0), (), np.int32(0))),
        ("observed", lambda: SPEC.observe(())),
        ("asked for its time", lambda: SPEC.time(())),
        ("reset", lambda: PPO(SPEC).init(random.key(0))),
        ("reset", lambda: evaluate(PPO(SPEC), {"0": {}}, seed=0)),
    ],
)
def test_what_needs_the_env_itself_says_where_it_lives(what, call):
    with pytest.raises(EnvError) as error:
        call()
    assert str(error.value) == (
        f"Far-v0: cannot be {what} by compiled code, for it lives on the host; use "
        f"mazejax.runners.train_on_host and evaluate_on_host with its HostVectorEnv"
    )
