"""Replies that are held to a JSON Schema: whatever the model, they fulfil it; what cannot be enforced is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentmem.engine.engine import Engine, EngineSettings
from agentmem.engine.request import Delta, Event, Failed, Finished, Request, Sampling
from agentmem.errors import AgentmemError, Reason
from agentmem.model.grammar import Document
from agentmem.types import AgentRef, FinishReason
from tests.engine.runs import PROMPT, finished, recorded, refused, request, run, said
from tests.primitives.jsonschema import fulfils

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["a", "bé"]}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
ANSWER = {"enum": ["yes", "no"]}
EOS = 4


@pytest.fixture(scope="module", params=[False, True], ids=["behind", "ahead"])
def engine(
    request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    engine = Engine.open(EngineSettings(tmp_path_factory.mktemp("state"), str(checkpoint), ahead=request.param))
    yield engine
    engine.close()


def asked(name: str, schema: dict[str, Any] | None, *ids: int, **sampling: Any) -> Request:
    text = "" if schema is None else json.dumps(schema)
    chosen = Sampling(**{"temperature": 1.5, "max_tokens": 200, "json_schema": text, **sampling})
    return replace(request(*(ids or (7, 8, 9))), agent=AgentRef("default", name), sampling=chosen)


def text_of(events: list[Event]) -> str:
    return "".join(e.text for e in events if isinstance(e, Delta))


@pytest.mark.parametrize("schema", [PERSON, ANSWER], ids=["person", "answer"])
@pytest.mark.parametrize("seed", range(3))
def test_a_random_model_writes_what_fulfils_the_schema(engine: Engine, schema: dict[str, Any], seed: int) -> None:
    events = run(engine, asked(f"fulfils-{seed}", schema, seed=seed, top_p=1.0 - 0.1 * seed, top_k=40 * seed))
    assert fulfils(json.loads(text_of(events)), schema, schema)
    assert finished(events).finish_reason is FinishReason.STOP
    assert said(events)[-1] == EOS
    engine.delete_agent(AgentRef("default", f"fulfils-{seed}"))


def test_a_greedy_reply_too(engine: Engine) -> None:
    events = run(engine, asked("greedy", PERSON, temperature=0.0))
    assert fulfils(json.loads(text_of(events)), PERSON, PERSON)
    free = run(engine, asked("greedy-free", None, temperature=0.0, max_tokens=8))
    assert said(events)[:8] != said(free)


@pytest.mark.reference
def test_what_is_cut_short_begins_what_would_have_been(engine: Engine) -> None:
    whole = text_of(run(engine, asked("whole", PERSON, seed=5)))
    events = run(engine, asked("cut", PERSON, seed=5, max_tokens=6))
    assert finished(events).finish_reason is FinishReason.LENGTH
    assert text_of(events) != whole
    assert whole.startswith(text_of(events))


def test_the_timeline_has_what_was_said(engine: Engine) -> None:
    ref = AgentRef("default", "timeline")
    events = run(engine, asked("timeline", PERSON, seed=1))
    assert recorded(engine, ref) == [7, 8, 9, *said(events)]
    again = run(engine, asked("timeline", ANSWER, 10, 11, seed=1))
    assert json.loads(text_of(again)) in ANSWER["enum"]


@pytest.mark.reference
def test_a_batch_says_what_each_says_alone(engine: Engine) -> None:
    """With and without schemas, on prompts of several lengths."""
    schemas = [PERSON, None, ANSWER, PERSON, {"type": "integer", "maximum": 10**6, "minimum": 0}]
    asks = [
        asked(f"batch-{n}", schema, *PROMPT[: 3 + 60 * n], seed=n, max_tokens=40, temperature=0.9 * (n % 3))
        for n, schema in enumerate(schemas)
    ]
    alone = [said(run(engine, replace(one, agent=replace(one.agent, name=f"alone-{n}")))) for n, one in enumerate(asks)]
    events: list[list[Event]] = [[] for _ in asks]
    left = threading.Barrier(len(asks) + 1)

    def ask(number: int) -> None:
        done = threading.Event()

        def sink(event: Event) -> None:
            events[number].append(event)
            if isinstance(event, Finished | Failed):
                done.set()

        engine.submit(asks[number], sink)
        assert done.wait(60)
        left.wait(60)

    for number in range(len(asks)):
        threading.Thread(target=ask, args=(number,), daemon=True).start()
    left.wait(60)
    assert [said(one) for one in events] == alone


BAD: list[tuple[str, str]] = [
    ("{", "not JSON"),
    ("[" * 5000, "not JSON"),
    ("[]", "not a JSON object"),
    ("true", "not a JSON object"),
    ('{"type": "strin"}', "strin"),
    ('{"enum": []}', "nsatisfiable"),
    ('{"allOf": [{"type": "string"}, {"type": "integer"}]}', "nsatisfiable"),
    ('{"not": {}}', "not"),
    ('{"$ref": "http://127.0.0.1/schema"}', "http"),
    ('{"type": "string", "pattern": "^(?=a)b$"}', "look-around"),
    (json.dumps({"enum": ["x" * (64 << 10)]}), "bytes"),
    ('{"const": "\ud800"}', "Unicode"),
]


@pytest.mark.parametrize(("schema", "why"), BAD)
def test_what_cannot_be_enforced_is_refused_before_work_starts(engine: Engine, schema: str, why: str) -> None:
    one = asked("refused", None, json_schema=schema)
    with pytest.raises(AgentmemError) as caught:
        engine.submit(one, lambda event: None)
    assert caught.value.reason is Reason.SCHEMA_INVALID
    assert why in caught.value.message
    assert len(caught.value.message) < 300
    with refused(Reason.AGENT_NOT_FOUND):
        engine.get_agent(one.agent)


@pytest.mark.reference
def test_one_that_cannot_go_on_fails_alone(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may follow can become too much to compute in mid-reply."""
    real, asks = Document.allowed, 0

    def allowed(self: Document) -> Any:
        nonlocal asks
        asks += 1
        if asks == 4:
            raise self._stuck()
        return real(self)

    monkeypatch.setattr(Document, "allowed", allowed)
    events: list[Event] = []
    done = threading.Event()

    def sink(event: Event) -> None:
        events.append(event)
        if isinstance(event, Finished | Failed):
            done.set()

    other = asked("other", None, seed=2, max_tokens=30)
    expected = said(run(engine, replace(other, agent=replace(other.agent, name="expected"))))
    engine.submit(asked("stuck", PERSON, seed=3), sink)
    assert said(run(engine, other)) == expected
    assert done.wait(60)
    assert isinstance(events[-1], Failed)
    assert events[-1].error.reason is Reason.SCHEMA_UNFULFILLABLE
