"""What a turn cost and what went wrong on the way, on stderr."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from agentmem_daemon.cli.figures import seconds, size
from agentmem_daemon.cli.output import say

if TYPE_CHECKING:
    from agentmem_client import Appended, Reply, Spliced, Thought, Timings, Usage, Warning


def say_warnings(warnings: Iterable[Warning]) -> None:
    for warning in warnings:
        say(f"warning: {warning.message} [{warning.reason}]")


def say_if_unsaved(added: Reply | Appended | Spliced | Thought) -> None:
    """Says that a turn is not durable, unless a warning has said so."""
    if not added.durable and not any(warning.reason == "NOT_DURABLE" for warning in added.warnings):
        say(f"turn {added.turn} is in RAM, and will be on disk soon")


def say_stats(turn: int, usage: Usage, timings: Timings, finish_reason: str = "") -> None:
    ending = f", {finish_reason}" if finish_reason else ""
    rate = f", {usage.generated_tokens / timings.decode_s:.0f} tokens/s" if timings.decode_s > 0 else ""
    latent = f", {usage.latent_steps} latent steps" if usage.latent_steps else ""
    say(f"turn {turn}{ending}, {usage.exactness}")
    say(
        f"tokens: {usage.reused_hot_tokens} reused from RAM, {usage.reused_warm_tokens} from disk, "
        f"{usage.recomputed_tokens} recomputed, {usage.prefill_tokens} computed, "
        f"{usage.generated_tokens} generated{latent}"
    )
    say(
        f"time: {seconds(timings.ttft_s)} to the first token (queue {seconds(timings.queue_s)}, restore "
        f"{seconds(timings.restore_s)}, prefill {seconds(timings.prefill_s)}), "
        f"decode {seconds(timings.decode_s)}{rate}, commit {seconds(timings.commit_s)}"
    )
    say(f"disk: {size(usage.bytes_read)} read, {size(usage.bytes_written)} written")
    for miss in usage.misses:
        say(f"recomputed: {miss.tokens} tokens from position {miss.position} [{miss.reason}]")
