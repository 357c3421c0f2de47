"""The real daemon, forked from a process that has imported everything: it serves within 0.3 s instead of 2.3."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Event
from pathlib import Path

from agentmem_client import AgentmemError, Client

from tests.helpers.daemon import Daemon
from tests.helpers.stops import Stop, arm

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.helpers.preload"])


Tamper = Callable[[Event], None]


def _serve(
    command: list[str], log: str, stop: Stop | None, tamper: Tamper | None, armed: Event, environment: dict[str, str]
) -> None:
    """What a forked process does: all that `agentmem` does with this command line and environment."""
    from agentmem_daemon.cli import main

    os.environ.clear()
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    if stop is not None:
        arm(stop, armed.is_set)
    if tamper is not None:
        tamper(armed)
    sys.argv = ["agentmem", *command]
    main()


class ForkedDaemon(Daemon):
    """As `Daemon`. `stop_at`: where the next start's process is to die, once `armed` is set.

    tamper: a function of a module, which changes that process before it begins, and is given `armed`.
    """

    def __init__(
        self, folder: Path, model: Path | None = None, log_level: str = "DEBUG", options: Sequence[str] = ()
    ) -> None:
        super().__init__(folder, model, log_level, options)
        self._forked: multiprocessing.context.ForkServerProcess | None = None
        self.stop_at: Stop | None = None
        self.tamper: Tamper | None = None
        self.armed = _FORKS.Event()

    def start(self) -> Client:
        """Starts it and waits until it serves. RuntimeError if it dies before."""
        self.socket.unlink(missing_ok=True)  # of one that was killed
        self._fork(self.log)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.alive:
            if self.socket.exists():
                client = Client(socket=self.socket)
                try:
                    client.wait_until_ready(0.5)
                    return client
                except AgentmemError:
                    client.close()
            time.sleep(0.01)
        raise RuntimeError(f"the daemon did not come up:\n{self.log.read_text()[-2000:]}")

    def _fork(self, log: Path) -> multiprocessing.context.ForkServerProcess:
        args = (self._command()[3:], str(log), self.stop_at, self.tamper, self.armed, dict(os.environ))
        self._forked = _FORKS.Process(target=_serve, args=args, daemon=True)
        self._forked.start()
        return self._forked

    def refusal(self) -> tuple[int, str]:
        log = self.log.with_name("refusal.log")
        log.unlink(missing_ok=True)
        process = self._fork(log)
        process.join(60)
        assert process.exitcode is not None
        return process.exitcode, log.read_text()

    @property
    def alive(self) -> bool:
        return self._forked is not None and self._forked.is_alive()

    def kill(self) -> None:
        assert self._forked is not None
        self._forked.kill()
        self._forked.join(10)

    def died(self, timeout: float) -> bool:
        """Waits for it to die by itself."""
        assert self._forked is not None
        self._forked.join(timeout)
        return not self.alive

    def terminate(self) -> int:
        assert self._forked is not None
        self._forked.terminate()
        self._forked.join(60)
        assert self._forked.exitcode is not None
        return self._forked.exitcode
