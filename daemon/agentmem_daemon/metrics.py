"""Figures for Prometheus, on a loopback port of their own. Needs the extra [metrics].

They hold no names: neither of agents nor of namespaces. So whoever can reach the port may read them, without a token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agentmem.engine.request import Phase
from agentmem.engine.status import EngineStats, RequestView
from agentmem.errors import AgentmemError
from agentmem_daemon.errors import StartError
from agentmem_daemon.extras import EXIT_NO_EXTRA, install_line
from agentmem_daemon.readiness import Readiness

if TYPE_CHECKING:
    from prometheus_client.core import Metric

HOST = "127.0.0.1"

_GAUGES = {
    "hot_agents": "Agents whose state is in RAM.",
    "agents": "Agents there are.",
    "hot_bytes": "Bytes in RAM of state, and of the embeddings of latent positions.",
    "ram_budget_bytes": "What hot_bytes may come to, with the copies that wait for the disk.",
    "disk_bytes": "Bytes of blocks and records on disk.",
    "disk_budget_bytes": "What disk_bytes may come to.",
    "mlx_active_bytes": "Bytes that MLX holds, the model's included.",
    "mlx_peak_bytes": "The most that MLX held.",
    "unsaved_turns": "Turns that were answered and are in RAM only.",
    "unsaved_bytes": "Bytes in RAM that wait for the disk.",
    "queue_limit": "Requests that may wait.",
    "max_batch": "Requests that may run at once.",
}
_COUNTERS = {
    "requests_total": "Requests that add a turn and began to run.",
    "errors_total": "Requests that failed.",
    "prefill_tokens_total": "Prompt tokens computed.",
    "generated_tokens_total": "Tokens generated, in turns that ended.",
    "reused_hot_tokens_total": "Positions found in RAM.",
    "reused_warm_tokens_total": "Positions restored from disk.",
    "recomputed_tokens_total": "Remembered positions that were computed again.",
    "quarantined_blocks_total": "Damaged blocks that were set aside.",
    "set_aside_total": "How often a request that ran was set aside.",
    "restores_total": "How often an agent's state was restored from disk.",
}
_SECONDS = {
    "oldest_unsaved": ("gauge", "oldest_unsaved_s", "Since the oldest of the unsaved turns ended."),
    "restore": ("counter", "restore_s_total", "Spent on restoring."),
    "restore_hidden": ("counter", "restore_hidden_s_total", "Of restore_seconds_total, when others could go on."),
}
_STEP_PARTS = ("schedule", "graph", "device", "sample", "stream", "prefill")


class EngineCollector:
    """Reads the engine when it is asked. Before there is one, and while it stops, there is `agentmem_up 0` alone."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        try:
            engine = self._readiness.engine
            stats, requests = engine.stats(), engine.requests()
        except AgentmemError:
            yield GaugeMetricFamily("agentmem_up", "Whether the daemon serves.", 0)
            return
        serving = self._readiness.phase.value == "SERVING"
        yield GaugeMetricFamily("agentmem_up", "Whether the daemon serves.", int(serving))
        yield from _figures(stats)
        yield from _steps(stats)
        yield _phases(requests)


def _figures(stats: EngineStats) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    families = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}
    for name, words in _GAUGES.items():
        yield GaugeMetricFamily(f"agentmem_{name}", words, getattr(stats, name))
    for name, words in _COUNTERS.items():
        yield CounterMetricFamily(f"agentmem_{name}", words, getattr(stats, name))
    for name, (kind, field, words) in _SECONDS.items():
        yield families[kind](f"agentmem_{name}_seconds", words, getattr(stats, field))


def _steps(stats: EngineStats) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    seconds = CounterMetricFamily(
        "agentmem_step_seconds", "Spent by the thread that computes, by what on.", labels=("part",)
    )
    for part in _STEP_PARTS:
        seconds.add_metric((part,), getattr(stats.steps, f"{part}_s"))
    yield seconds
    yield CounterMetricFamily("agentmem_steps", "Decode steps.", stats.steps.steps)
    yield CounterMetricFamily("agentmem_step_tokens", "Tokens decoded in these steps.", stats.steps.tokens)


def _phases(requests: list[RequestView]) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    counts = Counter(view.phase for view in requests)
    family = GaugeMetricFamily("agentmem_requests_now", "Requests that run or wait, by phase.", labels=("phase",))
    for phase in Phase:
        family.add_metric((phase.value.lower(),), counts[phase])
    return family


@contextmanager
def endpoint(port: int, readiness: Readiness) -> Iterator[None]:
    """Inside, http://127.0.0.1:PORT/metrics answers. Raises StartError."""
    try:
        from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
    except ModuleNotFoundError:
        raise StartError(
            f"The metrics port needs more packages. Run: {install_line('metrics')}", EXIT_NO_EXTRA
        ) from None
    registry = CollectorRegistry()
    registry.register(EngineCollector(readiness))
    ProcessCollector(registry=registry)
    try:
        server, thread = start_http_server(port, HOST, registry)
    except OSError as error:
        raise StartError(
            f"The metrics cannot be offered on TCP port {port} of {HOST}: {error.strerror}. "
            "Choose another --metrics-port."
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
