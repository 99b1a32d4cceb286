"""Process settings of the test suite; they must stand before jax is imported."""

import os
import pathlib
import sys

import hypothesis

from mazejax import setup

# One cache of compiled programs for all workers and all runs in this checkout.
_COMPILED = pathlib.Path(__file__).parents[1] / ".pytest_cache" / "xla"

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_COMPILED))
os.environ.setdefault("MPLBACKEND", "Agg")
setup.configure()

# Most tests compile for longer than they run, so they and the processes that they start run
# programs that are not optimized, which halves their time. Those that are marked `optimized` run
# as users do, in a run of their own.
_OPTIMIZED = "MAZEJAX_TEST_OPTIMIZED"
if {"optimized", "slow"} & {*sys.argv}:
    os.environ[_OPTIMIZED] = "1"  # for the workers of this run
_QUICK = " --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
if os.environ.get(_OPTIMIZED) != "1" and _QUICK not in os.environ["XLA_FLAGS"]:
    os.environ["XLA_FLAGS"] += _QUICK

hypothesis.settings.register_profile(
    "ci", deadline=None, derandomize=True, max_examples=25, print_blob=True
)
hypothesis.settings.register_profile("nightly", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
