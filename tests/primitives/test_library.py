"""The pool for any thread; it is opened late, and nothing of a query goes beside encrypted state."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentmem.errors import AgentmemError, Code, Reason
from agentmem.primitives.library import FILE, Library
from tests.primitives.plans import plan


def test_any_thread_may_ask_and_no_call_gets_between(tmp_path: Path) -> None:
    library, threads = Library(tmp_path), set()

    def count_up(pool: object) -> int:
        threads.add(threading.current_thread())
        return pool.record("query", plan(), 0.5).outcomes.count  # type: ignore[attr-defined]

    with ThreadPoolExecutor(4) as callers:
        counts = list(callers.map(lambda _: library.learn(count_up), range(12)))
    assert sorted(counts) == list(range(1, 13))
    assert len(threads) == 1
    library.close()


def test_the_file_is_opened_when_it_is_first_asked_for(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database")
    library = Library(tmp_path)
    for _ in range(2):
        with pytest.raises(AgentmemError) as caught:
            library.do(lambda pool: pool.nearest("code"))
        assert caught.value.reason is Reason.KNOWLEDGE_UNREADABLE
    (tmp_path / FILE).unlink()
    assert library.do(lambda pool: pool.nearest("code"))  # as soon as it was moved away
    library.close()


def test_nothing_said_is_written_beside_encrypted_state(tmp_path: Path) -> None:
    library = Library(tmp_path, encrypted=True)
    with pytest.raises(AgentmemError) as caught:
        library.learn(lambda pool: pool.record("swordfish", plan(), 0.5))
    assert caught.value.reason is Reason.KNOWLEDGE_NOT_ENCRYPTED
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert library.do(lambda pool: pool.nearest("code"))
    library.close()
    assert not any(b"swordfish" in file.read_bytes() for file in tmp_path.iterdir())


def test_a_closed_one_says_so(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.close()
    with pytest.raises(AgentmemError) as caught:
        library.do(lambda pool: None)
    assert caught.value.reason is Reason.SHUTTING_DOWN
