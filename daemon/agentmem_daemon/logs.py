"""Logging: where lines go, who may write them, and errors described without the text they may carry (invariant 8)."""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType
from typing import Any

OURS = ("agentmem", "agentmem_daemon")
LOG_FILE_BYTES = 8 * 1024 * 1024
LOG_FILES_KEPT = 3
_CHAIN_LIMIT = 8

logger = logging.getLogger(__name__)


def configure_logging(level: str, log_file: Path | None) -> None:
    """Sends log lines to `log_file` (made 0600, rotated) or to stderr. Only our own loggers go below WARNING."""
    handler = PrivateFileHandler(log_file) if log_file else logging.StreamHandler(sys.stderr)
    handler.setFormatter(MessagelessFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(_ours_or_serious)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in OURS:
        logging.getLogger(name).setLevel(level)
    threading.excepthook = _log_thread_error
    unify_loggers()


def unify_loggers() -> None:
    """Takes away handlers that libraries gave themselves (transformers does when imported): all lines pass ours."""
    for other in logging.root.manager.loggerDict.values():
        if isinstance(other, logging.Logger):
            other.handlers.clear()
            other.propagate = True


def _ours_or_serious(record: logging.LogRecord) -> bool:
    """What a library finds worth a debug line may be prompt text."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] in OURS


def stack_of(error: BaseException) -> str:
    """Types and stack of an error and its causes, as lines. Messages, which may quote a user, are left out."""
    lines: list[str] = []
    link: BaseException | None = error
    while link is not None and len(lines) < 1000 and lines.count("caused by:") < _CHAIN_LIMIT:
        if lines:
            lines.append("caused by:")
        lines.append(f"{type(link).__module__}.{type(link).__qualname__}")
        lines += [f"  {f.filename}:{f.lineno} in {f.name}" for f in traceback.extract_tb(link.__traceback__)]
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "\n".join(lines)


class MessagelessFormatter(logging.Formatter):
    """Writes the type and stack of a logged exception, whoever logs it, and never its message."""

    def formatException(
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        return stack_of(ei[1]) if ei[1] is not None else ""


class PrivateFileHandler(RotatingFileHandler):
    """A rotating log file that only its owner can read, whatever the umask."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=LOG_FILE_BYTES, backupCount=LOG_FILES_KEPT, encoding="utf-8")

    def _open(self) -> Any:
        return open(
            self.baseFilename, self.mode, encoding=self.encoding, opener=lambda path, flags: os.open(path, flags, 0o600)
        )


def _log_thread_error(args: threading.ExceptHookArgs) -> None:
    """Python's own hook would print the message."""
    if args.exc_value is not None:
        name = args.thread.name if args.thread else "unknown"
        logger.error("thread %s ended by an error\n%s", name, stack_of(args.exc_value))
