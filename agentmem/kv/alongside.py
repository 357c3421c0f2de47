"""A second stream, for half of the products of a step: MLX's CPU backend keeps one core at work for each stream."""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager
from typing import Any

import mlx.core as mx

LEAST_UNITS = 4
"""Where there are fewer (see `kv.plan`), to have one stream wait for the other takes longer than it saves."""

_of_thread = threading.local()
"""Streams belong to the thread that made them."""


def helps(units: int) -> bool:
    """Whether so many units are worth a second stream."""
    return units >= LEAST_UNITS and mx.default_device() == mx.Device(mx.cpu) and (os.cpu_count() or 1) > 1


def second() -> AbstractContextManager[Any]:
    """What is built under it is computed on the second stream."""
    if not hasattr(_of_thread, "stream"):
        _of_thread.stream = mx.new_stream(mx.Device(mx.cpu))
    return mx.stream(_of_thread.stream)
