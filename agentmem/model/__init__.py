"""Models: loading mlx-lm checkpoints, their identity, running them over an agent's state, and their text."""
