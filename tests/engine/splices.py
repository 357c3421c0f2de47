"""Splices of agents in an engine, and all that an agent's state is, to the bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from agentmem.engine.engine import Engine
from agentmem.engine.request import Finished, Request, Slice, SpliceInput
from agentmem.kv import splicing
from agentmem.model.forward import last_logits
from agentmem.types import AgentRef
from tests.engine.runs import finished, run

PROBE = (7, 11, 13)


def ref(name: str) -> AgentRef:
    return AgentRef("default", name)


def put(engine: Engine, target: AgentRef, *parts: Slice | AgentRef, **how: object) -> Finished:
    """Splices parts behind an agent, made if need be."""
    slices = tuple(Slice(part.name) if isinstance(part, AgentRef) else part for part in parts)
    fields = {name: how.pop(name) for name in list(how) if name in Request.__dataclass_fields__}
    asked = SpliceInput(slices, **how)  # type: ignore[arg-type]
    return finished(run(engine, replace(Request(target, asked, create=True), **fields)))  # type: ignore[arg-type]


def seen(engine: Engine, agent: AgentRef) -> tuple[list[bytes], bytes]:
    """What a hot agent's state holds and where, and the logits behind the probe that is fed to a copy of it."""

    def look() -> tuple[list[bytes], bytes]:
        found = engine._context.memory.find(agent)
        assert found is not None
        assert found.state is not None
        full = found.state.full
        held = []
        for segment in splicing.segments(full):
            rows = splicing.read(full, segment)
            held += [segment.rows.tobytes(), str(segment.shift).encode(), *(rows[name].tobytes() for name in rows)]
        copy = found.state.fork()
        logits = [np.array(last_logits(engine._context.model, copy, [token])).tobytes() for token in PROBE]
        return held, b"".join(logits)

    return engine._briefly(agent, look)


def restored(engine: Engine, agent: AgentRef) -> tuple[list[bytes], bytes]:
    """The same, once the agent has left RAM and is back."""
    engine.evict_agent(agent)
    engine.prefetch_agent(agent)
    return seen(engine, agent)
