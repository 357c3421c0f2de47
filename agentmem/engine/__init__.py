"""Runs requests over memory: validation, queueing, sampling, and the one thread that owns MLX."""
