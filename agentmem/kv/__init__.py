"""Attention state in RAM: 4-bit keys and values in 256-position segments, and attention over them. Knows no files."""
