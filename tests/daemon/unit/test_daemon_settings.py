"""Settings: arguments before the environment before the defaults; nothing but loopback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from agentmem_client.discovery import default_socket_path
from agentmem_daemon.settings import DaemonSettings
from pydantic import ValidationError


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AGENTMEM_")]:
        monkeypatch.delenv(name)


def test_socket_follows_the_state_folder() -> None:
    settings = DaemonSettings(state=Path("/x/y"))
    assert settings.socket == default_socket_path(Path("/x/y"))
    assert (settings.model, settings.tcp, settings.shutdown_deadline_s, settings.max_queue) == (None, None, 10.0, 256)


def test_environment_and_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTMEM_STATE", "~/mem")
    monkeypatch.setenv("AGENTMEM_MODEL", "org/model")
    monkeypatch.setenv("AGENTMEM_TCP_PORT", "5000")
    monkeypatch.setenv("AGENTMEM_SOCKET", "")
    settings = DaemonSettings(tcp_port=6000)
    assert settings.state == Path.home() / "mem"
    assert (settings.model, settings.tcp) == ("org/model", ("127.0.0.1", 6000))
    assert settings.socket.is_absolute()


@pytest.mark.parametrize(("host", "becomes"), [("localhost", "127.0.0.1"), ("::1", "::1"), ("127.0.0.2", "127.0.0.2")])
def test_loopback_hosts(host: str, becomes: str) -> None:
    assert DaemonSettings(tcp_host=host, tcp_port=1).tcp == (becomes, 1)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", ""])
def test_other_hosts_are_refused(host: str) -> None:
    with pytest.raises(ValidationError, match="this machine only"):
        DaemonSettings(tcp_host=host)


@pytest.mark.parametrize(
    "fields",
    [
        {"tcp_port": 0},
        {"tcp_port": 65536},
        {"log_level": "LOUD"},
        {"shutdown_deadline_s": -1},
        {"max_queue": 0},
        {"max_batch": 0},
        {"stuck_s": 0},
        {"metrics_port": 0},
        {"otlp_endpoint": "localhost:4318"},
    ],
)
def test_bad_values_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DaemonSettings(**fields)  # type: ignore[arg-type]


def test_where_the_key_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert DaemonSettings().encrypt is None
    assert DaemonSettings(encrypt="keychain").encrypt == "keychain"  # type: ignore[arg-type]
    assert DaemonSettings(encrypt=Path("./keychain")).encrypt == Path.cwd() / "keychain"
    monkeypatch.setenv("AGENTMEM_ENCRYPT", "~/key")
    assert DaemonSettings().encrypt == Path.home() / "key"
    with pytest.raises(ValidationError, match="must not lie in the state folder"):
        DaemonSettings(state=Path("/x"), encrypt=Path("/x/y/key"))


@pytest.mark.parametrize("budget", ["ram_budget", "disk_budget"])
@pytest.mark.parametrize(
    ("text", "size"), [("8GB", 8 * 10**9), ("8GiB", 8 * 2**30), ("1.5 kB", 1500), ("77", 77), (None, None)]
)
def test_budgets_are_sizes(budget: str, text: str | None, size: int | None) -> None:
    assert getattr(DaemonSettings.model_validate({budget: text}), budget) == size


@pytest.mark.parametrize("text", ["lots", "-1", "GB"])
def test_a_budget_that_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        DaemonSettings.model_validate({"disk_budget": text})


def test_the_prefill_path_is_one_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert DaemonSettings().prefill_path == "auto"
    monkeypatch.setenv("AGENTMEM_PREFILL_PATH", "fused")
    assert DaemonSettings().prefill_path == "fused"
    with pytest.raises(ValidationError):
        DaemonSettings.model_validate({"prefill_path": "fastest"})
