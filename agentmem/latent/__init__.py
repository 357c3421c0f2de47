"""Agents that think and hand over in latent space: numerics on states. Knows `kv` and `model`, and no files."""
