"""How many working instructions one step of each env may compile to, as a count and not a time.

`python -m benchmarks.kern_budget` measures all and writes `kern_budget.json`; a test holds
the envs to it. On a GPU this count is the score, and it needs none to be counted.
"""

import json
from pathlib import Path

import mazejax
from benchmarks.env_step import OUR_ENVS, ours
from benchmarks.measure import kern

PATH = Path(__file__).with_suffix(".json")
NUM_ENVS = 64
ENVS = {
    **{name: {} for name in ("CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0")},
    **OUR_ENVS,
}


def count(name: str) -> int:
    """Working instructions of one flat step of 64 envs with random actions and auto-reset."""
    env = mazejax.make(name.split()[0], **ENVS[name])
    return kern(ours(env, NUM_ENVS, length=10).compile())


def budget() -> dict[str, int]:
    """The counts that were written down, by case."""
    return json.loads(PATH.read_text())


if __name__ == "__main__":
    counts = {name: count(name) for name in ENVS}
    PATH.write_text(json.dumps(counts, indent=1) + "\n")
    print("\n".join(f"{name:30} {kernels:5}" for name, kernels in counts.items()))
