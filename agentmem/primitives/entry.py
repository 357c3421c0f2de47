"""Entries of the knowledge pool, and the JSONL that carries them from one pool to another."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from agentmem.errors import AgentmemError, Reason
from agentmem.primitives.plan import Plan
from agentmem.primitives.strict import Refused, Strict, load

FORMAT = 1
MAX_BYTES = 64 << 10
"""Of an entry as JSON."""
MAX_TITLE, MAX_DESCRIPTION, MAX_TAGS = 120, 4000, 16

LEARNED_PREFIX = "learned-"
"""Of the ids of learned entries."""

Tag = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]


class Outcomes(Strict):
    """How plans of an entry did: how many were scored, and the scores' mean, 0 to 1 (0 if there are none)."""

    count: Annotated[int, Field(ge=0, lt=2**53)] = 0
    mean: Annotated[float, Field(ge=0, le=1)] = 0.0

    @model_validator(mode="after")
    def _none_has_no_mean(self) -> Self:
        if self.count == 0 and self.mean != 0:
            raise ValueError("a mean of no scores")
        return self

    def with_score(self, score: float) -> Outcomes:
        count = self.count + 1
        return Outcomes(count=count, mean=self.mean + (score - self.mean) / count)


class Entry(Strict):
    """A kind of task, and the plan that suits it. title, description and tags are what queries are compared with."""

    id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    title: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TITLE)]
    description: Annotated[str, StringConstraints(min_length=1, max_length=MAX_DESCRIPTION)]
    tags: Annotated[tuple[Tag, ...], Field(max_length=MAX_TAGS)] = ()
    plan: Plan
    why: Annotated[str, StringConstraints(max_length=1000)] = ""
    """The reason for that composition."""
    source: Literal["shipped", "learned"]
    outcomes: Outcomes = Outcomes()

    @model_validator(mode="after")
    def _says_where_it_is_from(self) -> Self:
        if (self.source == "learned") != self.id.startswith(LEARNED_PREFIX):
            raise ValueError(f"learned entries, and no others, have ids that begin with {LEARNED_PREFIX}")
        return self

    def about(self) -> Entry:
        """The entry without its outcomes: what it says, not how it did."""
        return self.model_copy(update={"outcomes": Outcomes()})

    def with_score(self, score: float) -> Entry:
        return self.model_copy(update={"outcomes": self.outcomes.with_score(score)})


class Header(Strict):
    """The first line: how many follow it, so that a file cut short is noticed."""

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)]
    entries: Annotated[int, Field(ge=0)]


def learned(query: str, plan: Plan) -> Entry:
    """The entry for a query that a plan was run on, without outcomes. The same two make the same entry.

    Holds the beginning of the query's text, as far as an entry does. Raises INPUT_INVALID.
    """
    try:
        told = query.encode()
    except UnicodeEncodeError:
        raise AgentmemError(Reason.INPUT_INVALID, "the query holds text that is not valid Unicode") from None
    line = " ".join(query.split())
    if not line:
        raise AgentmemError(Reason.INPUT_INVALID, "the query is empty: there is nothing to learn for")
    digest = hashlib.sha256(len(told).to_bytes(8, "big") + told + plan.json_text().encode()).hexdigest()[:32]
    return Entry(
        id=f"{LEARNED_PREFIX}{digest}",
        title=line[:MAX_TITLE],
        description=query.strip()[:MAX_DESCRIPTION],
        plan=plan,
        source="learned",
    )


def write_lines(entries: list[Entry]) -> Iterator[str]:
    """JSONL, each line with its end: a header, then an entry a line."""
    yield Header(format=FORMAT, entries=len(entries)).model_dump_json() + "\n"
    for entry in entries:
        yield entry.model_dump_json() + "\n"


def read_lines(lines: Iterable[str]) -> list[Entry]:
    """What `write_lines` wrote, all of it. Raises IMPORT_INVALID, which says in which line and why."""
    rest = _decoded(lines)
    found: list[Entry] = []
    try:
        header = load(Header, next(rest, ""), MAX_BYTES)
    except Refused as refused:
        raise invalid_line(1, f"the header is wrong: {_told(refused)}") from None
    for number, line in enumerate(itertools.islice(rest, header.entries), start=2):
        try:
            found.append(load(Entry, line, MAX_BYTES))
        except Refused as refused:
            raise invalid_line(number, _told(refused)) from None
        except AgentmemError as error:  # of its plan
            raise invalid_line(number, error.message.rstrip(".")) from None
    if len(found) < header.entries or next(rest, None) is not None:
        many = "fewer" if len(found) < header.entries else "more"
        raise invalid_line(1, f"{header.entries} entries are announced, but there are {many}")
    if len({entry.id for entry in found}) < len(found):
        ids = [entry.id for entry in found]
        twice = next(n for n, id in enumerate(ids) if id in ids[:n])
        raise invalid_line(twice + 2, "its id stands in another line, too")
    return found


def _told(refused: Refused) -> str:
    place = ".".join(map(str, refused.path))
    return f"{place}: {refused}" if place else str(refused)


def _decoded(lines: Iterable[str]) -> Iterator[str]:
    number = 1
    try:
        for line in lines:
            yield line
            number += 1
    except UnicodeDecodeError:
        raise invalid_line(number, "it, or one soon behind it, is not UTF-8") from None


def invalid_line(number: int, why: str) -> AgentmemError:
    return AgentmemError(Reason.IMPORT_INVALID, f"Line {number} of the knowledge file is invalid: {why}.", line=number)
