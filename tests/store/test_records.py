"""Turn records: round trips, and everything that must be refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem.errors import AgentmemError, Reason
from agentmem.store import chain, records
from agentmem.store.aes import Aes
from agentmem.store.records import BlockUse, RecordUnreadable, decode, encode
from agentmem.store.rows import AgentRow
from agentmem.store.sealing import Plain, Sealer
from agentmem.types import (
    Exactness,
    Message,
    PrefixMiss,
    ToolCall,
    TurnMessage,
    Usage,
    Warning,
)
from tests.store.samples import MASTER_KEY, SECRET, make_record

AGENT = AgentRow("ab" * 16, "default", "…/../\U0001f600", 1.0, 2.0, 4, 10, "state-1", Exactness.EXACT)
CALL = ToolCall("call-1", "search", '{"q": "x"}')
RECORD = make_record(
    AGENT,
    [1, 2, 2**31 - 1],
    [BlockUse(b"\x07" * 32, 13)],
    messages=(
        TurnMessage(Message("assistant", ("a", "\ud800 lone"), (CALL,), "", "because"), 10, 12),
        TurnMessage(Message("tool", (), tool_call_id="call-1"), 12, 13),
    ),
    finish_reason=None,
    usage=Usage(bytes_read=5, exactness=Exactness.BLENDED, misses=[PrefixMiss(3, 4, "BLOCK_CORRUPT")]),
    warnings=(Warning("BLOCK_CORRUPT", "recomputed"),),
)
PREVIOUS = b"\x09" * 32
DATA, DIGEST = encode(RECORD, PREVIOUS, SECRET)


def test_round_trip() -> None:
    again = decode(DATA, SECRET)
    assert again == RECORD
    assert (again.previous, again.digest) == (PREVIOUS, DIGEST)
    assert again.ids.dtype == np.int32
    assert encode(again, PREVIOUS, SECRET) == (DATA, DIGEST)


def test_equality_minds_every_field() -> None:
    assert replace(RECORD, ids=RECORD.ids.copy()) == RECORD
    assert replace(RECORD, ids=RECORD.ids - np.int32(1)) != RECORD
    assert replace(RECORD, seed=1) != RECORD
    assert replace(RECORD, usage=Usage()) != RECORD


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(DATA) * 8 - 1))
def test_any_flipped_bit_is_refused(bit: int) -> None:
    changed = bytearray(DATA)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RecordUnreadable):
        decode(bytes(changed), SECRET)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"[" * 100_000,
        DATA[:-1],
        DATA + b" ",
        DATA.replace(b'"open":false', b'"open":0'),
        DATA.replace(b'"open":false', b'"open":false,"open":false'),
        DATA.replace(b'"number":5', b'"number":5.0'),
        DATA.replace(b'"created":1234.5', b'"created":NaN'),
        DATA.replace(b'"format":1', b'"format":2'),
        DATA.replace(b'"messages":[', b'"messages":[{},'),
    ],
    ids=range(13),
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(RecordUnreadable):
        decode(data, SECRET)


def test_another_namespace_is_refused() -> None:
    with pytest.raises(RecordUnreadable):
        decode(DATA, b"\xff" * 32)


def test_the_digest_covers_the_turn_before() -> None:
    assert encode(RECORD, b"", SECRET)[1] != DIGEST


def test_errors_do_not_quote_what_was_said() -> None:
    with pytest.raises(RecordUnreadable) as caught:
        decode(DATA.replace(b"because", b"beKause"), SECRET)
    assert "beKause" not in str(caught.value)


def test_a_record_is_written_only_if_it_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealed, it is longer. There is room for all embeddings that a timeline may have."""
    sealers: tuple[Sealer, ...] = (Plain(), Aes(MASTER_KEY))
    for sealer in sealers:
        sealed = sealer.record(AGENT.id, 5, bytes(1 << 16))
        assert len(sealed) * chain.MAX_RECORD_BYTES <= chain.MAX_FILE_BYTES << 16
    assert records.MAX_EMBEDDING_BYTES * 3 // 2 < records.MAX_RECORD_BYTES
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", len(DATA))
    assert encode(RECORD, PREVIOUS, SECRET) == (DATA, DIGEST)
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", len(DATA) - 1)
    with pytest.raises(AgentmemError) as refused:
        encode(RECORD, PREVIOUS, SECRET)
    assert refused.value.reason is Reason.CONTEXT_OVERFLOW
