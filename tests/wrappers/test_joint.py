"""Everybody's observations beside one's own, for critics that see more than their policy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import VectorEnv
from mazejax.algos.ppo import PPO
from mazejax.deployment.interface import Interface
from mazejax.deployment.policy import Policy
from mazejax.envs.check import check_env
from mazejax.errors import ConfigError
from mazejax.networks.mlp import MLPActorCritic
from mazejax.networks.perception import PerceptionActorCritic
from mazejax.spaces import Box, Dict
from mazejax.types import ActorID
from mazejax.wrappers.joint import JointObservation
from tests.algos.noise import MIXED, Noise, make_noise
from tests.wrappers.played import KEY, played

TURNS = (ActorID("turn", 0), ActorID("turn", 1))
NUMBERS = Box(-1.0, 1.0, (3,))
JOINT_CRITIC = MLPActorCritic((16,), privileged_keys=("joint",))
SIZES = {"num_envs": 16, "num_steps": 16, "num_minibatches": 2}


class Secrets(Noise):
    """Each earns what the other one sees, and an episode is a flat step."""

    def step(self, key, state, maze_action, actor):
        step = super().step(key, state, maze_action, actor)
        return step._replace(
            reward=state.seen[1 - actor.agent_id, 0],
            terminated=jnp.asarray(actor.agent_id == 1),
            truncated=jnp.zeros((), bool),
        )


SECRETS = make_noise(TURNS).replace(core_env=Secrets(TURNS))


def test_each_actor_sees_what_all_would_see_of_the_same_state():
    bare = make_noise(TURNS)
    env = JointObservation(bare)
    assert env.observation_space == Dict(
        {"observation": NUMBERS, "joint": Dict({"turn_0": NUMBERS, "turn_1": NUMBERS})}
    )
    obs, state = env.reset(KEY)
    for turn in range(2):
        everybody = [bare.observe(bare.at_substep(state, agent)) for agent in range(2)]
        for agent in range(2):
            np.testing.assert_array_equal(obs["joint"][f"turn_{agent}"], everybody[agent])
        np.testing.assert_array_equal(obs["observation"], everybody[turn])
        step = env.step(KEY, state, jnp.int32(0))
        obs, state = step.obs, step.state


def test_agents_at_once_have_one_observation_each():
    env = JointObservation(make_noise(MIXED))
    names = ["plan_0", "move_0", "move_1", "check_0", "check_1"]
    assert [*env.observation_spaces["plan"]["joint"]] == names
    _, state = env.reset(KEY)
    obs = env.step(KEY, state, jnp.int32(0)).obs
    assert obs["observation"].shape == (2, 3)
    for name in names:
        joint = obs["joint"][name]
        assert joint.shape == (2, 3)
        np.testing.assert_array_equal(joint[0], joint[1])
    for agent in range(2):
        np.testing.assert_array_equal(obs["joint"][f"move_{agent}"][0], obs["observation"][agent])


@pytest.mark.slow
def test_it_keeps_the_contract_of_envs():
    assert not check_env(JointObservation(mazejax.make("LandmarkTour-v0"))).errors


def test_auto_resets_and_random_play_are_those_of_the_bare_env():
    bare, joint = make_noise(TURNS), JointObservation(make_noise(TURNS))
    for plain, wrapped in zip(
        *(played(VectorEnv(env, 4), KEY, 12) for env in (bare, joint)), strict=True
    ):
        np.testing.assert_array_equal(wrapped[2].obs["observation"], plain[2].obs)
        np.testing.assert_array_equal(wrapped[2].reward, plain[2].reward)


def explained(network, env):
    algorithm = PPO(env, network=network, total_steps=256 * 60, learning_rate=1e-2, **SIZES)
    _, metrics = jax.jit(algorithm.train)(KEY)
    return float(np.mean(metrics["value/explained_variance"].mean[-10:]))


def test_a_critic_that_sees_all_foresees_what_its_policy_cannot():
    env = JointObservation(SECRETS)
    # What the second one will earn is not drawn yet when the first one acts.
    assert explained(JOINT_CRITIC, env) > 0.45
    assert explained(MLPActorCritic((16,)), SECRETS) < 0.1


@pytest.mark.parametrize("template", [JOINT_CRITIC, PerceptionActorCritic(privileged_keys="joint")])
def test_outside_of_training_nobody_asks_for_the_others(template):
    env = JointObservation(make_noise(TURNS))
    algorithm = PPO(env, network=template, total_steps=256, **SIZES)
    state = jax.jit(algorithm.init)(KEY)
    policy = Policy(algorithm.actor_critics, state.variables)
    interface = Interface(env)
    raw = np.array([0.5, -0.25, 1.0], np.float32)
    obs, _ = interface.observe(raw)
    assert set(obs) == {"observation"}
    full = {**env.reset(KEY)[0], "observation": raw}
    np.testing.assert_array_equal(policy.act(obs, seed=1), policy.act(full, seed=1))
    batch = np.stack([raw, -raw])
    assert policy.act({"observation": batch}).shape == (2,)


def test_it_can_be_put_around_an_env_once():
    with pytest.raises(ConfigError, match="has a 'joint' already; wrap it once"):
        JointObservation(JointObservation(make_noise(TURNS)))
