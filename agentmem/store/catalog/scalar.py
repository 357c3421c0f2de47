"""Queries that answer one number."""

from __future__ import annotations

import sqlite3


def number(db: sqlite3.Connection, query: str, *values: object) -> int:
    return int(db.execute(query, values).fetchone()[0])
