"""Agents in files: what leaves is verified, what comes in as well, and neither is ever anybody else's."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import xxhash

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.errors import Reason
from agentmem.types import Residency, Share, TurnKind
from tests.engine.runs import PROMPT, SPEC, A, B, C, cold, feed, recorded, refused
from tests.helpers.checkpoints import with_other_weights
from tests.store.samples import add_turn, reseal

Members = dict[str, bytes]


def exported(engine: Engine) -> bytes:
    return b"".join(engine.export_agent(A))


def changed(data: bytes, change: Callable[[Members], None]) -> bytes:
    """The export with other members, and a checksum to match: what a hostile writer could make."""
    with tarfile.open(fileobj=io.BytesIO(data[:-16])) as tar:
        members = {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]
    change(members)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue() + xxhash.xxh3_128(out.getvalue()).digest()


def test_an_import_is_private_and_whole(engine: Engine) -> None:
    feed(engine, A, *PROMPT)
    file = exported(engine)
    made = engine.import_agent([file], "default", "b")
    assert (made.share, made.tokens, made.turn) == (Share.PRIVATE, 706, 1)
    assert recorded(engine, B) == recorded(engine)
    assert [turn.kind for turn in engine.list_turns(B)] == [TurnKind.FORK]
    got, usage = feed(engine, B, 11)
    assert usage.recomputed_tokens == 0
    assert got == feed(engine, A, 11)[0]


def test_nobody_is_served_state_that_came_in_a_file(engine: Engine) -> None:
    feed(engine, A, *PROMPT, tokens=None)
    file = exported(engine)
    engine.delete_agent(A)
    engine.import_agent([file], "default", "b")
    assert feed(engine, C, *PROMPT, tokens=None)[1].prefill_tokens == len(PROMPT)


def test_text_alone_is_computed_here_and_shared(engine: Engine) -> None:
    feed(engine, A, *PROMPT, tokens=None)
    file = exported(engine)
    engine.delete_agent(A)
    made = engine.import_agent([file], "default", "b", text_only=True)
    assert (made.share, made.residency) == (Share.NAMESPACE, Residency.COLD)
    got, usage = feed(engine, B, 11)
    assert usage.recomputed_tokens == len(PROMPT)
    assert got == cold(engine, PROMPT, (11,))


def test_another_models_state_is_not_taken(checkpoint: Path, engine: Engine, tmp_path: Path) -> None:
    feed(engine, A, *PROMPT, tokens=None)
    file = exported(engine)
    other = Engine.open(
        EngineSettings(tmp_path / "elsewhere", str(with_other_weights(checkpoint, tmp_path / "ck", SPEC)))
    )
    try:
        with refused(Reason.MODEL_MISMATCH):
            other.import_agent([file], "default")
        assert other.stats().agents == 0
        assert other.import_agent([file], "default", text_only=True).model_matches
    finally:
        other.close()


def test_a_repeated_import_returns_what_the_first_one_made(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    feed(engine, A, *PROMPT[:300], tokens=None)
    file = exported(engine)
    made = engine.import_agent([file], "default", "b", request_id="r")
    feed(engine, B, 5, tokens=None)
    again = engine.import_agent([file], "default", "b", request_id="r")
    assert (again.id, again.turn) == (made.id, 2)
    with refused(Reason.REQUEST_ID_REUSED):
        engine.import_agent([file], "default", "c", request_id="r")
    with refused(Reason.AGENT_EXISTS):
        engine.import_agent([file], "default", "b", request_id="s")


def test_what_leaves_is_verified(engine: Engine, tmp_path: Path) -> None:
    feed(engine, A, *PROMPT, tokens=None)
    keys = [block.key for block in engine.get_agent(A).blocks]
    path = next((tmp_path / "state").glob(f"blocks/**/{keys[1]}.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with refused(Reason.BLOCK_UNRECOVERABLE):
        exported(engine)


def test_ids_that_the_served_model_does_not_know_are_not_taken(engine: Engine) -> None:
    store = engine._context.store
    add_turn(store, store.create_agent("default", "x"), [5, 512])
    file = b"".join(store.transfers.export("default", "x"))
    for text_only in (False, True):
        with refused(Reason.IMPORT_INVALID):
            engine.import_agent([file], "default", "y", text_only=text_only)


def _swap(members: Members) -> None:
    a, b = "blocks/000000.safetensors", "blocks/000001.safetensors"
    members[a], members[b] = members[b], members[a]


def _other_ids(members: Members) -> None:
    """A block that verifies by itself, of other ids than the record's."""
    data = bytearray(members["blocks/000001.safetensors"])
    header = bytes(data[8 : 8 + int.from_bytes(data[:8], "little")])
    at = data.rfind(bytes((*PROMPT[256].to_bytes(4, "little"), *PROMPT[257].to_bytes(4, "little"))))
    assert at > 0
    data[at] ^= 1
    members["blocks/000001.safetensors"] = reseal(bytes(data), header)


def _one_less(members: Members) -> None:
    del members["blocks/000002.safetensors"]


def _one_more(members: Members) -> None:
    members["blocks/000003.safetensors"] = members["blocks/000002.safetensors"]


def _other_record(members: Members) -> None:
    members["record.json"] = members["record.json"].replace(b'"agent_name":"a"', b'"agent_name":"x"')


@pytest.mark.parametrize("change", [_swap, _other_ids, _one_less, _one_more, _other_record])
def test_what_comes_in_is_verified(engine: Engine, change: Callable[[Members], None]) -> None:
    feed(engine, A, *PROMPT, tokens=None)
    file = exported(engine)
    assert changed(file, lambda members: None)[:-16].rstrip(b"\0") == file[:-16].rstrip(b"\0")
    with refused(Reason.IMPORT_INVALID):
        engine.import_agent([changed(file, change)], "default", "b")
    assert [view.ref for view in engine.list_agents("default")] == [A]
    assert engine.prune("default") == []  # nor is any file left


def test_a_bit_that_fell_over_on_the_way(engine: Engine) -> None:
    feed(engine, A, *PROMPT[:40], tokens=None)
    file = exported(engine)
    for at in range(0, len(file), len(file) // 12):
        data = bytearray(file)
        data[at] ^= 4
        with refused(Reason.IMPORT_INVALID):
            engine.import_agent([bytes(data)], "default", "b")
