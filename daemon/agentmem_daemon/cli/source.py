"""Text that a command is given: in a file, on standard input, or as an argument. Always whole, valid UTF-8."""

from __future__ import annotations

import sys
from pathlib import Path

from agentmem_daemon.cli.errors import CommandError

STDIN = "-"


def read_text(path: str) -> str:
    """The text in a file, or on standard input if `path` is '-'. CommandError if it cannot be read or isn't UTF-8."""
    if path == STDIN:
        return decode(sys.stdin.buffer.read(), "Standard input")
    try:
        return decode(Path(path).read_bytes(), path)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.", "FILE_UNREADABLE") from error


def decode(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CommandError(
            f"{name} is not valid UTF-8: byte {data[error.start]:#04x} at offset {error.start}. Nothing was sent.",
            "INVALID_UTF8",
        ) from None


def argument(text: str) -> str:
    """An argument as the shell passed it; Python hides bytes that are no UTF-8 in it."""
    return decode(text.encode("utf-8", "surrogateescape"), "The text")
