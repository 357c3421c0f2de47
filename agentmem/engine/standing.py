"""Where a request stands, told from what it has done so far."""

from __future__ import annotations

import time

from agentmem.engine.request import Phase, Request, RequestView
from agentmem.memory.agent import Agent, TurnDraft
from agentmem.types import TurnKind


def standing(
    request: Request, draft: TurnDraft, agent: Agent | None, submitted: float, begun: bool, position: int
) -> RequestView:
    """agent: None until it is known. submitted: by the monotonic clock. position: requests that run first.

    Reads what the executor thread writes: from any thread, and perhaps a moment behind.
    """
    waited, running = time.monotonic() - submitted, 0.0
    if begun:
        waited, running = draft.timings.queue_s, waited - draft.timings.queue_s
    state = None if agent is None else agent.state
    return RequestView(
        request.agent,
        request.request_id,
        _phase(draft) if begun else Phase.QUEUED,
        position,
        request.priority,
        tokens_fed=0 if state is None else state.offset,
        tokens_generated=draft.usage.generated_tokens,
        prompt_tokens=draft.usage.prompt_tokens,
        waited_s=waited,
        running_s=running,
    )


def _phase(draft: TurnDraft) -> Phase:
    if draft.finish_reason is not None or (draft.kind is TurnKind.APPEND and draft.timings.prefill_s):
        return Phase.COMMITTING
    if draft.usage.generated_tokens:
        return Phase.DECODING
    return Phase.PREFILL if draft.usage.prompt_tokens else Phase.RESTORING
