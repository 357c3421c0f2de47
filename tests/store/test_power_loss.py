"""Power cuts at any point of a run: whatever unsynced work the disk lost, all that was acknowledged is there.

See `tests.store.powerloss` for what a disk may lose.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from agentmem.errors import AgentmemError, Reason
from agentmem.store.files import TEMP_SUFFIX
from agentmem.store.records import BlockUse
from agentmem.store.rows import AgentRow
from agentmem.store.store import Store
from agentmem.types import Share
from tests.store.powerloss import RecordingFiles, State
from tests.store.samples import add_turn, make_block, make_record, read_all

pytestmark = pytest.mark.usefixtures("sealing")

NAMESPACES = ("default", "another")
Ids = dict[tuple[str, str], list[int]]


class History:
    """A run of the store: after each step, what was acknowledged."""

    def __init__(self, folder: Path, files: RecordingFiles) -> None:
        self.folder, self.files = folder, files
        self.store = Store.open(folder, files)
        self.acked: list[Ids] = [{}]
        self.private: list[set[str]] = [set()]
        """Ids of the agents that were private then."""

    def step(self, work: Callable[[], object]) -> None:
        work()
        agents = [agent for namespace in NAMESPACES for agent in self.store.agents(namespace)]
        self.acked.append(
            {(agent.namespace, agent.name): self.store.history(agent.id).ids().tolist() for agent in agents}
        )
        self.private.append({agent.id for agent in agents if agent.share is Share.PRIVATE})
        self.files.acknowledge()

    def agent(self, name: str, namespace: str = "default") -> AgentRow:
        row = self.store.agent(namespace, name)
        assert row is not None
        return row

    def create(self, name: str, namespace: str = "default") -> None:
        self.step(lambda: self.store.create_agent(namespace, name))

    def turn(self, name: str, ids: list[int], namespace: str = "default") -> None:
        self.step(lambda: add_turn(self.store, self.agent(name, namespace), ids))


def over_a_border(store: Store, agent: AgentRow) -> None:
    """The agent's partial block [0, 1, 2] becomes a full one, and another begins."""
    secret = store.namespace("default").secret
    full = make_block(list(range(256)), secret=secret)
    tail = make_block([7], parent=full.key, secret=secret, start=256)
    record = make_record(agent, [*range(3, 256), 7], [BlockUse(full.key, 256), BlockUse(tail.key, 1)])
    store.commit(record, [full, tail])


def failed_turn(store: Store, agent: AgentRow, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit whose record is written and whose transaction fails."""

    def fail(*_: object) -> None:
        raise AgentmemError(Reason.STORE_UNWRITABLE, "The catalog cannot be written to.")

    with monkeypatch.context() as patch:
        patch.setattr(store._core.catalog, "write", fail)
        with pytest.raises(AgentmemError):
            add_turn(store, agent, [99])


def mend(store: Store, agent: AgentRow) -> None:
    """Sets the agent's only block aside and puts it back."""
    (use,) = store.history(agent.id).timeline()
    block, _ = store.blocks.read("default", use.key)
    store.blocks.quarantine(use.key, "TEST")
    store.blocks.replace("default", block)


def run(folder: Path, files: RecordingFiles, monkeypatch: pytest.MonkeyPatch, whole: bool = True) -> History:
    """Everything that changes the disk, so that later steps meet what earlier ones left unsynced; or one turn only."""
    history = History(folder, files)
    history.create("alice")
    history.turn("alice", [0, 1, 2])
    if not whole:
        history.store.close()
        return history
    history.create("bob")
    history.turn("bob", [0, 1, 2])
    history.step(lambda: over_a_border(history.store, history.agent("alice")))
    history.step(lambda: failed_turn(history.store, history.agent("bob"), monkeypatch))
    history.turn("bob", [3])
    history.step(lambda: history.store.pruning.delete("default", "alice"))
    history.step(lambda: history.store.branches.fork("default", "bob", "fork", at_turn=1))
    history.step(lambda: history.store.set_agent("default", "fork", share=Share.PRIVATE))
    history.step(lambda: history.store.branches.fork("default", "fork", "hidden"))
    history.step(lambda: history.store.branches.rewind("default", "bob", 1))
    history.step(lambda: history.store.branches.rewind("default", "bob", 2))
    history.step(lambda: history.store.pruning.history("default", "bob"))
    history.step(lambda: history.store.set_agent("default", "fork", share=Share.NAMESPACE))
    history.step(lambda: history.store.set_agent("default", "bob", pinned=True))
    history.step(lambda: history.store.pruning.agents("default", older_than_s=-1))
    history.create("carol", "another")
    history.turn("carol", [1], "another")
    history.step(lambda: history.store.pruning.namespace("another", force=True))
    history.create("carol", "another")
    history.create("alice")
    history.turn("alice", [0, 1, 2])
    history.store.close()
    history.store = Store.open(folder, files)
    history.step(lambda: mend(history.store, history.agent("bob")))
    history.turn("bob", [4, 5])
    history.store.close()
    return history


def losses(history: History, states: list[State], folder: Path) -> list[str]:
    """What is wrong in each state that is not as it must be."""
    mending = len(history.acked) - 3
    found = []
    for number, state in enumerate(states):
        copy = folder / str(number)
        state.write(copy)
        allowed = history.acked[state.acked :][: 1 + state.committed]
        try:
            ids = read_all(copy, NAMESPACES, blocks_may_be_missing=state.acked == mending)
        except Exception as error:
            found.append(f"{number}: after step {state.acked}: {type(error).__name__}: {error}")
            continue
        private = {path.parent.name for path in copy.glob("turns/*/private")}  # as `read_all` has seen
        before, after = (
            history.private[min(step, len(history.private) - 1)] for step in (state.acked, state.acked + 1)
        )
        if not before & after <= private <= before | after:
            found.append(f"{number}: after step {state.acked}: shared otherwise than was acknowledged")
        if ids not in allowed:
            found.append(f"{number}: after step {state.acked}: another state than was acknowledged")
    return found


@pytest.mark.timeout(900)
@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_nothing_acknowledged_is_lost_in_a_power_cut(
    every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """every: which of the states that a power cut may leave are looked at."""
    files = RecordingFiles(tmp_path / "state")
    history = run(tmp_path / "state", files, monkeypatch)
    assert len(files.states) > 500
    assert losses(history, files.states[::every], tmp_path) == []


@pytest.mark.parametrize("forgotten", ["files", "folders"])
def test_a_sync_left_out_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: str) -> None:
    class ForgetfulFiles(RecordingFiles):
        def sync(self, path: Path) -> None:
            if (path.suffix == TEMP_SUFFIX) is (forgotten == "folders"):
                super().sync(path)

    files = ForgetfulFiles(tmp_path / "state")
    history = run(tmp_path / "state", files, monkeypatch, whole=False)
    some = random.Random(1).sample(files.states, 40)
    assert losses(history, some, tmp_path)


def test_a_deleted_agent_stays_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are removed without waiting for the drive, so that a cut may bring them back; the next open removes them.

    Also those that were set aside: a record that no transaction followed, and a damaged block.
    """
    folder, files = tmp_path / "state", RecordingFiles(tmp_path / "state")
    store = Store.open(folder, files)
    alice, _ = add_turn(store, store.create_agent("default", "alice"), [0, 1, 2])
    failed_turn(store, alice, monkeypatch)
    store.close()
    store = Store.open(folder, files)
    (use,) = store.history(alice.id).timeline()
    store.blocks.quarantine(use.key, "TEST")
    assert len(list((folder / "quarantine").rglob("*.json"))) == 2
    files.states.clear()
    store.pruning.delete("default", "alice")
    files.acknowledge()
    store.close()
    assert len(files.states) > 20
    came_back = 0
    for number, state in enumerate(files.states):
        copy = tmp_path / str(number)
        state.write(copy)
        again = Store.open(copy)
        deleted = again.agent("default", "alice") is None
        again.close()
        left = [path for path in copy.rglob("*") if path.suffix in (".json", ".safetensors") and path.parent != copy]
        left = [path for path in left if copy / "namespaces" not in path.parents]
        if deleted:
            assert left == [], f"{number}: {left}"
            came_back += any(path.suffix == ".safetensors" or path.parts[0] == "turns" for path in state.tree)
        assert deleted or not state.acked
    assert came_back
