"""A run small enough for tests, and the digest that says whether two runs are the same."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

import mazejax
from mazejax.runners.run_context import RunContext

REPOSITORY = Path(__file__).parents[2]

TINY = {
    "num_envs": 4,
    "num_steps": 8,
    "num_minibatches": 2,
    "num_epochs": 1,
    "network": {"hidden": [8]},
    "total_steps": 12 * 32,
    "eval_episodes": 3,
    "num_evaluations": 2,
    "num_checkpoints": 3,
    "tensorboard": False,
    "progress": "none",
}


def tiny_run(directory, seed=0, **changes) -> RunContext:
    """An untrained run of 12 updates of 32 steps."""
    return RunContext("ppo", "CartPole-v1", seed=seed, directory=directory, **{**TINY, **changes})


def digest(state) -> str:
    """sha256 over every leaf with its path, dtype and shape; keys as raw words."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if mazejax.random.is_key(leaf):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)}{array.dtype}{array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def child(code: str, **options) -> subprocess.Popen:
    """Python process that runs the code with the repository importable."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        **options,
    )
