"""From logits to a token. Random keys derive from (seed, position), never from the order of draws."""

from __future__ import annotations

import hashlib

import mlx.core as mx
from mlx_lm.sample_utils import apply_top_k, apply_top_p

from agentmem.engine.request import Sampling


def sample(logits: mx.array, position: int, sampling: Sampling, seed: int) -> mx.array:
    """The token for `position` of the timeline, a scalar that is not evaluated. logits: fp32 [vocab]."""
    if sampling.temperature == 0:
        return mx.argmax(logits)
    scaled = logits / sampling.temperature
    logprobs = (scaled - mx.logsumexp(scaled))[None]
    if sampling.top_p < 1:
        logprobs = apply_top_p(logprobs, sampling.top_p)
    if 0 < sampling.top_k < logits.shape[0]:
        logprobs = apply_top_k(logprobs, sampling.top_k)
    return mx.random.categorical(logprobs, key=_key(seed, position))[0]


def _key(seed: int, position: int) -> mx.array:
    digest = hashlib.blake2b(position.to_bytes(8, "little"), key=seed.to_bytes(8, "little"), digest_size=8)
    return mx.random.key(int.from_bytes(digest.digest(), "little"))
