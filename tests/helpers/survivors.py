"""What is there after a crash: read from the daemon and from the state folder, and whether anything else lies there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from agentmem_client import Agent, Client

from agentmem.store.namespaces import read_secrets
from agentmem.store.records import decode
from agentmem.store.sealing import Plain
from tests.helpers.load import LATENT, Ids, Mind, World

AT_THE_ROOT = {
    "catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm", "format.json", "lock", "blocks", "turns",
    "namespaces", "quarantine", ".metadata_never_index", "weights.json", "prefill.json",
}  # fmt: skip


def look(client: Client, state: Path, namespace: str) -> World:
    """The agents of a namespace: who there is and what turns they have as the daemon says, ids from the records."""
    (secret,) = [
        one.secret for one in read_secrets(state / "namespaces", Plain()).values() if one.name == namespace
    ] or [b""]
    world = {}
    for info in client.agents(namespace):
        turns: dict[int, Ids] = {}
        ids: Ids = ()
        for turn in client.agent(info.name, namespace).turns():
            record = decode((state / "turns" / info.id / f"{turn.number:08d}.json").read_bytes(), secret)
            assert (record.number, record.start, record.end) == (turn.number, turn.start, turn.end)
            assert record.agent_name == info.name
            ids = turns[turn.number] = (*ids[: turn.start], *record.ids.clip(min=LATENT).tolist())
            assert len(ids) == turn.end
        assert (info.turn, info.tokens) == (max(turns, default=0), len(ids))
        world[info.name] = Mind(turns, info.pinned, info.share == "PRIVATE")
    return world


def check_tidy(client: Client, state: Path) -> None:
    """After one prune, every file is one that the catalog knows; and all of them are sound."""
    client.prune()
    assert client.prune(dry_run=True) == []
    with closing(sqlite3.connect(f"file:{state}/catalog.sqlite?mode=ro", uri=True)) as db:
        keys = {key.hex() for (key,) in db.execute("SELECT key FROM blocks WHERE bytes>0")}
        agents = dict(db.execute("SELECT id, share FROM agents"))
        turns = {f"{agent}/{number:08d}.json" for agent, number in db.execute("SELECT agent, number FROM turns")}
    marks = {f"{agent}/private" for agent, share in agents.items() if share == "private"}
    assert {path.name for path in state.iterdir()} <= AT_THE_ROOT
    assert {path.stem for path in state.glob("blocks/**/*") if path.is_file()} == keys
    assert {str(path.relative_to(state / "turns")) for path in state.glob("turns/*/*")} == turns | marks
    # Records of turns that did not happen are kept aside for a rebuild, as long as their agent is there.
    assert {path.name for path in state.glob("quarantine/*")} <= agents.keys()
    assert not [path for path in state.glob("**/*.tmp") if path.is_file()]
    report = client.verify()
    assert not report.problems
    assert report.records == len(turns)


def check_goes_on(client: Client, namespace: str, name: str, mind: Mind) -> None:
    """A fork of the agent says what one that computes the same anew says."""
    agent = client.agent(name, namespace)
    agent.prefetch()  # a block that was given up cannot be forked from
    said = _said(agent.fork("fork"), 3)
    if agent.info().exactness == "EXACT":
        cold = client.agent("cold", namespace)
        cold.create(share="private")
        anew = _said(cold, *mind.ids, 3)
    else:  # ids do not tell: what can be given up is computed again from the records, what was spliced stays
        agent.evict("cold")
        agent.prefetch()
        anew = _said(agent.fork("fork"), 3)
    assert said == anew


def _said(agent: Agent, *ids: int) -> Ids:
    """What an agent says to that; it is gone then."""
    reply = agent.generate(token_ids=ids, max_tokens=4, include_token_ids=True)
    assert not reply.warnings
    agent.delete()
    return reply.token_ids
