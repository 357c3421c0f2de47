"""What is shipped: one wheel of three import packages, its data, and base dependencies that pull no MLX."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"agentmem", "agentmem_daemon", "agentmem_client"}
HEAVY = ["mlx", "mlx_lm", "transformers", "numpy", "safetensors", "typer"]
"""What only the extras install: a client must import without any of it."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_holds_three_packages_and_nothing_else(names: set[str]) -> None:
    assert {n.split("/")[0] for n in names if ".dist-info/" not in n} == PACKAGES


@pytest.mark.parametrize("service", ["admin", "agents", "generation", "types"])
def test_holds_the_stubs(names: set[str], service: str) -> None:
    for ending in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py"):
        assert f"agentmem/v1/{service}{ending}" in names


def test_holds_the_embedded_model_within_its_size(wheel: Path) -> None:
    folder = "agentmem/model/embedded/"
    with zipfile.ZipFile(wheel) as archive:
        sizes = {
            i.filename.removeprefix(folder): i.file_size for i in archive.infolist() if i.filename.startswith(folder)
        }
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= set(sizes)
    assert sizes["model.safetensors"] <= 8 * 2**20


def test_holds_the_knowledge_pools_entries(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("agentmem/primitives/pool.jsonl").count(b'"source": "shipped"') >= 40


def test_holds_the_demo_texts(names: set[str]) -> None:
    texts = [n for n in names if n.startswith("agentmem_daemon/demo/texts/")]
    assert len(texts) >= 3


def test_base_dependencies_are_light(metadata: Message) -> None:
    base = [r for r in metadata.get_all("Requires-Dist") or [] if "extra ==" not in r]
    assert {re.split(r"[^\w.-]", r)[0] for r in base} == {
        "googleapis-common-protos",
        "grpcio",
        "platformdirs",
        "protobuf",
    }
    assert set(metadata.get_all("Provides-Extra") or []) >= {"daemon", "dev", "metrics", "otel", "train"}


def test_version_is_told_once_and_the_same(metadata: Message) -> None:
    import agentmem

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert metadata["Version"] == declared == agentmem.__version__


def test_has_the_console_script(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/entry_points.txt"))
        assert "agentmem = agentmem_daemon.cli:main" in archive.read(name).decode()


def test_client_imports_without_the_daemon_extra(wheel: Path) -> None:
    """Python imports straight from the wheel; a module set to None cannot be imported."""
    code = (
        f"import sys; sys.path.insert(0, {str(wheel)!r}); sys.modules.update(dict.fromkeys({HEAVY!r}))\n"
        "import agentmem; assert agentmem.__file__.startswith(sys.path[0]), agentmem.__file__\n"
        "agentmem.Client, agentmem.AsyncClient"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=wheel.parent)
    assert done.returncode == 0, done.stderr
