"""Benchmarks: ratios measured side by side; `python -m benchmarks.env_step`, `benchmarks.train`."""
