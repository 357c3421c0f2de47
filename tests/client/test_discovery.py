from __future__ import annotations

import socket as sockets
from pathlib import Path

import pytest
from agentmem_client import Client, ConfigError, DaemonNotRunning, Unauthenticated, discovery, endpoint

from agentmem.v1 import admin_pb2

from .scripted import ScriptedDaemon


def test_the_state_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert discovery.default_state_dir().name == "agentmem"
    monkeypatch.setenv("AGENTMEM_STATE", str(tmp_path))
    assert discovery.default_state_dir() == tmp_path
    assert discovery.default_socket_path() == tmp_path / "run" / "agentmem.sock"


def test_an_explicit_state_folder_beats_the_environments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AGENTMEM_STATE", "/elsewhere")
    assert discovery.default_socket_path(tmp_path) == tmp_path / "run" / "agentmem.sock"


def test_the_socket_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTMEM_SOCKET", "~/a.sock")
    assert discovery.default_socket_path() == Path.home() / "a.sock"
    assert discovery.token_path(discovery.default_socket_path()) == Path.home() / "token"


def test_the_longest_socket_path_is_103_bytes(tmp_path: Path) -> None:
    room = 103 - len(str(tmp_path)) - 1
    assert discovery.socket_path(tmp_path / ("x" * room))
    with pytest.raises(ConfigError, match=r"104 bytes.*Set AGENTMEM_SOCKET") as caught:
        discovery.socket_path(tmp_path / ("x" * (room + 1)))
    assert caught.value.reason == "SOCKET_PATH_TOO_LONG"


def test_bytes_of_a_socket_path_count_not_characters() -> None:
    with pytest.raises(ConfigError):
        discovery.socket_path("/" + "é" * 60)


@pytest.mark.parametrize("name", ["Application Support", "50%20off", "what?#", "é🙂"])
def test_odd_characters_in_the_socket_path_work(tmp_path: Path, name: str) -> None:
    socket = tmp_path / name / "agentmem.sock"
    daemon = ScriptedDaemon(socket)
    daemon.answers["GetStats"] = lambda request, context: admin_pb2.GetStatsResponse(running=1)
    daemon.start()
    assert socket.exists()
    with Client(socket=socket) as client:
        assert client.stats().running == 1
    daemon.stop()


def test_a_client_finds_the_socket_by_itself(monkeypatch: pytest.MonkeyPatch, daemon: ScriptedDaemon) -> None:
    monkeypatch.setenv("AGENTMEM_SOCKET", str(daemon.socket))
    daemon.answers["GetStats"] = lambda request, context: admin_pb2.GetStatsResponse(running=1)
    with Client() as client:
        assert client.stats().running == 1


def test_no_socket_means_no_daemon(socket: Path) -> None:
    with Client(socket=socket) as client, pytest.raises(DaemonNotRunning, match="agentmem serve") as caught:
        client.status()
    assert str(socket) in str(caught.value)


def test_a_dead_daemons_socket_means_no_daemon(socket: Path) -> None:
    socket.parent.mkdir()
    discovery.token_path(socket).write_text("left-behind")
    with sockets.socket(sockets.AF_UNIX) as left_behind:
        left_behind.bind(str(socket))
    with Client(socket=socket) as client, pytest.raises(DaemonNotRunning, match="agentmem serve"):
        client.status()


def test_a_daemon_without_a_token_file_is_another_matter(daemon: ScriptedDaemon, client: Client) -> None:
    discovery.token_path(daemon.socket).unlink()
    with pytest.raises(Unauthenticated, match="token file"):
        client.status()


def test_a_wrong_token_is_refused_by_the_daemon(daemon: ScriptedDaemon) -> None:
    with Client(socket=daemon.socket, token="wrong") as client, pytest.raises(Unauthenticated) as caught:
        client.status()
    assert caught.value.reason == "TOKEN_INVALID"


def test_a_token_never_shows() -> None:
    assert "s3cret" not in repr(endpoint.find(address="127.0.0.1:1", token="s3cret"))


@pytest.mark.parametrize(
    ("address", "target"),
    [("127.0.0.1:50", "127.0.0.1:50"), ("localhost:50", "localhost:50"), ("[::1]:50", "ipv6:[::1]:50")],
)
def test_loopback_addresses_take_their_token_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, address: str, target: str
) -> None:
    with pytest.raises(ConfigError, match="AGENTMEM_TOKEN"):
        endpoint.find(address=address)
    monkeypatch.setenv("AGENTMEM_TOKEN", "from-env")
    found = endpoint.find(address=address)
    assert found.target == target
    assert found.metadata() == (("authorization", "Bearer from-env"),)


@pytest.mark.parametrize("address", ["10.0.0.1:50", "example.org:50", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:0", ":50"])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(ConfigError):
        endpoint.find(address=address, token="t")


def test_socket_and_address_exclude_each_other() -> None:
    with pytest.raises(ConfigError):
        endpoint.find(socket="/tmp/a.sock", address="127.0.0.1:50", token="t")


def test_nobody_on_a_tcp_port_means_no_daemon() -> None:
    with sockets.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    with Client(address=f"127.0.0.1:{port}", token="t") as client, pytest.raises(DaemonNotRunning, match=str(port)):
        client.status()


@pytest.mark.parametrize("token", ["", " ", "a\nb", "é"])
def test_a_token_that_no_header_can_carry_is_refused(token: str, socket: Path) -> None:
    with pytest.raises(Unauthenticated):
        endpoint.find(socket=socket, token=token)
