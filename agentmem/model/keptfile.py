"""Small facts that a start need not find out again, kept as JSON in the state folder, private to the user.

What is wrong with such a file costs time, and nothing else.
"""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any


def read(file: Path | None) -> dict[str, Any]:
    """What was kept; nothing if there is no such file, or what it holds is no object."""
    try:
        known = json.loads(file.read_bytes()) if file else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def write(file: Path | None, known: dict[str, Any]) -> None:
    """In place of what was kept, or not at all."""
    if file is None:
        return
    temp = file.with_name(f".{secrets.token_hex(8)}.tmp")
    with suppress(OSError):
        descriptor = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump(known, stream)
        os.replace(temp, file)
