"""Whose blocks go when the disk budget is used up."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from agentmem.store.catalog.tables import FOREVER
from agentmem.store.placement import KEPT
from agentmem.types import AgentRef


def unpinned(db: sqlite3.Connection) -> list[tuple[str, AgentRef]]:
    """Ids and names of the agents that are not pinned, the one whose last turn is the oldest first."""
    query = "SELECT id, namespace, name FROM agents WHERE NOT pinned ORDER BY last_used, created, id"
    return [(agent, AgentRef(*ref)) for agent, *ref in db.execute(query)]


def goes_with(db: sqlite3.Connection, agent_ids: Sequence[str]) -> list[tuple[int, bytes, int]]:
    """Place in the list, key and bytes of each block, in order: it can go once all agents up to there do.

    Blocks of splices stay.
    """
    query = """WITH ranked AS MATERIALIZED (SELECT value AS agent, key AS rank FROM json_each(?1)),
        users AS (SELECT key, max(coalesce(rank, ?2)) AS rank
            FROM timeline LEFT JOIN ranked USING (agent) GROUP BY key)
        SELECT rank, key, bytes FROM users JOIN blocks USING (key)
            WHERE bytes>0 AND beginning<>?3 AND rank<?2 ORDER BY rank"""
    return db.execute(query, (json.dumps(list(agent_ids)), FOREVER, KEPT)).fetchall()


def users(db: sqlite3.Connection, keys: Sequence[bytes]) -> set[str]:
    """Ids of the agents that use any of the blocks."""
    query = "SELECT DISTINCT agent FROM timeline WHERE key=?"
    return {agent for key in keys for (agent,) in db.execute(query, (key,))}
