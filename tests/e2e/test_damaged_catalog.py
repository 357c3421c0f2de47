"""Damaged catalogs under a real daemon: it says what was said, or says no; a rebuild brings every turn back."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from agentmem_client import Client, DataLoss, NotFound

from agentmem.store.rebuild import rebuild
from tests.helpers.checkpoints import Spec
from tests.helpers.forked import ForkedDaemon
from tests.store.mutations import OF_CATALOG

pytestmark = pytest.mark.reference

IDS = [5 + i % 470 for i in range(600)]
AGENTS = {"default": ("long", "fork", "back", "private"), "other": ("long",)}
Said = dict[tuple[str, str, int], tuple[int, ...]]
"""What an agent says to `ASKED` after a turn: by namespace, name and the turn's number."""
ASKED = [3]
HANDFUL = (0, 9, 13, 19)
"""An edited row, a catalog cut short, a flipped bit in its log, and none at all."""


@dataclass(frozen=True)
class Sound:
    """A state folder as a killed daemon left it, and what its agents say. last: their last turns."""

    state: Path
    model: Path
    said: Said
    last: dict[tuple[str, str], int]


@pytest.fixture(scope="module")
def sound(checkpoint: Callable[[Spec], Path], tmp_path_factory: pytest.TempPathFactory) -> Sound:
    folder, model = tmp_path_factory.mktemp("sound"), checkpoint(Spec(layers=1))
    daemon = ForkedDaemon(folder, model)
    client = daemon.start()
    client.agent("long").append(token_ids=IDS[:300])
    client.agent("long").generate(token_ids=IDS[300:], max_tokens=4)
    client.agent("long", "other").append(token_ids=IDS[:270])
    daemon.terminate()  # so that what follows is in the catalog's log alone
    client = daemon.start()
    client.agent("long").fork("fork", at_turn=1)
    client.agent("fork").append(token_ids=[9, 8, 7])
    client.agent("private").create(share="private")
    client.agent("private").append(token_ids=IDS[:20])
    client.agent("private").append(token_ids=IDS[50:60])
    client.agent("back").append(token_ids=IDS[100:400])
    client.agent("back").append(token_ids=IDS[:10])
    client.agent("back").rewind(1)
    client.agent("long").append(token_ids=[6])
    daemon.kill()
    shutil.copytree(daemon.state, folder / "killed")
    client = daemon.start()
    said: Said = {}
    last = {}
    for space, names in AGENTS.items():
        for name in names:
            agent = client.agent(name, space)
            last[space, name] = agent.info().turn
            for turn in (last[space, name] - 1, last[space, name]):
                agent.fork(f"{name} {turn}", at_turn=turn)
                said[space, name, turn] = _ask(client, space, f"{name} {turn}")
    daemon.stop()
    return Sound(folder / "killed", model, said, last)


def _ask(client: Client, space: str, name: str) -> tuple[int, ...]:
    return client.agent(name, space).generate(token_ids=ASKED, max_tokens=3, include_token_ids=True).token_ids


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "seeds", [HANDFUL, pytest.param(sorted({*range(60)} - {*HANDFUL}), marks=pytest.mark.slow)], ids=["some", "rest"]
)
def test_damaged_catalogs(sound: Sound, tmp_path: Path, seeds: Sequence[int]) -> None:
    refused = served = 0
    for seed in seeds:
        rng = random.Random(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        daemon = ForkedDaemon(folder, sound.model)
        shutil.copytree(sound.state, daemon.state)
        mutation = rng.choice(OF_CATALOG)
        mutation(rng, daemon.state)
        shutil.copytree(daemon.state, folder / "damaged")
        try:
            client = daemon.start()
        except RuntimeError:
            refused += 1
            _check_refusal(daemon)
            if mutation.__name__ != "lose_log":  # with it goes the log as well as what it logged
                assert _files(daemon.state) == _files(folder / "damaged"), "a refusal changes nothing"
        else:
            served += _check_served(client, daemon, sound, f"seed {seed}: {mutation.__name__}")
            assert daemon.alive
            daemon.kill()
        shutil.rmtree(daemon.state)
        (folder / "damaged").rename(daemon.state)
        rebuild(daemon.state)  # what `agentmem doctor --rebuild` does
        client = daemon.start()
        for space, name in sound.last:
            agent = client.agent(name, space)
            assert agent.info().turn == sound.last[space, name], f"seed {seed}: {mutation.__name__} lost a turn"
            assert _ask(client, space, name) == sound.said[space, name, sound.last[space, name]]
        assert not client.verify().problems
        daemon.kill()
        shutil.rmtree(folder)
    print(f"{len(seeds)} catalogs: {refused} starts were refused, {served} agents answered")
    assert served
    assert refused


def _check_refusal(daemon: ForkedDaemon) -> None:
    code, sentence = daemon.refusal()
    assert code == 1
    assert "agentmem doctor --rebuild --state" in sentence, sentence
    assert "Traceback" not in sentence


def _check_served(client: Client, daemon: ForkedDaemon, sound: Sound, what: str) -> int:
    """How many agents answered; all that did said the right thing."""
    answered = 0
    for space, name in sound.last:
        try:
            info = client.agent(name, space).info()
            said = _ask(client, space, name)
        except (DataLoss, NotFound):
            continue
        turn = sound.last[space, name]
        if info.turn != turn:  # a damaged log cannot be told from a crash: its last turn is set aside
            assert info.turn == turn - 1, what
            assert (daemon.state / "quarantine" / info.id).exists(), what
        assert said == sound.said[space, name, info.turn], what
        answered += 1
    with suppress(DataLoss):
        names = {agent.name for space in AGENTS for agent in client.agents(space)}
        assert names <= {name for names in AGENTS.values() for name in names}, what
    return answered


def _files(folder: Path) -> set[Path]:
    """Those of the memory itself."""
    return {path.relative_to(folder) for name in ("blocks", "turns") for path in (folder / name).rglob("*")}
