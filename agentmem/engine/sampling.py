"""From logits to a token. Random keys derive from (seed, position), never from the order of draws."""

from __future__ import annotations

import hashlib

import mlx.core as mx
from mlx_lm.sample_utils import apply_top_k, apply_top_p

from agentmem.engine.request import Sampling
from agentmem.model.grammar import Document


class Sampler:
    """Of one reply. document: what it is to write, if it is held to a schema."""

    def __init__(self, sampling: Sampling, seed: int, document: Document | None = None) -> None:
        self._sampling, self._seed, self._document = sampling, seed, document
        self._last: mx.array | None = None

    def __call__(self, logits: mx.array, position: int) -> mx.array:
        """As `sample`; called for each token of the reply in turn. Raises AgentmemError SCHEMA_UNFULFILLABLE."""
        if self._document is not None:
            logits = self._masked(logits, self._document)
        self._last = sample(logits, position, self._sampling, self._seed)
        return self._last

    def _masked(self, logits: mx.array, document: Document) -> mx.array:
        """Which tokens may come hangs on the one before: it is read here, and the next pass has begun by then."""
        if self._last is not None:
            mx.async_eval(logits)
            token = self._last.item()
            assert isinstance(token, int)
            document.accept(token)
        return mx.where(mx.array(document.allowed()), logits, -mx.inf)


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
