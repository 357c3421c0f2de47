"""What the daemon does about a step that takes very long: it says so, and goes on waiting."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from agentmem.engine.request import Phase
from agentmem_daemon.readiness import Readiness
from agentmem_daemon.server import Server
from agentmem_daemon.watchdog import Watchdog

if TYPE_CHECKING:
    from agentmem.engine.engine import Engine

_WAITING = (Phase.QUEUED, Phase.WAITING_FOR_ROOM, Phase.SET_ASIDE)

logger = logging.getLogger(__name__)


class Patience:
    """While a step lasts longer than `limit_s`: health NOT_SERVING, phase STUCK, and an event. Calls go on waiting."""

    def __init__(self, engine: Engine, readiness: Readiness, server: Server, limit_s: float) -> None:
        self._engine, self._readiness, self._server, self._limit_s = engine, readiness, server, limit_s
        self._telling: set[asyncio.Task[None]] = set()

    @contextmanager
    def watching(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Inside, a thread watches the steps. loop: the server's, on which this is called."""

        def tell(what: Callable[[], Coroutine[None, None, None]]) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._tell, what)

        watchdog = Watchdog(
            self._engine.step_age_s,
            self._limit_s,
            on_stuck=lambda since: tell(partial(self._stuck, since)),
            on_going_on=lambda: tell(self._going_on),
        )
        watchdog.start()
        try:
            yield
        finally:
            watchdog.stop()

    def _tell(self, what: Callable[[], Coroutine[None, None, None]]) -> None:
        task = asyncio.ensure_future(what())
        self._telling.add(task)  # asyncio holds tasks weakly
        task.add_done_callback(self._telling.discard)

    async def _stuck(self, since: float) -> None:
        message = self._words(since)
        if self._readiness.stuck(message):
            logger.error("%s", message)
            await self._server.unhealthy()
            self._engine.note_stuck()

    async def _going_on(self) -> None:
        if self._readiness.going_on():
            logger.warning("the step that took long has ended")
            await self._server.healthy()
            self._engine.note_unstuck()

    def _words(self, since: float) -> str:
        """What is known: since when, and what the requests that run are at."""
        phases = Counter(view.phase.value for view in self._engine.requests() if view.phase not in _WAITING)
        running = ", ".join(f"{count} {phase}" for phase, count in phases.items()) or "none"
        moment = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return (
            f"one step has lasted since {moment}, longer than {self._limit_s:g} s (requests that run: {running}); "
            "calls go on waiting for it"
        )
