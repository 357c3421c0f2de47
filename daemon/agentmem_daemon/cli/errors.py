"""How commands fail: one line on stderr, and an exit code that scripts can tell apart."""

from __future__ import annotations

from agentmem_daemon.cli import INSTALL_LINE
from agentmem_daemon.cli.output import say
from agentmem_daemon.extras import EXIT_NO_EXTRA

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_RUNNING = 3
EXIT_INTERRUPTED = 130


class CommandError(Exception):
    """A command that cannot be done, found out before the daemon was asked."""

    def __init__(self, message: str, reason: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.message, self.reason, self.exit_code = message, reason, exit_code


def report(error: Exception) -> int | None:
    """Prints the line for `error` and returns its exit code; None, and nothing printed, if it is a defect of ours."""
    from agentmem_client import AgentmemError, DaemonNotRunning

    import agentmem.errors

    match error:
        case CommandError():
            say_error(error.message, error.reason)
            return error.exit_code
        case DaemonNotRunning():  # its message says how to start one
            say_error(error.message, "DAEMON_NOT_RUNNING")
            return EXIT_NOT_RUNNING
        case AgentmemError():
            say_error(sentence(error.message), error.reason or error.code)
            return EXIT_FAILED
        case agentmem.errors.AgentmemError():
            say_error(sentence(error.message), error.reason.value)
            return EXIT_FAILED
        case ModuleNotFoundError():
            say_error(f"The package {error.name} is not installed. Run: {INSTALL_LINE}", "PACKAGE_MISSING")
            return EXIT_NO_EXTRA
    return None


def sentence(message: str) -> str:
    """Messages from below may lack capital and full stop."""
    return f"{message[:1].upper()}{message[1:].rstrip('.')}."


def say_error(message: str, reason: str) -> None:
    """One line: a sentence, and the reason for programs."""
    say(f"error: {' '.join(message.split())} [{reason}]")
