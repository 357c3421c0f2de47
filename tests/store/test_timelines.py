"""Random changes of several agents' timelines, against a plain model of what each turn holds."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from agentmem.store.blockfile import Block
from agentmem.store.rebuild import rebuild
from agentmem.store.records import BlockUse
from agentmem.store.rows import AgentRow
from agentmem.store.store import Store
from agentmem.types import Message, Share, TurnKind, TurnMessage
from tests.store.samples import dump, files_below, make_block, make_record

FULL = 4
"""Positions of a full block here: small, so that timelines have many. The store takes blocks of any size up to 256."""
STATES = ("state-1", "state-2")
SAID = Message("user", ("the same everywhere, so that other turns may have messages in common",))
NAMES = ("a", "b", "c", "d", "e")
IDS = st.lists(st.integers(0, 2), min_size=1, max_size=9)


@dataclass(frozen=True)
class Turn:
    """What holds at a turn's end."""

    ids: tuple[int, ...] = ()
    messages: tuple[TurnMessage, ...] = ()
    state_id: str = ""
    open: bool = False


@dataclass
class Agent:
    """turns: those that are listed, by number; number 0 is the empty timeline."""

    last: int = 0
    turns: dict[int, Turn] = field(default_factory=lambda: {0: Turn()})
    share: Share = Share.NAMESPACE

    @property
    def now(self) -> Turn:
        return self.turns[self.last]

    def add(self, turn: Turn) -> None:
        self.last += 1
        self.turns[self.last] = turn


def cut(turn: Turn, first: int, secret: bytes) -> list[Block]:
    """The blocks of a timeline from position `first` on, a multiple of FULL."""
    blocks: list[Block] = []
    parent = b""
    for start in range(0, len(turn.ids), FULL):
        ids = list(turn.ids[start : start + FULL])
        blocks.append(make_block(ids, parent=parent, secret=secret, start=start, state_id=turn.state_id))
        parent = blocks[-1].key
    return blocks[first // FULL :]


class Timelines(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="agentmem-"))
        self.store = Store.open(self.folder)
        self.secret = self.store.namespace("default").secret
        self.agents: dict[str, Agent] = {}
        self.changed: set[str] = set()
        self.seen: dict[str, dict[int, list[BlockUse]]] = {}
        self.requests = self.opened_at = 0

    def teardown(self) -> None:
        self.changed |= set(self.agents)
        self.check()
        self.store.close()
        shutil.rmtree(self.folder)

    def row(self, name: str) -> AgentRow:
        row = self.store.agent("default", name)
        assert row is not None
        return row

    def request_id(self) -> str:
        self.requests += 1
        return f"request-{self.requests}"

    def someone(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.agents)), "agent")

    def commit(self, name: str, turn: Turn, kind: TurnKind, start: int, messages: tuple[TurnMessage, ...]) -> None:
        """Makes `turn` the agent's next, as the engine does: all blocks anew from the last block border on."""
        row = self.row(name)
        blocks = cut(turn, start, self.secret)
        record = make_record(
            row,
            list(turn.ids[start:]),
            [BlockUse(block.key, block.tokens) for block in blocks],
            kind=kind,
            start=start,
            end=len(turn.ids),
            base_blocks=start // FULL,
            state_id=turn.state_id,
            messages=messages,
            open=turn.open,
        )
        self.store.commit(record, blocks)
        self.agents[name].add(turn)
        self.changed.add(name)

    @initialize(ids=IDS, more=IDS)
    def begin(self, ids: list[int], more: list[int]) -> None:
        self.create(ids)
        self.append_to(NAMES[0], more, split=0)

    @precondition(lambda self: len(self.agents) < len(NAMES))
    @rule(ids=IDS)
    def create(self, ids: list[int]) -> None:
        name = next(name for name in NAMES if name not in self.agents)
        self.store.create_agent("default", name)
        self.agents[name] = Agent()
        self.append_to(name, ids, split=0)

    @rule(data=st.data(), ids=IDS, split=st.integers(0, 9))
    def append(self, data: st.DataObject, ids: list[int], split: int) -> None:
        self.append_to(self.someone(data), ids, split)

    def append_to(self, name: str, ids: list[int], split: int) -> None:
        """Adds a turn with two messages, one of which may have no positions."""
        now = self.agents[name].now
        start, end = len(now.ids), len(now.ids) + len(ids)
        middle = min(start + split, end)
        messages = (TurnMessage(SAID, start, middle), TurnMessage(SAID, middle, end))
        turn = Turn((*now.ids, *ids), now.messages + messages, now.state_id or STATES[0], split % 2 == 1)
        self.commit(name, turn, TurnKind.GENERATE, start, messages)

    @precondition(lambda self: any(agent.now.ids for agent in self.agents.values()))
    @rule(data=st.data())
    def rebuild(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(name for name, agent in self.agents.items() if agent.now.ids)), "agent")
        now = self.agents[name].now
        other = STATES[1 - STATES.index(now.state_id)]
        self.commit(name, Turn(now.ids, now.messages, other, now.open), TurnKind.REBUILD, 0, ())

    @precondition(lambda self: len(self.agents) < len(NAMES))
    @rule(data=st.data(), repeat=st.booleans())
    def fork(self, data: st.DataObject, repeat: bool) -> None:
        source = self.someone(data)
        name = next(name for name in NAMES if name not in self.agents)
        agent = self.agents[source]
        number = data.draw(st.sampled_from(sorted(agent.turns)), "turn")
        request_id = self.request_id()
        row = self.store.branches.fork("default", source, name, number, request_id, agent.last)
        assert not repeat or self.store.branches.fork("default", source, name, number, request_id, agent.last) == row
        self.agents[name] = Agent(share=agent.share)
        self.agents[name].add(agent.turns[number])
        self.changed |= {source, name}

    @rule(data=st.data(), repeat=st.booleans())
    def rewind(self, data: st.DataObject, repeat: bool) -> None:
        name = self.someone(data)
        agent = self.agents[name]
        number = data.draw(st.sampled_from(sorted(agent.turns)), "turn")
        request_id = self.request_id()
        row = self.store.branches.rewind("default", name, number, request_id, agent.last)
        assert not repeat or self.store.branches.rewind("default", name, number, request_id, agent.last) == row
        agent.add(agent.turns[number])
        self.changed.add(name)

    @rule(data=st.data(), pinned=st.booleans())
    def prune_history(self, data: st.DataObject, pinned: bool) -> None:
        name = self.someone(data)
        agent = self.agents[name]
        self.store.set_agent("default", name, pinned=pinned)
        before = self.store.total_bytes()
        planned = self.store.pruning.history("default", name, dry_run=True)
        assert self.store.total_bytes() == before
        assert self.store.pruning.history("default", name) == planned
        if pinned or len(agent.turns) <= 2:
            assert planned == []
            return
        assert [item.turn for item in planned] == sorted(agent.turns)[1:]
        now = agent.now
        agent.turns = {0: Turn()}
        agent.add(now)
        (record,) = files_below(self.folder / "turns" / self.row(name).id, ".json")
        freed = sum(item.freed_bytes for item in planned)
        assert self.store.total_bytes() == before - freed + record.stat().st_size
        self.changed.add(name)

    @precondition(lambda self: len(self.agents) > 1)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        name = self.someone(data)
        before = self.store.total_bytes()
        freed = self.store.pruning.delete("default", name, self.request_id())
        assert self.store.total_bytes() == before - freed
        del self.agents[name]
        self.changed = set(self.agents)

    @rule(data=st.data(), share=st.sampled_from(Share))
    def share(self, data: st.DataObject, share: Share) -> None:
        name = self.someone(data)
        self.store.set_agent("default", name, share=share)
        self.agents[name].share = share

    @precondition(lambda self: self.requests > self.opened_at)
    @rule()
    def reopen(self) -> None:
        self.opened_at = self.requests
        self.store.close()
        on_disk = self.on_disk()
        self.store = Store.open(self.folder)
        assert self.on_disk() == on_disk, "nothing was left behind that an open would have to remove"
        self.changed = set(self.agents)

    @rule()
    def rebuild_catalog(self) -> None:
        """All comes back but the requests that no turn tells of: deletions, and those of pruned turns."""
        before = self.on_disk(), dump(self.folder)
        self.store.close()
        assert rebuild(self.folder).problems == ()
        after = self.on_disk(), dump(self.folder)
        assert set(after[1].pop("requests")) <= set(before[1].pop("requests"))
        assert after == before
        self.store = Store.open(self.folder)
        self.changed = set(self.agents)

    def on_disk(self) -> dict[Path, int]:
        files = files_below(self.folder / "blocks", "") + files_below(self.folder / "turns", "")
        return {path: path.stat().st_size for path in files}

    @invariant()
    def check(self) -> None:
        """Every listed turn of the agents that changed is as in the model, and so is what lies on the disk."""
        assert [row.name for row in self.store.agents("default")] == sorted(self.agents)
        for name in self.changed & set(self.agents):
            row, agent = self.row(name), self.agents[name]
            assert (row.turn, row.tokens, row.state_id) == (agent.last, len(agent.now.ids), agent.now.state_id)
            self.seen[name] = {number: self.store.history(row.id).timeline(number) for number in agent.turns}
            for number, turn in agent.turns.items():
                self.check_turn(row, number, turn, self.seen[name][number])
        self.changed = set()
        keys: set[bytes] = set()
        records = set()
        shared: set[bytes] = set()
        for name, agent in self.agents.items():
            records |= {self.folder / "turns" / self.row(name).id / f"{n:08d}.json" for n in agent.turns if n}
            if agent.share is Share.PRIVATE:
                records.add(self.folder / "turns" / self.row(name).id / "private")
            for uses in self.seen[name].values():
                keys |= {use.key for use in uses}
                if agent.share is Share.NAMESPACE:
                    shared |= {use.key for use in uses}
        on_disk = self.on_disk()
        assert {bytes.fromhex(path.stem) for path in on_disk if path.suffix == ".safetensors"} == keys
        assert {path for path in on_disk if path.suffix != ".safetensors"} == records
        assert len(on_disk) == len(keys) + len(records)
        assert self.store.total_bytes() == sum(on_disk.values())
        assert {key for key in keys if self.store.blocks.shared(key)} == shared

    def check_turn(self, row: AgentRow, number: int, turn: Turn, uses: list[BlockUse]) -> None:
        ids = self.store.history(row.id).ids(number)
        assert ids.dtype == np.int32
        assert tuple(ids.tolist()) == turn.ids
        assert self.store.history(row.id).messages(number) == turn.messages
        if number:
            record = self.store.history(row.id).record(number)
            assert (record.state_id, record.open) == (turn.state_id, turn.open)
        expected = cut(turn, 0, self.secret)
        assert [use.used for use in uses] == [block.tokens for block in expected]
        for use, wanted in zip(uses, expected, strict=True):
            block, _ = self.store.blocks.read("default", use.key)
            assert block.prefix(self.secret, use.used) == wanted
            assert number < row.turn or block.tokens == use.used, "the last timeline uses no block in part"


@pytest.mark.usefixtures("sealing")
def test_random_timelines() -> None:
    run_state_machine_as_test(
        Timelines,
        settings=settings(
            max_examples=12,
            stateful_step_count=40,
            deadline=None,
            phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking files and databases takes minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
