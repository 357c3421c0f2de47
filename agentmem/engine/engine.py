"""The engine as a library: memory for agents under one model and one state folder. Thread-safe."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import mlx.core as mx

from agentmem.engine.context import Context
from agentmem.engine.executor import Executor
from agentmem.engine.lane import DecodeBatch
from agentmem.engine.maintenance import Maintenance
from agentmem.engine.request import Request, ReusePlan, Sink, Started
from agentmem.engine.run import Run
from agentmem.engine.scheduler import Scheduler, shutting_down
from agentmem.engine.status import EngineStats, RequestView
from agentmem.engine.thinking import ThinkBatch
from agentmem.engine.validate import check
from agentmem.engine.views import ModelInfo
from agentmem.errors import AgentmemError, Reason
from agentmem.memory.memory import Memory
from agentmem.memory.residents import LAG_BYTES, LAG_S
from agentmem.model import loader, numerics
from agentmem.model.digests import FileDigests
from agentmem.store.files import Files
from agentmem.store.quota import default_budget
from agentmem.store.rows import EventKind
from agentmem.store.store import AgentRow, Store
from agentmem.types import AgentRef, FinishReason, PrefillPath

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class EngineSettings:
    """model: a folder or hub id, None for the embedded one. max_queue: requests that may wait.

    ram_budget: bytes of RAM for agents (`RamBudget`); None is what the machine's working set leaves beside the model.
    encryption_key: of an encrypted state folder, 32 random bytes (see `store.masterkey`); a new one becomes so.
    disk_budget: bytes of blocks and records on disk; None is a tenth of what is free, the store's own included.
    max_batch: requests that may be active at once; others wait.
    ahead: whether a decode step begins before the tokens of the one before are read.
    lag_s, lag_bytes: how old, and how large, what waits for the disk may be before the next turn waits too.
    prefill_path: see `model.prefill`; what AUTO measures is kept in the state folder.
    """

    state_dir: Path
    model: str | None = None
    max_queue: int = 256
    ram_budget: int | None = None
    encryption_key: bytes | None = field(default=None, repr=False)
    disk_budget: int | None = None
    lag_s: float = LAG_S
    lag_bytes: int = LAG_BYTES
    max_batch: int = 32
    ahead: bool = True
    prefill_path: PrefillPath = PrefillPath.AUTO


class Ticket:
    """A request on its way."""

    def __init__(self, run: Run, scheduler: Scheduler) -> None:
        self._run, self._scheduler = run, scheduler

    def cancel(self, reason: FinishReason = FinishReason.CANCELLED) -> None:
        """Ends the request at its next step, or at once if it still waits. The sink still gets its last event."""
        self._run.cancel(reason)
        if self._scheduler.remove(self._run):
            self._run.fail(AgentmemError(Reason.REQUEST_CANCELLED, "the request was cancelled before it began"))
        else:
            self._scheduler.wake()


class Engine(Maintenance):
    """Made by `open`. Methods block and may be called from any thread.

    Sinks are called on the executor thread, but for a first Started while waiting and a Failed before running, which
    come on the thread that submits, cancels or closes. They must not block.
    """

    def __init__(self, context: Context, scheduler: Scheduler, executor: Executor) -> None:
        super().__init__(context, scheduler)
        self._executor = executor

    @classmethod
    def open(
        cls,
        settings: EngineSettings,
        on_progress: Progress = lambda fraction, message: None,
        files: Files | None = None,
    ) -> Engine:
        """Opens the state folder and loads the model. files: the store's way to the disk.

        Raises AgentmemError (STORE_*, ENCRYPTION_*, MODEL_*).
        """
        on_progress(0.0, "opening the state folder")
        store = Store.open(settings.state_dir, files, settings.encryption_key)
        scheduler = Scheduler(settings.max_queue, settings.max_batch)
        executor = Executor(scheduler)
        on_progress(0.1, f"loading the model {settings.model or 'that ships with agentmem'}")
        try:
            digests = FileDigests(settings.state_dir / "weights.json")
            measured = settings.state_dir / "prefill.json"
            model = executor.start(lambda: loader.load(settings.model, digests, settings.prefill_path, measured))
            executor.batch = DecodeBatch(model, settings.ahead, executor.times)
            ram, disk = settings.ram_budget, settings.disk_budget
            memory = Memory(
                store,
                model,
                max(0, numerics.working_set() - model.bytes) if ram is None else ram,
                default_budget(settings.state_dir, store.total_bytes()) if disk is None else disk,
                busy=scheduler.refs,
                lag_s=settings.lag_s,
                lag_bytes=settings.lag_bytes,
            )
            unclean = store.events.stopped_last() is False
            store.events.note(EventKind.STARTED, reason="UNCLEAN" if unclean else "", soon=True)
            memory.disk.trim()
        except BaseException:
            scheduler.close()
            store.close()
            raise
        context = Context(model, store, memory)
        executor.thinking = ThinkBatch(model, context.space, executor.times)
        executor.on_stop = memory.close
        how = f"{model.numerics} numerics, {model.prefill.value} prefill"
        on_progress(1.0, f"ready: {model.name} ({model.architecture}, {how})")
        return cls(context, scheduler, executor)

    def submit(self, request: Request, sink: Sink) -> Ticket:
        """Queues a turn. The sink gets Started, any deltas, then one Finished or Failed.

        Raises AgentmemError at once for what no state could make valid, QUEUE_FULL, SHUTTING_DOWN.
        """
        check(request, self._context.model)
        if not request.request_id:
            request = replace(request, request_id=secrets.token_hex(16))
        run = Run(self._context, request, sink)
        expected = self._expected(request.agent) if self._scheduler.busy else None  # first: it may raise
        position = self._scheduler.add(run)
        if position and expected:
            turn, plan = expected
            run.announce(Started(turn, position, plan, request.request_id))
        return Ticket(run, self._scheduler)

    def compile_schema(self, schema: str) -> None:
        """So that submitting a request with it takes no time. Raises SCHEMA_INVALID, SCHEMA_UNSUPPORTED."""
        self._context.model.grammars.check(schema)

    def _expected(self, ref: AgentRef) -> tuple[int, ReusePlan]:
        """The turn that a request would become now, and what it could reuse."""
        row = self._context.store.agent(ref.namespace, ref.name)
        return (row.turn + 1, self._plan(ref, row)) if row else (1, ReusePlan())

    def _plan(self, ref: AgentRef, row: AgentRow) -> ReusePlan:
        n = row.tokens
        if row.state_id != self._context.model.state_id:
            return ReusePlan(n, cold_tokens=n)
        return ReusePlan(n, hot_tokens=n) if ref in self._context.memory.hot_bytes else ReusePlan(n, warm_tokens=n)

    @property
    def has_chat_template(self) -> bool:
        """Whether the model takes messages; else text and token ids only."""
        return self._context.model.text.has_chat_template

    @property
    def vocab_size(self) -> int:
        """Token ids are below it."""
        return self._context.model.vocab_size

    @property
    def setup(self) -> str:
        """Of model and machine: how long computing takes hangs on it."""
        model = self._context.model
        return f"{numerics.machine()}, {model.prefill.value} prefill, {model.state_id}"

    def model_info(self) -> ModelInfo:
        return ModelInfo.of(self._context.model)

    def stats(self) -> EngineStats:
        c, memory, store = self._context.counters, self._context.memory, self._context.store
        unsaved = memory.unsaved.counts()
        return EngineStats(
            running=len(self._scheduler.active),
            queued=self._scheduler.queued,
            hot_agents=len(memory.hot_bytes),
            agents=store.count_agents(),
            hot_bytes=memory.held_bytes,
            disk_bytes=store.total_bytes(),
            requests_total=c.requests,
            errors_total=c.errors,
            prefill_tokens_total=c.prefill_tokens,
            generated_tokens_total=c.generated_tokens,
            reused_hot_tokens_total=c.reused_hot_tokens,
            reused_warm_tokens_total=c.reused_warm_tokens,
            recomputed_tokens_total=c.recomputed_tokens,
            quarantined_blocks_total=memory.quarantined,
            mlx_active_bytes=mx.get_active_memory(),
            mlx_peak_bytes=mx.get_peak_memory(),
            ram_budget_bytes=memory.ram_budget,
            disk_budget_bytes=memory.disk.limit,
            unsaved_turns=unsaved.turns,
            unsaved_bytes=unsaved.bytes,
            oldest_unsaved_s=unsaved.oldest_s,
            steps=replace(self._executor.times),
            set_aside_total=c.set_aside,
            restores_total=c.restores,
            restore_s_total=c.restore_s,
            restore_hidden_s_total=c.restore_hidden_s,
            queue_limit=self._scheduler.max_queue,
            max_batch=self._scheduler.max_active,
        )

    def requests(self) -> list[RequestView]:
        """The requests that run, then those that wait, in the order of their turns."""
        placed = [*((0, job) for job in self._scheduler.active), *enumerate(self._scheduler.waiting, 1)]
        return [job.view(position) for position, job in placed if isinstance(job, Run)]

    def step_age_s(self) -> float:
        """Seconds since the executor thread began its present step; 0 when it has nothing to do."""
        return self._executor.step_age_s()

    def close(self, deadline_s: float = 10.0) -> None:
        """Refuses new work, lets what runs finish until the deadline, then ends and commits it."""
        for job in self._scheduler.close():
            job.fail(shutting_down())
        if not self._scheduler.wait_idle(deadline_s):
            for running in self._scheduler.active:
                if isinstance(running, Run):
                    running.cancel(FinishReason.DEADLINE, shutting_down())
            self._scheduler.wake()
        self._executor.join(timeout=60)
        self._context.store.events.note(EventKind.STOPPED)
        self._context.store.close()
