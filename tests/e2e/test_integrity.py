"""Nothing wrong is served: damaged blocks are recomputed with a warning, other models' memory is refused."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from agentmem_client import Client, FailedPrecondition

from tests.helpers.checkpoints import ALL, Spec, with_other_weights
from tests.helpers.daemon import Daemon

pytestmark = pytest.mark.reference

IDS = [5 + i % 470 for i in range(600)]
OTHER_IDS = [7 + i % 333 for i in range(602)]


def _flip_one_bit(file: Path, _: Path) -> None:
    data = bytearray(file.read_bytes())
    rng = random.Random(file.name)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


def _truncate(file: Path, _: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def _swap_dtype(file: Path, _: Path) -> None:
    data = file.read_bytes()
    assert b'"F32"' in data
    file.write_bytes(data.replace(b'"F32"', b'"I32"', 1))


def _replace_by_other_agents(file: Path, other: Path) -> None:
    assert other.stat().st_size == file.stat().st_size, "its size alone must not give it away"
    shutil.copy(other, file)


def _delete(file: Path, _: Path) -> None:
    file.unlink()


def _empty(file: Path, _: Path) -> None:
    file.write_bytes(b"")


DAMAGES = [_flip_one_bit, _truncate, _swap_dtype, _replace_by_other_agents, _delete, _empty]


def _block_file(daemon: Daemon, client: Client, agent: str, index: int) -> Path:
    key = client.agent(agent).info().blocks[index].key
    return next(daemon.state.glob(f"blocks/**/{key}.safetensors"))


def test_damaged_blocks_are_recomputed_with_a_warning(
    checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]
) -> None:
    daemon = daemon_on(checkpoint(ALL[0]))
    client = daemon.start()
    options = {"max_tokens": 8, "include_token_ids": True}
    for agent, ids in (("sound", IDS), ("other", OTHER_IDS)):
        client.agent(agent).append(token_ids=ids)
    names = [f"agent{i}" for i in range(len(DAMAGES))]
    for name in names:
        client.agent(name).append(token_ids=[*IDS, 9, names.index(name) + 5])  # the third block is its own
    wanted = {
        name: client.agent(f"cold-{name}").generate(token_ids=[*IDS, 9, i + 5, 3], **options).token_ids
        for i, name in enumerate(names)
    }
    daemon.kill()
    client = daemon.start()
    other = _block_file(daemon, client, "other", 2)
    for name, damage in zip(names, DAMAGES, strict=True):
        damage(_block_file(daemon, client, name, 2), other)
    for name in names:
        reply = client.agent(name).generate(token_ids=[3], **options)
        assert reply.token_ids == wanted[name], name
        assert reply.usage.recomputed_tokens == 602 - 512
        assert reply.usage.reused_hot_tokens + reply.usage.reused_warm_tokens == 512  # they share a prefix
        assert [(m.position, m.tokens) for m in reply.usage.misses] == [(512, 90)]
        assert reply.warnings
        assert reply.warnings[0].reason.startswith("BLOCK_")
    daemon.kill()
    client = daemon.start()
    for name in names:  # what was recomputed is on disk again
        assert client.agent(name).generate(token_ids=[3], max_tokens=1).usage.recomputed_tokens == 0


def test_a_damaged_block_in_the_middle_costs_that_block_alone(
    checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]
) -> None:
    daemon = daemon_on(checkpoint(ALL[5]))
    client = daemon.start()
    options = {"max_tokens": 8, "include_token_ids": True}
    client.agent("a").append(token_ids=IDS)
    wanted = client.agent("cold").generate(token_ids=[*IDS, 3], **options).token_ids
    daemon.kill()
    client = daemon.start()
    _flip_one_bit(_block_file(daemon, client, "a", 1), Path())
    reply = client.agent("a").generate(token_ids=[3], **options)
    assert reply.token_ids == wanted
    assert (reply.usage.recomputed_tokens, reply.usage.reused_warm_tokens) == (256, 344)
    assert list(daemon.state.glob("quarantine/*.reason.json"))


def test_a_damaged_turn_record_is_data_loss_and_hurts_nobody_else(
    checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]
) -> None:
    from agentmem_client import DataLoss

    daemon = daemon_on(checkpoint(ALL[0]))
    client = daemon.start()
    for agent in ("a", "b"):
        client.agent(agent).append(token_ids=[1, 2, 3])
    folder = daemon.state / "turns" / client.agent("a").info().id
    daemon.kill()
    file = next(folder.glob("*.json"))
    body = json.loads(file.read_text())
    body["body"]["end"] = 2
    file.write_text(json.dumps(body))
    client = daemon.start()
    with pytest.raises(DataLoss):
        client.agent("a").generate(token_ids=[3], max_tokens=1)
    assert client.agent("b").generate(token_ids=[3], max_tokens=1).durable


def test_other_weights_never_reuse_the_memory(
    checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon], tmp_path: Path
) -> None:
    spec = ALL[0]
    daemon = daemon_on(checkpoint(spec))
    client = daemon.start()
    client.agent("a").append(token_ids=IDS)
    daemon.kill()
    daemon.model = with_other_weights(checkpoint(spec), tmp_path / "other-weights", spec)
    client = daemon.start()
    assert not client.agent("a").info().model_matches
    with pytest.raises(FailedPrecondition) as caught:
        client.agent("a").generate(token_ids=[3], max_tokens=1)
    assert caught.value.reason == "MODEL_MISMATCH"
    wanted = client.agent("cold").generate(token_ids=[*IDS, 3], max_tokens=8, include_token_ids=True).token_ids
    reply = client.agent("a").generate(token_ids=[3], max_tokens=8, include_token_ids=True, rebuild=True)
    assert reply.token_ids == wanted
    assert reply.usage.recomputed_tokens == len(IDS)
    assert [t.kind for t in client.agent("a").turns()] == ["APPEND", "REBUILD", "GENERATE"]
    assert [(t.start, t.end) for t in client.agent("a").turns()] == [(0, 600), (0, 600), (600, 609)]
    daemon.kill()
    client = daemon.start()
    again = client.agent("a").generate(token_ids=[4], max_tokens=1)
    assert again.usage.recomputed_tokens == 0
