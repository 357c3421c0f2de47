"""The real daemon as a real process, and a client that talks to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from agentmem_client import Client


class Daemon:
    """`agentmem serve` on a private socket. Start it, kill it, start it again."""

    def __init__(
        self, folder: Path, model: Path | None = None, log_level: str = "DEBUG", options: Sequence[str] = ()
    ) -> None:
        self.state, self.socket, self.log = folder / "state", folder / "run" / "agentmem.sock", folder / "daemon.log"
        self.model, self._log_level, self._options = model, log_level, options
        self._process: subprocess.Popen[bytes] | None = None

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "agentmem_daemon.cli", "--socket", str(self.socket), "serve"]
        command += ["--state", str(self.state), "--log-level", self._log_level, *self._options]
        if self.model is not None:
            command += ["--model", str(self.model)]
        return command

    def start(self) -> Client:
        """Starts it and waits until it serves."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdout=log, stderr=log, env={**os.environ, "NO_COLOR": "1"}
            )
        return self.client(wait=True)

    def refusal(self) -> tuple[int, str]:
        """Starts it where it cannot start; its exit code and what it said."""
        done = subprocess.run(self._command(), capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stderr

    def client(self, wait: bool = False) -> Client:
        deadline = time.monotonic() + 60
        while not self.socket.exists():
            if time.monotonic() > deadline or not self.alive:
                raise RuntimeError(f"the daemon did not come up:\n{self.log.read_text()}")
            time.sleep(0.02)
        client = Client(socket=self.socket)
        if wait:
            client.wait_until_ready(60)
        return client

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)

    def stop(self) -> None:
        if self.alive:
            self.kill()
