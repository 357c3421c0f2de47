"""From start to exit: claim the socket, listen, load the model, serve, and leave nothing behind."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from agentmem_client.discovery import token_path

from agentmem.errors import AgentmemError, Reason
from agentmem.primitives.library import Library
from agentmem_daemon import metrics
from agentmem_daemon.auth import load_or_create_token
from agentmem_daemon.errors import StartError
from agentmem_daemon.logs import configure_logging, stack_of, unify_loggers
from agentmem_daemon.patience import Patience
from agentmem_daemon.readiness import Readiness
from agentmem_daemon.server import Server
from agentmem_daemon.settings import DaemonSettings
from agentmem_daemon.sockets import claim_socket, prepare_folder, remove_socket
from agentmem_daemon.traces import traces

if TYPE_CHECKING:
    from agentmem.engine.engine import Engine

LAST_MESSAGES_S = 2.0
"""Time for the last messages of streams to leave once the engine has closed."""

STOPPED_RUNS_S = 2.0
"""Time for the agents of runs to be deleted; those that are left go at the next start."""

CALL_THREADS = 32

SIGNALS = (signal.SIGTERM, signal.SIGINT)

OnProgress = Callable[[float, str], None]

logger = logging.getLogger(__name__)


def run(settings: DaemonSettings, on_progress: OnProgress | None = None) -> int:
    """Serves until SIGTERM or SIGINT; blocks, and must be called on the main thread. Returns the exit code.

    0: stopped as told. 1: could not start, or not close cleanly; a sentence that says why is on stderr. 4: an extra is
    not installed.
    on_progress: called on this thread with 0..1 and words while loading, and last with 1.0 once serving.
    """
    configure_logging(settings.log_level, settings.log_file)
    code = 1
    try:
        asyncio.run(serve(settings, on_progress))
    except AgentmemError as error:
        sentence = error.message
        if error.reason is Reason.STORE_UNREADABLE:
            rebuild = f"agentmem doctor --rebuild --state {shlex.quote(str(settings.state))}"
            sentence += f" Nothing was changed; `{rebuild}` makes the catalog anew from turn records and blocks."
    except StartError as error:
        sentence, code = error.message, error.exit_code
    except Exception as error:
        logger.critical("the daemon failed\n%s", stack_of(error))
        sentence = "The daemon failed unexpectedly; its log says where."
    else:
        return 0
    print(f"agentmem: {sentence}", file=sys.stderr)
    return code


async def serve(settings: DaemonSettings, on_progress: OnProgress | None = None) -> None:
    """As `run`, on a running loop. Raises StartError, or the AgentmemError of a model that cannot be loaded."""
    asyncio.get_running_loop().set_exception_handler(_log_loop_error)
    umask = os.umask(0o077)
    try:
        with claim_socket(settings.socket):
            token_file = token_path(settings.socket)
            prepare_folder(token_file.parent)
            await _Daemon(settings, load_or_create_token(token_file), on_progress or _ignore).run()
    finally:
        os.umask(umask)


class _Daemon:
    """One run of the daemon, with its socket claimed and its token known."""

    def __init__(self, settings: DaemonSettings, token: str, on_progress: OnProgress) -> None:
        self._settings = settings
        self._on_progress = on_progress
        self._readiness = Readiness()
        self._traces = traces(settings)
        self._library = Library(settings.state, encrypted=settings.encrypt is not None)
        self._server = Server(self._readiness, settings.state, token, self._traces, self._library)
        self._told_to_stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        # Deletes may wait long behind a running turn; they must not use up all threads.
        self._loop.set_default_executor(ThreadPoolExecutor(CALL_THREADS, "agentmem-call"))
        # A thread of its own: opening and closing must not wait for a free one behind blocked requests.
        self._thread = ThreadPoolExecutor(1, "agentmem-lifecycle")

    async def run(self) -> None:
        for number in SIGNALS:
            self._loop.add_signal_handler(number, self._on_signal, number)
        try:
            await self._server.start(self._settings.socket, self._settings.tcp)
            with self._metrics():
                engine = await self._load()
                try:
                    await self._serve(engine)
                finally:
                    await self._close(engine)
        finally:
            await self._server.stop(LAST_MESSAGES_S)
            await self._loop.run_in_executor(self._thread, self._library.close)
            await self._loop.run_in_executor(self._thread, self._traces.close)
            self._thread.shutdown(wait=False)
            for number in SIGNALS:
                self._loop.remove_signal_handler(number)

    def _metrics(self) -> AbstractContextManager[None]:
        """Offers figures if they are asked for."""
        port = self._settings.metrics_port
        return nullcontext() if port is None else metrics.endpoint(port, self._readiness)

    async def _load(self) -> Engine:
        """The open engine. Quits if told to stop and loading goes on past the deadline: no thread can be ended."""
        opening: asyncio.Future[Engine] = self._loop.run_in_executor(self._thread, self._open)
        told = asyncio.ensure_future(self._told_to_stop.wait())
        either: set[asyncio.Future[Any]] = {opening, told}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not opening.done():
            self._readiness.stopping()
            await asyncio.wait({opening}, timeout=self._settings.shutdown_deadline_s)
            if not opening.done():
                self._quit_at_once(0)
        return await opening

    def _open(self) -> Engine:
        """Runs on the lifecycle thread. The engine brings MLX along, which takes seconds to import."""
        from agentmem.store import masterkey

        settings = self._settings
        key = masterkey.load(settings.encrypt) if settings.encrypt else None
        from agentmem.engine.engine import Engine, EngineSettings
        from agentmem.primitives.crew import sweep

        def report(progress: float, message: str) -> None:
            self._loop.call_soon_threadsafe(self._note_progress, progress, message)

        engine = Engine.open(
            EngineSettings(
                model=settings.model,
                state_dir=settings.state,
                max_queue=settings.max_queue,
                max_batch=settings.max_batch,
                ram_budget=settings.ram_budget,
                disk_budget=settings.disk_budget,
                encryption_key=key,
                lag_s=settings.lag_s,
                lag_bytes=settings.lag_bytes,
                prefill_path=settings.prefill_path,
            ),
            report,
        )
        sweep(engine)
        return engine

    def _note_progress(self, progress: float, message: str) -> None:
        self._readiness.loading(progress, message)
        self._on_progress(progress, message)

    async def _serve(self, engine: Engine) -> None:
        """Serves until told to stop."""
        if self._told_to_stop.is_set():
            return
        unify_loggers()  # The engine has brought its libraries along.
        model = await self._loop.run_in_executor(self._thread, engine.model_info)
        self._readiness.serving(engine, model)
        await self._server.healthy()
        self._on_progress(1.0, f"serving {model.name} on {self._settings.socket}")
        logger.info("serving %s on %s, pid %d", model.name, self._settings.socket, os.getpid())
        patience = Patience(engine, self._readiness, self._server, self._settings.stuck_s)
        with patience.watching(self._loop):
            await self._told_to_stop.wait()

    async def _close(self, engine: Engine) -> None:
        """Refuses new work, ends runs, and lets running turns finish until the deadline."""
        logger.info("stopping")
        self._readiness.stopping()
        await self._server.unhealthy_for_good()
        await self._server.stop_runs(min(STOPPED_RUNS_S, self._settings.shutdown_deadline_s))
        await self._loop.run_in_executor(self._thread, engine.close, self._settings.shutdown_deadline_s)

    def _on_signal(self, number: int) -> None:
        """The first signal asks, the second insists: what is committed is safe whenever the process ends."""
        if self._told_to_stop.is_set():
            self._quit_at_once(128 + number)
        self._told_to_stop.set()

    def _quit_at_once(self, code: int) -> None:
        logger.warning("quitting at once")
        remove_socket(self._settings.socket)
        logging.shutdown()
        os._exit(code)


def _log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """asyncio's own handler would print the error's message."""
    error = context.get("exception")
    logger.error("event loop: %s\n%s", context.get("message"), stack_of(error) if error else "")


def _ignore(progress: float, message: str) -> None:
    """Nobody watches."""
