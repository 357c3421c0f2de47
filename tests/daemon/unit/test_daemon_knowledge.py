"""The knowledge pool's methods, on a real pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from agentmem_daemon import knowledge

from agentmem.primitives import pooldb
from agentmem.primitives.knowledge import KnowledgePool, shipped_entries
from agentmem.primitives.library import FILE
from agentmem.primitives.plan import Plan
from agentmem.v1 import primitives_pb2 as pb
from agentmem.v1 import primitives_pb2_grpc
from tests.primitives.plans import plan

PLAN = plan("vote", solvers=2)
SHIPPED = [entry.id for entry in shipped_entries()]


@pytest.fixture(autouse=True)
def no_waiting_for_the_drive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooldb, "PRAGMAS", (*pooldb.PRAGMAS, "synchronous=OFF"))


def on(served: Callable[..., Any], scenario: Callable[..., Any], **how: bool) -> None:
    async def go() -> None:
        async with served(**how) as it:
            stub = primitives_pb2_grpc.PrimitivesServiceStub(it.channel)

            def call(method: str, request: Any) -> Any:
                return getattr(stub, method)(request, metadata=it.metadata)

            await scenario(call)

    asyncio.run(go())


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


async def sent(*chunks: bytes) -> AsyncIterator[pb.ImportPoolRequest]:
    for chunk in chunks:
        yield pb.ImportPoolRequest(chunk=chunk)


def test_all_entries_page_by_page(served: Callable[..., Any]) -> None:
    async def scenario(call: Callable[..., Any]) -> None:
        ids, token = [], ""
        while True:
            page = await call("ListPool", pb.ListPoolRequest(page_size=25, page_token=token))
            assert len(page.entries) <= 25
            ids += [entry.id for entry in page.entries]
            if not (token := page.next_page_token):
                break
        assert ids == SHIPPED
        entry = page.entries[0]
        assert Plan.parse(entry.plan)
        assert (entry.source, entry.outcomes, entry.similarity) == ("shipped", 0, 0.0)
        code, _ = await refused(call("ListPool", pb.ListPoolRequest(page_token="x")))
        assert code is grpc.StatusCode.INVALID_ARGUMENT

    on(served, scenario)


def test_the_nearest_entries(served: Callable[..., Any], folder: Path) -> None:
    async def scenario(call: Callable[..., Any]) -> None:
        query = "review this code, this text and this list of questions"
        found = (await call("ListPool", pb.ListPoolRequest(query=query, page_size=3))).entries
        with KnowledgePool(folder / FILE) as pool:
            expected = [(m.entry.id, m.similarity) for m in pool.nearest(query, 3)]
        assert [(e.id, e.similarity) for e in found] == expected
        assert len((await call("ListPool", pb.ListPoolRequest(query=query))).entries) == 5
        assert not (await call("ListPool", pb.ListPoolRequest(query="zzzyzx"))).entries
        code, _ = await refused(call("ListPool", pb.ListPoolRequest(query=query, page_size=101)))
        assert code is grpc.StatusCode.INVALID_ARGUMENT

    on(served, scenario)


def test_an_outcome_is_recorded_once_and_forgotten(served: Callable[..., Any]) -> None:
    async def scenario(call: Callable[..., Any]) -> None:
        request = pb.RecordOutcomeRequest(
            query="zebra", plan=PLAN.json_text(), score=0.5, entry_id=SHIPPED[0], request_id="r"
        )
        first = await call("RecordOutcome", request)
        assert (first.entry.outcomes, first.entry.mean_score, first.repeated_result) == (1, 0.5, False)
        again = await call("RecordOutcome", request)
        assert (again.entry, again.repeated_result) == (first.entry, True)
        listed = (await call("ListPool", pb.ListPoolRequest(query="zebra"))).entries
        assert [e.id for e in listed] == [first.entry.id]
        origin = (await call("ListPool", pb.ListPoolRequest(page_size=1))).entries[0]
        assert (origin.id, origin.outcomes) == (SHIPPED[0], 1)
        forget = pb.ForgetOutcomeRequest(entry_id=first.entry.id)
        assert (await call("ForgetOutcome", forget)).forgotten
        assert not (await call("ForgetOutcome", forget)).forgotten
        assert not (await call("ForgetOutcome", pb.ForgetOutcomeRequest(entry_id=SHIPPED[0]))).forgotten

    on(served, scenario)


@pytest.mark.parametrize(
    "fields",
    [
        {"score": 1.5}, {"score": float("nan")}, {"query": " "}, {"plan": "{}"}, {"plan": ""}, {"request_id": "a\n"},
    ],
    ids=str,
)  # fmt: skip
def test_an_outcome_that_is_none(served: Callable[..., Any], fields: dict[str, Any]) -> None:
    async def scenario(call: Callable[..., Any]) -> None:
        known: dict[str, Any] = {"query": "swordfish", "plan": PLAN.json_text(), "score": 0.5}
        code, details = await refused(call("RecordOutcome", pb.RecordOutcomeRequest(**{**known, **fields})))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "swordfish" not in details
        assert not (await call("ListPool", pb.ListPoolRequest(query="swordfish"))).entries

    on(served, scenario)


def test_what_is_exported_can_be_imported(served: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge, "PIECE_BYTES", 1000)

    async def scenario(call: Callable[..., Any]) -> None:
        record = pb.RecordOutcomeRequest(query="zebra\u2028é", plan=PLAN.json_text(), score=0.25)
        learned = (await call("RecordOutcome", record)).entry
        file = b"".join([piece.chunk async for piece in call("ExportPool", pb.ExportPoolRequest())])
        assert len(file.split(b"\n")) == len(SHIPPED) + 3
        await call("ForgetOutcome", pb.ForgetOutcomeRequest(entry_id=learned.id))
        halves = sent(file[:1501], file[1501:])
        assert (await call("ImportPool", halves)).changed == 1
        assert (await call("ListPool", pb.ListPoolRequest(query="zebra"))).entries[0].outcomes == 1
        assert (await call("ImportPool", sent(file))).changed == 0

    on(served, scenario)


def test_an_import_that_is_wrong_changes_nothing(served: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(call: Callable[..., Any]) -> None:
        file = b"".join([piece.chunk async for piece in call("ExportPool", pb.ExportPoolRequest())])
        for wrong, why in ((file[:-5], "ine"), (b"\xff", "UTF-8"), (b"", "Line 1"), (file + b"x" * 5000, "bytes")):
            monkeypatch.setattr(knowledge, "MAX_IMPORT_BYTES", len(file) + 4000)
            code, details = await refused(
                call("ImportPool", sent(*(wrong[i : i + 999] for i in range(0, len(wrong), 999))))
            )
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert why in details
        assert (await call("ImportPool", sent(file))).changed == 0

    on(served, scenario)


def test_not_before_the_daemon_serves(served: Callable[..., Any], folder: Path) -> None:
    async def scenario(call: Callable[..., Any]) -> None:
        code, _ = await refused(call("ListPool", pb.ListPoolRequest()))
        assert code is grpc.StatusCode.UNAVAILABLE
        assert not (folder / FILE).exists()

    on(served, scenario, ready=False)
