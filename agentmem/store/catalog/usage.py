"""Bytes on disk, as the catalog counts them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from agentmem.store.catalog.scalar import number
from agentmem.store.catalog.tables import FOREVER
from agentmem.store.rows import AgentUsage, NamespaceUsage, Standing

_SHARED = "SELECT key, min(agent) AS agent FROM timeline GROUP BY key HAVING count(DISTINCT agent)>1"


def standings(db: sqlite3.Connection, agent_ids: Iterable[str]) -> dict[str, Standing]:
    """What each of the agents takes and lacks."""
    query = """WITH chosen AS (SELECT value AS agent FROM json_each(?1)),
        used AS (SELECT agent, key, max(until) AS until FROM timeline
            WHERE agent IN (SELECT agent FROM chosen) GROUP BY agent, key),
        held AS (SELECT agent, sum(bytes) AS bytes, max(bytes=0 AND until=?2) AS lacking
            FROM used JOIN blocks USING (key) GROUP BY agent),
        recorded AS (SELECT agent, sum(record_bytes) AS bytes FROM turns
            WHERE agent IN (SELECT agent FROM chosen) GROUP BY agent)
        SELECT agent, coalesce(held.bytes, 0) + coalesce(recorded.bytes, 0), coalesce(lacking, 0)
            FROM chosen LEFT JOIN held USING (agent) LEFT JOIN recorded USING (agent)"""
    rows = db.execute(query, (json.dumps(list(agent_ids)), FOREVER))
    return {agent: Standing(size, bool(lacking)) for agent, size, lacking in rows}


def total(db: sqlite3.Connection) -> int:
    """Bytes of all blocks and records."""
    query = """SELECT (SELECT coalesce(sum(bytes), 0) FROM blocks) +
        (SELECT coalesce(sum(record_bytes), 0) FROM turns)"""
    return number(db, query)


def by_namespace(db: sqlite3.Connection) -> list[NamespaceUsage]:
    """Every namespace with its agents, by name."""
    agents: dict[str, list[AgentUsage]] = {name: [] for (name,) in db.execute("SELECT name FROM namespaces")}
    query = f"""WITH shared AS MATERIALIZED ({_SHARED}),
        sizes AS MATERIALIZED (SELECT t.agent, b.bytes, b.key IN (SELECT key FROM shared) AS shared
            FROM (SELECT DISTINCT agent, key FROM timeline) t JOIN blocks b ON b.key=t.key),
        sums AS (SELECT agent, sum(bytes*(NOT shared)) AS exclusive, sum(bytes*shared) AS shared
            FROM sizes GROUP BY agent),
        records AS (SELECT agent, sum(record_bytes) AS bytes FROM turns GROUP BY agent)
        SELECT a.namespace, a.name, coalesce(b.exclusive, 0), coalesce(b.shared, 0), coalesce(r.bytes, 0)
            FROM agents a LEFT JOIN sums b ON b.agent=a.id LEFT JOIN records r ON r.agent=a.id ORDER BY a.name"""
    for namespace, *row in db.execute(query):
        agents[namespace].append(AgentUsage(*row))
    shared = dict(
        db.execute(
            f"""SELECT a.namespace, sum(b.bytes) FROM ({_SHARED}) s
            JOIN blocks b ON b.key=s.key JOIN agents a ON a.id=s.agent GROUP BY a.namespace"""
        )
    )
    return [NamespaceUsage(name, tuple(agents[name]), shared.get(name, 0)) for name in sorted(agents)]
