"""Where a request stands, told from what it has done so far."""

from __future__ import annotations

import time

from agentmem.engine.request import Phase, Request
from agentmem.engine.status import RequestView
from agentmem.memory.agent import Agent, TurnDraft


def standing(
    request: Request, draft: TurnDraft, agent: Agent | None, phase: Phase, submitted: float, position: int
) -> RequestView:
    """agent: None until it is known. submitted: by the monotonic clock. position: jobs before it.

    Reads what the executor thread writes: from any thread, and perhaps a moment behind.
    """
    waited, running = time.monotonic() - submitted, 0.0
    if phase is not Phase.QUEUED:
        waited, running = draft.timings.queue_s, waited - draft.timings.queue_s
    state, usage = None if agent is None else agent.state, draft.usage
    fed = 0 if state is None else state.offset
    return RequestView(
        request.agent,
        request.request_id,
        phase,
        position,
        request.priority,
        tokens_fed=fed,
        tokens_generated=usage.generated_tokens,
        prompt_tokens=usage.prompt_tokens,
        waited_s=waited,
        running_s=running,
        tokens_prefilled=max(0, min(fed, usage.prompt_tokens) - (usage.prompt_tokens - usage.prefill_tokens)),
    )
