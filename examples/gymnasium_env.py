"""A Gymnasium env, trained by the same PPO as compiled envs.

Gymnasium steps 16 carts on the host; between their steps a jitted policy chooses actions,
and every rollout goes to the `learn` that compiled envs feed too. `python -m
examples.gymnasium_env` trains, evaluates, and lets the policy balance in a compiled world.
"""

import mazejax
from mazejax.envs.bridges import HostVectorEnv
from mazejax.runners import evaluate_on_host, train_on_host
from mazejax.runners.evaluation import evaluate


def main():
    # Any env that Gymnasium knows; a vector env of your own goes in as HostVectorEnv(envs).
    with HostVectorEnv.make("CartPole-v1", num_envs=16) as envs:
        algorithm = mazejax.PPO(
            env=envs.spec,  # the spaces are all that an algorithm needs to know
            num_envs=envs.num_envs,
            num_steps=32,
            total_steps=80_000,
            gamma=0.98,
            gae_lambda=0.8,
        )
        state, metrics = train_on_host(algorithm, envs, seed=0)
        returns = metrics["train/episode_return"]  # a summary for each update
        curve = returns.mean[returns.count > 0]
        print(f"training:     return {curve[0]:.1f} at first, {curve[-1]:.1f} at last")
        print("in Gymnasium:", evaluate_on_host(algorithm, state.variables, envs, seed=1))

    compiled = algorithm.replace(env=mazejax.make("CartPole-v1"))
    print("compiled:    ", evaluate(compiled, state.variables, seed=1))


if __name__ == "__main__":  # needed as soon as envs run in processes
    main()
