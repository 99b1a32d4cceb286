"""Generations per second of evolution strategies, beside evosax where it is installed.

The same two-layer tanh policy, mirrored noise, centered ranks, Adam and one episode of at
most 500 steps for each member on both sides. `python -m benchmarks.es [case ...]` takes
words that select cases.
"""

import importlib.util
import math
import sys
from collections.abc import Callable

from benchmarks.measure import Contender, Measured, report, run_cases

import jax  # isort: skip  # after the XLA flags that measure sets

import mazejax

MAX_STEPS = 500
HIDDEN = (64, 64)
STDDEV, LEARNING_RATE = 0.1, 0.05


def ours(population: int, generations: int, falls: bool = True) -> Contender:
    """Our ES as one pure function."""
    limits = {} if falls else {"angle_threshold": math.inf, "position_threshold": math.inf}
    algorithm = mazejax.ES(
        env=mazejax.make("CartPole-v1", **limits),
        population_size=population,
        max_steps=MAX_STEPS,
        total_steps=generations * population * MAX_STEPS,
        network=mazejax.networks.MLPPolicy(HIDDEN),
        noise_stddev=STDDEV,
        learning_rate=LEARNING_RATE,
        weight_decay=0.0,
    )

    def run(key: jax.Array) -> object:
        state, metrics = algorithm.train(key)
        return state.variables, metrics["population/return"].mean

    return Contender("mazejax", run, generations)


def evosax_loop(population: int, generations: int, falls: bool = True) -> list[Contender]:
    """evosax as its users write it, on its gymnax problem, in one scan; [] if not installed."""
    if importlib.util.find_spec("evosax") is None:
        return []
    import flax.linen as nn
    import optax
    from evosax.algorithms import Open_ES
    from evosax.problems.networks import MLP, categorical_output_fn
    from evosax.problems.rl.gymnax import GymnaxProblem

    limits = {} if falls else {"theta_threshold_radians": math.inf, "x_threshold": math.inf}
    problem = GymnaxProblem(
        "CartPole-v1",
        MLP((*HIDDEN, 2), activation=nn.tanh, output_fn=categorical_output_fn),
        episode_length=MAX_STEPS,
        use_normalize_obs=False,
        env_params=limits,
    )
    solution = problem.sample(jax.random.key(0))
    es = Open_ES(
        population,
        solution,
        optimizer=optax.adam(LEARNING_RATE),
        std_schedule=optax.constant_schedule(STDDEV),
    )

    def run(key: jax.Array) -> object:
        key_start, key_problem, key_scan = jax.random.split(key, 3)
        params = es.default_params
        state = es.init(key_start, problem.sample(key_start), params)

        def one_generation(carry: tuple, key: jax.Array) -> tuple[tuple, jax.Array]:
            state, problem_state = carry
            key_ask, key_eval, key_tell = jax.random.split(key, 3)
            members, state = es.ask(key_ask, state, params)
            fitness, problem_state, _ = problem.eval(key_eval, members, problem_state)
            # It minimizes.
            state, _ = es.tell(key_tell, members, -fitness, state, params)
            return (state, problem_state), fitness.mean()

        begin = (state, problem.init(key_problem))
        (state, _), returns = jax.lax.scan(
            one_generation, begin, jax.random.split(key_scan, generations)
        )
        return es.get_mean(state), returns

    return [Contender("evosax", run, generations)]


def cases() -> dict[str, Callable[[], list[Contender]]]:
    """All cases by name.

    Learning from scratch, episodes are as long as the pole stands; where it cannot fall,
    every member makes all steps on both sides.
    """
    table: dict[str, Callable[[], list[Contender]]] = {}
    for population, generations in ((256, 50), (1024, 15)):
        for label, falls in (("from scratch", True), ("500 steps each", False)):
            sizes = (population, generations, falls)
            table[f"ES CartPole-v1 {population} {label}"] = lambda sizes=sizes: [
                *evosax_loop(*sizes),
                ours(*sizes),
            ]
    return table


def main(words: list[str]) -> list[Measured]:
    """Run the cases whose names contain any of the words; all without words."""
    if importlib.util.find_spec("evosax") is None:
        print("evosax is not installed: it is left out, and the ratios say nothing")
    results = run_cases(cases(), words, rounds=5)
    report("es", results, unit="generations/s")
    return results


if __name__ == "__main__":
    main(sys.argv[1:])
