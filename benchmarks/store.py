"""What memory costs on disk and in RAM: `python -m benchmarks.store --json`.

State is random, of the shape that a Llama of 8 layers, width 512 and 4 KV heads of 64 has: this measures the store, not
the model. **The page cache is warm throughout**: all files were written or read just before. mlx-lm's own prompt-cache
file holds the same state, in the same run.

- writes: bytes written per 64-token turn on a 4K agent over the bytes of the new state. Rows of the last block that
  were written before and are written again stand apart (`superseded`). `whole_file` is rewriting all of the state each
  turn, `mlx_lm_file` what mlx-lm's file of it has; `turn_commit_ms` is the store's part of a turn, `commit_ms` all that
  the engine does behind the last token.
- restore: all blocks read, verified and handed to the attention layers, beside mlx-lm's saving and loading.
  `checksum_share` of that is hashing.
- warm: the time to the first token of a 16-token turn of an agent on disk, over the floor: its files read once, and
  one forward pass over those tokens as a hot agent has it.
- encryption: an encrypted store over a plain one, by turns: restoring a 32K agent, committing 64-token and 4K turns.
- branches: fork and rewind of a 32K agent.
- ten_agents_shared: bytes of ten agents with 8K tokens in common and 512 of their own, over those of the unique ones.
- long_turns: turn_commit_ms of turns of 4K tokens, whose full blocks are written while they are computed; on the drive
  as it is, and on one on which each flush takes 5 ms more. write_behind_ms: the same without waiting for the disk.
- many: opening a store of many agents, and listing a page of them through the engine.
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
from agentmem.engine.request import Finished, Request, Sampling, TokenInput
from agentmem.store.store import Store
from agentmem.types import BLOCK_TOKENS, AgentRef
from benchmarks import machine
from benchmarks.long_turns import long_turns
from benchmarks.many_agents import many
from benchmarks.random_agents import LAYOUT, VOCAB, Identity, RandomAgent
from tests.engine.runs import finished, run
from tests.helpers.checkpoints import Spec, write

MODEL = Spec(layers=LAYOUT.layers, width=512, heads=8, kv_heads=LAYOUT.kv_heads, context=40960)
TURN, SUFFIX = 64, 16


def median_s(work: Callable[[], object], times: int) -> float:
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def random_cache(tokens: int) -> list[QuantizedKVCache]:
    """mlx-lm's own cache with random state."""
    cache = [QuantizedKVCache(group_size=LAYOUT.group_size, bits=LAYOUT.bits) for _ in range(LAYOUT.layers)]
    for one in cache:
        part = mx.random.normal((1, LAYOUT.kv_heads, tokens, LAYOUT.head_dim))
        one.update_and_fetch(part, part)
    mx.eval([one.state for one in cache])
    return cache


def write_amplification(folder: Path, engine: Engine) -> dict[str, float]:
    """Sixteen 64-token turns on a 4K agent: four blocks' worth."""
    store = Store.open(folder / "writes")
    agent = RandomAgent(store, "a")
    agent.turn(4096)
    written, superseded, seconds, files, file_seconds = [], 0, [], [], []
    for i in range(16):
        superseded += i % (BLOCK_TOKENS // TURN) * TURN * LAYOUT.bytes_per_token
        began = time.perf_counter()
        written.append(agent.turn(TURN))
        seconds.append(time.perf_counter() - began)
        path, cache = folder / "writes.safetensors", random_cache(4096 + TURN * (i + 1))
        began = time.perf_counter()
        save_prompt_cache(str(path), cache)
        file_seconds.append(time.perf_counter() - began)
        files.append(path.stat().st_size)
    store.close()
    new = 16 * TURN * LAYOUT.bytes_per_token
    whole = sum((4096 + TURN * (i + 1)) * LAYOUT.bytes_per_token for i in range(16))
    return {
        "write_amplification": (sum(written) - superseded) / new,
        "with_superseded_rows": sum(written) / new,
        "whole_file": whole / new,
        "mlx_lm_file": sum(files) / new,
        "turn_commit_ms": 1000 * statistics.median(seconds),
        "commit_ms": 1000 * statistics.median(_commits(engine, 16)),
        "mlx_lm_save_ms": 1000 * statistics.median(file_seconds),  # which does not wait for the drive
    }


def _commits(engine: Engine, turns: int) -> list[float]:
    """Seconds between the last token of 64-token turns on a 4K agent and their being durable."""
    ref = AgentRef("default", "commits")
    random_agent(engine, ref.name, 4096)
    return [feed(engine, ref, TURN, seed).timings.commit_s for seed in range(turns)]


def random_agent(engine: Engine, name: str, tokens: int) -> RandomAgent:
    """An agent of the engine's model whose state is random."""
    model = engine._context.model
    assert model.layout.full == LAYOUT
    identity = Identity(model.state_id, model.tokenizer_id, model.numerics)
    agent = RandomAgent(engine._context.store, name, identity, seed=sum(name.encode()))
    agent.turn(tokens)
    return agent


def feed(engine: Engine, ref: AgentRef, tokens: int, seed: int, sampling: Sampling | None = None) -> Finished:
    ids = np.random.default_rng(1000 + seed).integers(5, VOCAB, tokens).tolist()
    return finished(run(engine, Request(ref, TokenInput(tuple(ids)), sampling)))


def warm(folder: Path, engine: Engine, tokens: int, repeats: int) -> dict[str, float]:
    """From asking to the first token, of an agent that is on disk only."""
    ref, one = AgentRef("default", f"warm-{tokens}"), Sampling(max_tokens=1)
    random_agent(engine, ref.name, tokens)
    feed(engine, ref, SUFFIX, 0, one)
    seconds: dict[str, list[float]] = {"warm": [], "restore": [], "forward": [], "read": []}
    for i in range(repeats):
        seconds["forward"].append(feed(engine, ref, SUFFIX, 2 * i + 1, one).timings.prefill_s)
        engine.evict_agent(ref)
        keys = [block.key for block in engine.get_agent(ref).blocks]
        files = [folder / "blocks" / key[:2] / key[2:4] / f"{key}.safetensors" for key in keys]
        seconds["read"].append(median_s(lambda files=files: [file.read_bytes() for file in files], 3))  # type: ignore[misc]
        turn = feed(engine, ref, SUFFIX, 2 * i + 2, one)
        assert (turn.usage.reused_warm_tokens, turn.usage.recomputed_tokens) == (turn.usage.prompt_tokens - SUFFIX, 0)
        seconds["warm"].append(turn.timings.ttft_s)
        seconds["restore"].append(turn.timings.restore_s)
    engine.delete_agent(ref)
    median = {f"{name}_s": statistics.median(values) for name, values in seconds.items()}
    return {"tokens": tokens, "warm_over_floor": median["warm_s"] / (median["read_s"] + median["forward_s"]), **median}


def restores(folder: Path, tokens: int, repeats: int) -> dict[str, float]:
    store = Store.open(folder / f"restore-{tokens}")
    agent = RandomAgent(store, "a")
    agent.turn(tokens)
    files = sorted((folder / f"restore-{tokens}").glob("blocks/**/*.safetensors"))

    state, cache = agent.restore(), random_cache(tokens)
    path = str(folder / f"cache-{tokens}.safetensors")
    data = [path.read_bytes() for path in files]
    out = {
        "tokens": tokens,
        "restore_s": median_s(agent.restore, repeats),
        "read_s": median_s(lambda: [path.read_bytes() for path in files], repeats),
        "checksum_s": median_s(lambda: [xxhash.xxh3_128(d).digest() for d in data], repeats),
        "mlx_lm_save_s": median_s(lambda: save_prompt_cache(path, cache), repeats),
        "mlx_lm_load_s": median_s(lambda: mx.eval([c.state for c in load_prompt_cache(path)]), repeats),
        "state_mb": state.nbytes / 1e6,
    }
    out["checksum_share"] = out["checksum_s"] / out["restore_s"]
    store.close()
    return out


def encryption(folder: Path, repeats: int) -> dict[str, Any]:
    """The same agents in a plain and in an encrypted store; of each kind of work one after the other."""
    stores = [Store.open(folder / name, key=key) for name, key in (("plain", None), ("encrypted", bytes(range(32))))]
    agents = [RandomAgent(store, "a") for store in stores]
    for agent in agents:
        agent.turn(32768)

    def over_plain(work: Callable[[RandomAgent], object], times: int) -> dict[str, float]:
        seconds = [[median_s(lambda agent=agent: work(agent), 1) for agent in agents] for _ in range(times)]
        plain, encrypted = (statistics.median(column) for column in zip(*seconds, strict=True))
        return {"plain_ms": 1000 * plain, "encrypted_ms": 1000 * encrypted, "encryption_over_plain": encrypted / plain}

    out = {
        "restore_32k": over_plain(RandomAgent.restore, max(repeats, 9)),
        "commit_64": over_plain(lambda agent: agent.turn(TURN), 32),
        "commit_4k": over_plain(lambda agent: agent.turn(4096), max(repeats, 9)),
    }
    for store in stores:
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


def shared(folder: Path) -> dict[str, float]:
    """Ten agents through the engine, on a narrower model: 8K tokens in common, 512 of their own."""
    checkpoint = write(folder / "narrow", Spec(layers=8, heads=4, kv_heads=4, context=16384))
    engine = Engine.open(EngineSettings(folder / "shared", str(checkpoint)))
    common = random_agent(engine, "common", 8192).ids
    rng = np.random.default_rng(0)
    for i in range(10):
        ids = (*common, *rng.integers(5, VOCAB, 512).tolist())
        usage = finished(run(engine, Request(AgentRef("default", f"a{i}"), TokenInput(ids), None, create=True))).usage
        assert usage.prefill_tokens == 512
    engine.delete_agent(AgentRef("default", "common"))
    unique = (8192 + 10 * 512) * engine.model_info().bytes_per_token
    stats = engine.stats()
    engine.close()
    return {"ram": stats.hot_bytes / unique, "disk": stats.disk_bytes / unique}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object (it always is)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--agents", type=int, default=10_000)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 4096, 16384, 32768])
    parser.add_argument("--folder", type=Path, help="where files are made and removed; decides which drive is measured")
    args = parser.parse_args()
    machine.prefer_openblas()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        checkpoint = write(folder / "model", MODEL)
        engine = Engine.open(EngineSettings(folder / "engine", str(checkpoint)))
        results: dict[str, Any] = {"page_cache": "warm", "writes": write_amplification(folder, engine)}
        results["warm"] = [warm(folder / "engine", engine, tokens, args.repeats) for tokens in args.tokens]
        engine.close()
        results["restore"] = [restores(folder, tokens, args.repeats) for tokens in args.tokens]
        results["encryption"] = encryption(folder, args.repeats)
        results["branches"] = branches(folder, args.repeats)
        results["ten_agents_shared"] = shared(folder)
        results["long_turns"] = [long_turns(folder, flush_s, 2) for flush_s in (0.0, 0.005)]
        results["many"] = many(folder / "many", checkpoint, args.agents, 10, args.repeats)
    for part, figures in results.items():
        print(part, figures, file=sys.stderr)
    print(json.dumps({"benchmark": "store", **results, "machine": machine.describe()}))


if __name__ == "__main__":
    main()
