"""SIGKILL right behind an answer that did not wait for the disk: what is left is a turn's end, and goes on."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from agentmem_client import Client, Reply

from tests.helpers.checkpoints import ALL, Spec
from tests.helpers.daemon import Daemon


def turn(client: Client, name: str, number: int, durability: str = "durable") -> Reply:
    prompt = [5 + (number * 7 + i) % 500 for i in range(60)]
    return client.agent(name).generate(token_ids=prompt, max_tokens=4, durability=durability, include_token_ids=True)


@pytest.mark.reference
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_kill_loses_outstanding_turns_at_most(
    kills: int, checkpoint: Callable[[Spec], Path], daemon_on: Callable[..., Daemon]
) -> None:
    rng = random.Random(kills)
    daemon = daemon_on(checkpoint(ALL[0]))
    client = daemon.start()
    client.agent("unbroken").create(share="private")
    wanted = [turn(client, "unbroken", number).token_ids for number in range(1, 3 * kills + 3)]
    client.agent("a").create(share="private")
    number = 1
    for _ in range(kills):
        assert turn(client, "a", number).durable
        last_durable = number
        for _ in range(rng.randint(1, 2)):
            number += 1
            reply = turn(client, "a", number, "write_behind")
            assert (reply.durable, reply.warnings, reply.token_ids) == (False, (), wanted[number - 1])
        daemon.kill()
        client = daemon.start()
        info = client.agent("a").info()
        assert last_durable <= info.turn <= number
        assert info.tokens == 64 * info.turn
        assert info.unsaved_turns == client.stats().unsaved_turns == 0
        number = info.turn + 1
        assert turn(client, "a", number).token_ids == wanted[number - 1]
        number += 1
    assert client.stats().recomputed_tokens_total == 0
    while number <= 3 * kills + 2:  # as far as the other one
        turn(client, "a", number, "write_behind")
        number += 1
    number -= 1
    assert daemon.terminate() == 0
    assert len(list(daemon.state.glob(f"turns/*/{number:08d}.json"))) == 2
    assert not list(daemon.state.glob("**/*.tmp"))
