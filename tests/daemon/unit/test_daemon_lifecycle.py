"""Start and stop in this process, with a stand-in for the engine that loads and fails as told."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from agentmem_client.discovery import token_path
from agentmem_daemon.lifecycle import run
from agentmem_daemon.settings import DaemonSettings

from agentmem.errors import AgentmemError, Reason
from agentmem.v1 import admin_pb2, admin_pb2_grpc

Open = Callable[[SimpleNamespace, Callable[[float, str], None]], object]


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.root
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def settings(folder: Path) -> DaemonSettings:
    return DaemonSettings(state=folder, socket=folder / "run" / "a.sock", shutdown_deadline_s=3)


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> Callable[[Open], None]:
    """Puts a stand-in where the engine is imported from."""

    def put(open_engine: Open) -> None:
        module = SimpleNamespace(Engine=SimpleNamespace(open=open_engine), EngineSettings=SimpleNamespace)
        monkeypatch.setitem(sys.modules, "agentmem.engine.engine", module)  # type: ignore[misc]

    return put


def signal_self() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def left_in(folder: Path) -> set[str]:
    return {file.name for file in (folder / "run").iterdir()}


def test_start_serve_stop(settings: DaemonSettings, folder: Path, opens, engine) -> None:
    seen: list[tuple[float, str]] = []

    def open_engine(engine_settings: SimpleNamespace, on_progress: Callable[[float, str], None]) -> object:
        assert (engine_settings.model, engine_settings.state_dir, engine_settings.max_queue) == (None, folder, 256)
        on_progress(0.5, "half")
        return engine

    def on_progress(progress: float, message: str) -> None:
        seen.append((progress, message))
        if message.startswith("serving"):
            assert settings.socket.stat().st_mode & 0o077 == 0
            signal_self()

    opens(open_engine)
    umask = os.umask(0o022)
    assert run(settings, on_progress) == 0
    assert os.umask(umask) == 0o022
    assert seen == [(0.5, "half"), (1.0, f"serving stand-in on {settings.socket}")]
    assert engine.closed_with == 3
    assert left_in(folder) == {"token", "a.sock.lock"}


def test_loopback_tcp_asks_for_the_token_too(settings: DaemonSettings, opens, engine) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    opens(lambda engine_settings, on_progress: engine)
    answers: list[object] = []

    def ask() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = admin_pb2_grpc.AdminServiceStub(channel).GetStatus
            try:
                call(admin_pb2.GetStatusRequest(), timeout=5)
            except grpc.RpcError as error:
                answers.append(error.code())
            token = token_path(settings.socket).read_text().strip()
            metadata = (("authorization", f"Bearer {token}"),)
            answers.append(call(admin_pb2.GetStatusRequest(), timeout=5, metadata=metadata).phase)
        signal_self()

    thread = threading.Thread(target=ask)
    assert run(settings.model_copy(update={"tcp_port": port}), lambda progress, message: thread.start()) == 0
    thread.join()
    assert answers == [grpc.StatusCode.UNAUTHENTICATED, "SERVING"]


def test_figures_are_offered_while_the_daemon_runs(settings: DaemonSettings, opens, engine, capsys) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address, heard = f"http://127.0.0.1:{port}/metrics", list[bytes]()
    settings = settings.model_copy(update={"metrics_port": port})

    def listen() -> None:
        with urllib.request.urlopen(address, timeout=5) as response:
            heard.append(response.read())

    def open_engine(engine_settings: SimpleNamespace, on_progress: Callable[[float, str], None]) -> object:
        listen()
        signal_self()
        return engine

    opens(open_engine)
    assert run(settings) == 0
    assert b"agentmem_up 0.0" in heard[0]
    with pytest.raises(OSError, match="refused"):
        listen()
    with socket.create_server(("127.0.0.1", port)):
        assert run(settings) == 1
    assert f"The metrics cannot be offered on TCP port {port}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wish", "package", "extra"),
    [({"metrics_port": 1}, "prometheus_client", "metrics"), ({"otlp_endpoint": "http://x"}, "opentelemetry", "otel")],
)
def test_an_extra_that_is_missing(
    settings: DaemonSettings,
    opens,
    capsys,
    monkeypatch: pytest.MonkeyPatch,
    wish: dict[str, object],
    package: str,
    extra: str,
) -> None:
    """Found out before a model is loaded."""
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[misc]
    opened: list[object] = []
    opens(lambda engine_settings, on_progress: opened.append(engine_settings))
    assert run(settings.model_copy(update=wish)) == 4
    assert f"pip install 'agentmem[{extra}]'" in capsys.readouterr().err
    assert opened == []


def test_a_model_that_cannot_be_loaded(settings: DaemonSettings, folder: Path, opens, capsys) -> None:
    def open_engine(engine_settings: SimpleNamespace, on_progress: object) -> object:
        raise AgentmemError(Reason.MODEL_NOT_FOUND, "There is no model here.")

    opens(open_engine)
    assert run(settings) == 1
    assert capsys.readouterr().err == "agentmem: There is no model here.\n"
    assert left_in(folder) == {"token", "a.sock.lock"}


def test_an_unexpected_failure_keeps_its_message_to_itself(settings: DaemonSettings, opens, capsys) -> None:
    def open_engine(engine_settings: SimpleNamespace, on_progress: object) -> object:
        raise RuntimeError("MARKER")

    opens(open_engine)
    assert run(settings) == 1
    output = capsys.readouterr()
    assert "MARKER" not in output.err + output.out
    assert "builtins.RuntimeError" in output.err


def test_a_second_daemon_is_refused(settings: DaemonSettings, opens, engine, capsys) -> None:
    opens(lambda engine_settings, on_progress: engine)
    codes: list[int] = []

    async def second() -> None:
        from agentmem_daemon.errors import StartError
        from agentmem_daemon.lifecycle import serve

        with pytest.raises(StartError, match=f"pid {os.getpid()}"):
            await serve(settings)
        assert settings.socket.is_socket()
        codes.append(1)

    def on_progress(progress: float, message: str) -> None:
        thread = threading.Thread(target=lambda: (asyncio.run(second()), signal_self()))
        thread.start()

    assert run(settings, on_progress) == 0
    assert codes == [1]


def test_told_to_stop_while_loading(settings: DaemonSettings, folder: Path, opens, engine) -> None:
    def open_engine(engine_settings: SimpleNamespace, on_progress: object) -> object:
        signal_self()
        threading.Event().wait(0.2)
        return engine

    opens(open_engine)
    seen: list[str] = []
    assert run(settings, lambda progress, message: seen.append(message)) == 0
    assert seen == []
    assert engine.closed_with == 3
    assert left_in(folder) == {"token", "a.sock.lock"}


STUCK = """
import sys, threading, types
from pathlib import Path
def open_engine(settings, on_progress):
    on_progress(0.5, "stuck")
    threading.Event().wait(60)
sys.modules["agentmem.engine.engine"] = types.SimpleNamespace(
    Engine=types.SimpleNamespace(open=open_engine), EngineSettings=types.SimpleNamespace)
from agentmem_daemon.lifecycle import run
from agentmem_daemon.settings import DaemonSettings
folder = Path(sys.argv[1])
settings = DaemonSettings(state=folder, socket=folder / "run" / "a.sock", shutdown_deadline_s=float(sys.argv[2]))
sys.exit(run(settings, lambda progress, message: print(message, flush=True)))
"""


@pytest.mark.parametrize(
    ("deadline_s", "signals", "code"), [(0.1, 1, 0), (60, 2, 128 + signal.SIGTERM)], ids=["deadline", "second signal"]
)
def test_a_load_that_cannot_be_stopped_is_left(folder: Path, deadline_s: float, signals: int, code: int) -> None:
    command = [sys.executable, "-c", STUCK, str(folder), str(deadline_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "stuck\n"
        assert "a.sock" in left_in(folder)
        for _ in range(signals):
            daemon.send_signal(signal.SIGTERM)
            time.sleep(0.1)  # Equal signals that wait together are delivered once.
        assert daemon.wait(30) == code
    assert left_in(folder) == {"token", "a.sock.lock"}


def test_it_listens_before_mlx_is_loaded() -> None:
    """That takes seconds, in which callers learn how far it is."""
    code = "import sys, agentmem_daemon.lifecycle; print('mlx' in sys.modules, 'mlx_lm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False False\n"
