"""A store of many agents: how long it takes to open, and to list a page of them."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.store.catalog import agents as agent_rows
from agentmem.store.catalog import blocks as block_rows
from agentmem.store.catalog.tables import FOREVER
from agentmem.store.rows import AgentRow, BlockRow
from agentmem.store.store import Store
from agentmem.types import BLOCK_TOKENS


def many(folder: Path, checkpoint: Path, agents: int, blocks_each: int, repeats: int) -> dict[str, float]:
    """Rows and files are made directly; no file's content is read."""
    _fill(folder, agents, blocks_each)
    opened = []
    for _ in range(repeats):
        began = time.perf_counter()
        store = Store.open(folder)
        opened.append(time.perf_counter() - began)
        store.close()
    engine = Engine.open(EngineSettings(folder, str(checkpoint)))
    try:
        pages = {limit: _page_s(engine, limit, agents, repeats) for limit in (100, 1000)}
    finally:
        engine.close()
    return {
        "agents": agents,
        "blocks": agents * blocks_each,
        "open_ms": 1000 * statistics.median(opened),
        "list_ms": 1000 * pages[100],
        "list_1000_ms": 1000 * pages[1000],
    }


def _page_s(engine: Engine, limit: int, agents: int, repeats: int) -> float:
    """Seconds for a page from the middle, as `ListAgents` makes it."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        page = engine.list_agents("default", after=f"agent-{agents // 2:06d}", limit=limit)
        seconds.append(time.perf_counter() - began)
        assert len(page) == min(limit, agents - agents // 2 - 1)
    return statistics.median(seconds)


def _fill(folder: Path, agents: int, blocks_each: int) -> None:
    store = Store.open(folder)
    store.namespace("default")
    rng = np.random.default_rng(0)

    def fill(db: Any) -> None:
        for i in range(agents):
            row = replace(AgentRow.new("default", f"agent-{i:06d}"), turn=1, tokens=blocks_each * BLOCK_TOKENS)
            agent_rows.insert(db, row)
            db.execute("INSERT INTO turns VALUES (?,1,?,?,x'00')", (row.id, row.tokens, 1000))
            keys = [rng.bytes(32) for _ in range(blocks_each)]
            block_rows.put(db, {key: BlockRow(1, BLOCK_TOKENS, key) for key in keys}, row.created)
            db.executemany(
                "INSERT INTO timeline VALUES (?,1,?,?,?,?)",
                [(row.id, FOREVER, place, key, BLOCK_TOKENS) for place, key in enumerate(keys)],
            )
            for key in keys:
                _make(store._core.folder.block(key))
            _make(store._core.folder.record(row.id, 1))

    store._core.catalog.write(fill)
    store.close()


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
