"""Measurements. Each module runs by `python -m benchmarks.NAME --json`; RESULTS.md holds what was measured."""
