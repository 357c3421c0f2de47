"""What a decoded token costs on this device, in prefilled ones: measured once, by turns like anybody's, and kept."""

from __future__ import annotations

import secrets
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem.engine.request import Durability, Finished, Request, Sampling, TokenInput
from agentmem.errors import AgentmemError
from agentmem.model import keptfile
from agentmem.primitives.crew import forget, temporary
from agentmem.primitives.pte import DeviceRatio
from agentmem.primitives.together import Halt, run_together
from agentmem.types import AgentRef

if TYPE_CHECKING:
    from agentmem.engine.engine import Engine

FILE = "ratio.json"
PROMPT, MORE, DECODED = 64, 448, 12
"""Positions: of a prompt, of what is read behind it, and of a reply behind each."""
TURNS = 2
"""Of an agent that is measured."""
TIMES = 2
"""Whatever else the machine does only adds to what a measurement takes: the least counts."""


class Ratio:
    """Of an engine's model on its device. folder: where it is kept; None keeps it in RAM. Thread-safe."""

    def __init__(self, engine: Engine, folder: Path | None) -> None:
        self._engine, self._file = engine, None if folder is None else folder / FILE
        self._lock = threading.Lock()
        self._known: DeviceRatio | None = None

    def get(self, halt: Halt | None = None) -> DeviceRatio | None:
        """Measures it if need be: that takes seconds, once for each model and device.

        None where it can't be told now: others would be measured along, or were, or there is no room. It is not kept if
        reading a long context seemed to cost nothing: that was chance, and good enough for once.
        """
        with self._lock:
            if self._known is None:
                self._known = self._kept()
            if self._known is not None:
                return self._known
            ratio = self._measured(halt or Halt())
            if ratio is not None and ratio.per_position > 0:
                self._keep(ratio)
            return ratio

    def _keep(self, ratio: DeviceRatio) -> None:
        self._known = ratio
        keptfile.write(self._file, {**keptfile.read(self._file), self._engine.setup: vars(ratio)})

    def _kept(self) -> DeviceRatio | None:
        found = keptfile.read(self._file).get(self._engine.setup)
        return _read(found) if isinstance(found, dict) else None

    def _measured(self, halt: Halt) -> DeviceRatio | None:
        stats = self._engine.stats()
        if stats.running or stats.queued:
            return None
        try:
            ratio = measure_ratio(self._engine, halt)
        except AgentmemError:
            halt.check()
            return None
        others = self._engine.stats().requests_total - stats.requests_total - TIMES * TURNS
        return None if others > 0 else ratio


def measure_ratio(engine: Engine, halt: Halt) -> DeviceRatio | None:
    """By two replies of one agent, behind a short and a long prompt. None if the model's context is too short for that.

    Raises what the engine refuses a turn for.
    """
    if engine.model_info().context_limit < PROMPT + MORE + 2 * DECODED:
        return None
    prefill, short, long = (min(times) for times in zip(*(_replies(engine, halt) for _ in range(TIMES)), strict=True))
    per_position = max(0.0, (long - short) / (MORE + DECODED)) / prefill
    return DeviceRatio(per_position, max(0.0, short / prefill - per_position * PROMPT))


def _replies(engine: Engine, halt: Halt) -> tuple[float, float, float]:
    """Seconds for a token: of the prompts, and of decoding behind the short and the long one."""
    ref = AgentRef("default", temporary("ratio"))
    try:
        first = _turn(engine, halt, ref, PROMPT)
        second = _turn(engine, halt, ref, MORE)
    finally:
        forget(engine, ref)
    prefill = (first.timings.prefill_s + second.timings.prefill_s) / (PROMPT + MORE)
    short, long = (turn.timings.decode_s / turn.usage.generated_tokens for turn in (first, second))
    return prefill, short, long


def _turn(engine: Engine, halt: Halt, ref: AgentRef, tokens: int) -> Finished:
    # Drawn: what another agent has computed would be found, and take no time.
    ids = tuple(secrets.randbelow(engine.vocab_size) for _ in range(tokens))
    sampling = Sampling(temperature=2.0, max_tokens=DECODED)  # so hot, hardly any model ends its reply at once
    request = Request(ref, TokenInput(ids), sampling, create=True, durability=Durability.WRITE_BEHIND)
    (done,) = run_together(engine, [request], halt, lambda index, text: None)
    return done.finished


def _read(found: dict[str, Any]) -> DeviceRatio | None:
    with suppress(TypeError, ValueError):
        return DeviceRatio(**found)
    return None
