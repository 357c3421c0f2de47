"""Namespaces in the catalog."""

from __future__ import annotations

import sqlite3
import time


def folders(db: sqlite3.Connection) -> dict[str, str]:
    """Folder by name."""
    return dict(db.execute("SELECT name, folder FROM namespaces"))


def add(db: sqlite3.Connection, name: str, folder: str) -> None:
    db.execute("INSERT INTO namespaces VALUES (?, ?, ?)", (name, folder, time.time()))


def remove(db: sqlite3.Connection, name: str) -> None:
    """Forgets a namespace without agents, and the requests made in it: a later one of its name knows of none."""
    db.execute("DELETE FROM requests WHERE namespace=?", (name,))
    db.execute("DELETE FROM namespaces WHERE name=?", (name,))


def listed(db: sqlite3.Connection) -> list[tuple[str, float, int]]:
    """Name, creation time and number of agents of each, by name."""
    return db.execute(
        """SELECT n.name, n.created, count(a.id) FROM namespaces n LEFT JOIN agents a ON a.namespace=n.name
        GROUP BY n.name ORDER BY n.name"""
    ).fetchall()
