"""Namespaces in the catalog."""

from __future__ import annotations

import sqlite3
import time


def folders(db: sqlite3.Connection) -> dict[str, str]:
    """Folder by name."""
    return dict(db.execute("SELECT name, folder FROM namespaces"))


def add(db: sqlite3.Connection, name: str, folder: str) -> None:
    db.execute("INSERT INTO namespaces VALUES (?, ?, ?)", (name, folder, time.time()))
