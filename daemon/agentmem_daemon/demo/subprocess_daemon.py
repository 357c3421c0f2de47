"""A daemon as a real process of its own, so that it can really be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from agentmem_client import AgentmemError, Client, Status, Unavailable
from agentmem_client.discovery import socket_path

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0
PAUSE_S = 0.05


class DaemonFailed(Exception):
    """The daemon's process did not do what it should. Its log says why."""


class SubprocessDaemon:
    """`agentmem serve` on a private state folder and socket, both below `folder`. At most one process at a time."""

    def __init__(self, folder: Path) -> None:
        """Raises ConfigError if the socket's path would be too long."""
        self.folder = folder
        self.socket = socket_path(folder / "run" / "agentmem.sock")
        self.log = folder / "daemon.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Status:
        """Starts the process and waits until it serves. Raises DaemonFailed."""
        command = [sys.executable, "-m", "agentmem_daemon.cli", "serve"]
        command += ["--socket", str(self.socket), "--state", str(self.folder / "state")]
        # What is set for the user's own daemon is not meant for this one.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AGENTMEM_")}
        with open(self.log, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the demo alone, which then stops the daemon in good order
            )
        return self._wait_until_serving(self._process)

    def client(self) -> Client:
        return Client(socket=self.socket)

    def kill(self) -> None:
        """SIGKILL: no warning, nothing can be saved any more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not enough. Raises DaemonFailed if it did not end well."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.terminate()
        try:
            code = process.wait(STOP_TIMEOUT_S)
        except BaseException:  # Ctrl-C as well: no process is left behind
            process.kill()
            process.wait()
            raise
        if code != 0:
            raise DaemonFailed(f"the daemon ended with exit code {code} when it was told to stop")

    def stop_leftover(self) -> bool:
        """Ends a daemon that an earlier run kept running here. Whether there was one. Raises DaemonFailed."""
        pid = self._serving_pid()
        if pid is None:
            return False
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while _is_alive(pid):
            if time.monotonic() > deadline:
                raise DaemonFailed(f"an earlier demo's daemon (pid {pid}) does not stop")
            time.sleep(PAUSE_S)
        return True

    def leave_running(self) -> int:
        """Gives the process up; its pid."""
        assert self._process is not None, "the daemon was started"
        process, self._process = self._process, None
        process.returncode = 0  # it is nobody's to wait for any more
        return process.pid

    def _serving_pid(self) -> int | None:
        try:
            with self.client() as client:
                return client.status(timeout=5).pid
        except AgentmemError:
            return None

    def _wait_until_serving(self, process: subprocess.Popen[bytes]) -> Status:
        deadline = time.monotonic() + START_TIMEOUT_S
        with self.client() as client:
            while process.poll() is None and time.monotonic() < deadline:
                try:
                    status = client.status(timeout=5)
                except Unavailable:
                    status = None
                if status is not None and status.phase == "SERVING":
                    return status
                time.sleep(PAUSE_S)
        if process.returncode is None:
            raise DaemonFailed(f"the daemon did not serve within {START_TIMEOUT_S:.0f} s")
        raise DaemonFailed(f"the daemon ended with exit code {process.returncode} at its start")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
