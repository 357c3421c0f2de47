"""The block pool: which blocks are in RAM, and in whose hands. Equal blocks are held once.

The keys of blocks chain, so a key names a whole prefix: the pool is a radix tree whose edges need not be stored.
Its nodes are spans; one is cut where two timelines part. A block in an agent's private tail is known too, and
becomes part of a span as soon as somebody else wants it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from weakref import WeakValueDictionary

from agentmem.kv import splicing
from agentmem.kv.full import FullLayers
from agentmem.kv.span import Span
from agentmem.kv.state import AgentState
from agentmem.kv.window import WindowPart
from agentmem.types import BLOCK_TOKENS


class _Held(NamedTuple):
    """A state and the keys of its full blocks, from the first on; not of those that a running turn has added.

    They end where a splice begins: what lies elsewhere than 256 to a segment is found by who holds it alone.
    """

    state: AgentState
    keys: tuple[bytes, ...]


class BlockPool:
    """Owned by the executor thread; `nbytes` and `count` may be read from others."""

    def __init__(self) -> None:
        self._spans: dict[bytes, Span] = {}
        self._tails: dict[bytes, FullLayers] = {}
        self._parts: WeakValueDictionary[bytes, WindowPart] = WeakValueDictionary()
        self._states: dict[FullLayers, _Held] = {}

    @property
    def nbytes(self) -> int:
        """All bytes of state in RAM, what is shared counted once."""
        states = [held.state for held in list(self._states.values())]
        shared = {id(one): one.nbytes for state in states for one in state.shared()}
        return sum(shared.values()) + sum(state.own_bytes for state in states)

    def __contains__(self, state: AgentState) -> bool:
        """Whether the state is known, and its bytes are counted."""
        return state.full in self._states

    def count(self, keys: Sequence[bytes]) -> int:
        """How many leading blocks of a timeline are in RAM."""
        return next((i for i, key in enumerate(keys) if not self._knows(key)), len(keys))

    def _knows(self, key: bytes) -> bool:
        return key in self._spans or key in self._tails

    def find(self, keys: Sequence[bytes]) -> list[Span]:
        """The longest leading run of full blocks that is in RAM, as spans that cover it exactly."""
        found: list[Span] = []
        at = 0
        while at < len(keys):
            if keys[at] in self._tails:
                self._freeze(self._tails[keys[at]])
            span = self._spans.get(keys[at])
            if span is None:
                break
            if span.keys[0] != keys[at]:  # the agent's own timeline ends inside; the run begins behind
                span = self._cut(span, span.keys.index(keys[at]))[1]
            same = sum(1 for a, b in zip(span.keys, keys[at:], strict=False) if a == b)
            if same < span.segments:
                span = self._cut(span, same)[0]
            found.append(span)
            at += same
        return found

    def cut_out(self, state: AgentState, start: int, end: int) -> None:
        """Has positions [start, end) of a state in spans that hold no segment besides theirs.

        They are the state's own spans, whatever else is in RAM by the same keys.
        """
        full = state.full
        if end > full.tail_start:
            full.freeze()
            if full in self._states:
                self._freeze(full)
        while (place := splicing.border(full, start, end)) is not None:
            self._cut(*place)

    def find_parts(self, keys: Mapping[int, bytes]) -> dict[int, WindowPart]:
        """Those of the full segments' window parts that are in RAM. keys: of the blocks, by segment number."""
        return {segment: self._parts[key] for segment, key in keys.items() if key in self._parts}

    def note(self, state: AgentState, keys: Sequence[bytes]) -> None:
        """Says which full blocks a state holds, after it grew or was trimmed. keys: from its first position on."""
        before = self._leave(state.full)
        self._enter(state, keys)
        self._rehome(before.difference(keys))

    def release(self, state: AgentState) -> None:
        """Forgets what only this state holds."""
        self._rehome(self._leave(state.full))

    def _enter(self, state: AgentState, keys: Sequence[bytes]) -> None:
        at = 0
        for span in state.full.spans:
            if len(named := tuple(keys[at : at + span.segments])) > len(span.keys):  # others may know more of it
                span.keys = named
            for key in span.keys:
                self._spans.setdefault(key, span)
            at += span.segments
        for key in keys[at:]:
            self._tails.setdefault(key, state.full)
        if state.window is not None:
            for segment, part in state.window.parts.items():
                if segment < len(keys):
                    self._parts.setdefault(keys[segment], part)
        self._states[state.full] = _Held(state, tuple(keys))

    def _leave(self, layers: FullLayers) -> set[bytes]:
        """The keys that the state had."""
        if (held := self._states.pop(layers, None)) is None:
            return set()
        keys = {*held.keys, *(key for span in layers.spans for key in span.keys)}  # a running turn took some over
        for key in keys:
            if self._tails.get(key) is layers:
                del self._tails[key]
            span = self._spans.get(key)
            if span is not None and not any(other in self._states for other in span.holders):
                del self._spans[key]
        return keys

    def _rehome(self, keys: set[bytes]) -> None:
        """Finds those of the keys that another state has a copy of its own of (two private agents, for instance)."""
        lost = {key for key in keys if not self._knows(key)}
        if lost:
            for held in list(self._states.values()):
                if not lost.isdisjoint(held.keys):
                    self._enter(held.state, held.keys)

    def exclusive_bytes(self, state: AgentState) -> int:
        """What letting go of a state would free."""
        spans = [
            span
            for span in dict.fromkeys(state.full.spans)  # a splice may hold one twice
            if not any(other is not state.full and other in self._states for other in span.holders)
        ]
        parts = list(state.window.parts.values()) if state.window is not None else []
        others = [held.state.window for layers, held in self._states.items() if parts and layers is not state.full]
        theirs = {id(part) for window in others if window is not None for part in window.parts.values()}
        alone: list[Span | WindowPart] = [*spans, *(part for part in parts if id(part) not in theirs)]
        return state.own_bytes + sum(one.nbytes for one in alone)

    def _freeze(self, layers: FullLayers) -> None:
        """Has all blocks that are known of a state in spans; a running turn may have frozen some by itself."""
        state, keys = self._states[layers]
        known = len(keys) - layers.tail_start // BLOCK_TOKENS
        if known > 0:
            layers.freeze(known)  # what the turn added is not known yet, and stays
        for key in keys:
            if self._tails.get(key) is layers:
                del self._tails[key]
        self._enter(state, keys)

    def _cut(self, span: Span, segments: int) -> tuple[Span, Span]:
        parts = span.cut(segments)
        for holder in list(span.holders):
            assert isinstance(holder, FullLayers)
            holder.replace(span, parts)
        for part in parts:
            for key in part.keys:
                if self._spans.get(key) is span:
                    self._spans[key] = part
        return parts
