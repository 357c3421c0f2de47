"""Which arithmetic is in force: device, dtype and BLAS decide whether results are bit-stable."""

from __future__ import annotations

import os
import re
import sys
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx

REFERENCE, FAST = "reference", "fast"


def device() -> str:
    return "gpu" if mx.default_device() == mx.Device(mx.gpu) else "cpu"


def compute_dtype(stored: mx.Dtype) -> mx.Dtype:
    """The dtype a checkpoint runs in: its own on a GPU; fp32 on a CPU, where fp16 products are 16 times slower."""
    return stored if device() == "gpu" else mx.float32


def path(dtype: mx.Dtype) -> str:
    """REFERENCE on Linux' CPU backend in fp32 with the wheel's own BLAS, else FAST (DESIGN section 5).

    On macOS the CPU backend goes through Accelerate.
    """
    exact = device() == "cpu" and dtype == mx.float32 and sys.platform == "linux" and preloaded_blas() is None
    return REFERENCE if exact else FAST


def preloaded_blas() -> str | None:
    """File name of a BLAS put before the wheel's by LD_PRELOAD, or None. Only Linux tells."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return None
    found = re.search(r"/(lib(?:openblas|mkl_rt|blis)[^/\n]*\.so[^/\n]*)$", maps, re.MULTILINE)
    return found[1] if found else None


def machine() -> str:
    """What decides how long computing takes, apart from what is computed."""
    name, blas = mx.device_info()["device_name"], preloaded_blas() or "no preloaded BLAS"
    return f"{device()}, {name}, mlx {version('mlx')}, {blas}"


def working_set() -> int:
    """Bytes that models and state together may take: what Metal recommends, or half of the machine's RAM on a CPU."""
    if device() == "gpu":
        return int(mx.device_info()["max_recommended_working_set_size"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
