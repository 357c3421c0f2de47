"""Logs: ours follow the level, others stay quiet, and no exception's message is ever written."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from agentmem_daemon.logs import configure_logging, stack_of


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[Path]:
    root = logging.root
    handlers, level = root.handlers[:], root.level
    yield tmp_path / "daemon.log"
    for handler in root.handlers[:]:
        handler.close()
    root.handlers[:], root.level = handlers, level


def test_file_is_private_and_levels_hold(log_file: Path) -> None:
    talkative = logging.getLogger("someone.else")
    talkative.setLevel(logging.DEBUG)
    talkative.addHandler(logging.StreamHandler())
    talkative.propagate = False
    configure_logging("DEBUG", log_file)
    assert log_file.stat().st_mode & 0o777 == 0o600
    for name in ("agentmem.engine", "agentmem_daemon.server"):
        logging.getLogger(name).debug("ours %s", name)
    for name in ("transformers.x", "mlx_lm", "asyncio", "grpc._cython", "someone.else", "new.library"):
        logging.getLogger(name).info("MARKER")
        logging.getLogger(name).warning("theirs %s", name)
    text = log_file.read_text()
    assert "MARKER" not in text
    assert text.count("ours") == 2
    assert text.count("theirs") == 6


def test_logged_exceptions_lose_their_messages(log_file: Path) -> None:
    configure_logging("INFO", log_file)
    try:
        try:
            raise KeyError("MARKER")
        except KeyError as error:
            raise ValueError("MARKER") from error
    except ValueError:
        logging.getLogger("grpc").exception("a call failed")
    text = log_file.read_text()
    assert "MARKER" not in text
    assert text.count("test_daemon_logs.py") == 2
    assert "builtins.ValueError" in text
    assert "builtins.KeyError" in text


def test_stack_of_long_chains_is_bounded() -> None:
    error: BaseException = ValueError()
    for _ in range(50):
        link = ValueError()
        link.__cause__ = error
        error = link
    assert stack_of(error).count("caused by:") < 10
