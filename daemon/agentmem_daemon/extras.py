"""Extras: what is installed only where it is wanted."""

from __future__ import annotations

EXIT_NO_EXTRA = 4
"""Exit code of what cannot be done without an extra that is not installed."""


def install_line(extra: str) -> str:
    return f"pip install 'agentmem[{extra}]'"
