"""Many agents at once, against what others would do: see `__main__`."""
