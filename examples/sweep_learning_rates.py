"""Which learning rate, and how sure can one be: a sweep of PPO on CartPole.

`python -m examples.sweep_learning_rates` trains three learning rates with and without an
entropy bonus, five seeds each: thirty runs in one compiled program. It prints the table
with interquartile means and their bootstrap intervals, and draws `sweep/curves.png`.
"""

import mazejax
from mazejax.runners.sweep import sweep

if __name__ == "__main__":
    algorithm = mazejax.PPO(mazejax.make("CartPole-v1", max_steps=200), total_steps=16_000)
    grid = {"learning_rate": [3e-4, 2.5e-3, 2e-2], "ent_coef": [0.0, 0.01]}
    result = sweep(algorithm, grid, seeds=5, eval_episodes=16)
    print(result)
    result.save("sweep")
    print("best:", result.best)  # result.best_algorithm is it: train it on, or sweep around it
