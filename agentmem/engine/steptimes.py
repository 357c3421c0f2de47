"""Where the executor's time goes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class StepTimes:
    """Totals since start, in seconds; written on the executor thread.

    schedule: choosing what runs. graph: building a decode step. sample: building the choice of its tokens.
    device: waiting for them. stream: what each run does with its token. prefill: all other work, chunks and latent
    steps above all. steps: decode steps. tokens: those that they decoded.
    """

    schedule_s: float = 0.0
    graph_s: float = 0.0
    device_s: float = 0.0
    sample_s: float = 0.0
    stream_s: float = 0.0
    prefill_s: float = 0.0
    steps: int = 0
    tokens: int = 0
