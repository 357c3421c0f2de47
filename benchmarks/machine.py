"""What a figure was measured on, and a fast BLAS for the cold side."""

from __future__ import annotations

import ctypes.util
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    """Processor, operating system, versions, device and BLAS."""
    from agentmem.model import numerics

    names = ("agentmem", "mlx", "mlx-lm", "numpy", "safetensors")
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "os": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        **{name: version(name) for name in names},
        "device": numerics.device(),
        "blas": numerics.preloaded_blas() or ("wheel's reference BLAS" if sys.platform == "linux" else "platform"),
        "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS", "default"),
    }


def prefer_openblas() -> None:
    """Starts this process again with OpenBLAS preloaded, where there is one, so that baselines are strong."""
    if sys.platform != "linux" or os.environ.get("LD_PRELOAD") or os.environ.get("AGENTMEM_BENCH_BLAS") == "wheel":
        return
    library = ctypes.util.find_library("openblas")
    if library is None:
        print("OpenBLAS is not installed: measuring with the wheel's reference BLAS", file=sys.stderr)
        return
    os.environ["LD_PRELOAD"] = library
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
