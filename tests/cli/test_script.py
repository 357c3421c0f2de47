"""The script from outside: what it loads, and how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"mlx", "mlx_lm", "transformers", "tokenizers", "numpy", "grpc", "google", "rich"}


def agentmem(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """`agentmem ARGUMENTS...` in a process of its own, behind the lines of Python in `before`."""
    code = f"import sys\n{before}\nfrom agentmem_daemon.cli import main\nmain()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["chat", "--help"], ["serve", "--help"], ["demo", "--help"], ["top", "--help"]]
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    report = (
        "import atexit\natexit.register(lambda: print('LOADED', *{name.partition('.')[0] for name in sys.modules}))"
    )
    result = agentmem(*arguments, before=report)
    assert result.returncode == 0
    assert "Usage: agentmem" in result.stdout
    loaded = set(result.stdout.rpartition("LOADED ")[2].split())
    assert "typer" in loaded
    assert not loaded & HEAVY


def test_all_commands_are_offered() -> None:
    result = agentmem("--help")
    commands = (
        "serve demo chat append think splice span ps ls show rm version log fork rewind diff create pin unpin ttl "
        "share evict prefetch export import prune df verify doctor namespace key status stats top events"
    )
    for command in commands.split():
        assert f"  {command} " in result.stdout


def test_without_the_extra_the_script_names_the_pip_line() -> None:
    result = agentmem("ls", before="sys.modules['typer'] = None")
    assert result.returncode == 4
    assert "pip install 'agentmem[daemon]'" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    "command",
    [["ls"], ["ps"], ["show", "bob"], ["chat", "bob", "hi"], ["rm", "-y", "bob"], ["df"], ["namespace", "ls"]],
)
def test_no_daemon(command: list[str], tmp_path: Path) -> None:
    result = agentmem("--socket", str(tmp_path / "none.sock"), *command)
    assert result.returncode == 3
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "agentmem serve" in result.stderr
    assert result.stderr.endswith("[DAEMON_NOT_RUNNING]\n")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["chat"],
        ["show"],
        ["ls", "--nonsense"],
        ["chat", "bob", "hi", "--max-tokens", "0"],
        ["chat", "bob", "hi", "--top-p", "2"],
        ["serve", "--tcp-port", "70000"],
        ["serve", "--log-level", "LOUD"],
        ["fork", "bob"],
        ["fork", "bob", "eve", "--at", "-1"],
        ["rewind", "bob"],
        ["rewind", "bob", "--to", "last"],
        ["ttl", "bob", "7"],
        ["ttl", "bob", "soon"],
        ["share", "bob", "everybody"],
        ["evict", "bob", "--to", "hot"],
        ["evict", "bob", "--to", "cold"],
        ["prune", "-y", "--older-than", "none"],
        ["prune", "-y", "--expired", "--history", "bob"],
        ["prune"],
        ["doctor"],
        ["namespace"],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    result = agentmem(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Usage: agentmem" in result.stderr


def test_version_needs_no_daemon(tmp_path: Path) -> None:
    result = agentmem("version", "--json", "--socket", str(tmp_path / "none.sock"))
    assert result.returncode == 0
    assert '"daemon": null' in result.stdout


def test_a_socket_path_too_long(tmp_path: Path) -> None:
    result = agentmem("ls", "--socket", str(tmp_path / ("a" * 120)))
    assert result.returncode == 1
    assert result.stderr.endswith("[SOCKET_PATH_TOO_LONG]\n")
