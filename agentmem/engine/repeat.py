"""The answer to a request whose request_id has made a turn already: what the record of that turn says."""

from __future__ import annotations

from collections.abc import Iterator

from agentmem.engine.request import Delta, Event, Finished, ReusePlan, Started
from agentmem.store.records import TurnRecord
from agentmem.types import TurnKind, Warning


def answer_again(record: TurnRecord, durable: bool, warnings: tuple[Warning, ...] = ()) -> Iterator[Event]:
    """durable: False if the turn is in RAM only as yet. warnings: what is to be said besides."""
    yield Started(record.number, 0, ReusePlan(), record.request_id)
    if record.kind is TurnKind.GENERATE:
        said = record.messages[-1]
        yield Delta(said.message.text, tuple(record.ids[said.start - record.start :].tolist()))
    yield Finished(
        turn=record.number,
        finish_reason=record.finish_reason,
        stop_sequence=record.stop_sequence,
        usage=record.usage,
        timings=record.timings,
        durable=durable,
        warnings=(*record.warnings, *warnings),
        seed=record.seed,
        repeated_result=True,
        parts=record.parts,
    )
