"""A thousand and more pieces of seeded damage: nothing wrong is served, nothing unforeseen raised, no turn lost.

One thing no check can tell from a crash: a log of the catalog whose last transaction is damaged. Its turn is not served
then, its record is set aside, and a rebuild brings it back.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from agentmem.errors import AgentmemError, Reason
from agentmem.store.blockfile import Block, BlockUnreadable
from agentmem.store.rebuild import rebuild
from agentmem.store.records import BlockUse, RecordUnreadable, TurnRecord
from agentmem.store.rows import AgentRow
from agentmem.store.store import Store
from agentmem.types import Share
from tests.store import mutations
from tests.store.samples import add_turn, files_below, make_block, make_record, read_all

pytestmark = pytest.mark.usefixtures("sealing")

NAMESPACES = ("default", "another")
FILE_MUTATIONS = 1000
CATALOG_MUTATIONS = 400
IN_THE_GATE = 80  # of them; the rest take a minute more, in `make test-all`


@dataclass(frozen=True)
class Written:
    """What was written for an agent."""

    turns: list[TurnRecord]
    timeline: list[BlockUse]
    blocks: dict[bytes, Block]
    ids: list[int]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, sealing: None) -> Path:
    """As a killed daemon leaves it: shared and superseded blocks, branches, two namespaces, a log not checkpointed."""
    folder = tmp_path_factory.mktemp("base") / "state"
    store = Store.open(folder)
    for namespace, name in (("default", "alice"), ("default", "twin"), ("another", "alice")):
        agent = store.create_agent(namespace, name)
        for ids in ([1, 2, 3], [4, 5]):
            agent, _ = add_turn(store, agent, ids)
    store.close()
    store = Store.open(folder)
    secret = store.namespace("default").secret
    bob = store.create_agent("default", "bob")
    full = make_block(list(range(256)), secret=secret)
    for count in (1, 2, 3):
        tail = make_block([7] * count, parent=full.key, secret=secret, start=256)
        first = [BlockUse(full.key, 256)] if count == 1 else []
        ids = [*range(256), 7] if count == 1 else [7]
        record = make_record(bob, ids, [*first, BlockUse(tail.key, count)], base_blocks=0 if count == 1 else 1)
        store.commit(record, [full, tail] if count == 1 else [tail])
        bob = store.agent("default", "bob") or bob
    store.branches.fork("default", "bob", "fork", at_turn=2)
    store.branches.rewind("default", "bob", 1)
    store.branches.rewind("default", "bob", 3)
    store.pruning.history("default", "twin")
    store.set_agent("default", "fork", share=Share.PRIVATE)
    killed = folder.with_name("killed")
    shutil.copytree(folder, killed)
    store.close()
    return killed


@pytest.fixture(scope="module")
def written(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Written]:
    store = Store.open(Path(shutil.copytree(base, tmp_path_factory.mktemp("sound") / "state")))
    found = {}
    for namespace in NAMESPACES:
        for agent in store.agents(namespace):
            timeline = store.history(agent.id).timeline()
            turns = store.history(agent.id).page()
            uses = [use for turn in turns for use in store.history(agent.id).timeline(turn.number)]
            blocks = {use.key: store.blocks.read(namespace, use.key)[0] for use in uses}
            found[namespace, agent.name] = Written(turns, timeline, blocks, store.history(agent.id).ids().tolist())
    store.close()
    assert len(found) == 5
    return found


def _must_be_foreseen(error: Exception) -> None:
    if isinstance(error, AgentmemError):
        assert error.reason in (Reason.STORE_UNREADABLE, Reason.STORE_TOO_NEW), error.message


def serve(store: Store, agent: AgentRow, expected: Written | None, set_aside: bool) -> int:
    """Reads an agent as the engine does; whatever is served must be what was written. How many reads were refused.

    set_aside: the agent's last record was put into quarantine when the store was opened.
    """
    refused = 0
    try:
        turns = store.history(agent.id).page()
        ids = store.history(agent.id).ids().tolist()
        timelines = {turn.number: store.history(agent.id).timeline(turn.number) for turn in turns}
        earlier = {number: store.history(agent.id).ids(number).tolist() for number in timelines}
    except (RecordUnreadable, AgentmemError) as error:
        _must_be_foreseen(error)
        return 1
    assert expected is not None, "another agent's memory"
    assert (agent.share is Share.PRIVATE) >= (agent.name == "fork"), "shared against its will"
    if set_aside and turns == expected.turns[:-1]:
        return 1
    assert turns == expected.turns
    assert ids == expected.ids
    for number, timeline in timelines.items():
        assert sum(use.used for use in timeline) == len(earlier[number])
        for index, use in enumerate(timeline):
            try:
                block, _ = store.blocks.read(agent.namespace, use.key)
            except (BlockUnreadable, AgentmemError) as error:
                _must_be_foreseen(error)
                refused += 1
                continue
            assert block.key == use.key
            # The engine's own check (`memory.blocks.checked`): a sound block in a wrong place is refused there.
            own = (
                block.start == index * 256
                and block.ids[: use.used].tolist() == earlier[number][block.start :][: use.used]
            )
            if own:
                assert block == expected.blocks[use.key]
            refused += not own
    return refused


def serve_all(folder: Path, store: Store, written: dict[tuple[str, str], Written]) -> int:
    refused = 0
    for namespace in NAMESPACES:
        try:
            agents = store.agents(namespace)
        except AgentmemError as error:
            _must_be_foreseen(error)
            refused += 1
            continue
        found = {agent.name for agent in agents}
        refused += len({name for other, name in written if other == namespace} - found)
        for agent in agents:
            set_aside = (folder / "quarantine" / agent.id).exists()
            refused += serve(store, agent, written.get((namespace, agent.name)), set_aside)
    return refused


def test_damaged_files(base: Path, tmp_path: Path, written: dict[tuple[str, str], Written]) -> None:
    """Under the open store, as a drive would; the file is put back each time."""
    folder = Path(shutil.copytree(base, tmp_path / "state"))
    store = Store.open(folder)
    assert serve_all(folder, store, written) == 0
    blocks, records = files_below(folder / "blocks", ""), files_below(folder / "turns", ".json")
    for seed in range(FILE_MUTATIONS):
        rng = random.Random(seed)
        files, kinds = (blocks, mutations.OF_BLOCKS) if seed % 2 else (records, mutations.OF_RECORDS)
        file, mutation = rng.choice(files), rng.choice(kinds)
        sound = file.read_bytes()
        mutation(rng, file, [other for other in files if other != file])
        changed = not file.exists() or file.read_bytes() != sound
        refused = serve_all(folder, store, written)
        assert (refused > 0) is changed, f"seed {seed}: {mutation.__name__} of {file.name}"
        file.write_bytes(sound)
    assert serve_all(folder, store, written) == 0
    store.close()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "seeds",
    [range(IN_THE_GATE), pytest.param(range(IN_THE_GATE, CATALOG_MUTATIONS), marks=pytest.mark.slow)],
    ids=["some", "rest"],
)
def test_damaged_catalogs(base: Path, tmp_path: Path, written: dict[tuple[str, str], Written], seeds: range) -> None:
    """Opened with the damage and read; then rebuilt, and all is there."""
    opened = 0
    for seed in seeds:
        folder = Path(shutil.copytree(base, tmp_path / str(seed)))
        rng = random.Random(seed)
        mutation = rng.choice(mutations.OF_CATALOG)
        mutation(rng, folder)
        try:
            store = Store.open(folder)
        except AgentmemError as error:
            _must_be_foreseen(error)
        else:
            opened += 1
            serve_all(folder, store, written)
            store.close()
        assert rebuild(folder).problems == (), f"seed {seed}: {mutation.__name__}"
        store = Store.open(folder)
        for ref, expected in written.items():
            agent = store.agent(*ref)
            assert agent is not None, f"seed {seed}: {mutation.__name__}"
            assert store.history(agent.id).page() == expected.turns
            assert store.history(agent.id).timeline() == expected.timeline
            assert (agent.share is Share.PRIVATE) is (agent.name == "fork")
        store.close()
        read_all(folder, NAMESPACES, blocks_may_be_missing=True)
        shutil.rmtree(folder)
    assert 0 < opened < len(seeds), "some damage is found at once, some only when it is met"
