"""What memory costs on disk and in RAM: `python -m benchmarks.store --json`.

State is random: this measures the store, not the model. Its shape is that of an 8-layer Llama with 4 KV heads of 64.
The page cache is warm throughout. mlx-lm's own prompt-cache file holds the same state, in the same run.

- write_amplification: bytes written per 64-token turn on a 4K agent over the bytes of the new state. Rows of the last
  block that were written before and are written again stand apart (`superseded`). `whole_file`: rewriting all of it.
- restore: all blocks read, verified and handed to the attention layers, over the floor: the files read, and the bytes
  of that state turned into arrays.
- ten_agents_shared: bytes of ten agents with 8K tokens in common and 512 of their own, over those of the unique ones.
- long_turns: turn_commit_ms of turns of 4K tokens, whose full blocks are written while they are computed; on the drive
  as it is, and on one on which each flush takes 5 ms more. write_behind_ms: the same without waiting for the disk.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import xxhash
from mlx_lm.models.cache import QuantizedKVCache, load_prompt_cache, save_prompt_cache

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.kv.layout import TENSORS, AttentionLayout
from agentmem.kv.state import AgentState
from agentmem.memory import blocks as block_cutter
from agentmem.store.blockfile import Block, RawTensor
from agentmem.store.catalog import turns
from agentmem.store.files import Files
from agentmem.store.records import BlockUse, TurnRecord
from agentmem.store.rows import AgentRow
from agentmem.store.store import Store
from agentmem.types import BLOCK_TOKENS, AgentRef, BlockKind, Exactness, Timings, TurnKind, Usage
from benchmarks import machine
from tests.engine.runs import finished, run
from tests.helpers.checkpoints import Spec, write

LAYOUT = AttentionLayout(layers=8, kv_heads=4, head_dim=64, group_size=64, dtype=mx.float32)
STATE_ID = "random"
TURN = 64


def median_s(work: Callable[[], object], times: int) -> float:
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


class RandomAgent:
    """An agent whose state is random numbers, fed to the store as the daemon feeds it."""

    def __init__(self, store: Store, name: str, seed: int = 0) -> None:
        self.store, self.row = store, store.create_agent("default", name)
        self._rng = np.random.default_rng(seed)
        self._ids = np.zeros(0, np.int32)
        self._uses: list[BlockUse] = []
        self._rows: dict[int, dict[str, np.ndarray]] = {}

    def turn(self, tokens: int) -> int:
        """Adds a turn of random state; bytes written."""
        start, base = len(self._ids), len(self._ids) // BLOCK_TOKENS
        new = self._rng.integers(0, 32000, tokens).astype(np.int32)
        self._ids = np.concatenate([self._ids, new])
        secret = self.store.namespace("default").secret
        parent = self._uses[base - 1].key if base else b""
        blocks, uses = [], []
        for place, key in enumerate(
            block_cutter.keys_of(self._ids, base * BLOCK_TOKENS, parent, secret, STATE_ID), base
        ):
            ids = self._ids[place * BLOCK_TOKENS : (place + 1) * BLOCK_TOKENS]
            blocks.append(self._block(place, key, parent, ids))
            uses.append(BlockUse(key, len(ids)))
            parent = key
        record = TurnRecord(
            self.row.id, "default", self.row.name, self.row.turn + 1, TurnKind.APPEND, start, len(self._ids), STATE_ID,
            "tokenizer", base, tuple(uses), new, (), False, None, "", Exactness.EXACT, "", time.time(), Usage(),
            Timings(), 0, (),
        )  # fmt: skip
        written = self.store.commit(record, blocks)
        self._uses = [*self._uses[:base], *uses]
        row = self.store.agent("default", self.row.name)
        assert row is not None
        self.row = row
        return written

    def _block(self, place: int, key: bytes, parent: bytes, ids: np.ndarray) -> Block:
        if place not in self._rows:
            self._rows[place] = {n: self._random(n) for n in TENSORS}
        tensors = {}
        for name, rows in self._rows[place].items():
            part = np.ascontiguousarray(rows[:, :, : len(ids)])
            tensors[name] = RawTensor("U32" if name.endswith("weight") else "F32", part.shape, part)
        return Block(
            key, parent, STATE_ID, BlockKind.TEXT, place * BLOCK_TOKENS, ids, tensors, "reference", LAYOUT.group_size,
            LAYOUT.bits,
        )  # fmt: skip

    def _random(self, name: str) -> np.ndarray:
        shape = LAYOUT.shape(name)
        if name.endswith("weight"):
            return self._rng.integers(0, 2**32, shape, dtype=np.uint32)
        return self._rng.standard_normal(shape, dtype=np.float32)

    def restore(self) -> AgentState:
        """As `Memory.restore` does."""
        arrays = []
        for use in self.store.history(self.row.id).timeline():
            block, _ = self.store.blocks.read("default", use.key)
            arrays.append({name: block.tensors[name].data for name in TENSORS})
        state = AgentState(LAYOUT)
        state.extend(arrays)
        mx.eval([piece.arrays for layer in state.layers for piece in layer.pieces()])
        return state


def write_amplification(folder: Path) -> dict[str, float]:
    """Sixteen 64-token turns on a 4K agent: four blocks' worth."""
    store = Store.open(folder / "writes")
    agent = RandomAgent(store, "a")
    agent.turn(4096)
    written, superseded, seconds = [], 0, []
    for i in range(16):
        superseded += i % (BLOCK_TOKENS // TURN) * TURN * LAYOUT.bytes_per_token
        began = time.perf_counter()
        written.append(agent.turn(TURN))
        seconds.append(time.perf_counter() - began)
    store.close()
    new = 16 * TURN * LAYOUT.bytes_per_token
    whole = sum((4096 + TURN * (i + 1)) * LAYOUT.bytes_per_token for i in range(16))
    return {
        "write_amplification": (sum(written) - superseded) / new,
        "with_superseded_rows": sum(written) / new,
        "whole_file": whole / new,
        "turn_commit_ms": 1000 * statistics.median(seconds),
    }


def restores(folder: Path, tokens: int, repeats: int) -> dict[str, float]:
    store = Store.open(folder / f"restore-{tokens}")
    agent = RandomAgent(store, "a")
    agent.turn(tokens)
    files = sorted((folder / f"restore-{tokens}").glob("blocks/**/*.safetensors"))

    def floor() -> None:
        arrays = [mx.array(np.frombuffer(path.read_bytes(), np.uint8)) for path in files]
        mx.eval(arrays)

    state = agent.restore()
    cache = [QuantizedKVCache(group_size=LAYOUT.group_size, bits=LAYOUT.bits) for _ in range(LAYOUT.layers)]
    for one in cache:
        part = mx.random.normal((1, LAYOUT.kv_heads, tokens, LAYOUT.head_dim))
        one.update_and_fetch(part, part)
    path = str(folder / f"cache-{tokens}.safetensors")
    data = [path.read_bytes() for path in files]
    out = {
        "tokens": tokens,
        "restore_s": median_s(agent.restore, repeats),
        "floor_s": median_s(floor, repeats),
        "checksum_s": median_s(lambda: [xxhash.xxh3_128(d).digest() for d in data], repeats),
        "mlx_lm_save_s": median_s(lambda: save_prompt_cache(path, cache), repeats),
        "mlx_lm_load_s": median_s(lambda: mx.eval([c.state for c in load_prompt_cache(path)]), repeats),
        "state_mb": state.nbytes / 1e6,
    }
    out["restore_over_floor"] = out["restore_s"] / out["floor_s"]
    out["checksum_share"] = out["checksum_s"] / out["restore_s"]
    store.close()
    return out


def branches(folder: Path, repeats: int) -> dict[str, float]:
    """Fork and rewind of a 32K agent that took eight turns."""
    store = Store.open(folder / "branches")
    agent = RandomAgent(store, "a")
    for _ in range(8):
        agent.turn(4096)
    before = store.total_bytes()
    names = iter(range(1000))
    fork = median_s(lambda: store.branches.fork("default", "a", f"fork-{next(names)}"), repeats)
    grown = (store.total_bytes() - before) / repeats
    targets = iter([7, 6] * repeats)
    rewind = median_s(lambda: store.branches.rewind("default", "a", next(targets)), repeats)
    store.close()
    return {
        "fork_ms": 1000 * fork,
        "rewind_ms": 1000 * rewind,
        "fork_bytes_over_state": grown / (32768 * LAYOUT.bytes_per_token),
    }


def many(folder: Path, agents: int, blocks_each: int) -> dict[str, float]:
    """Opening and listing a store of many agents. Rows and files are made directly; no file's content is read."""
    store = Store.open(folder / "many")
    store.create_agent("default", "first")
    rng = np.random.default_rng(0)

    def fill(db: Any) -> None:
        for i in range(agents):
            row = AgentRow.new("default", f"agent-{i:06d}")
            db.execute(
                "INSERT INTO agents (id, namespace, name, created, last_used, create_request_id, turn, tokens,"
                " state_id, exactness) VALUES (?,?,?,?,?,'',1,?,?,'EXACT')",
                (row.id, "default", row.name, row.created, row.last_used, blocks_each * BLOCK_TOKENS, STATE_ID),
            )
            db.execute("INSERT INTO turns VALUES (?,1,?,?,x'00')", (row.id, blocks_each * BLOCK_TOKENS, 1000))
            keys = [rng.bytes(32) for _ in range(blocks_each)]
            db.executemany(
                "INSERT INTO blocks (key, bytes, tokens, parent) VALUES (?,1,256,x'00')", [(key,) for key in keys]
            )
            db.executemany(
                "INSERT INTO timeline VALUES (?,1,?,?,?,256)",
                [(row.id, turns.FOREVER, place, key) for place, key in enumerate(keys)],
            )
            for key in keys:
                path = store._core.folder.block(key)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"x")

    store._core.catalog.write(fill)
    store.close()
    opened: list[Store] = []
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        opened.append(Store.open(folder / "many"))
        seconds.append(time.perf_counter() - began)
        page = median_s(lambda: opened[-1].agents("default", "", 1000), 3)
        opened[-1].close()
    return {"open_ms": 1000 * statistics.median(seconds), "list_1000_ms": 1000 * page}


def shared(folder: Path) -> dict[str, float]:
    """Ten agents through the engine, on a narrow model of eight layers: 8K tokens in common, 512 of their own."""
    from agentmem.engine.request import Request, TokenInput

    checkpoint = write(folder / "narrow", Spec(layers=8, heads=4, kv_heads=4, context=16384))
    engine = Engine.open(EngineSettings(folder / "shared", str(checkpoint)))
    rng = np.random.default_rng(0)
    common = rng.integers(5, 500, 8192).tolist()
    for i in range(10):
        own = rng.integers(5, 500, 512).tolist()
        run(engine, Request(AgentRef("default", f"a{i}"), TokenInput((*common, *own)), None, create=True))
    unique = (8192 + 10 * 512) * engine.model_info().bytes_per_token
    stats = engine.stats()
    engine.close()
    return {"ram": stats.hot_bytes / unique, "disk": stats.disk_bytes / unique}


class SlowFlush(Files):
    """A drive on which each flush takes so many seconds more."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def sync(self, path: Path) -> None:
        super().sync(path)
        time.sleep(self._seconds)


def long_turns(folder: Path, flush_s: float, repeats: int) -> dict[str, float]:
    """Turns of 4K new tokens and one token of reply: what their end takes beyond that token."""
    from agentmem.engine.request import Durability, Request, Sampling, TokenInput

    folder = folder / f"long-{flush_s}"
    checkpoint = write(folder / "narrow", Spec(layers=8, heads=4, kv_heads=4, context=8192))
    engine = Engine.open(EngineSettings(folder / "state", str(checkpoint)), files=SlowFlush(flush_s))
    rng = np.random.default_rng(0)

    def turn(name: str, durability: Durability) -> Timings:
        ids = tuple(rng.integers(5, 500, 4096).tolist())
        ref, once = AgentRef("default", name), Sampling(max_tokens=1)
        return finished(run(engine, Request(ref, TokenInput(ids), once, create=True, durability=durability))).timings

    durable = [turn(f"d{i}", Durability.DURABLE) for i in range(repeats)]
    behind = [turn(f"b{i}", Durability.WRITE_BEHIND) for i in range(repeats)]
    engine.close()
    return {
        "flush_ms": 1000 * flush_s,
        "prefill_s": statistics.median(t.prefill_s for t in durable),
        "turn_commit_ms": 1000 * statistics.median(t.commit_s for t in durable),
        "write_behind_ms": 1000 * statistics.median(t.commit_s for t in behind),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object (it always is)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--agents", type=int, default=10_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results: dict[str, Any] = {"writes": write_amplification(folder)}
        results["restore"] = [restores(folder, tokens, args.repeats) for tokens in (1024, 4096, 32768)]
        results["branches"] = branches(folder, args.repeats)
        results["ten_agents_shared"] = shared(folder)
        results["long_turns"] = [long_turns(folder, flush_s, 2) for flush_s in (0.0, 0.005)]
        results["many"] = many(folder, args.agents, 10)
    for part, figures in results.items():
        print(part, figures, file=sys.stderr)
    print(json.dumps({"benchmark": "store", **results, "machine": machine.describe()}))


if __name__ == "__main__":
    main()
