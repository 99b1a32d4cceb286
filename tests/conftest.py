"""Process settings of the test suite; they must stand before jax is imported."""

import os
import pathlib

import hypothesis

from mazejax import setup

# One cache of compiled programs for all workers and all runs in this checkout.
_COMPILED = pathlib.Path(__file__).parents[1] / ".pytest_cache" / "xla"

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_COMPILED))
os.environ.setdefault("MPLBACKEND", "Agg")
setup.configure()

hypothesis.settings.register_profile(
    "ci", deadline=None, derandomize=True, max_examples=25, print_blob=True
)
hypothesis.settings.register_profile("nightly", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
