"""Runs a model over an agent's state, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from agentmem.kv.batch import Batch
from agentmem.kv.state import AgentState
from agentmem.model.loader import LoadedModel
from agentmem.types import BLOCK_TOKENS, PrefillPath

CHUNK = 2 * BLOCK_TOKENS
"""Positions per prefill step. Chunks end on segment borders; their size changes no bit in reference numerics."""

LAST = 32
"""Positions of a prompt's end that run with the output head, in one pass: short turns take no second pass."""


def prefill(model: LoadedModel, state: AgentState, ids: Sequence[int] | np.ndarray) -> Iterator[int]:
    """Appends ids to the state; yields the positions done after each chunk. No logits are computed."""
    done = 0
    while done < len(ids):
        chunk = next_chunk(state, ids[done : done + CHUNK])
        feed(model, state, chunk)
        done += len(chunk)
        yield done


def next_chunk(state: AgentState, ids: Sequence[int] | np.ndarray) -> Sequence[int] | np.ndarray:
    """Those of the ids that the next pass takes."""
    return ids[: CHUNK - state.full.row]


def feed(model: LoadedModel, state: AgentState, chunk: Sequence[int] | np.ndarray) -> None:
    """Appends a chunk of ids to the state. No logits are computed."""
    _network(model, _batch_of_one(chunk), [state])
    state.evaluate()


def last_logits(model: LoadedModel, state: AgentState, ids: Sequence[int] | np.ndarray) -> mx.array:
    """Appends a few ids and returns the logits behind the last one: fp32 [vocab]."""
    logits = _network(model, _batch_of_one(ids), [state])[0, -1].astype(mx.float32)
    mx.eval(logits)
    state.evaluate()
    return logits


def last_hidden(model: LoadedModel, state: AgentState, ids: Sequence[int] | np.ndarray) -> mx.array:
    """Appends a few ids and returns the hidden state behind the last one, after the final norm: [width]."""
    return feed_embeddings(model, [state], embed(model, ids)[None])[0]


def feed_embeddings(model: LoadedModel, states: Sequence[AgentState], embeddings: mx.array) -> mx.array:
    """Appends embeddings [agents, count, width] to the states, as if they were those of tokens, chunk by chunk.

    Returns the last hidden states behind them, after the final norm: [agents, width], evaluated. In reference numerics
    chunks change no bit.
    """
    hidden, done, count = embeddings[:, -1], 0, embeddings.shape[1]
    if not count:
        raise ValueError("there is nothing to feed")
    while done < count:
        end = min(count, done + CHUNK - states[0].full.row)
        chunk = embeddings[:, done:end]
        hidden = model.network.model(None, cache=caches(model, states), input_embeddings=chunk)[:, -1]
        mx.eval(hidden)
        for state in states:
            state.evaluate()
        done = end
    return hidden


def embed(model: LoadedModel, ids: Sequence[int] | np.ndarray) -> mx.array:
    """The tokens' input embeddings, [count, width]."""
    embedded: mx.array = model.network.model.embed_tokens(_batch_of_one(ids))[0]
    return embedded


def decode(model: LoadedModel, states: Sequence[AgentState], tokens: mx.array) -> mx.array:
    """Appends a token to each state, in one pass. tokens: int [agents].

    Returns the logits behind them, fp32 [agents, vocab], not evaluated: that, and the states, is the caller's.
    """
    return _network(model, tokens[:, None], states)[:, -1].astype(mx.float32)


def caches(model: LoadedModel, states: Sequence[AgentState]) -> list[Any]:
    """What mlx-lm's model code takes for its caches, in a pass over these states."""
    return Batch(states, model.prefill is PrefillPath.FUSED).layers


def _batch_of_one(ids: Sequence[int] | np.ndarray) -> mx.array:
    return mx.array(np.asarray(ids, np.int32))[None]


def _network(model: LoadedModel, tokens: mx.array, states: Sequence[AgentState]) -> mx.array:
    """tokens: int [agents, count]. Returns logits, [agents, count, vocab]."""
    return model.network(tokens, cache=caches(model, states))
