"""The client stays light: no MLX, no numpy, no gRPC before it is used."""

from __future__ import annotations

import subprocess
import sys


def loaded_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_importing_loads_no_heavy_module() -> None:
    assert not {"mlx", "mlx_lm", "numpy", "grpc", "google"} & loaded_after("import agentmem, agentmem_client")


def test_the_clients_load_no_mlx() -> None:
    loaded = loaded_after("from agentmem import AsyncClient, Client")
    assert "grpc" in loaded
    assert not {"mlx", "mlx_lm", "numpy"} & loaded


def test_what_calls_take_and_give_comes_with_the_clients_and_without_grpc() -> None:
    assert "grpc" not in loaded_after("from agentmem import Message, PoolEntry, RunResult, Slice")


def test_the_daemon_can_ask_for_paths_without_grpc() -> None:
    assert "grpc" not in loaded_after("import agentmem_client.discovery")


def test_every_public_name_exists() -> None:
    import agentmem_client

    assert all(hasattr(agentmem_client, name) for name in agentmem_client.__all__)
