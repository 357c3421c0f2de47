"""The main job, shown on the embedded model: three agents remember across a SIGKILL."""
