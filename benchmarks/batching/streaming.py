"""One agent's tokens per second at a client of a real daemon, against a plain mlx-lm loop in this process."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path

import mlx.core as mx
from agentmem_client import Client
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import QuantizedKVCache

from agentmem.model import loader
from benchmarks.batching.cases import Cases, random_ids
from benchmarks.batching.timing import Turns
from tests.helpers.daemon import Daemon

PROMPT = 256


def streaming(folder: Path, checkpoint: Path, cases: Cases) -> dict[str, float]:
    """Both are timed from the first token to the last, on the same model, BLAS and Q4 settings."""
    model = loader.load(str(checkpoint))
    home = folder / f"daemon-{checkpoint.name}"
    home.mkdir()
    daemon = Daemon(home, checkpoint, log_level="WARNING")
    client = daemon.start()
    seeds = count()

    def of_client() -> float:
        seed = next(seeds)
        return (cases.reply - 1) / _client_s(client, f"a{seed}", cases.reply, seed)

    def of_loop() -> float:
        return (cases.reply - 1) / _loop_s(model, cases.reply)

    try:
        works = {"loop": of_loop, "client": of_client}
        Turns(works, 1)
        turns = Turns(works, 2 * cases.repeats - 1)
        client.close()
    finally:
        daemon.stop()
    return {"stream_over_loop": turns.ratio("loop", "client"), **turns.medians("tokens_per_s")}


def _loop_s(model: loader.LoadedModel, tokens: int) -> float:
    layout = model.layout.full
    cache = [QuantizedKVCache(group_size=layout.group_size, bits=layout.bits) for _ in range(layout.layers)]
    steps = generate_step(mx.array(random_ids(PROMPT, 0)), model.network, max_tokens=tokens, prompt_cache=cache)
    next(steps)
    began = time.perf_counter()
    assert sum(1 for _ in steps) == tokens - 1
    return time.perf_counter() - began


def _client_s(client: Client, name: str, tokens: int, seed: int) -> float:
    stream = client.agent(name).generate(
        token_ids=random_ids(PROMPT, seed), stream=True, max_tokens=tokens, include_token_ids=True
    )
    times = [time.perf_counter() for _ in stream]
    assert len(stream.result.token_ids) == tokens
    return times[-1] - times[0]
