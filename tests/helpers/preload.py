"""Imported once, by the process that forks daemons: all that a daemon imports. Nothing may be computed here."""

# ruff: noqa: F401
import agentmem_daemon.cli.app
import agentmem_daemon.lifecycle
import mlx_lm.models.llama
import mlx_lm.models.qwen2
import mlx_lm.models.qwen3
import pydantic
import transformers

import agentmem.engine.engine
